package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// TestNodesRecoveredApartKeepWhatTheyHave: two generations that came about apart are nobody's to throw away.
func TestNodesRecoveredApartKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	register(t, c.Leader(), "a")
	for range 5 {
		create(t, c.Leader())
	}
	c.Same()
	for _, n := range c.All() {
		n.Kill()
	}
	now := time.Now()
	apart := []*clustertest.Node{c.Node("n1"), c.Node("n2")}
	for i, n := range apart {
		cfg := cluster.RecoverConfig{DataDir: n.Dir, Apply: true, Now: func() time.Time { return now }}
		if _, err := cluster.Recover(cfg); err != nil {
			t.Fatal(err)
		}
		n.Join = []string{apart[1-i].Host.Addr(clustertest.NodePort)}
	}
	first := map[string]*cluster.Node{}
	for _, n := range apart {
		n.Start()
	}
	for _, n := range apart {
		first[n.Name] = n.Joined()
	}
	c.Until("they have met", func() bool { return strings.Contains(c.Log(), "apart") })
	for _, n := range apart {
		if n.Err() != nil || n.Get() != first[n.Name] || n.Get().Table().Stats().Rows != 5 {
			t.Errorf("%s: %v, %d rows", n.Name, n.Err(), n.Get().Table().Stats().Rows)
		}
	}
	for _, n := range apart {
		n.Kill() // their tables are not one
	}
}

// TestNewcomerSignsNothingOfAnotherCluster: what a node that left had to sign certificates with goes when it enters a
// cluster that has another.
func TestNewcomerSignsNothingOfAnotherCluster(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	n := c.Node("n3")
	if err := n.Get().Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(n.Dir, "node", "ca.key")); err == nil {
		t.Error("it has left and can still sign certificates")
	}
	n.Crash()
	c.Voters(1)
	for _, other := range c.Running() {
		other.Kill()
	}
	kept := c.Node("n1")
	if err := os.Remove(filepath.Join(kept.Dir, "node", "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Recover(cluster.RecoverConfig{DataDir: kept.Dir, Apply: true}); err != nil {
		t.Fatal(err)
	}
	kept.Start().Joined()
	n.Start().Joined()
	if _, err := os.Lstat(filepath.Join(n.Dir, "node", "ca.key")); err == nil {
		t.Error("it has what signed certificates of the cluster before")
	}
}
