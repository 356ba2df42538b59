package link

import (
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// counts are what the lanes to and from one node session have done.
type counts struct {
	bytesOut, bytesIn, framesOut, framesIn, breaks, resumed atomic.Uint64
}

// Peer is how things stand with another node session.
type Peer struct {
	Session wire.NodeSession
	// Lanes is how many lanes there are, both directions, and Connected how many of them have a connection. Since is when
	// the first of the others had none any more.
	Lanes, Connected int
	Since            time.Time
	// Routes is how many routes there are, both directions.
	Routes int
	// Pending is how many bytes no connection has had yet, and Unacked how many the other end has not acknowledged.
	Pending, Unacked int
	// What went each way since the first lane, in bytes of the connections (without TLS) and frames of routes.
	BytesOut, BytesIn, FramesOut, FramesIn uint64
	// Breaks is how many connections were lost, Resumed how many lanes the other end has taken up again.
	Breaks, Resumed uint64
}

func (c *counts) peer(session wire.NodeSession) *Peer {
	return &Peer{
		Session: session, BytesOut: c.bytesOut.Load(), BytesIn: c.bytesIn.Load(), FramesOut: c.framesOut.Load(),
		FramesIn: c.framesIn.Load(), Breaks: c.breaks.Load(), Resumed: c.resumed.Load(),
	}
}

// countsOf returns the counts of a node session, made at the first call. The lock is held.
func (l *Links) countsOf(peer wire.NodeSession) *counts {
	c := l.counts[peer]
	if c == nil {
		c = new(counts)
		l.counts[peer] = c
	}
	return c
}

// Peers returns every node session to or from which there has been a lane and that was not ended, in no order.
func (l *Links) Peers() []Peer {
	l.mu.Lock()
	found := make(map[wire.NodeSession]*Peer, len(l.counts))
	for session, c := range l.counts {
		found[session] = c.peer(session)
	}
	l.mu.Unlock()
	for _, s := range l.streams() {
		if p := found[s.peer]; p != nil {
			s.describe(p)
		}
	}
	out := make([]Peer, 0, len(found))
	for _, p := range found {
		out = append(out, *p)
	}
	return out
}

// describe adds a stream to what is known of its peer.
func (s *stream) describe(p *Peer) {
	p.Lanes++
	p.Routes += s.lane.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Pending += int(s.out.end - max(s.sent, s.out.acked))
	p.Unacked += s.out.len()
	switch {
	case s.conn != nil:
		p.Connected++
	case p.Since.IsZero() || s.since.Before(p.Since):
		p.Since = s.since
	}
}

// Unreachable returns the node sessions to which this end has opened lanes that have had no connection for at least d. Lanes
// that the others opened are theirs to connect, and say nothing about the way there.
func (l *Links) Unreachable(d time.Duration) []wire.NodeSession {
	var out []wire.NodeSession
	seen := make(map[wire.NodeSession]bool)
	for _, s := range l.streams() {
		if connected, since := s.connected(); s.mine && !connected && l.now().Sub(since) >= d && !seen[s.peer] {
			seen[s.peer] = true
			out = append(out, s.peer)
		}
	}
	return out
}

// Collect emits what the links did.
func (l *Links) Collect(emit func(name string, value float64, labels ...string)) {
	l.mu.Lock()
	opened, taken, sum := len(l.opened), len(l.taken), l.gone
	l.mu.Unlock()
	for _, p := range l.Peers() {
		sum.add(&p)
	}
	emit("link_streams", float64(opened), "direction", "opened")
	emit("link_streams", float64(taken), "direction", "taken")
	emit("link_routes", float64(sum.Routes))
	emit("link_unacknowledged_bytes", float64(sum.Unacked))
	emit("link_bytes_total", float64(sum.BytesOut), "direction", "out")
	emit("link_bytes_total", float64(sum.BytesIn), "direction", "in")
	emit("link_frames_total", float64(sum.FramesOut), "direction", "out")
	emit("link_frames_total", float64(sum.FramesIn), "direction", "in")
	emit("link_connections_broken_total", float64(sum.Breaks))
	emit("link_streams_resumed_total", float64(sum.Resumed))
	emit("link_connections_refused_total", float64(l.refused.Load()))
	emit("link_dials_failed_total", float64(l.dialFailed.Load()))
	emit("link_overflows_total", float64(l.overflows.Load()))
	emit("link_late_batches_total", float64(l.late.Load()))
	emit("link_faults_total", float64(l.faults.Load()))
}

// add adds what may be added up.
func (p *Peer) add(other *Peer) {
	p.Routes += other.Routes
	p.Unacked += other.Unacked
	p.BytesOut += other.BytesOut
	p.BytesIn += other.BytesIn
	p.FramesOut += other.FramesOut
	p.FramesIn += other.FramesIn
	p.Breaks += other.Breaks
	p.Resumed += other.Resumed
}
