package client

import (
	"sync"
	"sync/atomic"
)

// counters are what Collect reports. None is touched per message, except for a message that is dropped.
type counters struct {
	sessions   [protocols]atomic.Int64
	panics     atomic.Uint64
	pings      atomic.Uint64
	unreliable atomic.Uint64
	joined     tally // by revision
	closed     tally // by reason
	refused    tally // by limit
	failed     tally // by what went wrong before a session
}

// maxTally bounds the labels of one counter: backends choose some of the close codes.
const maxTally = 64

// tally counts by a label.
type tally struct {
	mu sync.Mutex
	by map[string]uint64
}

func (t *tally) add(label string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[string]uint64)
	}
	if _, known := t.by[label]; !known && len(t.by) >= maxTally {
		label = "other"
	}
	t.by[label]++
}

func (t *tally) each(f func(label string, n uint64)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for label, n := range t.by {
		f(label, n)
	}
}

// Collect reports the counters: names without a prefix, labels as pairs of key and value; those that end in _total only
// grow.
func (s *Server) Collect(emit func(name string, value float64, labels ...string)) {
	for p := range s.count.sessions {
		emit("client_connections", float64(s.count.sessions[p].Load()), "proto", protocolNames[p])
	}
	s.mu.Lock()
	half, open := len(s.half), s.open
	s.mu.Unlock()
	emit("client_half_open", float64(half))
	emit("client_sockets", float64(open))
	for _, t := range []struct {
		name, key string
		t         *tally
	}{
		{"client_joined_total", "revision", &s.count.joined},
		{"client_closed_total", "reason", &s.count.closed},
		{"client_refused_total", "limit", &s.count.refused},
		{"client_handshake_failed_total", "reason", &s.count.failed},
	} {
		t.t.each(func(label string, n uint64) { emit(t.name, float64(n), t.key, label) })
	}
	emit("client_panics_total", float64(s.count.panics.Load()))
	emit("client_pings_total", float64(s.count.pings.Load()))
	emit("client_dropped_total", float64(s.count.unreliable.Load()), "reason", "unreliable")
}
