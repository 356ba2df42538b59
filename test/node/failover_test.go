package node

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// Graces of the tests, in the flags of the node.
const (
	nativeGrace = time.Second
	legacyGrace = 3 * time.Second
)

func graceOf(kind string) time.Duration {
	if kind == legacy {
		return legacyGrace
	}
	return nativeGrace
}

// load has every player send a numbered message again and again until the returned function is called, which waits for the
// last send to have returned.
func load(t *testing.T, players []*player, every time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	for _, p := range players {
		sending.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := 1; ; i++ {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				if err := p.send(fmt.Appendf(nil, "%d", i)); err != nil {
					p.change(func() { p.mistakes = append(p.mistakes, err.Error()) })
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		sending.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// first waits for the first answer that arrived after a moment.
func (p *player) first(ctx context.Context, what string, after time.Time, match func(answer) bool) (answer, error) {
	var got answer
	from := 0
	err := p.await(ctx, what, func() bool {
		for ; from < len(p.answers); from++ {
			if a := p.answers[from]; a.at.After(after) && match(a) {
				got = a
				return true
			}
		}
		return false
	})
	return got, err
}

// world is three instances, states spread over them, and players in the states under load.
type world struct {
	c        *coordinator
	a        app
	backends map[string]*backend
	players  []*player
	rows     map[string]admin.State // before anything went wrong
	victim   *backend
	stop     func()
}

const (
	worldStates  = 45
	worldPlayers = 90
	worldPace    = 20 * time.Millisecond
)

// newWorld returns when every player has had an answer. The first instance, if a proxy is given, is reached through it.
func newWorld(t *testing.T, kind string, wire func(*coordinator) string, flags ...string) *world {
	t.Helper()
	w := &world{c: startDev(t, flags...), a: newApp(kind), backends: map[string]*backend{}}
	for i := range 3 {
		r := backendRole{Kind: kind, Store: fmt.Sprintf("store-%d", i+1)}
		if i == 0 && wire != nil {
			r.Addr = wire(w.c)
		}
		b := w.a.startBackend(t, w.c, r)
		w.backends[b.name()] = b
	}
	w.victim = w.backends[w.a.name+"/store-1"]
	w.players = w.a.crowd(t, w.c, worldPlayers, w.a.create(t, w.c, worldStates))
	w.rows = w.c.states(t, w.a)
	w.stop = load(t, w.players, worldPace)
	for _, p := range w.players {
		if _, err := p.first(within(t), "answered", time.Time{}, func(answer) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// atVictim says whether the state of the player was on the instance that something happens to.
func (w *world) atVictim(p *player) bool { return w.rows[p.state].StoreID == w.victim.role.Store }

// times sums up durations for the log.
type times struct {
	n          int
	sum, worst time.Duration
	least      time.Duration
}

func (s *times) add(d time.Duration) {
	if s.n == 0 || d < s.least {
		s.least = d
	}
	s.n++
	s.sum += d
	s.worst = max(s.worst, d)
}

func (s *times) String() string {
	if s.n == 0 {
		return "none"
	}
	return fmt.Sprintf("least %v, mean %v, most %v (%d)", s.least.Round(time.Millisecond), (s.sum / time.Duration(s.n)).Round(time.Millisecond), s.worst.Round(time.Millisecond), s.n)
}

// One of three instances dies under load, or loses its tunnel for a moment.
func TestKilledBackendKeepsItsClients(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind+" is killed", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind, nil, "--grace", nativeGrace.String(), "--legacy-grace", legacyGrace.String())
			w.dies(t, graceOf(kind))
		})
	}
	t.Run("legacy is back in time", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, legacy, nil, "--legacy-grace", legacyGrace.String())
		at := w.victim.kill()
		w.victim = w.a.startBackend(t, w.c, w.victim.role)
		w.isBack(t, at, legacyGrace)
	})
	t.Run("native is back in time", func(t *testing.T) {
		t.Parallel()
		const grace = 3 * time.Second // of which a busy machine may need more than the usual second
		var cable *proxy
		w := newWorld(t, native, func(c *coordinator) string {
			cable = startProxy(t, c.tunnel())
			return cable.addr()
		}, "--grace", grace.String())
		gen := w.c.instances(t, w.a)[w.victim.role.Store].Gen
		at := cable.cut()
		until(t, "the instance to attach again", func() bool {
			i := w.c.instances(t, w.a)[w.victim.role.Store]
			return i.Connected && i.Gen > gen
		})
		w.isBack(t, at, grace)
	})
}

// dies kills the victim and checks that its states go on elsewhere, after the grace and soon, that nobody was
// disconnected, and that those on the other instances noticed nothing.
func (w *world) dies(t *testing.T, grace time.Duration) {
	t.Helper()
	at := w.victim.kill()
	var silence times
	newHomes := map[string]string{}
	for _, p := range w.players {
		if !w.atVictim(p) {
			continue
		}
		got, err := p.first(within(t), "answered by another instance", at, func(a answer) bool { return a.backend != w.victim.name() })
		if err != nil {
			t.Fatal(err)
		}
		took := got.at.Sub(at)
		silence.add(took)
		if took < grace || took > grace+slack {
			t.Errorf("%s was answered by another instance after %v, want %v to %v", p.user, took, grace, grace+slack)
		}
		if home := newHomes[p.state]; home != "" && home != got.backend {
			t.Errorf("%s is at %s and at %s", p.state, home, got.backend)
		}
		newHomes[p.state] = got.backend
	}
	end := time.Now()
	w.stop()
	var others times
	for _, p := range w.players {
		p.undisturbed(t)
		if !w.atVictim(p) {
			others.add(longest(p.heard(), at, end))
		}
	}
	if others.worst > slack {
		t.Errorf("clients of the instances that live waited up to %v for an answer", others.worst)
	}
	for id, row := range w.c.states(t, w.a) {
		if before := w.rows[id]; before.StoreID == w.victim.role.Store {
			if home := newHomes[id]; home != "" && home != w.a.name+"/"+row.StoreID {
				t.Errorf("%s is at %s by the table and at %s by its answers", id, row.StoreID, home)
			}
		} else if row.Instance != before.Instance || row.Epoch != before.Epoch {
			t.Errorf("%s was on an instance that lives and has moved", id)
		}
	}
	t.Logf("grace %v; from the kill to the first answer of another instance: %v", grace, &silence)
	t.Logf("longest pause of a client of another instance meanwhile: %v", &others)
}

// isBack checks that the victim, whose tunnel broke at a moment, has kept its states.
func (w *world) isBack(t *testing.T, at time.Time, grace time.Duration) {
	t.Helper()
	var silence times
	for _, p := range w.players {
		if !w.atVictim(p) {
			continue
		}
		// What was on its way when the tunnel broke may still arrive, so the answer to look at is the one to a message
		// that is sent now.
		got, err := p.ask(within(t), "are you back?")
		if err != nil {
			t.Fatal(err)
		}
		if got.backend != w.victim.name() {
			t.Errorf("%s is answered by %s, its instance %s was back in time", p.user, got.backend, w.victim.name())
		}
		silence.add(longest(p.heard(), at, got.at))
	}
	w.stop()
	if silence.worst > grace+slack {
		t.Errorf("clients waited %v for an instance that was back within its grace of %v", silence.worst, grace)
	}
	for _, p := range w.players {
		p.undisturbed(t)
	}
	for id, row := range w.c.states(t, w.a) {
		if before := w.rows[id]; row.Instance != before.Instance || row.Epoch != before.Epoch {
			t.Errorf("%s moved from instance %d to %d, though its instance was back in time", id, before.Instance, row.Instance)
		}
	}
	if gone := w.c.metric(t, "trunkline_edge_instances_gone_total"); gone != 0 {
		t.Errorf("%v instances were given up", gone)
	}
	t.Logf("grace %v; longest pause of the clients of the instance that was away: %v", grace, &silence)
}
