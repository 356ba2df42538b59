package cluster_test

import (
	"testing"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// TestSessionsEndWhileVotersCannotBeChanged: a change of the servers that hangs must not keep dead sessions alive.
func TestSessionsEndWhileVotersCannotBeChanged(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	leader, n := c.Leader(), c.Follower()
	defer cluster.HoldAdmitting(leader.Get())()
	session := n.Get().Node()
	n.Kill()
	c.Until("its session is over", func() bool {
		_, open := leader.Get().Table().Session(session)
		return !open
	})
}
