// Package bench measures a coordinator beside a floor and prints what it found.
//
// It is a program of its own: it starts the coordinator, a backend, the floor (a direct WebSocket server) and, when
// asked, other people's proxies as child processes on loopback, loads them in turn from this process, and reads their
// CPU time and memory from outside. It knows the public wire formats and package sdk, nothing of the coordinator: but for
// creates without a client, made by a child process that is a member of a cluster and nothing else, and for the table of
// states, which it measures in itself.
//
// It refuses to guess: an answer that differs from what was sent, a connection that is closed, or a delivery out of
// order ends the run with an error, and what was lost is counted and printed.
//
// Goroutines: every run waits for the connections' readers and the pacer it started; children belong to the lab's
// child.Group, which ends them all before Run returns.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// ErrUsage is wrapped by errors about the command line itself; the program then ends with status 2.
var ErrUsage = errors.New("bench: misused")

// generatorGC makes the generator collect its garbage rarely: it shares the processors with what it measures.
const generatorGC = 800

// Run runs one benchmark and writes its report to stdout and progress to the standard error; or it is one of the
// hidden child modes that a benchmark starts its own binary with. It returns when everything it started has ended.
func Run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "child-") {
		return runChild(ctx, args[0], args[1:], stdout)
	}
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(generatorGC))
	report, err := measure(ctx, o, os.Stderr)
	if err != nil {
		return fmt.Errorf("bench %s: %w", o.Kind, err)
	}
	return report.write(stdout)
}

// bench is one benchmark while it runs.
type bench struct {
	o        options
	lab      *lab
	progress io.Writer
	report   *Report
}

// measure runs a benchmark in a lab that is gone when it returns.
func measure(ctx context.Context, o options, progress io.Writer) (*Report, error) {
	dir, err := os.MkdirTemp("", "trunkline-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	group, ended := child.NewGroup(), make(chan error, 1)
	go func() { ended <- group.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	b := &bench{
		o: o, lab: &lab{group: group, dir: dir}, progress: progress,
		report: &Report{Options: o, Machine: thisMachine(), Limits: readLimits()},
	}
	switch o.Kind {
	case "echo":
		err = b.echo(ctx)
	case "fanout":
		err = b.fanout(ctx)
	case "idle":
		err = b.idle(ctx)
	case "create":
		err = b.create(ctx)
	case "link":
		err = b.link(ctx)
	case "states":
		err = b.states(ctx)
	case "table":
		err = b.table(ctx)
	default:
		err = b.targets(ctx)
	}
	b.quietNote()
	return b.report, err
}

// say writes one line of progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}

// rounds lets the contenders take turns, beginning with another one in every round.
func (b *bench) rounds(ctx context.Context, what string, cs []*contender, one func(ctx context.Context, c *contender) (Cell, error)) ([]Result, error) {
	cells := make([][]Cell, len(cs))
	for round := range b.o.Rounds {
		for turn := range cs {
			i := (round + turn) % len(cs)
			since := neighboursNow()
			cell, err := one(ctx, cs[i])
			b.trackNeighbours(since)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", what, cs[i].Name, err)
			}
			cells[i] = append(cells[i], cell)
			b.say("%s, round %d of %d: %-18s %7s/s, CPU %5s µs each, %7s per CPU second, p50 %s, p99 %s", what, round+1, b.o.Rounds,
				cs[i].Name, compact(cell.PerSecond), compact(cell.CPUMicros), compact(cell.PerCPU), latency(cell.P50), latency(cell.P99))
		}
	}
	results := make([]Result, len(cs))
	for i, c := range cs {
		results[i] = resultOf(c.Name, cells[i])
		b.trackSources(c)
	}
	return results, nil
}

// echoRound is one turn of one contender: its connections live as long as the turn.
func (b *bench) echoRound(o options) func(ctx context.Context, c *contender) (Cell, error) {
	cfg := loadConfig{window: max(o.Window, 1), size: o.Size, rate: o.Rate, warmup: o.Warmup, duration: o.Duration}
	return func(ctx context.Context, c *contender) (Cell, error) {
		conns, err := c.connect(ctx, b.report.Limits.allow(o.Conns, c.endpoint.sources.spread), o.Size)
		if err != nil {
			return Cell{}, err
		}
		defer closeAll(conns)
		return echoLoad(ctx, conns, cfg, c.meter)
	}
}

func (b *bench) fanRound(o options) func(ctx context.Context, c *contender) (Cell, error) {
	cfg := loadConfig{window: o.Window, size: o.Size, warmup: o.Warmup, duration: o.Duration}
	return func(ctx context.Context, c *contender) (Cell, error) {
		conns, err := c.connect(ctx, b.report.Limits.allow(o.Conns, c.endpoint.sources.spread), o.Size)
		if err != nil {
			return Cell{}, err
		}
		defer closeAll(conns)
		return fanLoad(ctx, conns, cfg, c.meter)
	}
}
