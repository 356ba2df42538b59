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
func BenchmarkCreateForwarded256(b *testing.B) { benchmarkCreate(b, 256, 0, false) }

// BenchmarkCreateForwardedPaced asks for 5,000 states a second, whether or not the ones before have been answered.
func BenchmarkCreateForwardedPaced(b *testing.B) { benchmarkCreate(b, 256, 5000, false) }

// BenchmarkCreateForwarded1 is one at a time: the time of a create that another node leads.
func BenchmarkCreateForwarded1(b *testing.B) { benchmarkCreate(b, 1, 0, false) }

// BenchmarkCreateLeader256 is the same at the leader.
func BenchmarkCreateLeader256(b *testing.B) { benchmarkCreate(b, 256, 0, true) }

func benchmarkCreate(b *testing.B, inFlight, perSecond int, leader bool) {
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
	var next atomic.Int64
	times := make([][]time.Duration, inFlight)
	b.ResetTimer()
	began := time.Now()
	var all sync.WaitGroup
	for caller := range inFlight {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					return
				}
				from := time.Now()
				if perSecond > 0 { // counted from when it was due
					from = began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
					time.Sleep(time.Until(from))
				}
				if _, err := node.Create(b.Context(), placement.CreateRequest{App: app, Region: "eu"}); err != nil {
					b.Error(err)
					return
				}
				times[caller] = append(times[caller], time.Since(from))
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
