package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Target is one line of the project's list, with what was measured.
type Target struct {
	ID       string `json:"id"`
	What     string `json:"what"`
	Want     string `json:"want"`
	Measured string `json:"measured"`
	Verdict  string `json:"verdict"` // "met", "NOT MET", "not measured"
}

// aim is one comparison of a measured figure with its limit.
type aim struct {
	name    string
	value   Spread
	limit   float64
	atLeast bool
	missing string // why it was not measured
}

func atLeast(name string, value Spread, limit float64) aim {
	return aim{name: name, value: value, limit: limit, atLeast: true}
}

func atMost(name string, value Spread, limit float64) aim {
	return aim{name: name, value: value, limit: limit}
}

func (a aim) met() bool {
	if a.atLeast {
		return a.value.Median >= a.limit
	}
	return a.value.Median <= a.limit
}

// judge makes a target's line from its aims; all must be met.
func judge(id, what string, aims ...aim) Target {
	t := Target{ID: id, What: what, Verdict: "met"}
	var want, measured []string
	for _, a := range aims {
		sign := "<="
		if a.atLeast {
			sign = ">="
		}
		want = append(want, fmt.Sprintf("%s %s %s", a.name, sign, compact(a.limit)))
		switch {
		case a.missing != "":
			measured = append(measured, a.missing)
			if t.Verdict == "met" {
				t.Verdict = "not measured"
			}
		default:
			measured = append(measured, a.value.String())
			if !a.met() {
				t.Verdict = "NOT MET"
			}
		}
	}
	t.Want, t.Measured = strings.Join(want, "; "), strings.Join(measured, "; ")
	return t
}

// field is what the targets are measured on: one coordinator with a legacy and a native echo backend, the floor, and
// HAProxy where there is one. The cluster is started when a target needs it.
type field struct {
	floor, legacy, native, secure, haproxy, nginx *contender
	far                                           *contender
	server                                        *server
}

// group is a set of targets that one part of the run measures.
type group struct {
	ids []string
	run func(ctx context.Context, f *field) ([]Target, error)
	// alone: it starts what it needs itself.
	alone bool
}

func (b *bench) groups() []group {
	return []group{
		{[]string{"P1", "P2", "P11", "P9", "P10"}, b.throughput, false},
		{[]string{"P3"}, b.bigMessages, false},
		{[]string{"P4"}, b.single, false},
		{[]string{"P5"}, b.openLoopTarget, false},
		{[]string{"P6"}, b.fanoutTarget, false},
		{[]string{"P7"}, b.memoryTarget, true},
		{[]string{"P8"}, b.joinTarget, true},
		{[]string{"P12"}, b.twoNodesTarget, false},
		{[]string{"P13"}, b.hopTarget, false},
		{[]string{"P14"}, b.linkTarget, true},
		{[]string{"P15"}, b.createTarget, true},
		{[]string{"P16", "P17"}, b.tableTarget, true},
	}
}

func (b *bench) targets(ctx context.Context) error {
	groups := slices.DeleteFunc(b.groups(), func(g group) bool { return !slices.ContainsFunc(g.ids, b.wanted) })
	if len(groups) == 0 {
		return fmt.Errorf("%w: --only %q names no target from P1 to P17", ErrUsage, b.o.Only)
	}
	f := &field{}
	if slices.ContainsFunc(groups, func(g group) bool { return !g.alone }) {
		var err error
		if f, err = b.field(ctx); err != nil {
			return err
		}
	}
	for _, g := range groups {
		lines, err := g.run(ctx, f)
		if err != nil {
			return err
		}
		for _, t := range lines {
			b.say("%s %s: %s (%s)", t.ID, t.Verdict, t.Measured, t.Want)
			if b.wanted(t.ID) {
				b.report.Targets = append(b.report.Targets, t)
			}
		}
	}
	slices.SortFunc(b.report.Targets, func(x, y Target) int { return len(x.ID)*100 - len(y.ID)*100 + strings.Compare(x.ID, y.ID) })
	if b.wanted("P9") {
		b.note("P9 is what the whole process allocated during the 1000 x 8 run, per frame; the exact figure is the Go benchmarks'")
	}
	return nil
}

func (b *bench) wanted(id string) bool {
	return b.o.Only == "" || slices.Contains(strings.Split(b.o.Only, ","), id)
}

func (b *bench) field(ctx context.Context) (*field, error) {
	b.say("starting a coordinator, two backends, the floor and what proxies there are")
	s, err := b.lab.startServer(ctx)
	if err != nil {
		return nil, err
	}
	f := &field{server: s}
	legacy, err := b.lab.startBackend(ctx, s, backendConfig{})
	if err != nil {
		return nil, err
	}
	native, err := b.lab.startBackend(ctx, s, backendConfig{native: true})
	if err != nil {
		return nil, err
	}
	const perRoom = 10
	var e1, e2, e3 error
	f.legacy, e1 = s.contender("trunkline", legacy, perRoom, false)
	f.native, e2 = s.contender("trunkline native", native, perRoom, false)
	f.secure, e3 = s.contender("trunkline"+secureName, legacy, perRoom, true)
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, err
	}
	if f.floor, err = b.lab.startFloor(ctx, false, false); err != nil {
		return nil, err
	}
	if f.haproxy, err = b.lab.startPeer(ctx, haproxyPeer(), f.floor); err != nil && !errors.Is(err, errNoPeer) {
		return nil, err
	}
	if !b.o.Peers {
		return f, nil
	}
	if f.nginx, err = b.lab.startPeer(ctx, nginxPeer(), f.floor); err != nil && !errors.Is(err, errNoPeer) {
		return nil, err
	}
	return f, nil
}

// cell measures echo traffic on those contenders that exist, adds the results to the report, and returns them by
// contender.
func (b *bench) cell(ctx context.Context, name string, conns, window, size int, rate float64, cs ...*contender) (map[*contender]*Result, error) {
	cs = slices.DeleteFunc(cs, func(c *contender) bool { return c == nil })
	o := b.o
	o.Conns, o.Window, o.Size, o.Rate = conns, window, size, rate
	results, err := b.rounds(ctx, name, cs, b.echoRound(o))
	if err != nil {
		return nil, err
	}
	by := make(map[*contender]*Result, len(cs))
	for i, c := range cs {
		by[c] = &results[i]
	}
	b.keepResults(name, results)
	return by, nil
}

// keepResults adds results to the report under the name of their cell.
func (b *bench) keepResults(cell string, results []Result) {
	for _, r := range results {
		r.Name = cell + ": " + r.Name
		b.report.Results = append(b.report.Results, r)
	}
}

// over pairs two results of one cell.
func over(a, b *Result, of func(Cell) float64) Spread {
	return ratioOf(column(a.Rounds, of), column(b.Rounds, of))
}

// overPeer is over, or says that there is no such peer here.
func overPeer(a, peer *Result, of func(Cell) float64, aimed aim) aim {
	if peer == nil {
		aimed.missing = "no HAProxy here"
		return aimed
	}
	aimed.value = over(a, peer, of)
	return aimed
}

func (b *bench) throughput(ctx context.Context, f *field) ([]Target, error) {
	var out []Target
	small, err := b.cell(ctx, "100 x 1, 64 B", 100, 1, 64, 0, f.floor, f.legacy, f.secure, f.haproxy, f.nginx)
	if err != nil {
		return nil, err
	}
	own := small[f.legacy]
	out = append(out, judge("P1", "100 x 1, 64 B",
		atLeast("msgs/s over floor", over(own, small[f.floor], perSecond), 0.65),
		overPeer(own, small[f.haproxy], cpu, atMost("CPU over HAProxy http", Spread{}, 1.0))))
	many, err := b.cell(ctx, "1000 x 8, 64 B", 1000, 8, 64, 0, f.floor, f.legacy, f.native, f.secure, f.haproxy, f.nginx)
	if err != nil {
		return nil, err
	}
	own8 := many[f.legacy]
	allocations := func(r *Result) Spread {
		return spreadOf(column(r.Rounds, func(c Cell) float64 { return c.Allocations }))
	}
	return append(out,
		judge("P2", "1000 x 8, 64 B",
			atLeast("msgs/s over floor", over(own8, many[f.floor], perSecond), 0.75),
			atMost("CPU over floor", over(own8, many[f.floor], cpu), 1.5)),
		judge("P9", "heap allocations per forwarded frame",
			atMost("legacy", allocations(own8), noAllocations), atMost("native", allocations(many[f.native]), noAllocations)),
		judge("P10", "native tunnel over legacy, 1000 x 8, 64 B",
			atLeast("msgs/s", over(many[f.native], own8, perSecond), 1.0)),
		judge("P11", "TLS to clients over plain",
			atMost("CPU at P1", over(small[f.secure], own, cpu), 1.4),
			atMost("CPU at P2", over(many[f.secure], own8, cpu), 1.4))), nil
}

// noAllocations is what counts as none when measured from outside: timers and the metrics page allocate a little.
const noAllocations = 0.01

func (b *bench) bigMessages(ctx context.Context, f *field) ([]Target, error) {
	r, err := b.cell(ctx, "1000 x 8, 1 KiB", 1000, 8, 1024, 0, f.floor, f.legacy, f.haproxy, f.nginx)
	if err != nil {
		return nil, err
	}
	own := r[f.legacy]
	return []Target{judge("P3", "1000 x 8, 1 KiB",
		atLeast("msgs/s over floor", over(own, r[f.floor], perSecond), 0.55),
		overPeer(own, r[f.haproxy], perSecond, atLeast("msgs/s over HAProxy http", Spread{}, 1.1)))}, nil
}

func (b *bench) single(ctx context.Context, f *field) ([]Target, error) {
	r, err := b.cell(ctx, "1 x 1, 64 B", 1, 1, 64, 0, f.floor, f.legacy, f.haproxy, f.nginx)
	if err != nil {
		return nil, err
	}
	return []Target{judge("P4", "1 x 1, 64 B",
		overPeer(r[f.legacy], r[f.haproxy], p50, atMost("p50 over HAProxy http", Spread{}, 1.1)))}, nil
}

func (b *bench) openLoopTarget(ctx context.Context, f *field) ([]Target, error) {
	r, err := b.cell(ctx, "open loop 1000 x 5/s", 1000, 1, 64, 5, f.floor, f.legacy, f.haproxy, f.nginx)
	if err != nil {
		return nil, err
	}
	own := r[f.legacy]
	return []Target{judge("P5", "open loop, 1,000 x 5/s",
		atMost("p50 over floor", over(own, r[f.floor], p50), 1.5), atMost("p99", over(own, r[f.floor], p99), 1.3))}, nil
}

func (b *bench) fanoutTarget(ctx context.Context, f *field) ([]Target, error) {
	const receivers = 1000
	hub, err := b.lab.startFloor(ctx, true, false)
	if err != nil {
		return nil, err
	}
	cs := []*contender{hub}
	for _, native := range []bool{true, false} {
		app, err := b.lab.startBackend(ctx, f.server, backendConfig{broadcast: true, native: native})
		if err != nil {
			return nil, err
		}
		name := map[bool]string{true: "trunkline native", false: "trunkline"}[native]
		c, err := f.server.contender(name, app, receivers, false)
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	o := b.o
	o.Conns, o.Window, o.Size = receivers, 1, 64
	r, err := b.rounds(ctx, "fanout 1 -> 1000", cs, b.fanRound(o))
	if err != nil {
		return nil, err
	}
	b.keepResults("fanout 1 -> 1000", r)
	return []Target{judge("P6", "fan-out 1 -> 1,000, deliveries/s over a bare hub",
		atLeast("native", over(&r[1], &r[0], perSecond), 1.0), atLeast("legacy", over(&r[2], &r[0], perSecond), 0.9))}, nil
}

func (b *bench) memoryTarget(ctx context.Context, _ *field) ([]Target, error) {
	const conns = 10000
	settle := *b
	settle.o.Duration = max(b.o.Duration, 3*time.Second)
	value := map[bool]Spread{}
	text := ""
	for _, secure := range []bool{false, true} {
		s, err := b.lab.startServer(ctx)
		if err != nil {
			return nil, err
		}
		app, err := b.lab.startBackend(ctx, s, backendConfig{})
		if err != nil {
			return nil, err
		}
		name := "trunkline"
		if secure {
			name += secureName
		}
		c, err := s.contender(name, app, 10, secure)
		if err != nil {
			return nil, err
		}
		if err := settle.idleOf(ctx, c, conns, s.collect); err != nil {
			return nil, err
		}
		x := b.report.Idle[len(b.report.Idle)-1]
		each := x.PerConn
		if x.Collected > 0 {
			each = x.Collected
		}
		value[secure] = spreadOf([]float64{each / 1024})
		text += fmt.Sprintf(" %s", compact(x.PerConn/1024))
	}
	t := judge("P7", "KiB per idle connection (10,000 joined)", atMost("plain", value[false], 5), atMost("TLS", value[true], 20))
	t.Measured += " (before a collection:" + text + ")"
	return []Target{t}, nil
}

func (b *bench) joinTarget(ctx context.Context, _ *field) ([]Target, error) {
	const joins = 19000
	s, err := b.lab.startServer(ctx)
	if err != nil {
		return nil, err
	}
	app, err := b.lab.startBackend(ctx, s, backendConfig{})
	if err != nil {
		return nil, err
	}
	c, err := s.contender("trunkline", app, 1, false)
	if err != nil {
		return nil, err
	}
	x, err := b.joins(ctx, c, b.connectionsFor(joins, c))
	if err != nil {
		return nil, err
	}
	b.report.Create = x
	return []Target{judge("P8", "full joins per second",
		atLeast("per second", spreadOf([]float64{x.PerSecond}), 3000),
		atMost("time per join, 19,000 over 2,000", spreadOf([]float64{x.Growth}), 1.1))}, nil
}
