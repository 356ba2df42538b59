package cluster_test

import (
	"testing"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

var app = wire.AppIDOf("secret")

func register(t testing.TB, n *clustertest.Node, storeID string) placement.Attached {
	t.Helper()
	at, err := n.Get().Register(t.Context(), placement.RegisterRequest{App: app, StoreID: storeID, Region: n.Region})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func create(t testing.TB, n *clustertest.Node) placement.Placed {
	t.Helper()
	p, err := n.Get().Create(t.Context(), placement.CreateRequest{App: app, Region: n.Region})
	if err != nil {
		t.Fatalf("create at %s: %v", n.Name, err)
	}
	if _, ok := n.Get().Table().Lookup(app, p.State); !ok {
		t.Fatalf("the table of %s does not have the state it has created", n.Name)
	}
	return p
}

// TestThreeNodesFormAndJoin: a cluster of three, in which every node creates states and sees those of the others.
func TestThreeNodesFormAndJoin(t *testing.T) {
	t.Parallel()
	c := clustertest.Form(t, 3)
	register(t, c.Node("n2"), "a")
	for _, n := range c.All() {
		create(t, n)
	}
	c.Same()
	for name, table := range c.Tables() {
		if rows := table.Stats().Rows; rows != 3 {
			t.Errorf("%s has %d rows", name, rows)
		}
		if len(table.Sessions()) != 3 {
			t.Errorf("%s has sessions %v", name, table.Sessions())
		}
	}
	c.Voters(3)
}
