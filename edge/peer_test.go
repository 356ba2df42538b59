package edge

import (
	"runtime"
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
