package cluster

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/test/faultnet"
)

// A node that only served clients is killed: SDK clients go on at another one.
func TestPlayersGoOnAtAnotherNode(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		l := w.work(plan{backends: 2, players: 12, tunnels: []string{"n1", "n2"}})
		edge := w.nodes[2]
		for range longer(1, 5) {
			flows := l.flows(w.nodes[0])
			at := edge.kill()
			moved := l.answered("players of the node that died", at, func(user string) bool { return flows[user][0] == edge.name })
			gap, who := l.longest(at, time.Now(), func(user string) bool { f, ok := flows[user]; return ok && f[0] != edge.name })
			if gap > time.Second+slack {
				t.Errorf("%s, at another node, waited %v", who, gap)
			}
			t.Logf("its players are answered at another node after %v; longest pause of the others %v", moved.Round(time.Millisecond), gap.Round(time.Millisecond))
			edge.restart()
			l.everybody(time.Now())
		}
		w.settle()
	})
}

// The node that holds all tunnels is killed: native backends attach elsewhere, and their states do not move.
func TestTunnelsGoOnAtAnotherNode(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		leader := w.leader()
		owner, spare := w.others(leader)[0], w.others(leader)[1]
		l := w.work(plan{backends: 2, players: 9, tunnels: []string{owner.name, spare.name}, edges: []string{leader.name}})
		for range longer(1, 5) {
			holders := l.tunnels(leader)
			flows := l.flows(leader)
			before := l.epochs(leader)
			victim := w.named(holders["store-1"])
			at := victim.kill()
			served := l.answered("players of its tunnels", at, func(user string) bool { return flows[user][1] == victim.name })
			attached := l.firstAttached(at)
			t.Logf("the tunnels of %s are attached again after %v, its players answered after %v", victim.name, attached.Round(time.Millisecond), served.Round(time.Millisecond))
			after := l.epochs(leader)
			for state, epoch := range before {
				if after[state] != epoch {
					t.Errorf("state %s has epoch %d and had %d: it has moved", state, after[state], epoch)
				}
			}
			for _, e := range l.of("disconnected") {
				if e.at().After(at) {
					t.Errorf("%s was disconnected: its node lives", e.User)
				}
			}
			victim.restart()
			l.everybody(time.Now())
		}
		w.settle()
	})
}

// A legacy backend knows one address. Its node is killed, the address moves to a living one, and it is back there, with
// its states.
func TestLegacyBackendFollowsItsAddress(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		l := w.work(plan{backends: 1, players: 3, tunnels: []string{"n1"}, edges: []string{"n1"}})
		home := netip.MustParseAddr("10.77.200.1")
		first, second := w.nodes[1], w.nodes[2]
		if err := first.host.Take(home); err != nil {
			t.Fatal(err)
		}
		old := &load{history: newHistory(t), w: w, app: newApp(), ctx: l.ctx}
		old.plan = plan{hosts: 1, pace: l.plan.pace, edges: []string{"n1"}, players: 3, moves: true} // it acknowledges nothing, so some is lost
		r := backendRole{Kind: legacy, Store: "old-1", Addrs: []string{home.String() + ":7147"}, Secret: old.app.secret}
		startRole(t, old.history, w.nodes[0].host, r.Store, role{Backend: &r})
		until(t, "the legacy backend", patience, func() bool { return old.tunnels(w.nodes[0])[r.Store] == first.name })
		old.states = []string{old.mustCreate(), old.mustCreate()}
		old.join("old-")
		old.everybody(time.Now())
		before := old.epochs(w.nodes[0])
		at := first.kill()
		if err := second.host.Take(home); err != nil {
			t.Fatal(err)
		}
		served := old.everybody(at)
		t.Logf("a legacy backend whose address has moved: its players are answered after %v", served.Round(time.Millisecond))
		if at := old.tunnels(w.nodes[0])[r.Store]; at != second.name {
			t.Errorf("its tunnel is at %s, want %s", at, second.name)
		}
		if after := old.epochs(w.nodes[0]); !maps.Equal(before, after) {
			t.Errorf("its states have moved: epochs %v, before %v", after, before)
		}
		first.restart()
		old.checkPlayers()
		w.settle()
	})
}

// A backend dies for good while regions are far apart, and another takes its states: whoever loses, the tables agree.
func TestBackendsDieUnderLoss(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		l := w.work(plan{backends: 3, players: 9, moves: true})
		w.fault("loss", func() {
			w.net.Every(func(_, _ *faultnet.Host, q *faultnet.Quality) { q.Loss = 0.02 })
			dead := l.backends[w.dice.IntN(len(l.backends))]
			at := dead.kill()
			t.Logf("%s is dead: everybody is answered by others after %v", dead.name, l.everybody(at).Round(time.Millisecond))
			w.net.Every(func(_, _ *faultnet.Host, q *faultnet.Quality) { q.Loss = 0 })
		})
		w.settle()
	})
}

// A node stands still, as a paused machine does. Shorter than its lease, nothing moves; longer, its session is over and it
// begins a new life.
func TestNodeStandsStill(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		l := w.work(plan{backends: 3, players: 9, moves: true})
		still := w.any(w.nodes)
		others := w.others(still)
		session, before := still.session(), l.epochs(others[0])
		still.stop()
		pause(t, 3*time.Second)
		still.cont()
		l.everybody(time.Now())
		if now := still.session(); now != session {
			t.Errorf("after 3 s its session is %d and was %d", now, session)
		}
		still.stop()
		at := time.Now()
		until(t, "the others to end its session", patience, func() bool { return others[0].members()[still.name].State == "gone" })
		t.Logf("its session was over after %v", time.Since(at).Round(time.Millisecond))
		pause(t, longer(2*time.Second, 20*time.Second))
		still.cont()
		at = time.Now()
		until(t, "a new life", 30*time.Second, func() bool { return still.session() > session && still.serves() })
		t.Logf("a new life %v after it went on", time.Since(at).Round(time.Millisecond))
		for state, epoch := range l.epochs(others[0]) {
			if old, ok := before[state]; ok && epoch < old {
				t.Errorf("state %s has epoch %d and had %d", state, epoch, old)
			}
		}
		w.settle()
	})
}
