package cluster

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// A follower is killed and starts again, a few times.
func TestFollowersDieAndComeBack(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 9})
		w.voters(3)
		leader := w.leader()
		for range longer(2, 8) {
			follower := w.any(w.others(leader))
			before := follower.session()
			follower.kill()
			l.creatable(t, leader)
			took := follower.restart()
			if s := follower.session(); s <= before {
				t.Errorf("%s, which started again, has session %d and had %d", follower.name, s, before)
			}
			t.Logf("%s serves again after %v", follower.name, took.Round(time.Millisecond))
			l.everybody(time.Now())
		}
		if now := w.leader(); now != leader {
			t.Errorf("%s leads, and %s, which led, never died", now.name, leader.name)
		}
		w.settle()
	})
}

// All nodes are killed at once and start again: the table is what it was, and goes on.
func TestAllDieAtOnce(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 3, players: 9})
		w.voters(3)
		for range longer(1, 5) {
			var before uint64
			for _, n := range w.nodes {
				before = max(before, n.index())
				n.kill()
			}
			at := time.Now()
			for _, n := range w.nodes {
				n.start()
			}
			for _, n := range w.nodes {
				w.ready(n)
				if index := n.index(); index < before {
					t.Errorf("the table of %s is at %d and was at %d before", n.name, index, before)
				}
			}
			served := l.everybody(at)
			t.Logf("all players are served again %v after the start", served.Round(time.Millisecond))
		}
		w.settle()
	})
}

// A node comes back with its data on another address. Nobody is told.
func TestNodeComesBackOnAnotherAddress(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, "us", "us", "us")
		l := w.work(plan{backends: 2, players: 6, hosts: 2})
		w.voters(3)
		for i := range longer(1, 4) {
			moved := w.nodes[2]
			before := moved.members()[moved.name]
			moved.kill()
			if err := moved.host.Readdress(netip.AddrFrom4([4]byte{10, 77, 9, byte(i + 1)})); err != nil {
				t.Fatal(err)
			}
			moved.restart()
			took := w.together(30 * time.Second)
			w.voters(3)
			for _, n := range w.nodes {
				m := n.members()[moved.name]
				if want := fmt.Sprintf("%v:7947", moved.host.Addr); m.NodeAddr != want {
					t.Errorf("%s has %s for %s, want %s", n.name, m.NodeAddr, moved.name, want)
				}
				if m.Number != before.Number {
					t.Errorf("%s counts %s as node %d, it was %d", n.name, moved.name, m.Number, before.Number)
				}
			}
			t.Logf("a member again %v after it served", took.Round(time.Millisecond))
		}
		if err := w.nodes[1].drains(); err != nil { // so that the moved node is needed
			t.Fatal(err)
		}
		l.creatable(t, w.nodes[2])
		w.nodes[1].restart()
		w.settle()
	})
}

// drains ends the node as a supervisor does, with SIGTERM.
func (n *node) drains() error {
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
		n.world.load.note(event{Op: "stopped", Node: n.name})
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not end %v after SIGTERM", n.name, patience)
	}
}
