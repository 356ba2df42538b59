package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

// TestThreeRegions: voters far apart, with loss, keep their leader and their leases, and lose the leader once.
func TestThreeRegions(t *testing.T) {
	t.Parallel()
	c := clustertest.NewCluster(t)
	c.Change = func(node string, cfg *cluster.Config) {
		if node == "us1" { // the others learn it
			cfg.Profile = placement.MultiRegion
		}
	}
	for _, region := range []string{"us", "eu", "ap"} {
		c.Add(region+"1", region)
	}
	far := func(a, b string, rtt time.Duration) {
		c.Net.SetBoth(a, b, clustertest.Path{Delay: rtt / 2, Jitter: rtt / 10, Loss: 0.01})
	}
	far("us1", "eu1", 80*time.Millisecond)
	far("us1", "ap1", 150*time.Millisecond)
	far("eu1", "ap1", 220*time.Millisecond)
	for _, n := range c.All() {
		n.Start().Joined()
	}
	c.Voters(3)
	if info := c.Node("ap1").Get().Table().Cluster(); info.Profile != placement.MultiRegion || info.Region != "us" {
		t.Errorf("cluster %+v", info)
	}
	sessions := len(c.Leader().Get().Table().Sessions())
	register(t, c.Node("eu1"), "a")
	for _, n := range c.All() {
		began := time.Now()
		create(t, n)
		t.Logf("create at %s took %v", n.Name, time.Since(began))
	}
	leader := c.Leader()
	began := time.Now()
	leader.Kill()
	other := c.Leader()
	t.Logf("another leader after %v", time.Since(began))
	if _, held := other.Get().Lease(); !held {
		t.Error("the loss of a leader ends leases")
	}
	leader.Start().Joined()
	if now := len(c.Leader().Get().Table().Sessions()); now < sessions {
		t.Errorf("%d sessions, %d before", now, sessions)
	}
}

// TestSevenNodesHaveFiveVoters, those at home first, and a dead one is replaced.
func TestSevenNodesHaveFiveVoters(t *testing.T) {
	t.Parallel()
	c := clustertest.NewCluster(t)
	for i := range 7 {
		region := "eu"
		if i == 1 || i == 2 {
			region = "us"
		}
		c.Add(fmt.Sprintf("n%d", i+1), region).Start().Joined()
	}
	atHome := func(want int) func() bool {
		return func() bool {
			voters, home := 0, 0
			for _, p := range c.Leader().Get().Peers() {
				if p.Voter {
					voters++
					if c.Node(p.Node).Region == "eu" {
						home++
					}
				}
			}
			return voters == 5 && home == want
		}
	}
	c.Until("five at home vote", atHome(5))
	var dead *clustertest.Node
	for _, n := range c.All() {
		if n != c.Leader() && n.Region == "eu" {
			dead = n
		}
	}
	dead.Kill()
	c.Until("one abroad votes instead", atHome(4))
	dead.Start().Joined()
	c.Until("five at home vote again", atHome(5))
}
