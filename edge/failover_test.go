package edge

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestRowsOfAnEarlierLifeWaitForTheirInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakePlacer(t)
		app := wire.AppIDOf(secret)
		first := newWorld(t, nil, p)
		life, cancel := context.WithCancel(context.Background())
		first.ctx = life
		done := make(chan error)
		go func() { done <- first.r.Run(life) }()
		first.backend(tunnel.Legacy, secret, "s1")
		first.backend(tunnel.Legacy, secret, "s2")
		p.next = p.table.Instances(app)[1].ID
		first.joins(secret, 7, "ann").leaves()
		cancel()
		<-done

		second := newWorld(t, nil, p)
		life, cancel = context.WithCancel(context.Background())
		second.ctx = life
		go func() { done <- second.r.Run(life) }()
		synctest.Wait()
		s1 := second.backend(tunnel.Legacy, secret, "s1")
		time.Sleep(2 * time.Second)
		s2 := second.backend(tunnel.Legacy, secret, "s2")
		ann := second.joins(secret, 7, "ann")
		want(t, "the other instance", s1.take(), "confirm")
		want(t, "the owner from before", s2.take(), "confirm; open 7 ann")
		ann.leaves()
		time.Sleep(5 * time.Second)
		if n := len(p.table.Instances(app)); n != 2 {
			t.Errorf("%d instances live, want both: the grace of neither may end", n)
		}
		cancel()
		<-done
	})
}

// A join may come before the Router has taken note of the instances that the table has from before: it waits for its
// instance like any other.
func TestJoinBeforeTheInstanceIsKnownIsSeatedWhenItAttaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakePlacer(t)
		app := wire.AppIDOf(secret)
		id := p.apply(&placement.Register{App: app, StoreID: "s1", Node: p.node}).Instance
		p.apply(&placement.Create{App: app, State: 7, Instance: id, Mode: placement.FirmRow})
		w := newWorld(t, nil, p)
		ctx, cancel := context.WithCancel(context.Background())
		w.ctx = ctx
		seated := make(chan *player)
		go func() {
			ann, _ := w.tries(secret, 7, "ann")
			seated <- ann
		}()
		synctest.Wait() // the join waits, and Run has not begun
		done := make(chan error)
		go func() { done <- w.r.Run(ctx) }()
		synctest.Wait()
		b := newFakeTunnel(tunnel.Legacy)
		w.serve(b, secret, "s1")
		if ann := <-seated; ann.seat == nil {
			t.Error("the join was refused")
		}
		cancel()
		<-done
	})
}

func TestNativeInstanceHearsWhoLeftWhileItWasAway(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		ann, bob := w.joins(secret, 7, "ann"), w.joins(secret, 7, "bob")
		w.breaks(b)
		bob.leaves()
		again := w.backend(tunnel.Native, secret, "s1")
		want(t, "instance", again.take(), "confirm; open 7 bob; close 7 bob; open 7 ann")
		ann.leaves()
	})
}

func TestUnnamedInstanceHasNoGrace(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Legacy, secret, "")
		ann := w.joins(secret, 7, "ann")
		b2 := w.backend(tunnel.Legacy, secret, "s2")
		b2.take()
		w.breaks(b1)
		want(t, "the other instance", b2.take(), "open 7 ann")
		ann.leaves()
	})
}

func TestManyStatesMoveTogether(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Legacy, secret, "s1")
		var players []*player
		for i := range 300 {
			players = append(players, w.joins(secret, wire.StateID(i+1), fmt.Sprint("user", i)))
		}
		b2 := w.backend(tunnel.Legacy, secret, "s2")
		b2.take()
		w.breaks(b1)
		time.Sleep(3100 * time.Millisecond)
		b2.mu.Lock()
		heard := slices.Clone(b2.heard)
		b2.mu.Unlock()
		if len(heard) != 300 {
			t.Errorf("%d of 300 users reached the other instance", len(heard))
		}
		for _, p := range players {
			p.leaves()
		}
	})
}

func TestFlappingTunnelMovesNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		other := w.backend(tunnel.Legacy, secret, "s2")
		other.take()
		for range 10 {
			w.breaks(b)
			time.Sleep(1500 * time.Millisecond)
			b = w.backend(tunnel.Legacy, secret, "s1")
			want(t, "instance", b.take(), "confirm; open 7 ann")
		}
		time.Sleep(10 * time.Second)
		want(t, "the other instance", other.take(), "")
		ann.leaves()
	})
}

func TestDrainSendsEverybodyElsewhere(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		b.take()
		ann.take()
		w.r.Drain()
		want(t, "instance", b.take(), "goaway; close 7 ann")
		want(t, "client", ann.take(), "closed 1012 node is going away, reconnect")
		if _, refusal := w.tries(secret, 8, "bob"); refusal == nil || refusal.Code != wire.CodeRestart {
			t.Errorf("a join while draining got %v, want 1012", refusal)
		}
		if _, err := w.r.Create(w.ctx, api.CreateRequest{App: wire.AppIDOf(secret)}); err == nil {
			t.Error("a create while draining was taken")
		}
		if w.r.Ready() == nil {
			t.Error("a draining node says it is ready")
		}
		ann.leaves()
		w.breaks(b)
		time.Sleep(5 * time.Second)
		if len(w.r.table.Instances(wire.AppIDOf(secret))) != 1 {
			t.Error("a node that goes away took its instance along")
		}
	})
}

func TestLobbiesLiveAsLongAsTheirStates(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		app := wire.AppIDOf(secret)
		create := func(visibility, region string) wire.StateID {
			ids := make(chan wire.StateID, 1)
			w.r.spawn(func(ctx context.Context) {
				id, err := w.r.Create(ctx, api.CreateRequest{
					App: app, User: "ann", Lobby: &api.Lobby{Visibility: visibility, Region: region, CreatedBy: "ann"},
				})
				if err != nil {
					t.Error(err)
				}
				ids <- id
			})
			synctest.Wait()
			state := w.placer.ids
			row, _ := w.r.table.Lookup(app, state)
			if w.r.Status(app, state) {
				t.Error("a pending state is said to be active")
			}
			w.says(b, func(s tunnel.Sink) { s.StateAccepted(state, row.Epoch) })
			return <-ids
		}
		one, _, three := create("public", "Seattle"), create("private", "Seattle"), create("public", "London")
		list := w.r.Lobbies(app, "", 10)
		if len(list) != 2 || list[0].State != three || list[1].State != one {
			t.Errorf("lobbies %+v, want the two public ones, newest first", list)
		}
		if list := w.r.Lobbies(app, "Seattle", 10); len(list) != 1 || list[0].State != one {
			t.Errorf("lobbies of Seattle %+v", list)
		}
		row, _ := w.r.table.Lookup(app, one)
		w.says(b, func(s tunnel.Sink) { s.StateReleased(one, row.Epoch) })
		if list := w.r.Lobbies(app, "", 10); len(list) != 1 || list[0].State != three {
			t.Errorf("after the release: %+v", list)
		}
	})
}

func TestSilentNativeInstanceLosesTheCreate(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Native, secret, "s1")
		start := time.Now()
		_, err := w.r.Create(w.ctx, api.CreateRequest{App: wire.AppIDOf(secret), User: "ann"})
		if err != api.ErrNoInstance || time.Since(start) != 15*time.Second {
			t.Errorf("%v after %v, want ErrNoInstance after three times 5 s", err, time.Since(start))
		}
		if n := len(w.r.table.States(wire.AppIDOf(secret), 0, 10)); n != 0 {
			t.Errorf("%d rows left behind", n)
		}
		late := wire.MakeEpoch(1, 3)
		b1.take()
		w.says(b1, func(s tunnel.Sink) { s.StateAccepted(1001, late) })
		want(t, "the late instance", b1.take(), "not-owner "+wire.StateID(1001).String())
	})
}

func TestFramesOfStrayStatesAreDroppedAndCounted(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		b.take()
		w.says(b, func(s tunnel.Sink) { s.ToAll(99, 5, 0, []byte("x"), false) })
		want(t, "instance", b.take(), "not-owner "+wire.StateID(99).String())
		counted := map[string]float64{}
		w.r.Collect(func(name string, v float64, labels ...string) { counted[fmt.Sprint(name, labels)] = v })
		if counted["edge_frames_dropped_total[reason not_owner]"] != 1 {
			t.Errorf("counters: %v", counted)
		}
	})
}

// An instance that sends any number of frames for a tentative state whose sessions have left causes one proposal.
func TestRowIsMadeFirmOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		w.joins(secret, 7, "ann").leaves()
		var proposals atomic.Int32
		committed := make(chan struct{})
		w.placer.firm = func() {
			proposals.Add(1)
			<-committed
		}
		for range 3 {
			w.says(b, func(s tunnel.Sink) {
				for range 100 {
					s.ToUser(7, 0, []byte("ann"), []byte("x"))
				}
			})
		}
		if n := proposals.Load(); n != 1 {
			t.Errorf("%d proposals for one row", n)
		}
		close(committed)
		synctest.Wait()
		if row, ok := w.r.table.Lookup(wire.AppIDOf(secret), 7); !ok || row.Tentative {
			t.Errorf("the row is %+v, %v", row, ok)
		}
		if n := len(w.r.proposed); n != 0 {
			t.Errorf("%d proposals are still under way", n)
		}
	})
}

func TestUnacknowledgedFramesAreCountedWhenAStateMoves(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		ann.take()
		for _, m := range []string{"a", "b", "c"} {
			ann.sends(m)
		}
		w.says(b, func(s tunnel.Sink) { s.Acked(1, 1) })
		want(t, "client", ann.take(), "ack 1")
		w.breaks(b)
		if n := w.r.stats.unacked.Load(); n != 2 {
			t.Errorf("%d frames counted as unacknowledged, want 2", n)
		}
		ann.leaves()
	})
}

func TestUserWhoLeftAsTheTunnelDiedIsTakenOff(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b := w.backend(tunnel.Legacy, secret, "s1")
		w.joins(secret, 7, "ann").leaves() // the UNSUBSCRIBE goes into a connection that is dead already
		w.breaks(b)
		again := w.backend(tunnel.Legacy, secret, "s1")
		want(t, "instance", again.take(), "confirm; close 7 ann")
	})
}

func TestLegacyOwnerAcknowledgesToNativeClients(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.backend(tunnel.Legacy, secret, "s1")
		out := &fakeOut{}
		seat, refusal := w.r.Join(w.ctx, client.JoinRequest{
			App: wire.AppIDOf(secret), State: 7, User: "ann", Native: true, Next: 5, Out: out,
		})
		if refusal != nil {
			t.Fatal(refusal.Reason)
		}
		if err := seat.Down([]byte("x"), false); err != nil {
			t.Fatal(err)
		}
		seat.Drained()
		want(t, "client", out.take(), "registered; ack 5")
		seat.Leave()
	})
}

func TestReleasedOldCopyIsForgotten(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		b1 := w.backend(tunnel.Native, secret, "s1")
		ann := w.joins(secret, 7, "ann")
		row, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7)
		w.backend(tunnel.Native, secret, "s2")
		w.breaks(b1)
		time.Sleep(1100 * time.Millisecond)
		if moved, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7); moved.Taint != "s1" {
			t.Fatalf("taint %q after the move, want s1", moved.Taint)
		}
		back := w.backend(tunnel.Native, secret, "s1")
		w.says(back, func(s tunnel.Sink) { s.StateReleased(7, row.Epoch) })
		if after, _ := w.r.table.Lookup(wire.AppIDOf(secret), 7); after.Taint != "" || after.Free {
			t.Errorf("row %+v, want it where it was and without a taint", after)
		}
		ann.leaves()
	})
}
