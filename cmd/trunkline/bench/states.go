package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// stateNodes is how many nodes the cluster has in which states are created.
const stateNodes = 3

// creates is one way of making states, at full load and at half of it.
type creates struct{ full, half Result }

func createsOf(name string, full, half []Cell) creates {
	return creates{resultOf(name, full), resultOf(name+", half of it", half)}
}

func (b *bench) states(ctx context.Context) error {
	placer, err := b.placerCreates(ctx)
	if err != nil {
		return err
	}
	http, err := b.httpCreates(ctx)
	if err != nil {
		return err
	}
	b.report.Results = append(b.report.Results, placer.full, placer.half, http.full, http.half)
	return nil
}

// placerCreates starts three processes with nothing but a node's part of the cluster, of which the last, which does not
// lead, creates states.
func (b *bench) placerCreates(ctx context.Context) (*creates, error) {
	dir, err := os.MkdirTemp(b.lab.dir, "members-")
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "cluster.key")
	text, err := trust.Generate("bench")
	if err == nil {
		err = trust.WritePrivate(key, text)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key file: %w", err)
	}
	took, err := syncTime(dir)
	if err != nil {
		return nil, err
	}
	b.note("logs are in %s, where appending 4 KiB and syncing them takes %s", os.TempDir(), took.latency())
	b.say("starting %d members of a cluster", stateNodes)
	m := &members{lab: b.lab, dir: dir, key: key}
	for range stateNodes - 1 {
		if err := m.start(ctx, b.o.Profile); err != nil {
			return nil, err
		}
	}
	since := neighboursNow()
	r, err := m.load(ctx, b.o)
	if err != nil {
		return nil, err
	}
	b.trackNeighbours(since)
	for _, p := range m.started {
		p.Terminate() // they have done their part, and would vote beside the next measurement
	}
	c := createsOf(fmt.Sprintf("Placer, %d in flight", b.o.InFlight), r.Full, r.Half)
	b.sayCreates(&c)
	return &c, nil
}

func (b *bench) sayCreates(c *creates) {
	for _, r := range []*Result{&c.full, &c.half} {
		b.say("states: %s: %v/s, CPU %v µs each, p50 %s, p99 %s", r.Name, r.PerSecond, r.CPU, r.P50.latency(), r.P99.latency())
	}
}

// members are processes that form a cluster.
type members struct {
	lab      *lab
	dir, key string
	join     string
	started  []*child.Process
}

// command is that of the next member.
func (m *members) command(args ...string) child.Command {
	id := fmt.Sprintf("node-%d", len(m.started)+1)
	line := append([]string{"bench", "child-member", "--node-id", id, "--dir", filepath.Join(m.dir, id), "--key-file", m.key}, args...)
	if m.join != "" {
		line = append(line, "--join", m.join)
	}
	return child.Command{Name: "member " + id, Args: line, Ready: true}
}

// start starts a member that only votes. The first one leads, and its profile is of interest.
func (m *members) start(ctx context.Context, profile string) error {
	var args []string
	if profile != "" && m.join == "" {
		args = []string{"--profile", profile + ".leader"}
	}
	p, err := m.lab.start(ctx, m.command(args...))
	if err != nil {
		return err
	}
	m.started = append(m.started, p)
	var ready memberReady
	if err := json.Unmarshal([]byte(p.Line()), &ready); err != nil {
		return fmt.Errorf("start a member: %w", err)
	}
	if m.join == "" {
		m.join = ready.Address
	}
	return nil
}

// load starts the last member, which creates states, and waits for what it measured.
func (m *members) load(ctx context.Context, o options) (*memberResult, error) {
	pids := make([]string, len(m.started))
	for i, p := range m.started {
		pids[i] = strconv.Itoa(p.PID())
	}
	args := []string{
		"--load", strconv.Itoa(stateNodes), "--pids", strings.Join(pids, ","),
		"--in-flight", strconv.Itoa(o.InFlight), "--rounds", strconv.Itoa(o.Rounds),
		"--warmup", o.Warmup.String(), "--duration", o.Duration.String(),
	}
	if o.Profile != "" {
		args = append(args, "--profile", o.Profile)
	}
	limit := joinLimit + time.Duration(o.Rounds)*2*(o.Warmup+o.Duration+firstAnswer)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := m.lab.group.Start(ctx, m.command(args...))
	if err != nil {
		return nil, err
	}
	m.started = append(m.started, p)
	var r memberResult
	if err := json.Unmarshal([]byte(p.Line()), &r); err != nil {
		return nil, fmt.Errorf("read what a member measured: %w", err)
	}
	return &r, nil
}

// httpCreates does the same from outside: three whole nodes with data directories, a backend at the first, and requests
// to the last. An answer comes when the backend has been told of the state.
func (b *bench) httpCreates(ctx context.Context) (*creates, error) {
	b.say("starting a cluster of %d nodes with data directories", stateNodes)
	s, err := b.lab.startNodes(ctx, stateNodes, true)
	if err != nil {
		return nil, err
	}
	app, err := b.lab.startBackend(ctx, s, backendConfig{})
	if err != nil {
		return nil, err
	}
	c, err := s.contender(nodesName(stateNodes), app, 1, false)
	if err != nil {
		return nil, err
	}
	if _, err := c.rooms.seats(ctx, 1); err != nil { // a user, and proof that the backend is known
		return nil, err
	}
	conns := make([]*apiConn, b.connectionsFor(b.o.InFlight, c))
	defer func() {
		for _, a := range conns {
			if a != nil {
				a.close()
			}
		}
	}()
	creators := make([]creator, len(conns))
	for i := range conns {
		if conns[i], err = openAPI(ctx, &c.endpoint); err != nil {
			return nil, err
		}
		creators[i] = func(context.Context) error {
			_, err := conns[i].create(app, c.rooms.tokens[0])
			return err
		}
	}
	since := neighboursNow()
	full, half, err := createRounds(ctx, b.o, creators, c.meter)
	if err != nil {
		return nil, named("creates over HTTP", err)
	}
	b.trackNeighbours(since)
	b.trackSources(c)
	x := createsOf(fmt.Sprintf("HTTP, %d in flight", len(conns)), full, half)
	b.sayCreates(&x)
	return &x, nil
}

// syncs is how many times the disk is asked.
const syncs = 50

// syncTime measures what a log waits for, in microseconds.
func syncTime(dir string) (Spread, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return Spread{}, err
	}
	block := make([]byte, 4096)
	var took []float64
	for range syncs {
		began := time.Now()
		_, err = f.Write(block)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			break
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
	}
	return spreadOf(took), errors.Join(err, f.Close())
}
