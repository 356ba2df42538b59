package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// TestRecoverAndTheOldOnesComeBack: two of three voters are lost, with something that only they had. The third begins a
// new generation. Then the two are back, with their data and a majority of the old voters, and follow.
func TestRecoverAndTheOldOnesComeBack(t *testing.T) {
	tell(t, 3, func(w *world) {
		w.goOn(100)
		w.rest()
		w.Same()
		kept := w.Follower()
		lost := w.others(kept)
		w.kill(kept)
		only, newest := map[wire.StateID]bool{}, wire.Epoch(0) // what the others had
		for range 20 {
			ctx, cancel := limited(10 * time.Second)
			p, err := w.Leader().Get().Create(ctx, placement.CreateRequest{App: app})
			cancel()
			if err != nil {
				w.t.Fatal(err)
			}
			only[p.State], newest = true, max(newest, p.Epoch)
		}
		for _, n := range lost {
			w.kill(n)
		}
		report, err := cluster.Recover(cluster.RecoverConfig{DataDir: kept.Dir, Apply: true})
		if err != nil || report.NewGeneration <= report.Generation {
			w.t.Fatalf("%+v, %v", report, err)
		}
		kept.Start().Joined()
		w.load = newLoad(w)
		w.goOn(20)
		if now := w.h.newest(); now <= newest {
			w.t.Errorf("epoch %d after %d", now, newest)
		}
		for _, n := range lost {
			n.Start()
		}
		for _, n := range lost {
			w.Until(n.Name+" follows", func() bool { return n.Joined().Table().Generation() == report.NewGeneration })
		}
		w.goOn(20)
		w.Voters(3)
		for _, n := range w.All() {
			for s := range n.Get().Table().All() {
				if only[s.State] {
					w.t.Fatalf("%s has state %s, which was lost", n.Name, s.State)
				}
			}
		}
	})
}

// TestTwoClustersStayApart: with one name and one key, also where one comes to an address of the other. Both say so.
func TestTwoClustersStayApart(t *testing.T) {
	t.Parallel()
	for range max(1, soaks()) {
		t.Run("seed", func(t *testing.T) {
			c := clustertest.NewCluster(t)
			a1, a2, b := c.Add("a1", "eu"), c.Add("a2", "eu"), c.Add("b1", "eu")
			a1.Start().Joined()
			a2.Start().Joined()
			b.Join = nil
			b.Start().Joined()
			ours, theirs := a1.Get().Table().Incarnation(), b.Get().Table().Incarnation()
			if ours == theirs {
				t.Fatal("one incarnation for two clusters")
			}
			// The host of a2 is b's from time to time: what a1 knows of a2 leads to b, if it looks for it while a2 has a session.
			for range 8 {
				a2.Kill()
				b.Crash()
				b.Host = a2.Host
				b.Start().Joined()
				if soon(10*time.Second, func() bool { return bothSaid(c) }) {
					break
				}
				b.Crash()
				a2.Start().Joined()
			}
			if !bothSaid(c) {
				t.Error("not both have said what happened and how to join")
			}
			for _, m := range a1.Get().Members() {
				if m.Node == "b1" {
					t.Errorf("a1 lists %+v", m)
				}
			}
			for _, m := range b.Get().Members() {
				if m.Node != "b1" {
					t.Errorf("b1 lists %+v", m)
				}
			}
			a1.Restart().Joined() // though what it knows as the address of a2 is of another cluster
			if b.Get().Table().Incarnation() != theirs || a1.Get().Table().Incarnation() != ours {
				t.Error("a table was taken over")
			}
			// Told to join with data of another cluster, it refuses and says what to do.
			b.Crash()
			b.Join = []string{a1.Host.Addr(clustertest.NodePort)}
			b.Start()
			err := b.Ended()
			if err == nil || !strings.Contains(err.Error(), "--join") || !strings.Contains(err.Error(), "empty data directory") {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// bothSaid says whether a1 and b1 have said what happened, and how to join.
func bothSaid(c *clustertest.Cluster) bool {
	said := map[string]bool{}
	for line := range strings.Lines(c.Log()) {
		if strings.Contains(line, "another cluster") && strings.Contains(line, "--join") {
			said[line[strings.Index(line, "node="):][:7]] = true
		}
	}
	return said["node=a1"] && said["node=b1"]
}

// soon waits for something for a time.
func soon(within time.Duration, so func() bool) bool {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); <-every.C {
		if so() {
			return true
		}
	}
	return false
}
