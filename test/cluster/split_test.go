package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/faultnet"
)

// gossipForgets is longer than gossip remembers the dead; after that, only asking again brings two sides together.
const gossipForgets = 90 * time.Second

// Every node is cut from every other. Nobody is moved or forgotten, and all come together by themselves.
func TestEveryNodeIsCutFromEveryOther(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.work(plan{backends: 3, players: 9, moves: true})
		w.voters(3)
		w.fault("a full split", func() {
			w.net.Every(func(_, _ *faultnet.Host, q *faultnet.Quality) { q.Cut = true })
			pause(t, longer(20*time.Second, gossipForgets))
			for _, n := range w.nodes {
				if n.serves() {
					t.Errorf("%s says that it is ready, without a leader", n.name)
				}
			}
			w.net.Heal()
		})
		at := time.Now()
		together := w.together(30 * time.Second)
		leader := w.leader()
		for _, n := range w.nodes {
			w.ready(n)
		}
		t.Logf("after the heal: members again after %v, %s leads, all serve after %v", together.Round(time.Millisecond), leader.name, time.Since(at).Round(time.Millisecond))
		w.settle()
	})
}

// One node is cut from the majority for longer than its lease: the others go on, it begins a new life when it is back.
func TestMinorityBeginsANewLife(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 3, players: 9, moves: true})
		w.voters(3)
		alone := w.any(w.nodes) // the leader too
		majority := w.others(alone)
		before := alone.session()
		w.fault("a minority", func() {
			w.net.Split(alone.name)
			at := time.Now()
			l.creatable(t, majority[0])
			t.Logf("cut: %s; the majority creates states again after %v", alone.name, time.Since(at).Round(time.Millisecond))
			until(t, "the majority to end the session", patience, func() bool {
				m := majority[0].members()[alone.name]
				return m.State != "" && m.State != "live" && m.Session != before
			})
			t.Logf("its session was over after %v", time.Since(at).Round(time.Millisecond))
			pause(t, longer(5*time.Second, 30*time.Second))
			w.net.Heal()
		})
		at := time.Now()
		until(t, alone.name+" to begin a new life", 30*time.Second, func() bool { return alone.session() > before && alone.serves() })
		t.Logf("a new life %v after the heal", time.Since(at).Round(time.Millisecond))
		w.together(30 * time.Second)
		w.settle()
	})
}

// Packets pass in one direction only, first from, then to the node.
func TestOneWayCuts(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 3, players: 9, moves: true})
		w.voters(3)
		leader := w.leader()
		deaf := w.any(w.others(leader))
		third := w.others(leader, deaf)[0]
		for _, pair := range [][2]*node{{deaf, leader}, {leader, deaf}} {
			w.fault("a one-way cut", func() {
				w.net.OneWay(pair[0].host, pair[1].host, func(q *faultnet.Quality) { q.Cut = true })
				l.creatable(t, third)
				pause(t, longer(8*time.Second, 25*time.Second))
				w.net.Heal()
			})
			w.leader()
			for _, n := range w.nodes {
				w.ready(n)
			}
			took := l.everybody(time.Now())
			t.Logf("packets from %s to %s pass again: everybody is served after %v", pair[0].name, pair[1].name, took.Round(time.Millisecond))
		}
		w.settle()
	})
}

// Two nodes cannot reach each other while both reach the leader: sessions of one with states of the other wait, the pair
// is named, and all goes on when it is healed.
func TestPairThatCannotReachEachOther(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		leader := w.leader()
		pair := w.others(leader)
		from, to := pair[0], pair[1]
		l := w.work(plan{backends: 2, players: 9, tunnels: []string{from.name}, edges: []string{to.name, leader.name}})
		flows := l.flows(leader)
		var began time.Time
		w.fault("a pair", func() {
			w.net.Link(from.host, to.host, func(q *faultnet.Quality) { q.Cut = true })
			began = time.Now()
			named := until(t, "status to name the pair", 30*time.Second, func() bool {
				s, err := leader.status()
				return err == nil && slices.ContainsFunc(s.Unreachable, func(p admin.Pair) bool {
					return p.From == from.name && p.To == to.name || p.From == to.name && p.To == from.name
				})
			})
			t.Logf("status names %s and %s after %v", from.name, to.name, named.Round(time.Millisecond))
			pause(t, longer(3*time.Second, 15*time.Second))
			gap, who := l.longest(began, time.Now(), func(user string) bool { return flows[user][0] == leader.name })
			if gap > time.Second+slack {
				t.Errorf("%s, through the leader's node, waited %v", who, gap)
			}
			w.net.Heal()
		})
		healed := time.Now()
		served := l.everybody(healed)
		for _, e := range l.of("disconnected") {
			if e.at().After(began) {
				t.Errorf("%s was disconnected and not held: %s", e.User, e.Text)
			}
		}
		until(t, "status to name no pair any more", 30*time.Second, func() bool {
			s, err := leader.status()
			return err == nil && len(s.Unreachable) == 0
		})
		t.Logf("cut for %v; served again %v after the heal", healed.Sub(began).Round(time.Second), served.Round(time.Millisecond))
		w.settle()
	})
}

// A voter is cut off, taken out by an operator, and comes back: as a new server, and nobody is disturbed.
func TestVoterIsRemovedWhileCutOff(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		w.voters(3)
		leader := w.leader()
		gone := w.any(w.others(leader))
		kept := w.others(gone)
		names := []string{kept[0].name, kept[1].name}
		w.work(plan{backends: 2, players: 9, tunnels: names, edges: names, moves: true})
		before, old := w.server(leader, gone.name), gone.session()
		var term uint64
		w.fault("a removed voter", func() {
			w.net.Split(gone.name)
			if out, err := leader.verb("force-remove", "--yes", gone.name); err != nil {
				t.Fatalf("force-remove: %v: %s", err, out)
			}
			if id := w.server(leader, gone.name); id != "" {
				t.Errorf("it is a server still: %s", id)
			}
			pause(t, longer(8*time.Second, 30*time.Second))
			term = w.term(leader)
			w.net.Heal()
		})
		at := time.Now()
		until(t, gone.name+" to be back as a voter", patience, func() bool {
			id := w.server(leader, gone.name)
			return id != "" && id != before && gone.session() > old && gone.serves()
		})
		w.voters(3)
		t.Logf("it was %s and is %s, %v after the heal", before, w.server(leader, gone.name), time.Since(at).Round(time.Millisecond))
		if now := w.term(leader); now > term+1 { // a busy machine may cost the leader its lead by itself
			t.Errorf("the term is %d and was %d: who came back disturbed the others", now, term)
		}
		w.settle()
	})
}

// server is raft's id of a node, as another has it.
func (w *world) server(asked *node, name string) string {
	ctx, cancel := call()
	defer cancel()
	p, err := asked.operator().Peers(ctx)
	if err != nil {
		return ""
	}
	for _, peer := range p.Peers {
		if peer.NodeID == name {
			return peer.ServerID
		}
	}
	return ""
}

func (w *world) term(asked *node) uint64 {
	ctx, cancel := call()
	defer cancel()
	p, err := asked.operator().Peers(ctx)
	if err != nil {
		return 0
	}
	return p.Term
}

// Nodes in three parts of the world, with round trips of 80 to 220 ms and one packet in twenty lost.
func TestRegionsFarApart(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := plannedWorld(t, seed, longer([]string{"us", "eu", "ap"}, []string{"us", "us", "eu", "eu", "ap"})...)
		w.tunes(0)
		for _, n := range w.nodes {
			n.flags = append(n.flags, "--profile", "multi-region")
			n.start()
			w.ready(n)
		}
		w.together(patience)
		l := w.work(plan{backends: len(w.nodes), players: 9})
		w.voters(len(w.nodes))
		sessions := map[string]uint64{}
		for _, n := range w.nodes {
			sessions[n.name] = n.session()
		}
		w.fault("one packet in twenty is lost", func() {
			w.tunes(0.05)
			pause(t, longer(15*time.Second, 90*time.Second))
			w.tunes(0)
		})
		for _, n := range w.nodes {
			if s := n.session(); s != sessions[n.name] {
				t.Errorf("%s has begun a new life: loss alone must end no session", n.name)
			}
		}
		l.everybody(time.Now())
		w.settle()
	})
}
