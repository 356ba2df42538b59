package edge

import (
	"sync"
	"sync/atomic"
	"time"
)

// stats are the Router's counters and gauges.
type stats struct {
	sessions, tunnelConns                                atomic.Int64
	joins, refused, noInstance, unknownLimited, holdOver atomic.Uint64
	framesDown, framesUp, broadcasts, kicks              atomic.Uint64
	downBlocked, downHeld                                atomic.Uint64
	dropNotOwner, dropNoSession, dropStaleEpoch          atomic.Uint64
	holes, unacked                                       atomic.Uint64
	created, createRetried, createSilent                 atomic.Uint64
	placements, rowsRemoved, released, proposalFailed    atomic.Uint64
	takeovers, instancesGone, acceptFailed               atomic.Uint64
	guests, routes, peers                                atomic.Int64
	linkDown, linkUp, routesBroken, parked               atomic.Uint64
	notOwnerSaid, notOwnerHeard, staleSaid, behindWaited atomic.Uint64
	syncsCut, badNotices, overrun                        atomic.Uint64
	refusedTunnels, endedTunnels                         reasons
	held                                                 holds
}

// reasons counts by a short fixed word.
type reasons struct {
	mu sync.Mutex
	m  map[string]uint64
}

func (r *reasons) add(reason string) {
	r.mu.Lock()
	if r.m == nil {
		r.m = make(map[string]uint64)
	}
	r.m[reason]++
	r.mu.Unlock()
}

func (r *reasons) each(f func(reason string, n uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, n := range r.m {
		f(k, n)
	}
}

// holds sums up how long rooms with sessions were without their instance.
type holds struct {
	mu    sync.Mutex
	n     uint64
	total time.Duration
	worst time.Duration
}

func (h *holds) observe(d time.Duration) {
	h.mu.Lock()
	h.n++
	h.total += d
	h.worst = max(h.worst, d)
	h.mu.Unlock()
}

// Collect emits every figure: names without a prefix, labels as alternating keys and values; what ends in _total counts.
func (r *Router) Collect(emit func(name string, value float64, labels ...string)) {
	s := &r.stats
	emit("edge_sessions", float64(s.sessions.Load()))
	emit("edge_tunnel_connections", float64(s.tunnelConns.Load()))
	emit("edge_guests", float64(s.guests.Load()))
	emit("edge_routes", float64(s.routes.Load()), "direction", "opened")
	emit("edge_routes", float64(s.peers.Load()), "direction", "taken")
	for _, c := range []struct {
		name   string
		n      *atomic.Uint64
		labels []string
	}{
		{"edge_joins_total", &s.joins, nil},
		{"edge_joins_refused_total", &s.refused, nil},
		{"edge_joins_without_instance_total", &s.noInstance, nil},
		{"edge_unknown_states_limited_total", &s.unknownLimited, nil},
		{"edge_holds_over_total", &s.holdOver, nil},
		{"edge_frames_total", &s.framesDown, []string{"direction", "down"}},
		{"edge_frames_total", &s.framesUp, []string{"direction", "up"}},
		{"edge_broadcasts_total", &s.broadcasts, nil},
		{"edge_kicks_total", &s.kicks, nil},
		{"edge_reader_waits_total", &s.downBlocked, []string{"reason", "backpressure"}},
		{"edge_reader_waits_total", &s.downHeld, []string{"reason", "hold"}},
		{"edge_frames_dropped_total", &s.dropNotOwner, []string{"reason", "not_owner"}},
		{"edge_frames_dropped_total", &s.dropNoSession, []string{"reason", "no_session"}},
		{"edge_frames_dropped_total", &s.dropStaleEpoch, []string{"reason", "stale_epoch"}},
		{"edge_stream_holes_total", &s.holes, nil},
		{"edge_frames_unacknowledged_total", &s.unacked, nil},
		{"edge_states_created_total", &s.created, nil},
		{"edge_creates_repeated_total", &s.createRetried, nil},
		{"edge_creates_unanswered_total", &s.createSilent, nil},
		{"edge_placements_total", &s.placements, nil},
		{"edge_rows_removed_total", &s.rowsRemoved, nil},
		{"edge_states_released_total", &s.released, nil},
		{"edge_proposals_failed_total", &s.proposalFailed, nil},
		{"edge_takeovers_total", &s.takeovers, nil},
		{"edge_instances_gone_total", &s.instancesGone, nil},
		{"edge_accept_failures_total", &s.acceptFailed, nil},
		{"edge_link_batches_total", &s.linkDown, []string{"direction", "from_owner"}},
		{"edge_link_batches_total", &s.linkUp, []string{"direction", "to_owner"}},
		{"edge_routes_broken_total", &s.routesBroken, nil},
		{"edge_arrivals_parked_total", &s.parked, nil},
		{"edge_not_owner_total", &s.notOwnerSaid, []string{"direction", "said"}},
		{"edge_not_owner_total", &s.notOwnerHeard, []string{"direction", "heard"}},
		{"edge_stale_epochs_total", &s.staleSaid, nil},
		{"edge_table_behind_total", &s.behindWaited, nil},
		{"edge_syncs_cut_total", &s.syncsCut, nil},
		{"edge_notices_refused_total", &s.badNotices, nil},
		{"edge_link_overruns_total", &s.overrun, nil},
	} {
		emit(c.name, float64(c.n.Load()), c.labels...)
	}
	s.refusedTunnels.each(func(reason string, n uint64) { emit("edge_tunnels_refused_total", float64(n), "reason", reason) })
	s.endedTunnels.each(func(reason string, n uint64) { emit("edge_tunnels_ended_total", float64(n), "reason", reason) })
	s.held.mu.Lock()
	n, total, worst := s.held.n, s.held.total, s.held.worst
	s.held.mu.Unlock()
	emit("edge_state_holds_total", float64(n))
	emit("edge_state_hold_seconds_total", total.Seconds())
	emit("edge_state_hold_longest_seconds", worst.Seconds())
	if r.links != nil {
		r.links.Collect(emit)
	}
}
