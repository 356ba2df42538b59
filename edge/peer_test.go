package edge

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// noReceiver is a Receiver that heeds nothing.
type noReceiver struct{}

func (noReceiver) Take([]byte) error { return nil }
func (noReceiver) Drained()          {}
func (noReceiver) Room()             {}
func (noReceiver) Resumed()          {}
func (noReceiver) Ended(error)       {}

// peerOf returns what an owner has of a route of another node, which the test speaks for.
func peerOf(owner, other *world, in placement.Instance) *peer {
	rt := owner.r.links.Route(other.placer.node, in.ID, in.Gen, noReceiver{})
	return owner.r.accept(other.placer.node, in.ID, in.Gen, rt).(*peer)
}

// owned makes state 7 the state of an instance at the owner, and returns that node's view of another node.
func owned(owner, other *world, kind tunnel.Kind) (b *fakeTunnel, p *peer, row placement.Row) {
	b = owner.backend(kind, secret, "s1")
	app := wire.AppIDOf(secret)
	in := owner.r.table.Instances(app)[0]
	owner.placer.apply(&placement.Create{App: app, State: 7, Instance: in.ID, Mode: placement.FirmRow})
	synctest.Wait()
	row, _ = owner.r.table.Lookup(app, 7)
	b.take()
	return b, peerOf(owner, other, in), row
}

func guest(row placement.Row, channel uint32, user string) tunnel.Session {
	return tunnel.Session{Channel: channel, State: 7, Epoch: row.Epoch, User: user, Next: 1, Conn: wire.ConnID{Seq: uint64(channel)}}
}

func guestsIn(w *world) int {
	rm := w.r.rooms.find(roomKey{wire.AppIDOf(secret), 7})
	if rm == nil {
		return 0
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return len(rm.guests)
}

func TestGuestOfAPartyThatWasSentAwayIsNotSeated(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		_, p, row := owned(w[0], w[1], tunnel.Legacy)
		pt := p.party(7, row.Epoch)
		pt.end() // by another goroutine, after the table was asked and before the room is entered
		s := &session{router: w[0].r, party: pt, channel: 1, native: true, index: -1, t: guest(row, 1, "ann")}
		s.out = guestOut{s}
		p.guests[1] = s
		pt.open(&arrival{kind: arriveOpen, s: s}, &p.touched)
		p.forget(pt)
		if n := guestsIn(w[0]); n != 0 {
			t.Errorf("%d guests are left", n)
		}
		if rm := w[0].r.rooms.find(roomKey{wire.AppIDOf(secret), 7}); rm != nil {
			t.Error("the room is held for nobody")
		}
	})
}

func TestForgottenGuestsHaveNoSeats(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b, p, row := owned(w[0], w[1], tunnel.Legacy)
		p.Open(guest(row, 1, "ann"))
		p.NewState(7, row.Epoch, []byte("ann"), nil) // of a state that is there
		want(t, "backend", b.take(), "open 7 ann; close 7 ann")
		if n := guestsIn(w[0]); n != 0 {
			t.Errorf("%d guests are left", n)
		}
	})
}

func TestGuestIsOfTheNodeThatSaysSo(t *testing.T) {
	inNodes(t, 3, nil, func(_ *nodes, w []*world) {
		b, p, row := owned(w[0], w[1], tunnel.Legacy)
		in := w[0].r.table.Instances(wire.AppIDOf(secret))[0]
		mean := peerOf(w[0], w[2], in)
		p.Open(guest(row, 1, "ann"))
		theirs := guest(row, 1, "ann")
		theirs.Conn = p.guest(1).t.Conn
		mean.Open(theirs)
		if n := guestsIn(w[0]); n != 2 {
			t.Errorf("%d guests are left", n)
		}
		want(t, "backend", b.take(), "open 7 ann; open 7 ann")
	})
}

func TestUnusedRoutesLeaveNothingBehind(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		_, p, _ := owned(w[0], w[1], tunnel.Legacy)
		synctest.Wait()
		before := runtime.NumGoroutine()
		p.Ended(link.ErrOver)
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines were started", n-before)
		}
	})
}

func TestNoticeOfGhostsIsForLegacyInstancesOnly(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b, p, _ := owned(w[0], w[1], tunnel.Native)
		notice, _ := appendGhosts(nil, p.instance, []ghost{{9, "ann"}})
		w[0].r.notified(w[1].placer.node, notice)
		synctest.Wait()
		want(t, "instance", b.take(), "")
	})
}

func TestNoticesOfAnotherNodeAreBounded(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		notice, _ := appendGhosts(nil, 4711, []ghost{{7, "ann"}})
		before := runtime.NumGoroutine()
		for range 2 * 10_000 {
			w[0].r.notified(w[1].placer.node, notice)
		}
		if n := runtime.NumGoroutine() - before; n > 10_000 {
			t.Errorf("%d goroutines were started", n)
		}
		for i := range 1000 {
			w[0].r.notified(w[1].placer.node, appendHere(nil, 4711, wire.Gen(i)))
		}
		time.Sleep(time.Minute)
		w[0].r.syncs.heard.mu.Lock()
		defer w[0].r.syncs.heard.mu.Unlock()
		if n := len(w[0].r.syncs.heard.m); n > 0 {
			t.Errorf("%d notices are remembered after a minute", n)
		}
	})
}

// What a queue was emptied of is acknowledged before the lane's reader goes on with the session.
func TestWhatWaitedIsAcknowledgedBeforeWhatFollows(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b, p, row := owned(w[0], w[1], tunnel.Legacy)
		p.Open(guest(row, 1, "ann"))
		p.Open(guest(row, 2, "bob"))
		ann := p.guest(1)
		full := make(chan struct{})
		b.mu.Lock()
		b.full = full
		b.mu.Unlock()
		p.Data(1, 1, []byte("1"), false)
		p.Data(2, 1, []byte("two"), false)
		looked := false
		b.mu.Lock()
		b.full, b.asked = nil, func(n int) {
			if pt := ann.party; n == len("two") && !looked {
				looked = true
				pt.mu.Lock()
				defer pt.mu.Unlock()
				if ann.waits == 0 && ann.written != 0 {
					t.Errorf("message %d is not acknowledged, and two goroutines may see to it", ann.written)
				}
			}
		}
		b.mu.Unlock()
		close(full)
		synctest.Wait()
		if !looked {
			t.Error("bob's message did not come after ann's")
		}
	})
}

func TestRoomDoesNotLiveByARowThatHasMovedOn(t *testing.T) {
	inNodes(t, 1, nil, func(_ *nodes, w []*world) {
		app := wire.AppIDOf(secret)
		b1, b2 := w[0].backend(tunnel.Native, secret, "s1"), w[0].backend(tunnel.Native, secret, "s2")
		ins := w[0].r.table.Instances(app)
		w[0].placer.apply(&placement.Create{App: app, State: 7, Instance: ins[0].ID, Mode: placement.FirmRow})
		row, _ := w[0].r.table.Lookup(app, 7)
		w[0].placer.apply(&placement.Release{App: app, State: 7, Epoch: row.Epoch})
		w[0].placer.apply(&placement.Create{App: app, State: 7, Instance: ins[1].ID, Mode: placement.FirmRow})
		synctest.Wait()
		rm := w[0].r.acquire(roomKey{app, 7})
		w[0].r.home(ins[0].ID).bind(rm, row.Epoch) // by a row that was looked up before
		b1.take()
		b2.take()
		ann := w[0].joins(secret, 7, "ann")
		want(t, "the former instance", b1.take(), "")
		want(t, "the instance", b2.take(), "open 7 ann")
		ann.leaves()
		w[0].r.release(rm)
	})
}

func TestRoomOfAnInstanceWithoutATunnelDoesNotLiveElsewhere(t *testing.T) {
	inNodes(t, 1, nil, func(_ *nodes, w []*world) {
		app := wire.AppIDOf(secret)
		b1, b2 := w[0].backend(tunnel.Native, secret, "s1"), w[0].backend(tunnel.Native, secret, "s2")
		ins := w[0].r.table.Instances(app)
		ann := w[0].joins(secret, 7, "ann")
		rm := w[0].r.rooms.find(roomKey{app, 7})
		if rm.home.id != ins[0].ID {
			b1, b2, ins[1] = b2, b1, ins[0]
		}
		w[0].breaks(b2)
		w[0].r.home(ins[1].ID).bind(rm, rm.epochNow()+1)
		rm.mu.Lock()
		if rm.phase == phaseLive {
			t.Error("the room lives by another instance than it thinks")
		}
		rm.mu.Unlock()
		synctest.Wait()
		if heard := b1.take(); !strings.HasPrefix(heard, "confirm; open 7 ann") {
			t.Errorf("heard %q", heard)
		}
		ann.leaves()
	})
}

func TestTunnelTakesThePlaceOfARoute(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		w[0].backend(tunnel.Native, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		in := w[1].r.table.Instances(wire.AppIDOf(secret))[0]
		h := w[1].r.home(in.ID)
		tun := newFakeTunnel(tunnel.Native)
		a := &attachment{router: w[1].r, home: h, tun: tun, local: tun, gen: in.Gen + 1, ended: make(chan struct{})}
		h.attach(a)
		want(t, "instance", tun.take(), "open 7 ann")
		if n := w[1].r.stats.routes.Load(); n != 0 {
			t.Errorf("%d routes are left", n)
		}
		ann.leaves()
		h.detach(a)
	})
}

func TestLaneToASessionThatIsOverIsGivenUp(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		w[0].r.links.Route(4711, 1, 1, noReceiver{})
		time.Sleep(4 * time.Second)
		if peers := w[0].r.Peers(); len(peers) > 0 {
			t.Errorf("there are links to %v", peers)
		}
	})
}

func TestInstanceHearsThatACreateWasTakenBackByANodeOutOfReach(t *testing.T) {
	inNodes(t, 2, nil, func(c *nodes, w []*world) {
		b, p, _ := owned(w[0], w[1], tunnel.Native)
		app := wire.AppIDOf(secret)
		in := w[0].r.table.Instances(app)[0]
		w[1].placer.apply(&placement.Create{App: app, State: 8, Instance: in.ID, Mode: placement.PendingRow})
		row, _ := w[0].r.table.Lookup(app, 8)
		p.NewState(8, row.Epoch, []byte("ann"), []byte("data"))
		w[0].says(b, func(s tunnel.Sink) { s.StateAccepted(8, row.Epoch) })
		want(t, "instance", b.take(), `new 8 ann "data"`)
		w[1].placer.apply(&placement.Remove{App: app, State: 8, Epoch: row.Epoch})
		synctest.Wait()
		want(t, "instance", b.take(), "not-owner 8")
	})
}

// One client that sends messages of no bytes, which take no credit, costs no other session of its node anything.
func TestClientIsHeldWhereMuchOfItsWaits(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann, bob := w[1].joins(secret, 7, "ann"), w[1].joins(secret, 8, "bob")
		b.take()
		full := make(chan struct{})
		b.mu.Lock()
		b.full, b.only = full, 7
		b.mu.Unlock()
		const messages = maxArrivals + 1000
		done := make(chan struct{})
		w[1].r.spawn(func(context.Context) {
			defer close(done)
			for range messages {
				if ann.seat.Down(nil, false) != nil {
					return
				}
				ann.seat.Drained()
			}
		})
		settle()
		if n := w[0].r.stats.overrun.Load(); n > 0 {
			t.Errorf("%d routes were cut", n)
		}
		bob.sends("unhindered")
		b.mu.Lock()
		b.full = nil
		b.mu.Unlock()
		close(full)
		<-done
		settle()
		if heard := b.take(); strings.Count(heard, "data 7 ann") != messages || !strings.Contains(heard, `data 8 bob 1 "unhindered"`) {
			t.Errorf("%d of %d messages arrived", strings.Count(heard, "data 7 ann"), messages)
		}
		ann.leaves()
		bob.leaves()
	})
}
