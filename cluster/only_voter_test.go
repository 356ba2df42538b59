package cluster_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// TestOnlyVoterIsNotWiped: nobody else has what it has, so damage is for an operator to look at.
func TestOnlyVoterIsNotWiped(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 2)
	c.Voters(1)
	n := c.Leader()
	register(t, n, "a")
	for range 20 {
		create(t, n)
	}
	c.Node("n2").Kill()
	n.Crash()
	n.FlipBit("log-*", 200)
	if node, err := n.Open(); err == nil || !strings.Contains(err.Error(), "backup") {
		if err == nil {
			_ = node.Close()
		}
		t.Fatalf("opened with %v", err)
	}
	if logs, _ := filepath.Glob(filepath.Join(n.Dir, "raft", "log-*")); len(logs) == 0 {
		t.Error("its log is gone")
	}
}
