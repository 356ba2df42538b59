package cluster_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// TestNodeThatHasLeftStaysOut: what it leaves running until it is stopped, as for its clients to go, does not bring it back.
func TestNodeThatHasLeftStaysOut(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	n := c.Follower()
	life := n.Get()
	if err := life.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Until("its lease is over", func() bool {
		if n.Err() != nil || n.Get() != life {
			t.Fatalf("it did not wait to be stopped: %v", n.Err())
		}
		_, held := life.Lease()
		return !held
	})
	n.Crash()
}

// TestOneOfTwoNodesLeaves, though it is the only voter: the other one takes over.
func TestOneOfTwoNodesLeaves(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 2)
	c.Voters(1)
	n := c.Leader()
	register(t, c.Node("n2"), "a")
	create(t, n)
	c.Until("it may leave", func() bool { return n.Get().Leave(t.Context()) == nil })
	n.Crash()
	c.Voters(1)
	create(t, c.Leader())
	if rows := c.Leader().Get().Table().Stats().Rows; rows != 2 {
		t.Errorf("%d rows", rows)
	}
}

// TestForcedRemovalLeavesAnOddNumber of voters, as a leave does.
func TestForcedRemovalLeavesAnOddNumber(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	n := c.Follower()
	n.Kill()
	if err := c.Leader().Get().ForceRemove(t.Context(), n.Name); err != nil {
		t.Fatal(err)
	}
	c.Voters(1)
}

// With one of three voters dead, another that is removed by force, or shut out, must not leave a majority that is dead.
func TestForcedRemovalKeepsTheQuorum(t *testing.T) { keepsTheQuorum(t, (*cluster.Node).ForceRemove) }

func TestRevocationKeepsTheQuorum(t *testing.T) { keepsTheQuorum(t, (*cluster.Node).Revoke) }

func keepsTheQuorum(t *testing.T, remove func(n *cluster.Node, ctx context.Context, node string) error) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	leader := c.Leader()
	register(t, leader, "a")
	var others []*clustertest.Node
	for _, n := range c.All() {
		if n != leader {
			others = append(others, n)
		}
	}
	others[0].Kill()
	c.Until("the leader has noticed", func() bool {
		for _, p := range leader.Get().Peers() {
			if p.Node == others[0].Name {
				return p.LastContact > 3000
			}
		}
		return false
	})
	if err := remove(leader.Get(), t.Context(), others[1].Name); err != nil {
		t.Fatal(err)
	}
	create(t, leader)
}

// atLine calls do when a line is logged.
type atLine struct {
	slog.Handler
	line string
	do   func()
}

func (h atLine) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == h.line {
		h.do()
	}
	return h.Handler.Handle(ctx, r)
}

// TestLeaveThatTellsNobodyIsOne: once its replica and session are gone the node has left, whether gossip hears of it or not.
func TestLeaveThatTellsNobodyIsOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := clustertest.NewCluster(t)
	c.Change = func(_ string, cfg *cluster.Config) {
		cfg.Log = slog.New(atLine{cfg.Log.Handler(), "this node has left the cluster", cancel})
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.Add(name, "eu").Start().Joined()
	}
	n := c.Node("n3")
	life := n.Get()
	if err := life.Leave(ctx); err != nil || ctx.Err() == nil || !life.Left() {
		t.Errorf("%v, left %v", err, life.Left())
	}
	n.Crash()
}
