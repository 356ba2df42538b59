package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/bench"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/demo"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitMisuse = 2
)

// world is what a command touches of the process, so that tests can hand it
// another.
type world struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(name string) (string, bool)
	// signals delivers the process's SIGINT and SIGTERM.
	signals <-chan os.Signal
	// offline works on the files of nodes that do not run.
	offline offline
}

// misuse is an error about how the command was called: exit status 2.
type misuse struct{ error }

func misused(format string, args ...any) error { return misuse{fmt.Errorf(format, args...)} }

// Unwrap answers what was wrong.
func (m misuse) Unwrap() error { return m.error }

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(context.Background(), os.Args[1:], &world{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv, signals: signals, offline: clusterFiles(),
	}))
}

// leave is what kong's exit becomes: --help ends the parse without an error.
type leave int

// run carries out one command line and answers the exit status.
func run(ctx context.Context, args []string, w *world) (status int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case leave:
			status = int(r)
		default:
			panic(r)
		}
	}()
	var g grammar
	parser, sources, err := newParser(&g, w)
	if err != nil {
		_, _ = fmt.Fprintln(w.stderr, "trunkline:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		return report(w, misuse{sources.explain(err)})
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(w, sources)
	return report(w, kctx.Run())
}

// report prints an error and answers the exit status that belongs to it.
func report(w *world, err error) int {
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintln(w.stderr, "trunkline:", err)
	var m misuse
	if errors.As(err, &m) {
		_, _ = fmt.Fprintln(w.stderr, "`trunkline --help` lists the commands, `trunkline COMMAND --help` its flags.")
		return exitMisuse
	}
	if errors.Is(err, bench.ErrUsage) || errors.Is(err, demo.ErrUsage) {
		return exitMisuse
	}
	return exitFailed
}

func newParser(g *grammar, w *world) (*kong.Kong, *sources, error) {
	src := &sources{env: w.env}
	parser, err := kong.New(g,
		kong.Name("trunkline"),
		kong.Description("An edge coordinator for stateful backends. Start with `trunkline dev`."),
		kong.Writers(w.stdout, w.stderr),
		kong.Exit(func(code int) { panic(leave(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ValueFormatter(describeValue),
		kong.Resolvers(src),
		kong.PostBuild(giveDevItsDefaults),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("build the command line: %w", err)
	}
	return parser, src, nil
}

// untilSignal answers a context that the first signal ends, for commands that
// have nothing to hand over.
func (w *world) untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-w.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
