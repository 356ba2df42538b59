package edge

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

const secret = "canary-secret-of-an-app, 22+ characters"

func TestClientIsToldBeforeTheBackendAndLeavesWithTheLastTab(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		want(t, "backend", b.take(), "confirm")
		one := w.joins(secret, 7, "ann")
		two := w.joins(secret, 7, "ann")
		want(t, "client", one.take(), "registered")
		want(t, "backend", b.take(), "open 7 ann; open 7 ann")
		w.says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("hi")) })
		want(t, "first tab", one.take(), "hi")
		want(t, "second tab", two.take(), "registered; hi")
		one.leaves()
		want(t, "backend", b.take(), "")
		two.leaves()
		want(t, "backend", b.take(), "close 7 ann")
	})
}

func TestMessagesKeepTheirOrderAndTheirApp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Legacy, secret, "s1")
		b2 := w.backend(tunnel.Legacy, "another app's secret, long enough", "s1")
		p1, p2 := w.joins(secret, 7, "ann"), w.joins("another app's secret, long enough", 7, "ann")
		b1.take()
		b2.take()
		p1.sends("a")
		p1.sends("b")
		p2.sends("c")
		want(t, "first app", b1.take(), `data 7 ann 1 "a"; data 7 ann 2 "b"`)
		want(t, "second app", b2.take(), `data 7 ann 1 "c"`)
		p1.take()
		w.says(b2, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("x")) })
		want(t, "first app's client", p1.take(), "")
		p1.leaves()
		p2.leaves()
	})
}

func TestKickDoesNotMoveAFirmState(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		p := w.joins(secret, 7, "ann")
		w.says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("welcome")) })
		b.take()
		p.take()
		w.backend(tunnel.Legacy, secret, "s2")
		w.says(b, func(s tunnel.Sink) { s.CloseUser(7, []byte("ann")) })
		want(t, "client", p.take(), "closed 4000 "+wire.CodeStateNotFound.Reason())
		want(t, "backend", b.take(), "close 7 ann")
		p.leaves()
		q := w.joins(secret, 7, "bob")
		want(t, "backend", b.take(), "open 7 bob")
		q.leaves()
	})
}

func TestStateThatItsInstanceDoesNotHaveLeavesNoRow(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		p := w.joins(secret, 7, "ann")
		b.take()
		w.says(b, func(s tunnel.Sink) { s.CloseUser(7, []byte("ann")) })
		want(t, "backend", b.take(), "") // no UNSUBSCRIBE where the row was tentative
		p.leaves()
		if _, ok := w.r.table.Lookup(wire.AppIDOf(secret), 7); ok {
			t.Error("the row is still there")
		}
		if _, refusal := w.tries(secret, 7, "ann"); refusal == nil || refusal.Code != wire.CodeStateNotFound {
			t.Errorf("a second try within 5 s got %v, want 4000", refusal)
		}
		time.Sleep(6 * time.Second)
		w.joins(secret, 7, "ann").leaves()
	})
}

func TestTentativeRowWaitsAMinuteForWhoComesBack(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.backend(tunnel.Legacy, secret, "s1")
		app := wire.AppIDOf(secret)
		w.joins(secret, 7, "ann").leaves()
		time.Sleep(50 * time.Second)
		if _, ok := w.r.table.Lookup(app, 7); !ok {
			t.Fatal("the row went early")
		}
		p := w.joins(secret, 7, "ann")
		time.Sleep(2 * time.Minute)
		if _, ok := w.r.table.Lookup(app, 7); !ok {
			t.Fatal("the row went under an open session")
		}
		p.leaves()
		time.Sleep(70 * time.Second)
		if _, ok := w.r.table.Lookup(app, 7); ok {
			t.Error("the row of a state without sessions is there after a minute")
		}
	})
}

func TestInstanceBackWithinItsGraceKeepsItsStates(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		ann, bob := w.joins(secret, 7, "ann"), w.joins(secret, 7, "bob")
		w.backend(tunnel.Legacy, secret, "s2")
		w.breaks(b)
		ann.sends("held")
		bob.leaves()
		time.Sleep(2 * time.Second)
		again := w.backend(tunnel.Legacy, secret, "s1")
		want(t, "instance", again.take(), `confirm; close 7 bob; open 7 ann; data 7 ann 1 "held"`)
		want(t, "client", ann.take(), "registered")
		ann.leaves()
	})
}

func TestStatesMoveWhenTheGraceIsOver(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Legacy, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		b2 := w.backend(tunnel.Legacy, secret, "s2")
		b2.take()
		w.breaks(b1)
		ann.sends("held")
		time.Sleep(2900 * time.Millisecond)
		want(t, "the other instance", b2.take(), "")
		time.Sleep(200 * time.Millisecond)
		want(t, "the other instance", b2.take(), `open 7 ann; data 7 ann 1 "held"`)
		// The first one comes back: it may still believe to have ann.
		back := w.backend(tunnel.Legacy, secret, "s1")
		want(t, "the returned instance", back.take(), "confirm; close 7 ann")
		w.says(back, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("zombie")) })
		want(t, "client", ann.take(), "registered")
		ann.leaves()
	})
}

func TestNativeGoodbyeMovesStatesAtOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		b2 := w.backend(tunnel.Native, secret, "s2")
		b2.take()
		w.says(b1, func(s tunnel.Sink) { s.Leaving() })
		w.breaks(b1)
		want(t, "the other instance", b2.take(), "open 7 ann")
		ann.leaves()
	})
}

func TestOpenSessionsAreHeldAndThenClosed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		ann.take()
		w.breaks(b)
		returned := make(chan error, 1)
		w.r.spawn(func(context.Context) { returned <- ann.seat.Down([]byte("held"), false) })
		time.Sleep(29 * time.Second)
		want(t, "client", ann.take(), "")
		time.Sleep(2 * time.Second)
		want(t, "client", ann.take(), "closed 4001 "+wire.CodeNoInstance.Reason())
		select {
		case err := <-returned:
			if err == nil {
				t.Error("a held message of a closed session was passed on")
			}
		default:
			t.Error("the reader of a closed session still waits")
		}
		ann.leaves()
	})
}

func TestJoinWaitsForAnInstance(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		start := time.Now()
		_, refusal := w.tries(secret, 7, "ann")
		if refusal == nil || refusal.Code != wire.CodeNoInstance || time.Since(start) != 5*time.Second {
			t.Fatalf("refused with %v after %v, want 4001 after 5 s", refusal, time.Since(start))
		}
		w.r.spawn(func(context.Context) {
			time.Sleep(2 * time.Second)
			w.serve(newFakeTunnel(tunnel.Legacy), secret, "s1")
		})
		w.joins(secret, 7, "ann").leaves()
	})
}

func TestSecondProcessWithOneStoreID(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		old := w.backend(tunnel.Legacy, secret, "s1")
		old.take()
		old.alive = true
		second := newFakeTunnel(tunnel.Legacy)
		w.attach(second, secret, "s1")
		time.Sleep(1100 * time.Millisecond)
		select {
		case reason := <-second.done:
			want(t, "second process", reason, refusedTaken)
		default:
			t.Fatal("a second process with a living storeId was not closed after 1 s")
		}
		want(t, "second process", second.take(), "")
		old.alive = false
		third := newFakeTunnel(tunnel.Legacy)
		w.attach(third, secret, "s1")
		time.Sleep(4 * time.Second) // the probe takes 3
		want(t, "third process", third.take(), "confirm")
	})
}

func TestCreateAnswersWhenTheInstanceHasTheState(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		legacy := w.backend(tunnel.Legacy, secret, "s1")
		legacy.take()
		id, err := w.r.Create(w.ctx, api.CreateRequest{App: wire.AppIDOf(secret), User: "ann", Data: []byte("map")})
		if err != nil {
			t.Fatal(err)
		}
		want(t, "legacy", legacy.take(), `new `+id.String()+` ann "map"`)
		if row, ok := w.r.table.Lookup(wire.AppIDOf(secret), id); !ok || row.Pending || row.Tentative {
			t.Errorf("row %+v %v, want a firm one", row, ok)
		}
	})
}

func TestCreateIsRepeatedWhereANativeInstanceRefuses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1, b2 := w.backend(tunnel.Native, secret, "s1"), w.backend(tunnel.Native, secret, "s2")
		answers := make(chan error, 1)
		w.r.spawn(func(ctx context.Context) {
			_, err := w.r.Create(ctx, api.CreateRequest{App: wire.AppIDOf(secret), User: "ann"})
			answers <- err
		})
		synctest.Wait()
		app := wire.AppIDOf(secret)
		row, _ := w.r.table.Lookup(app, 1001)
		w.says(b1, func(s tunnel.Sink) { s.StateRefused(1001, row.Epoch, wire.CodeTryLater, nil) })
		row, ok := w.r.table.Lookup(app, 1002)
		if !ok || !row.Pending {
			t.Fatal("the create was not repeated under a new id")
		}
		w.says(b2, func(s tunnel.Sink) { s.StateAccepted(1002, row.Epoch) })
		if err := <-answers; err != nil {
			t.Error(err)
		}
		if _, ok := w.r.table.Lookup(app, 1001); ok {
			t.Error("the refused row is still there")
		}
		want(t, "the refusing instance", b1.take(), `confirm; new `+wire.StateID(1001).String()+` ann ""; not-owner `+wire.StateID(1001).String())
	})
}

func TestBroadcastReachesJoinedSessionsOnly(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		ann, bob := w.joins(secret, 7, "ann"), w.joins(secret, 7, "bob")
		row, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7)
		w.says(b, func(s tunnel.Sink) {
			s.SessionAccepted(1)
			s.ToAll(7, row.Epoch, 0, []byte("one"), false)
			s.SessionAccepted(2)
			s.ToAll(7, row.Epoch, 1, []byte("two"), false)
			s.ToAll(7, row.Epoch-1, 0, []byte("stale"), false)
			s.ToSession(1, 1, []byte("three"), false)
		})
		want(t, "ann", ann.take(), "registered; one; three")
		want(t, "bob", bob.take(), "registered; two")
		ann.leaves()
		bob.leaves()
	})
}

func TestReleasedStateIsPlacedAnewForWhoIsStillThere(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		b2 := w.backend(tunnel.Native, secret, "s2")
		w.placer.next = w.r.table.Instances(wire.AppIDOf(secret))[1].ID
		b1.take()
		b2.take()
		row, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7)
		w.says(b1, func(s tunnel.Sink) {
			s.SessionAccepted(1)
			s.StateReleased(7, row.Epoch)
		})
		want(t, "first", b1.take(), "released 7")
		want(t, "second", b2.take(), "open 7 ann")
		ann.leaves()
	})
}

func TestBackPressureStopsTheReaderOnly(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		b.take()
		b.mu.Lock()
		full := make(chan struct{})
		b.full = full
		b.mu.Unlock()
		ann.sends("waits")
		want(t, "backend", b.take(), "")
		b.mu.Lock()
		b.full = nil
		b.mu.Unlock()
		close(full)
		synctest.Wait()
		want(t, "backend", b.take(), `data 7 ann 1 "waits"`)
		ann.leaves()
	})
}

func TestUnknownStatesAreLimitedPerAddress(t *testing.T) {
	limit := func(c *Config) { c.UnknownRate.PerAddr = 1 }
	inWorld(t, limit, func(w *world) {
		w.backend(tunnel.Legacy, secret, "s1")
		for i := range 4 {
			w.joins(secret, wire.StateID(100+i), "ann").leaves()
		}
		if _, refusal := w.tries(secret, 200, "ann"); refusal == nil || refusal.Code != wire.CodeTryLater {
			t.Errorf("got %v, want 1013", refusal)
		}
		w.joins(secret, 100, "ann").leaves() // a known state is not limited
	})
}

func TestForeignSecretsAreRefused(t *testing.T) {
	listed := func(c *Config) { c.OpenApps = false }
	inWorld(t, listed, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		select {
		case reason := <-b.done:
			want(t, "backend", reason, wire.CodeUnknownApp.String())
		default:
			t.Fatal("an app that is not listed was served")
		}
	})
}
