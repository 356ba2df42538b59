package bench

import (
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in nanoseconds with 3 significant digits, up to two minutes; what is longer counts as that.
const (
	latencyDigits = 3
	latencyMax    = int64(2 * time.Minute)
	latencyShards = 8
)

func newHistogram() *hdr.Histogram { return hdr.New(1, latencyMax, latencyDigits) }

// latencies collects from many connections. It drops what comes while it is not recording.
type latencies struct {
	recording atomic.Bool
	shards    [latencyShards]latencyShard
}

type latencyShard struct {
	mu sync.Mutex
	h  *hdr.Histogram
	_  [64]byte
}

func newLatencies() *latencies {
	l := &latencies{}
	for i := range l.shards {
		l.shards[i].h = newHistogram()
	}
	return l
}

// record adds the time from each moment of since to now; who says which connection asks, to spread the locks.
func (l *latencies) record(who int, now int64, since []int64) {
	if !l.recording.Load() || len(since) == 0 {
		return
	}
	s := &l.shards[who%latencyShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range since {
		s.h.RecordValue(min(max(now-t, 1), latencyMax))
	}
}

// merged returns all that was recorded.
func (l *latencies) merged() *hdr.Histogram {
	all := newHistogram()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		all.Merge(s.h)
		s.mu.Unlock()
	}
	return all
}

// Percentiles are latencies in microseconds.
type Percentiles struct {
	P50 float64 `json:"p50_us"`
	P90 float64 `json:"p90_us"`
	P99 float64 `json:"p99_us"`
	Max float64 `json:"max_us"`
}

func percentilesOf(h *hdr.Histogram) Percentiles {
	if h.TotalCount() == 0 {
		return Percentiles{}
	}
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	return Percentiles{P50: at(50), P90: at(90), P99: at(99), Max: float64(h.Max()) / 1e3}
}

// counter is spread so that connections on different processors do not share a cache line.
type counter struct {
	shards [latencyShards]struct {
		n atomic.Int64
		_ [56]byte
	}
}

func (c *counter) add(who int, n int64) { c.shards[who%latencyShards].n.Add(n) }

func (c *counter) sum() int64 {
	var total int64
	for i := range c.shards {
		total += c.shards[i].n.Load()
	}
	return total
}
