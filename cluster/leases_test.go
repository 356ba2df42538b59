package cluster

import (
	"slices"
	"testing"

	"github.com/trunkline-edge/trunkline/placement"
)

// A renewal that came in just before its session was ended must not be granted by the tick behind that.
func TestARenewalIsNotGrantedOnceItsSessionIsOver(t *testing.T) {
	n := start(t, Config{NodeID: "a"})
	for range 20 {
		opened, err := n.one(t.Context(), &placement.OpenSession{NodeID: "b"})
		if err != nil || opened.Outcome != placement.Done {
			t.Fatal(opened, err)
		}
		renewed := n.granter.receive(opened.Node, n.cfg.Now())
		if _, err := n.one(t.Context(), &placement.EndSession{Session: opened.Node, At: 1}); err != nil {
			t.Fatal(err)
		}
		n.granter.mu.Lock()
		before := slices.Contains(n.granter.waiting, renewed) // ended before the tick was proposed
		n.granter.mu.Unlock()
		err = n.await(t.Context(), renewed, opened.Node)
		if !before {
			continue
		}
		if !isCode(err, codeSessionOver) {
			t.Fatalf("answered %v", err)
		}
		return
	}
	t.Fatal("the tick was always faster")
}
