package faults

import (
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// live waits until all of some nodes list each other as living: gossip is whole.
func (w *world) live(nodes ...*clustertest.Node) time.Duration {
	w.t.Helper()
	began := time.Now()
	w.Until("gossip knows all", func() bool {
		for _, n := range nodes {
			list := n.Get().Members()
			for _, m := range list {
				if m.State != "live" && m.Session != 0 {
					return false
				}
			}
			if len(list) < len(nodes) {
				return false
			}
		}
		return true
	})
	return time.Since(began)
}

// TestSplitHealsByItself: the side with most voters goes on, each node of the other gets a session anew, and gossip finds
// itself again within 30 s.
func TestSplitHealsByItself(t *testing.T) {
	tell(t, 3, func(w *world) {
		before := w.sessions()
		alone := w.All()[w.Rand.IntN(3)]
		rest := w.others(alone)
		w.cutOff(alone)
		w.newLeader(rest...)
		w.goOn(20)
		w.pass(longer(dead()+3*time.Second, 90*time.Second))
		w.goOn(20)
		if _, held := alone.Get().Lease(); held {
			w.t.Error("a node that reaches nobody holds a lease")
		}
		w.keep(before, rest...)
		w.Heal()
		if took := w.live(w.All()...); took > 30*time.Second {
			w.t.Errorf("gossip found itself after %v", took)
		}
		w.Until("it has another session", func() bool { s := alone.Joined().Node(); return s != before[alone.Name] && s != 0 })
	})
}

// TestEveryNodeAlone: nobody can do anything, and afterwards nothing is lost.
func TestEveryNodeAlone(t *testing.T) {
	tell(t, 3, func(w *world) {
		w.Partition([]string{"n1"}, []string{"n2"}, []string{"n3"})
		w.pass(longer(4*time.Second, 90*time.Second))
		for _, n := range w.All() {
			if leads(n) != nil {
				w.t.Errorf("%s leads alone", n.Name)
			}
		}
		w.Heal()
		if took := w.live(w.All()...); took > 30*time.Second {
			w.t.Errorf("gossip found itself after %v", took)
		}
		for _, n := range w.All() {
			n.Joined()
		}
		w.goOn(50)
	})
}

// TestOneWayCuts: a node whose words do not reach the leader, or that does not hear it, loses its session, and nobody else
// does.
func TestOneWayCuts(t *testing.T) {
	tell(t, 3, func(w *world) {
		for _, towards := range []bool{true, false} {
			for !w.cutOneWay(towards) {
				w.t.Log("another node leads now; once more")
			}
		}
	})
}

// cutOneWay cuts a follower from the leader in one direction until its session is over. It answers false where the leader
// has changed meanwhile, which happens when the machine is very busy, and for the new one there is no cut.
func (w *world) cutOneWay(towards bool) bool {
	w.t.Helper()
	leader, n := w.Leader(), w.Follower()
	before, began := w.sessions(), time.Now()
	if towards {
		w.Net.Cut(n.Host.Name(), leader.Host.Name())
	} else {
		w.Net.Cut(leader.Host.Name(), n.Host.Name())
	}
	w.pass(longer(0, 20*time.Second))
	led := true
	w.Until("its session is over", func() bool {
		led = leads(leader) != nil && leads(w.others(leader)...) == nil
		_, open := leader.Get().Table().Session(before[n.Name])
		return !open || !led
	})
	took := time.Since(began)
	if led {
		w.t.Logf("cut towards the leader %v: its session was over after %v", towards, took)
		// Where it does not hear the leader, what it says counts until their connection is given up.
		if took > longer(dead()+8*time.Second, 21*time.Second) {
			w.t.Errorf("its session was over after %v", took)
		}
		w.goOn(20)
		w.keep(before, w.others(n)...)
	}
	w.Heal()
	w.Until("it has another session", func() bool {
		s := n.Joined().Node()
		return s != 0 && (s != before[n.Name] || !led)
	})
	return led
}

// TestPairThatCannotReachEachOther: two followers. Nobody loses anything, and each says whom it cannot reach.
func TestPairThatCannotReachEachOther(t *testing.T) {
	tell(t, 3, func(w *world) {
		before := w.sessions()
		pair := w.others(w.Leader())
		w.Net.Cut(pair[0].Host.Name(), pair[1].Host.Name())
		w.Net.Cut(pair[1].Host.Name(), pair[0].Host.Name())
		w.pass(longer(dead()+2*time.Second, 40*time.Second))
		for i, n := range pair {
			for _, st := range n.Get().Status(w.t.Context()) {
				if other := pair[1-i].Name; (st.Error != "") != (st.Node == other) {
					w.t.Errorf("%s says of %s: %q; it cannot reach %s", n.Name, st.Node, st.Error, other)
				}
			}
		}
		w.goOn(20)
		w.keep(before, w.All()...)
		w.Heal()
		w.live(w.All()...)
	})
}

// TestVoterCutOffRemovedAndHealed: it comes back as another replica, and the others keep their leader.
func TestVoterCutOffRemovedAndHealed(t *testing.T) {
	tell(t, 3, func(w *world) {
		leader, n := w.Leader(), w.Follower()
		before, server := w.sessions(), n.Get().OwnStatus().Server
		w.cutOff(n)
		w.pass(longer(time.Second, 30*time.Second))
		if err := leader.Get().ForceRemove(w.t.Context(), n.Name); err != nil {
			w.t.Fatal(err)
		}
		w.goOn(50)
		term := leader.Get().OwnStatus().Term
		w.Heal()
		w.Until("it is another replica", func() bool {
			st := n.Joined().OwnStatus()
			return st.Server != server && st.Session != before[n.Name] && st.Session != 0
		})
		w.Voters(3)
		w.keep(before, w.others(n)...)
		if now := leader.Get().OwnStatus().Term; now > term+1 { // one on a busy machine is nobody's fault
			w.t.Errorf("term %d became %d", term, now)
		}
	})
}

// TestAnswersLost: what a node asked of the leader was done, and its answer is lost with the connection. The node asks again,
// and it is not done again.
func TestAnswersLost(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, broken := w.sessions(), 0
		for range longer(60, 400) {
			leader := w.Leader()
			n := w.others(leader)[w.Rand.IntN(2)]
			w.Net.Cut(leader.Host.Name(), n.Host.Name())
			w.pass(time.Duration(5+w.Rand.IntN(40)) * time.Millisecond)
			broken += w.Net.Break(leader.Host.Name(), n.Host.Name())
			w.Heal()
			w.pass(time.Duration(20+w.Rand.IntN(60)) * time.Millisecond)
		}
		if broken < 60 {
			w.t.Errorf("only %d connections were broken", broken)
		}
		w.goOn(20)
		w.keep(before, w.All()...)
	})
}
