package cluster_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

// BenchmarkCreateForwarded256 creates states at a node that does not lead, 256 at a time, in a cluster of three with real
// logs: what one node gets out of the leader.
func BenchmarkCreateForwarded256(b *testing.B) { benchmarkCreate(b, 256, false) }

// BenchmarkCreateForwarded1 is one at a time: the time of a create that another node leads.
func BenchmarkCreateForwarded1(b *testing.B) { benchmarkCreate(b, 1, false) }

// BenchmarkCreateLeader256 is the same at the leader.
func BenchmarkCreateLeader256(b *testing.B) { benchmarkCreate(b, 256, true) }

func benchmarkCreate(b *testing.B, inFlight int, leader bool) {
	c := clustertest.Form(b, 3)
	c.Voters(3)
	at := c.Follower()
	if leader {
		at = c.Leader()
	}
	if err := at.Get().PutApp(b.Context(), app, [32]byte{1}, placement.AppSettings{MaxStates: 1 << 30}); err != nil {
		b.Fatal(err)
	}
	register(b, at, "a")
	node := at.Get()
	var left atomic.Int64
	left.Store(int64(b.N))
	times := make([][]time.Duration, inFlight)
	b.ResetTimer()
	began := time.Now()
	var all sync.WaitGroup
	for i := range inFlight {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				from := time.Now()
				if _, err := node.Create(b.Context(), placement.CreateRequest{App: app, Region: "eu"}); err != nil {
					b.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(from))
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "creates/s")
	took := slices.Concat(times...)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.StopTimer()
}
