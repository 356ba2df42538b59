package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// fakeTunnel is a backend's tunnel that writes down what it is told. Its Run hands to the sink whatever the test says, so
// that Sink calls come from one goroutine as they do from a real tunnel.
type fakeTunnel struct {
	kind  tunnel.Kind
	say   chan func(tunnel.Sink)
	done  chan string
	alive bool // answers probes

	mu    sync.Mutex
	heard []string
	full  chan struct{} // not nil: Admit makes callers wait for it
	only  wire.StateID  // not 0: full is about this state alone
	asked func(n int)   // not nil: told of each Admit
}

func newFakeTunnel(kind tunnel.Kind) *fakeTunnel {
	return &fakeTunnel{kind: kind, say: make(chan func(tunnel.Sink)), done: make(chan string, 1)}
}

func (f *fakeTunnel) note(format string, args ...any) {
	f.mu.Lock()
	f.heard = append(f.heard, fmt.Sprintf(format, args...))
	f.mu.Unlock()
}

// take returns what was heard since the last take.
func (f *fakeTunnel) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := strings.Join(f.heard, "; ")
	f.heard = nil
	return out
}

func (f *fakeTunnel) Kind() tunnel.Kind { return f.kind }
func (f *fakeTunnel) Line(state wire.StateID, epoch wire.Epoch) tunnel.Line {
	return &fakeLine{f, state, epoch}
}
func (f *fakeTunnel) Confirm(wire.InstanceID, wire.Gen) { f.note("confirm") }
func (f *fakeTunnel) Greet(string)                      { f.note("greet") }
func (f *fakeTunnel) Flush()                            {}
func (f *fakeTunnel) Queued() int                       { return 0 }
func (f *fakeTunnel) RTT() time.Duration                { return 0 }
func (f *fakeTunnel) GoAway()                           { f.note("goaway") }

func (f *fakeTunnel) Probe(ctx context.Context) error {
	if f.alive {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeTunnel) Close(reason string) {
	select {
	case f.done <- reason:
	default:
	}
}

func (f *fakeTunnel) Run(ctx context.Context, sink tunnel.Sink) error {
	for {
		select {
		case g := <-f.say:
			g(sink)
			sink.Drained()
		case reason := <-f.done:
			return &tunnel.Error{Reason: reason}
		case <-ctx.Done():
			return &tunnel.Error{Reason: tunnel.ReasonContext}
		}
	}
}

type fakeLine struct {
	t     *fakeTunnel
	state wire.StateID
	epoch wire.Epoch
}

func (l *fakeLine) New(user string, data []byte) { l.t.note("new %s %s %q", l.state, user, data) }
func (l *fakeLine) Open(s *tunnel.Session)       { l.t.note("open %s %s", l.state, s.User) }
func (l *fakeLine) Data(s *tunnel.Session, seq uint64, p []byte, _ bool) {
	l.t.note("data %s %s %d %q", l.state, s.User, seq, p)
}

func (l *fakeLine) Close(s *tunnel.Session, _ uint64, _ wire.Code) {
	l.t.note("close %s %s", l.state, s.User)
}

func (l *fakeLine) Admit(n int) <-chan struct{} {
	l.t.mu.Lock()
	if asked := l.t.asked; asked != nil {
		asked(n)
	}
	defer l.t.mu.Unlock()
	if l.t.only != 0 && l.t.only != l.state {
		return nil
	}
	return l.t.full
}
func (l *fakeLine) Released() { l.t.note("released %s", l.state) }
func (l *fakeLine) NotOwner() { l.t.note("not-owner %s", l.state) }
func (l *fakeLine) End()      {}

// fakeOut is a client that writes down what it is sent.
type fakeOut struct {
	mu    sync.Mutex
	heard []string
}

func (o *fakeOut) note(s string) {
	o.mu.Lock()
	o.heard = append(o.heard, s)
	o.mu.Unlock()
}

func (o *fakeOut) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := strings.Join(o.heard, "; ")
	o.heard = nil
	return out
}
func (o *fakeOut) Registered()              { o.note("registered") }
func (o *fakeOut) Deliver(p []byte, _ bool) { o.note(string(p)) }
func (o *fakeOut) Acked(seq uint64)         { o.note(fmt.Sprintf("ack %d", seq)) }
func (o *fakeOut) Flush()                   {}
func (o *fakeOut) Queued() int              { return 0 }
func (o *fakeOut) Close(code wire.Code, reason string) {
	o.note(fmt.Sprintf("closed %d %s", code, reason))
}

// world is a Router with a table of its own, in a bubble of fake time.
type world struct {
	t      *testing.T
	r      *Router
	placer *fakePlacer
	ctx    context.Context
}

// inWorld runs f in a bubble. Every goroutine of the Router has ended when it returns.
func inWorld(t *testing.T, change func(*Config), f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change, newFakePlacer(t))
		ctx, cancel := context.WithCancel(context.Background())
		w.ctx = ctx
		done := make(chan error)
		go func() { done <- w.r.Run(ctx) }()
		f(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func newWorld(t *testing.T, change func(*Config), p *fakePlacer) *world {
	return newWorldWith(t, change, p, Deps{})
}

func newWorldWith(t *testing.T, change func(*Config), p *fakePlacer, deps Deps) *world {
	cfg := Default()
	cfg.OpenApps = true
	cfg.UnknownRate = UnknownRate{}
	if change != nil {
		change(&cfg)
	}
	deps.Placer, deps.Log, deps.Tunnel = p, testLog(), tunnel.Default()
	r, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, r: r, placer: p}
}

// testLog goes where test/gate looks for secrets: with -v into the output of the suite.
func testLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// backend attaches a fake backend and waits until it is served.
func (w *world) backend(kind tunnel.Kind, secret, store string) *fakeTunnel {
	tun := newFakeTunnel(kind)
	w.attach(tun, secret, store)
	return tun
}

func (w *world) attach(tun *fakeTunnel, secret, store string) {
	w.serve(tun, secret, store)
	synctest.Wait()
}

// serve registers a backend in a goroutine of its own.
func (w *world) serve(tun *fakeTunnel, secret, store string) {
	reg := &tunnel.Registration{Kind: tun.kind, Secret: tunnel.Secret(secret), StoreID: store, Named: store != ""}
	if tun.kind == tunnel.Native {
		copy(reg.Incarnation[:], store+"-incarnation")
	}
	if store == "" {
		reg.StoreID = "made-up"
	}
	w.r.spawn(func(ctx context.Context) { w.r.serveRegistered(ctx, reg, tun, fakeAddr{}) })
}

// says lets the backend's reader call the sink, and waits for what follows from it.
func (w *world) says(tun *fakeTunnel, f func(s tunnel.Sink)) {
	tun.say <- f
	synctest.Wait()
}

// breaks ends the backend's tunnel as a crash does.
func (w *world) breaks(tun *fakeTunnel) {
	tun.done <- tunnel.ReasonPeer
	synctest.Wait()
}

// player is a client that has joined.
type player struct {
	*fakeOut
	seat client.Seat
	w    *world
	busy atomic.Bool // its reader waits in Down: nothing is read from it, so it does not leave either

	state     wire.StateID
	app, user string
}

// joins seats a client and fails the test if it is refused.
func (w *world) joins(secret string, state wire.StateID, user string) *player {
	w.t.Helper()
	p, refusal := w.tries(secret, state, user)
	if refusal != nil {
		w.t.Fatalf("%s may not join %s: %d %s", user, state, refusal.Code, refusal.Reason)
	}
	return p
}

func (w *world) tries(secret string, state wire.StateID, user string) (*player, *client.Refusal) {
	p := &player{fakeOut: &fakeOut{}, w: w}
	seat, refusal := w.r.Join(w.ctx, client.JoinRequest{
		App: wire.AppIDOf(secret), State: state, User: user, Addr: netip.MustParseAddr("127.0.0.1"), Next: 1, Out: p.fakeOut,
	})
	p.seat = seat
	synctest.Wait()
	return p, refusal
}

// sends passes a message down from a goroutine of its own, since it may wait.
func (p *player) sends(msg string) {
	p.busy.Store(true)
	p.w.r.spawn(func(context.Context) {
		defer p.busy.Store(false)
		_ = p.seat.Down([]byte(msg), false) // a session that was closed meanwhile is the test's own doing
		p.seat.Drained()
	})
	synctest.Wait()
}

func (p *player) leaves() {
	synctest.Wait() // what was held has gone down
	p.seat.Leave()
	synctest.Wait()
}

type fakeAddr struct{}

func (fakeAddr) Network() string { return "tcp" }
func (fakeAddr) String() string  { return "127.0.0.1:9" }

func want(t *testing.T, who, got, expected string) {
	t.Helper()
	if got != expected {
		t.Errorf("%s heard %q, want %q", who, got, expected)
	}
}

// fakeLog is what the tables of several nodes are made of.
type fakeLog struct {
	mu      sync.Mutex
	entries [][]byte
	placers []*fakePlacer
}

// fakePlacer commits commands to a real table at once, and to those of the other nodes unless they are held up. What it
// decides is chosen by the test: the instance named by next, or the live one with the lowest id.
type fakePlacer struct {
	t     *testing.T
	table *placement.Table
	log   *fakeLog
	slow  bool // its table stands still but for its own commands; guarded by log.mu

	mu   sync.Mutex
	node wire.NodeSession
	ids  wire.StateID
	next wire.InstanceID
	firm func() // when not nil, called before a row is made firm
}

func newFakePlacer(t *testing.T) *fakePlacer {
	p := &fakePlacer{t: t, table: placement.New(), ids: 1000, log: &fakeLog{}}
	p.log.placers = []*fakePlacer{p}
	p.apply(&placement.Form{Generation: 1, Incarnation: [16]byte{1}, MACKey: [32]byte{1}})
	p.node = p.apply(&placement.OpenSession{NodeID: "n1"}).Node
	return p
}

// another adds a node to those of p.
func (p *fakePlacer) another() *fakePlacer {
	p.log.mu.Lock()
	n := len(p.log.placers) + 1
	q := &fakePlacer{t: p.t, table: placement.New(), ids: wire.StateID(1000 * n), log: p.log}
	p.log.placers = append(p.log.placers, q)
	p.log.mu.Unlock()
	q.node = q.apply(&placement.OpenSession{NodeID: fmt.Sprint("n", n)}).Node
	return q
}

func (p *fakePlacer) apply(c placement.Command) (own placement.Result) {
	p.t.Helper()
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	p.log.entries = append(p.log.entries, placement.AppendEntry(nil, c))
	for _, q := range p.log.placers {
		if q == p {
			own = q.catchUpLocked()
		} else if !q.slow {
			q.catchUpLocked()
		}
	}
	return own
}

// catchUpLocked applies what the table has not had, and returns the last result.
func (p *fakePlacer) catchUpLocked() (last placement.Result) {
	for p.table.Index() < uint64(len(p.log.entries)) {
		i := p.table.Index()
		res, err := p.table.Apply(i+1, p.log.entries[i], nil)
		if err != nil || len(res) != 1 {
			p.t.Errorf("apply entry %d: %v", i+1, err)
			return last
		}
		last = res[0]
	}
	return last
}

// hold lets the table stand still, or go on.
func (p *fakePlacer) hold(on bool) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.slow = on; !on {
		p.catchUpLocked()
	}
}

func (p *fakePlacer) errOf(r placement.Result) error {
	switch r.Outcome {
	case placement.Done:
		return nil
	case placement.NoInstance:
		return placement.ErrNoInstance
	case placement.Full:
		return placement.ErrTooManyStates
	case placement.Held:
		return &placement.HeldError{Instance: r.Instance, Gen: r.Gen, Node: p.node}
	default:
		return placement.ErrStale
	}
}

func (p *fakePlacer) Table() *placement.Table { return p.table }
func (p *fakePlacer) Node() wire.NodeSession  { return p.node }

// choose takes the instance that the test named, else the first that is not avoided.
func (p *fakePlacer) choose(app wire.AppID, avoid wire.InstanceID) (wire.InstanceID, error) {
	list := p.table.Instances(app)
	p.mu.Lock()
	defer p.mu.Unlock()
	var first wire.InstanceID
	for _, in := range list {
		if in.ID == p.next {
			return in.ID, nil
		}
		if first == 0 || first == avoid {
			first = in.ID
		}
	}
	if first == 0 {
		return 0, placement.ErrNoInstance
	}
	return first, nil
}

func (p *fakePlacer) Create(_ context.Context, q placement.CreateRequest) (placement.Placed, error) {
	to, err := p.choose(q.App, q.Avoid)
	if err != nil {
		return placement.Placed{}, err
	}
	p.mu.Lock()
	p.ids++
	id := p.ids
	p.mu.Unlock()
	res := p.apply(&placement.Create{App: q.App, State: id, Instance: to, Mode: placement.PendingRow})
	return placement.Placed{State: id, Instance: to, Epoch: res.Epoch}, p.errOf(res)
}

func (p *fakePlacer) Place(ctx context.Context, q placement.PlaceRequest) (placement.Row, error) {
	row, known := p.table.Lookup(q.App, q.State)
	if known && !row.Free {
		return row, nil
	}
	to, err := p.choose(q.App, q.Avoid)
	if err != nil {
		return placement.Row{}, err
	}
	var c placement.Command = &placement.Create{App: q.App, State: q.State, Instance: to, Mode: placement.TentativeRow}
	if known {
		c = &placement.Move{App: q.App, State: q.State, Expect: row.Epoch, To: to}
	}
	if err := p.errOf(p.apply(c)); errors.Is(err, placement.ErrStale) {
		return p.Place(ctx, q) // another node was faster
	} else if err != nil {
		return placement.Row{}, err
	}
	row, _ = p.table.Lookup(q.App, q.State)
	return row, nil
}

func (p *fakePlacer) Firm(_ context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	if p.firm != nil {
		p.firm()
	}
	return p.errOf(p.apply(&placement.Firm{App: app, State: state, Epoch: epoch}))
}

func (p *fakePlacer) Remove(_ context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return p.errOf(p.apply(&placement.Remove{App: app, State: state, Epoch: epoch}))
}

func (p *fakePlacer) Release(_ context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return p.errOf(p.apply(&placement.Release{App: app, State: state, Epoch: epoch}))
}

func (p *fakePlacer) Untaint(_ context.Context, app wire.AppID, state wire.StateID, store string) error {
	return p.errOf(p.apply(&placement.Untaint{App: app, State: state, StoreID: store}))
}

func (p *fakePlacer) Register(_ context.Context, q placement.RegisterRequest) (placement.Attached, error) {
	res := p.apply(&placement.Register{
		App: q.App, StoreID: q.StoreID, Native: q.Native, Incarnation: q.Incarnation, Region: q.Region, Capacity: q.Capacity,
		Login: q.Login, Node: p.node, Replace: q.Replace, ReplaceGen: q.ReplaceGen,
	})
	return placement.Attached{Instance: res.Instance, Gen: res.Gen, Again: res.Known}, p.errOf(res)
}

func (p *fakePlacer) Gone(_ context.Context, id wire.InstanceID, gen wire.Gen) error {
	return p.errOf(p.apply(&placement.Gone{Instance: id, Gen: gen}))
}

func (p *fakePlacer) Report(wire.InstanceID, uint32, uint64) {}
