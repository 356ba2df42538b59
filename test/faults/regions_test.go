package faults

import (
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

// TestThreeRegionsWithLoss: round trips of 80 to 220 ms and one packet in twenty lost. No session ends, and the leader's
// death is no more than that.
func TestThreeRegionsWithLoss(t *testing.T) {
	t.Parallel()
	for range max(1, soaks()) {
		t.Run("seed", func(t *testing.T) {
			w := newWorld(t, clustertest.NewCluster(t))
			w.Change = func(_ string, c *cluster.Config) { c.Profile = placement.MultiRegion }
			for i, region := range []string{"eu", "us", "ap"} {
				w.Add([]string{"n1", "n2", "n3"}[i], region)
			}
			for _, p := range []struct {
				a, b string
				rtt  time.Duration
			}{{"n1", "n2", 80}, {"n1", "n3", 150}, {"n2", "n3", 220}} {
				w.Net.SetBoth(p.a, p.b, clustertest.Path{Delay: p.rtt * time.Millisecond / 2, Jitter: 15 * time.Millisecond, Loss: 0.05})
			}
			for _, n := range w.All() {
				n.Start().Joined()
			}
			w.gather(3)
			before := w.sessions()
			w.begin()
			w.pass(longer(8*time.Second, 2*time.Minute))
			w.goOn(20)
			w.keep(before, w.All()...)
			if lost := w.Net.Traffic("n1", "n2").Lost; lost == 0 {
				t.Error("nothing was lost")
			}
			leader := w.Leader()
			began := time.Now()
			w.kill(leader)
			w.newLeader(w.others(leader)...)
			took := time.Since(began)
			t.Logf("a new leader after %v", took)
			if most := cluster.TimesOf(placement.MultiRegion).Lease; took > most {
				t.Errorf("a new leader after %v, leases last %v", took, most)
			}
			w.goOn(10)
			w.keep(before, w.others(leader)...)
			leader.Start().Joined()
			w.settle()
		})
	}
}
