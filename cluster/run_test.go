package cluster_test

import (
	"sync"
	"testing"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

// TestNodeIsWatchedWhileItJoins: what an operator's port asks for is there while a node learns its cluster's profile.
func TestNodeIsWatchedWhileItJoins(t *testing.T) {
	t.Parallel()
	c := clustertest.NewCluster(t)
	c.Change = func(node string, cfg *cluster.Config) {
		if node == "n1" {
			cfg.Profile = placement.MultiRegion
		}
	}
	c.Add("n1", "us").Start().Joined()
	n := c.Add("n2", "us").Start()
	node := n.Get()
	var wg sync.WaitGroup
	joined := make(chan struct{})
	wg.Go(func() {
		for {
			node.GossipAddr()
			select {
			case <-joined:
				return
			default:
			}
		}
	})
	n.Joined()
	close(joined)
	wg.Wait()
}

// TestMemberHoldsItsLease from the beginning: who asks it whether it is ready is not sent elsewhere.
func TestMemberHoldsItsLease(t *testing.T) {
	t.Parallel()
	c := clustertest.NewCluster(t)
	for _, name := range []string{"n1", "n2"} {
		if _, held := c.Add(name, "eu").Start().Joined().Lease(); !held {
			t.Errorf("%s has joined without a lease", name)
		}
	}
}
