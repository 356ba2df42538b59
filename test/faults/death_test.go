package faults

import (
	"testing"
)

// TestLeaderKilledAgainAndAgain: under load, each time as soon as the last one is back.
func TestLeaderKilledAgainAndAgain(t *testing.T) {
	tell(t, 3, func(w *world) {
		for range longer(6, 20) {
			leader := w.Leader()
			w.kill(leader)
			w.newLeader(w.others(leader)...)
			w.goOn(20)
			leader.Start().Joined()
		}
	})
}

// TestFollowerKilledAndRestarted: nobody else notices.
func TestFollowerKilledAndRestarted(t *testing.T) {
	tell(t, 3, func(w *world) {
		for range longer(2, 10) {
			before, n := w.sessions(), w.Follower()
			w.kill(n)
			w.goOn(50)
			n.Start().Joined()
			w.goOn(20)
			w.keep(before, w.others(n)...)
		}
	})
}

// TestAllKilledAtOnce: the same table, and the index goes on.
func TestAllKilledAtOnce(t *testing.T) {
	tell(t, 3, func(w *world) {
		for range longer(2, 6) {
			newest := w.h.newest()
			for _, n := range w.All() {
				w.kill(n)
			}
			for _, n := range w.All() {
				n.Start()
			}
			for _, n := range w.All() {
				n.Joined()
			}
			w.goOn(50)
			if again := w.h.newest(); again <= newest {
				w.t.Errorf("epoch %d after %d", again, newest)
			}
		}
	})
}

// TestNodeComesBackAtAnotherAddress: as the replica it was, though it led.
func TestNodeComesBackAtAnotherAddress(t *testing.T) {
	tell(t, 3, func(w *world) {
		for i := range longer(1, 2) {
			n := w.Leader()
			before := n.Get().OwnStatus().Server
			w.kill(n)
			w.goOn(20)
			n.Move([]string{"10.8.0.1", "10.8.0.2"}[i])
			n.Start().Joined()
			w.goOn(20)
			if now := n.Get().OwnStatus().Server; now != before {
				w.t.Errorf("%s was replica %s and is %s", n.Name, before, now)
			}
		}
		w.live(w.All()...)
	})
}
