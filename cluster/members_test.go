package cluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
)

// stateOf is how a node stands in a listing, "" when it does not.
func stateOf(list []cluster.Member, node string) string {
	i := slices.IndexFunc(list, func(m cluster.Member) bool { return m.Node == node })
	if i < 0 {
		return ""
	}
	return list[i].State
}

// emitted are the members of a state, as the metrics have them.
func emitted(n *cluster.Node, state string) (count float64) {
	n.Collect(func(name string, value float64, labels ...string) {
		if name == "members" && slices.Equal(labels, []string{"state", state}) {
			count = value
		}
	})
	return count
}

// TestMembersAreListedUntilTheyAreTakenOut: an alarm about a node that is gone ends when an operator has taken it out.
func TestMembersAreListedUntilTheyAreTakenOut(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	n, leader := c.Follower(), c.Leader().Get()
	n.Kill()
	c.Until("its session is over", func() bool { return stateOf(leader.Members(), n.Name) == "gone" })
	if got := emitted(leader, "gone"); got != 1 {
		t.Errorf("%v members are gone, want 1", got)
	}
	if err := leader.ForceRemove(t.Context(), n.Name); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(leader.Members(), n.Name); s != "" {
		t.Errorf("a node that was taken out is listed as %s", s)
	}
	if got := emitted(leader, "gone"); got != 0 {
		t.Errorf("%v members are gone, want none", got)
	}
}

// TestNodeThatWasAwayForLongComesBackInOneLife: raft turns to a replica that was away only after up to ten seconds, longer
// than a session lasts that nobody renews.
func TestNodeThatWasAwayForLongComesBackInOneLife(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	c.Voters(3)
	n := c.Follower()
	boot := n.Get().Session().Boot
	n.Crash()                            // so that raft's tries fail at once
	away := time.After(11 * time.Second) // it has just tried, and does next after twenty
	c.Until("its session is over", func() bool { return stateOf(c.Leader().Get().Members(), n.Name) == "gone" })
	<-away
	if got := n.Start().Joined().Session().Boot; got != boot+1 {
		t.Errorf("it came back in life %d, was in %d", got, boot)
	}
}
