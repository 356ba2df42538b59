package cluster

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// memberlist gives nothing to wait for its last probe by.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

var app = wire.AppIDOf("secret")

// node is Node under a name that leaves its method Node to be called where it is embedded.
type node = Node

// running is a Node that is being run until the test ends, or stop is called.
type running struct {
	*node
	t    testing.TB
	stop func() error
	log  *strings.Builder
}

func openIn(t testing.TB, dir string) (*Node, error) {
	return Open(Config{DataDir: dir, NodeID: "n1", Region: "eu"})
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	if cfg.NodeID == "" {
		cfg.NodeID = "n1"
	}
	cfg.Region = "eu"
	text := &strings.Builder{}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(&lockedWriter{w: text}, nil))
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r := &running{node: l, t: t, log: text}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = r.stop() })
	joined, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	if err := l.Joined(joined); err != nil {
		t.Fatalf("%v; run: %v", err, r.stop())
	}
	return r
}

type lockedWriter struct {
	mu sync.Mutex
	w  *strings.Builder
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func (r *running) halt() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Fatalf("run: %v", err)
	}
}

func (r *running) legacy(storeID string) placement.Attached {
	r.t.Helper()
	at, err := r.Register(r.t.Context(), placement.RegisterRequest{App: app, StoreID: storeID, Region: "eu"})
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

func (r *running) native(storeID string, incarnation byte, holds ...wire.Held) placement.Attached {
	r.t.Helper()
	at, err := r.Register(r.t.Context(), placement.RegisterRequest{
		App: app, StoreID: storeID, Native: true, Incarnation: [16]byte{incarnation}, Region: "eu", Holds: holds,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

func (r *running) create() placement.Placed {
	r.t.Helper()
	p, err := r.Create(r.t.Context(), placement.CreateRequest{App: app, Region: "eu"})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *running) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) want(target, err error) {
	r.t.Helper()
	if !errors.Is(err, target) {
		r.t.Fatalf("got %v, want %v", err, target)
	}
}

func (r *running) row(state wire.StateID) placement.Row {
	r.t.Helper()
	row, ok := r.Table().Lookup(app, state)
	if !ok {
		r.t.Fatalf("state %s has no row", state)
	}
	return row
}

func TestCreatePlaceAndForget(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	_, err := l.Create(ctx, placement.CreateRequest{App: app})
	l.want(placement.ErrNoInstance, err)
	a := l.legacy("a")
	if a.Gen != 1 || a.Again {
		t.Fatalf("a new instance is attached as %+v", a)
	}
	p := l.create()
	if p.State == 0 || p.Instance != a.Instance {
		t.Fatalf("placed %+v, the only instance is %d", p, a.Instance)
	}
	if row := l.row(p.State); !row.Pending || row.Epoch != p.Epoch || row.Node != l.Node() || row.Gen != 1 {
		t.Fatalf("row of a created state: %+v", row)
	}
	l.ok(l.Firm(ctx, app, p.State, p.Epoch))
	l.ok(l.Firm(ctx, app, p.State, p.Epoch)) // twice is fine
	l.want(placement.ErrStale, l.Firm(ctx, app, p.State, p.Epoch+1))
	l.want(placement.ErrStale, l.Remove(ctx, app, p.State, p.Epoch)) // a firm row stays
	row, err := l.Place(ctx, placement.PlaceRequest{App: app, State: p.State})
	l.ok(err)
	if row.Epoch != p.Epoch || row.Pending || row.Tentative {
		t.Fatalf("placing a state that has an owner gave %+v", row)
	}
	l.ok(l.Release(ctx, app, p.State, p.Epoch))
	l.ok(l.Release(ctx, app, p.State, p.Epoch)) // gone already

	row, err = l.Place(ctx, placement.PlaceRequest{App: app, State: 7})
	l.ok(err)
	if !row.Tentative || row.Instance != a.Instance {
		t.Fatalf("an unknown state was placed as %+v", row)
	}
	l.ok(l.Remove(ctx, app, 7, row.Epoch))
	if _, ok := l.Table().Lookup(app, 7); ok {
		t.Fatal("a tentative row was not removed")
	}
}

func TestGoneInstanceFreesItsRows(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	a := l.legacy("a")
	p := l.create()
	l.ok(l.Firm(ctx, app, p.State, p.Epoch))
	b := l.legacy("b")
	l.want(placement.ErrStale, l.Gone(ctx, a.Instance, a.Gen+1))
	l.ok(l.Gone(ctx, a.Instance, a.Gen))
	l.ok(l.Gone(ctx, a.Instance, a.Gen)) // twice is fine
	if row := l.row(p.State); !row.Free {
		t.Fatalf("row of an instance that is gone: %+v", row)
	}
	row, err := l.Place(ctx, placement.PlaceRequest{App: app, State: p.State})
	l.ok(err)
	if row.Instance != b.Instance || row.Epoch <= p.Epoch || row.Taint != "a" || row.Tentative || row.Free {
		t.Fatalf("moved row: %+v", row)
	}

	// Back under its name it is another instance, and tainted for the state: not chosen while c lives.
	again := l.legacy("a")
	if again.Instance == a.Instance {
		t.Fatal("an instance that was gone came back as itself")
	}
	l.legacy("c")
	l.ok(l.Gone(ctx, b.Instance, b.Gen))
	row, err = l.Place(ctx, placement.PlaceRequest{App: app, State: p.State})
	l.ok(err)
	if inst, _ := l.Table().Instance(row.Instance); inst.StoreID != "c" || row.Taint != "b" {
		t.Fatalf("state that had left a and b is now on %q, %+v", inst.StoreID, row)
	}
	l.ok(l.Untaint(ctx, app, p.State, "x"))
	l.ok(l.Untaint(ctx, app, p.State, "b"))
	if row := l.row(p.State); row.Taint != "" {
		t.Fatalf("taint %q stays although its process let go", row.Taint)
	}
}

func TestRegisterAgainKeepsRows(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	a := l.legacy("a")
	p := l.create()

	// A legacy newcomer needs to know whom it replaces.
	req := placement.RegisterRequest{App: app, StoreID: "a"}
	_, err := l.Register(ctx, req)
	l.want(placement.ErrHeld, err)
	var held *placement.HeldError
	if !errors.As(err, &held) || held.Instance != a.Instance || held.Gen != 1 || held.Node != l.Node() {
		t.Fatalf("held by %+v", held)
	}
	req.Replace, req.ReplaceGen = held.Instance, held.Gen
	again, err := l.Register(ctx, req)
	l.ok(err)
	if again != (placement.Attached{Instance: a.Instance, Gen: 2, Again: true}) {
		t.Fatalf("attached again as %+v", again)
	}
	if row := l.row(p.State); row.Gen != 2 || row.Epoch != p.Epoch || row.Free {
		t.Fatalf("row after its instance attached again: %+v", row)
	}
	_, err = l.Register(ctx, req) // an older expectation
	l.want(placement.ErrHeld, err)
	l.want(placement.ErrStale, l.Gone(ctx, a.Instance, 1)) // the old attachment's end

	// Native: the same incarnation is the same process, another one another instance.
	n := l.native("a", 1)
	if m := l.native("a", 1); m.Instance != n.Instance || m.Gen != 2 || !m.Again {
		t.Fatalf("same incarnation attached as %+v, was %+v", m, n)
	}
	if m := l.native("a", 2); m.Instance == n.Instance || m.Again {
		t.Fatalf("another incarnation attached as %+v", m)
	}
}

func TestRegisterRefusesNonsense(t *testing.T) {
	l := start(t, Config{})
	for name, r := range map[string]placement.RegisterRequest{
		"no store id":          {App: app},
		"long store id":        {App: app, StoreID: strings.Repeat("x", placement.MaxStoreID+1)},
		"long region":          {App: app, StoreID: "a", Region: strings.Repeat("x", placement.MaxRegion+1)},
		"native, no life":      {App: app, StoreID: "a", Native: true},
		"legacy with a life":   {App: app, StoreID: "a", Incarnation: [16]byte{1}},
		"login not an object":  {App: app, StoreID: "a", Login: []byte(`[1]`)},
		"login not JSON":       {App: app, StoreID: "a", Login: []byte(`{`)},
		"login of 1 MiB":       {App: app, StoreID: "a", Login: []byte(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`)},
		"login of 16 KiB and1": {App: app, StoreID: "a", Login: []byte(`{"a":"` + strings.Repeat("x", 16<<10-7) + `"}`)},
	} {
		if _, err := l.Register(t.Context(), r); err == nil {
			t.Errorf("%s was registered", name)
		}
	}
	if n := l.Table().Stats().Instances; n != 0 {
		t.Fatalf("%d instances in the table", n)
	}
}

func TestNativeClaimsWhatItHolds(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	a := l.native("a", 1)
	kept, moved := l.create(), l.create()
	l.ok(l.Firm(ctx, app, kept.State, kept.Epoch))
	l.ok(l.Gone(ctx, a.Instance, a.Gen))
	b := l.native("b", 2)
	_, err := l.Place(ctx, placement.PlaceRequest{App: app, State: moved.State})
	l.ok(err)
	older := wire.MakeEpoch(l.Table().Generation()-1, 99)
	again := l.native("a", 1,
		wire.Held{State: kept.State, Epoch: kept.Epoch},        // free, nobody had it since
		wire.Held{State: moved.State, Epoch: moved.Epoch},      // b has it
		wire.Held{State: 70, Epoch: older},                     // of a table that is lost
		wire.Held{State: 71, Epoch: kept.Epoch},                // of this one, and removed
		wire.Held{State: kept.State + 1, Epoch: older + 1<<40}, // of this generation: nonsense
	)
	if row := l.row(kept.State); row.Instance != again.Instance || row.Epoch <= kept.Epoch || row.Taint != "" {
		t.Errorf("state it held: %+v", row)
	}
	if row := l.row(moved.State); row.Instance != b.Instance {
		t.Errorf("state that had moved: %+v", row)
	}
	if row := l.row(70); row.Instance != again.Instance || row.Tentative || row.Pending {
		t.Errorf("state of an older generation: %+v", row)
	}
	if _, ok := l.Table().Lookup(app, 71); ok {
		t.Error("a state that was removed came back")
	}
}

func TestCapPerApp(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	l.ok(l.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{MaxStates: 2}))
	l.legacy("a")
	l.create()
	_, err := l.Place(ctx, placement.PlaceRequest{App: app, State: 9})
	l.ok(err)
	_, err = l.Create(ctx, placement.CreateRequest{App: app})
	l.want(placement.ErrTooManyStates, err)
	_, err = l.Place(ctx, placement.PlaceRequest{App: app, State: 10})
	l.want(placement.ErrTooManyStates, err)
	_, err = l.Place(ctx, placement.PlaceRequest{App: app, State: 9}) // a known state is no new one
	l.ok(err)
	l.ok(l.SetApp(ctx, app, func(s *placement.AppSettings) { s.MaxStates = 3 }))
	l.create()
}

// TestCapHoldsInABatch: creates of one batch see each other.
func TestCapHoldsInABatch(t *testing.T) {
	l := start(t, Config{})
	l.ok(l.PutApp(t.Context(), app, [32]byte{1}, placement.AppSettings{MaxStates: 10}))
	l.legacy("a")
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 100 {
		wg.Go(func() {
			_, err := l.Create(t.Context(), placement.CreateRequest{App: app})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, placement.ErrTooManyStates) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 10 || l.Table().Stats().Rows != 10 {
		t.Fatalf("made %d states, %d rows, the cap is 10", made, l.Table().Stats().Rows)
	}
}

// TestBalance: 3,000 creates over three instances leave none above 1.15 times the mean, also when hundreds share a batch.
func TestBalance(t *testing.T) {
	l := start(t, Config{})
	for _, s := range []string{"a", "b", "c"} {
		l.legacy(s)
	}
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			for range 10 {
				if _, err := l.Create(t.Context(), placement.CreateRequest{App: app, Region: "eu"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, inst := range l.Table().Instances(app) {
		t.Logf("%s has %d states", inst.StoreID, inst.Rows)
		if inst.Rows > 1150 {
			t.Errorf("%s has %d states, above 1.15 times the mean", inst.StoreID, inst.Rows)
		}
	}
}

func TestReportsCountAndFade(t *testing.T) {
	clock := newClock()
	l := start(t, Config{Now: clock.now})
	a, b := l.legacy("a"), l.legacy("b")
	l.Report(a.Instance, 900, 12)
	if p, s, ok := l.Load(a.Instance); !ok || p != 900 || s != 12 {
		t.Fatalf("load %d, %d, %v", p, s, ok)
	}
	for range 50 {
		if p := l.create(); p.Instance != b.Instance {
			t.Fatal("a state went to the instance that reports to be nearly full")
		}
	}
	clock.add(reportLife + time.Second)
	if _, _, ok := l.Load(a.Instance); ok {
		t.Fatal("an old report counts")
	}
	if p := l.create(); p.Instance != a.Instance {
		t.Fatal("an old report counts when choosing")
	}
	l.ok((&sweeper{Node: l.node}).sweep(t.Context()))
	if len(l.loads.own) != 0 {
		t.Fatal("an old report is kept")
	}
	l.ok(l.Drain(t.Context(), a.Instance))
	for range 20 {
		if p := l.create(); p.Instance != b.Instance {
			t.Fatal("a state went to an instance that drains")
		}
	}
	l.ok(l.Drain(t.Context(), b.Instance))
	_, err := l.Create(t.Context(), placement.CreateRequest{App: app})
	l.want(placement.ErrNoInstance, err)
	l.want(placement.ErrStale, l.Drain(t.Context(), 4711))
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestProposalsEndWithRun(t *testing.T) {
	l := start(t, Config{})
	l.legacy("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Create(ctx, placement.CreateRequest{App: app}); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l.halt()
	_, err := l.Create(t.Context(), placement.CreateRequest{App: app})
	l.want(placement.ErrStopped, err)
	l.want(placement.ErrStopped, l.Gone(t.Context(), 1, 1))
}

// TestWithdrawnProposalIsNotCommitted: with ctx's error nothing is left behind, no pending row that nobody knows of.
func TestWithdrawnProposalIsNotCommitted(t *testing.T) {
	l, err := openIn(t, "") // not run: proposals wait
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for len(l.forwards) == 0 {
			<-time.After(time.Millisecond)
		}
		cancel()
	}()
	if _, err := l.one(ctx, &placement.PutKey{ID: "k", Session: l.Node()}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if batch := l.gather(<-l.forwards); len(batch) != 0 {
		t.Fatal("a proposal was committed after its asker had been told otherwise")
	}
}

func BenchmarkCreate256InFlight(b *testing.B) {
	for _, mode := range []string{"memory", "fsync"} {
		b.Run(mode, func(b *testing.B) {
			dir := ""
			if mode == "fsync" {
				dir = b.TempDir()
			}
			l := start(b, Config{DataDir: dir})
			for _, s := range []string{"a", "b", "c"} {
				l.legacy(s)
			}
			l.ok(l.PutApp(b.Context(), app, [32]byte{1}, placement.AppSettings{MaxStates: 1 << 30}))
			b.SetParallelism(128)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.Create(b.Context(), placement.CreateRequest{App: app, Region: "eu"}); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
			b.ReportMetric(float64(b.N)/float64(l.counts.batches.Load()), "creates/batch")
		})
	}
}
