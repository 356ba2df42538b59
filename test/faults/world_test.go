package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// world is some nodes, with a load on them.
type world struct {
	*clustertest.Cluster
	t      *testing.T
	h      *history
	load   *load
	loads  int // so far
	holder *holder
	// attached is how many registrations were acknowledged.
	attached atomic.Int64
}

// form makes a cluster of so many nodes, of which all are voters, without load.
func form(t *testing.T, nodes int) *world {
	t.Helper()
	w := newWorld(t, clustertest.NewCluster(t))
	for i := range nodes {
		w.Add(fmt.Sprintf("n%d", i+1), "eu").Start()
		w.Node("n1").Joined() // there must be somebody to join
	}
	w.gather(nodes)
	return w
}

func newWorld(t *testing.T, c *clustertest.Cluster) *world {
	return &world{Cluster: c, t: t, h: newHistory()}
}

// gather waits until all nodes are members, and so many of them voters.
func (w *world) gather(voters int) {
	w.t.Helper()
	for _, n := range w.All() {
		n.Joined()
	}
	w.Voters(voters)
}

// begin puts the load on, and waits until it does something.
func (w *world) begin() {
	w.t.Helper()
	w.holder = newHolder(w.t, w.Cluster, "n1")
	w.load = newLoad(w)
	w.goOn(50)
}

// goOn waits until so much more was acknowledged.
func (w *world) goOn(by int) {
	w.t.Helper()
	want := w.h.acks() + by
	w.Until("the load goes on", func() bool { return w.h.acks() >= want })
}

// settle ends the load and mends the network, and sees what has become of everything.
func (w *world) settle() {
	w.t.Helper()
	w.Heal()
	for _, n := range w.Running() {
		n.Joined()
	}
	w.rest()
	if w.attached.Load() == 0 {
		w.t.Error("no instance was attached")
	}
	w.Same()
	seen := map[wire.StateID]wire.Epoch{}
	for s := range w.Running()[0].Get().Table().All() {
		seen[s.State] = s.Epoch
	}
	w.h.check(w.t, seen)
}

// rest ends the load.
func (w *world) rest() {
	if w.load != nil {
		w.load.end()
	}
}

// kill takes the power of a node's host, or kills its process.
func (w *world) kill(n *clustertest.Node) {
	if w.Rand.IntN(2) == 0 {
		n.Kill()
	} else {
		n.Crash()
	}
}

// sessions are the sessions of the running nodes.
func (w *world) sessions() map[string]wire.NodeSession {
	out := map[string]wire.NodeSession{}
	for _, n := range w.Running() {
		out[n.Name] = n.Get().Node()
	}
	return out
}

// keep sees to it that some nodes still have the session they had.
func (w *world) keep(before map[string]wire.NodeSession, nodes ...*clustertest.Node) {
	w.t.Helper()
	for _, n := range nodes {
		node := n.Get()
		if _, open := node.Table().Session(before[n.Name]); !open || node.Node() != before[n.Name] {
			w.t.Errorf("%s had session %d and has %d, open %v", n.Name, before[n.Name], node.Node(), open)
		}
	}
}

// leads returns the one of some nodes that leads, as far as it knows itself; nil for none.
func leads(nodes ...*clustertest.Node) *clustertest.Node {
	for _, n := range nodes {
		if l := n.Now(); l != nil {
			if name, ok := l.Leader(); ok && name == n.Name {
				return n
			}
		}
	}
	return nil
}

// newLeader waits until one of some nodes leads.
func (w *world) newLeader(nodes ...*clustertest.Node) (leader *clustertest.Node) {
	w.t.Helper()
	w.Until("there is a new leader", func() bool { leader = leads(nodes...); return leader != nil })
	return leader
}

// others are the nodes but one.
func (w *world) others(than *clustertest.Node) (others []*clustertest.Node) {
	for _, n := range w.All() {
		if n != than {
			others = append(others, n)
		}
	}
	return others
}

// cutOff cuts a node off from all others.
func (w *world) cutOff(n *clustertest.Node) { w.Partition([]string{n.Host.Name()}) }

// always sees to it that something holds for a time.
func (w *world) always(d time.Duration, what string, so func() bool) {
	w.t.Helper()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-every.C {
		if !so() {
			w.t.Fatalf("it is not so any more that %s", what)
		}
	}
}

// pass lets time pass: that of a fault that is to last.
func (w *world) pass(d time.Duration) {
	w.always(d, "time passes", func() bool { return true })
}

// dead is when a silent node's session ends.
func dead() time.Duration { return cluster.TimesOf(placement.OneRegion).Dead }

// limited is a context of its own: what a story asks for ends by itself.
func limited(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// actor is who asks for something: it has a client number and its own random choices.
func (w *world) actor(client int) *rand.Rand {
	return rand.New(rand.NewPCG(w.Seed, uint64(client)+100))
}
