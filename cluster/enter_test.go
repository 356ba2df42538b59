package cluster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

// TestNodeWithAnotherKeyFileIsNotLetIn: it goes on trying and says why, and is let in with the right one.
func TestNodeWithAnotherKeyFileIsNotLetIn(t *testing.T) {
	c := clustertest.Form(t, 1)
	stranger := c.Add("n2", "eu")
	c.Change = func(node string, cfg *cluster.Config) {
		if node == "n2" {
			cfg.Keys = trust.NewKeys("test")
		}
	}
	stranger.Start()
	c.Until("it says why it is not let in", func() bool { return strings.Contains(c.Log(), "have none in common") })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := stranger.Get().Joined(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("joined without the secret: %v", err)
	}
	stranger.Crash()
	c.Change = nil
	stranger.Start().Joined()
}

// TestSecondNodeOfOneNameIsDenied: an id belongs to the first key that it came with.
func TestSecondNodeOfOneNameIsDenied(t *testing.T) {
	c := clustertest.Form(t, 2)
	copied := c.Add("n3", "eu")
	c.Change = func(node string, cfg *cluster.Config) {
		if node == "n3" {
			cfg.NodeID = "n2"
		}
	}
	copied.Start()
	if err := copied.Ended(); !errors.Is(err, cluster.ErrBound) || !strings.Contains(err.Error(), "force-remove") {
		t.Fatalf("ended with %v", err)
	}
}

// TestDataOfAnotherNodeIsRefused, and so is a key file of another cluster.
func TestDataOfAnotherNodeIsRefused(t *testing.T) {
	c := clustertest.Form(t, 1)
	n := c.Node("n1")
	n.Crash()
	n.Host.Start()
	for want, change := range map[string]func(*cluster.Config){
		`of node "n1"`:       func(cfg *cluster.Config) { cfg.NodeID = "other" },
		`of cluster "test"`:  func(cfg *cluster.Config) { cfg.Keys = trust.NewKeys("games") },
		"survives no more":   func(cfg *cluster.Config) { cfg.MaxVoters = 4 },
		"needs its key file": func(cfg *cluster.Config) { cfg.Keys, cfg.Join = nil, []string{"10.0.0.9"} },
	} {
		c.Change = func(_ string, cfg *cluster.Config) { change(cfg) }
		if node, err := n.Open(); err == nil || !strings.Contains(err.Error(), want) {
			if err == nil {
				node.Close()
			}
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestJoinThatReachesNobodyGoesOn until somebody is there.
func TestJoinThatReachesNobodyGoesOn(t *testing.T) {
	c := clustertest.NewCluster(t)
	first, second := c.Add("n1", "eu"), c.Add("n2", "eu")
	second.Start()
	c.Until("it says that it goes on trying", func() bool { return strings.Contains(c.Log(), "it goes on trying") })
	first.Start().Joined()
	second.Joined()
}

// TestLoadReportsReachTheLeader by gossip, and count there.
func TestLoadReportsReachTheLeader(t *testing.T) {
	c := clustertest.Form(t, 2)
	at := register(t, c.Node("n2"), "a")
	c.Until("the leader knows", func() bool {
		c.Node("n2").Get().Report(at.Instance, 900, 12)
		permille, sessions, ok := c.Node("n1").Get().Load(at.Instance)
		return ok && permille == 900 && sessions == 12
	})
}

// TestPlacementWaitsAfterARecovery for those that hold states to say so.
func TestPlacementWaitsAfterARecovery(t *testing.T) {
	c := clustertest.Form(t, 1)
	n := c.Node("n1")
	register(t, n, "a")
	p := create(t, n)
	n.Kill()
	if _, err := cluster.Recover(cluster.RecoverConfig{DataDir: n.Dir, Apply: true}); err != nil {
		t.Fatal(err)
	}
	n.Start().Joined()
	register(t, n, "b")
	place := func() error {
		_, err := n.Get().Place(t.Context(), placement.PlaceRequest{App: app, State: p.State})
		return err
	}
	if err := place(); !errors.Is(err, placement.ErrNoInstance) {
		t.Errorf("a free row was placed at once: %v", err)
	}
	create(t, n) // a new state is nobody's
	c.Until("free rows are placed", func() bool { return place() == nil })
}

// TestLeaderDoesNotWaitForTheDead: a node that leads again has nobody to ask for its place, whoever else was a member.
func TestLeaderDoesNotWaitForTheDead(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 2)
	c.Voters(1)
	c.Node("n2").Kill()
	began := time.Now()
	c.Node("n1").Restart().Joined()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it was a member after %v", took)
	}
}
