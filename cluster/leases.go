package cluster

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Times of a profile: how long a node may count on its session, and when the cluster may end it.
type Times struct {
	// Renew is the time between two renewals, Lease how long one holds, counted by the node from when it was sent.
	Renew, Lease time.Duration
	// Dead is when a session may be ended, counted by the leader from when it received the last renewal.
	Dead time.Duration
	// Tick is the time between two entries of the leader that prove that it still leads.
	Tick time.Duration
	// FailOver bounds how long a cluster may be without a leader after one was lost, Reach the time of a renewal there and
	// back with the wait for the tick. InstanceRenew is room for leases of instances, which hang on those of nodes.
	FailOver, Reach, InstanceRenew time.Duration
}

// TimesOf returns the times of a cluster's profile.
func TimesOf(profile uint8) Times {
	if profile == placement.MultiRegion {
		return Times{
			Renew: time.Second, Lease: 12 * time.Second, Dead: 13500 * time.Millisecond, Tick: 250 * time.Millisecond,
			FailOver: 6500 * time.Millisecond, Reach: 700 * time.Millisecond, InstanceRenew: time.Second,
		}
	}
	return Times{
		Renew: 750 * time.Millisecond, Lease: 6 * time.Second, Dead: 7500 * time.Millisecond, Tick: 250 * time.Millisecond,
		FailOver: 3 * time.Second, Reach: 300 * time.Millisecond, InstanceRenew: 600 * time.Millisecond,
	}
}

const (
	// rateError is by how much two clocks may differ in rate, in hundredths.
	rateError = 1
	// stopTime is how long it may take to stop what must not outlive a lease, and slack what is added for nothing in
	// particular.
	stopTime, slack = 500 * time.Millisecond, 500 * time.Millisecond
	// renewMargin is what is left of a lease when all goes as badly as it may.
	renewMargin = 250 * time.Millisecond
)

// Validate computes the inequalities that leases rest on.
func (t Times) Validate() error {
	switch {
	case t.Renew <= 0 || t.Lease <= 0 || t.Dead <= 0 || t.Tick <= 0:
		return errors.New("leases: a time is not above zero")
	case t.Lease+t.Lease*2*rateError/100+stopTime+slack > t.Dead:
		return fmt.Errorf("leases: a lease of %v may outlive the session that ends after %v", t.Lease, t.Dead)
	case t.FailOver+2*t.Renew+2*t.Reach+t.InstanceRenew+renewMargin > t.Lease:
		return fmt.Errorf("leases: the loss of a leader, %v, could end leases of %v", t.FailOver, t.Lease)
	case t.Renew > t.Lease/4:
		return fmt.Errorf("leases: with a renewal every %v, three lost ones end a lease of %v", t.Renew, t.Lease)
	}
	return nil
}

// holder is a node's own lease. The node counts from when it sent the renewal that was granted.
type holder struct {
	first sync.Once
	begun chan struct{} // closed when the first renewal is granted; nil: nobody waits for that

	mu    sync.Mutex
	until time.Time
}

// granted notes that a renewal sent at a time was granted for so long.
func (h *holder) granted(sent time.Time, lease time.Duration) {
	h.mu.Lock()
	if until := sent.Add(lease); until.After(h.until) {
		h.until = until
	}
	h.mu.Unlock()
	h.first.Do(func() {
		if h.begun != nil {
			close(h.begun)
		}
	})
}

// lease returns until when the lease holds, and whether it does.
func (h *holder) lease(now time.Time) (until time.Time, held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until, now.Before(h.until)
}

// granter is the leader's book of renewals, for the time that it leads. It counts from when it received them.
type granter struct {
	mu      sync.Mutex
	leading bool
	heard   map[wire.NodeSession]time.Time
	waiting []*renewal // received, not answered yet
}

// renewal is one that waits for a tick that was proposed after it.
type renewal struct {
	done chan bool // answered: granted, or not since the leadership is over
}

// lead begins a leadership: every open session counts as renewed now, since nobody knows better.
func (g *granter) lead(open []placement.Session, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leading, g.heard = true, make(map[wire.NodeSession]time.Time, len(open))
	for i := range open {
		g.heard[open[i].ID] = now
	}
}

// follow ends a leadership: who waits is told that nothing was granted.
func (g *granter) follow() {
	g.mu.Lock()
	waiting := g.waiting
	g.leading, g.waiting, g.heard = false, nil, nil
	g.mu.Unlock()
	tell(waiting, false)
}

// receive notes a renewal; nil where this node does not lead.
func (g *granter) receive(session wire.NodeSession, now time.Time) *renewal {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.leading {
		return nil
	}
	g.heard[session] = now
	r := &renewal{done: make(chan bool, 1)}
	g.waiting = append(g.waiting, r)
	return r
}

// collect takes the renewals that the tick to be proposed next will cover.
func (g *granter) collect() []*renewal {
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting := g.waiting
	g.waiting = nil
	return waiting
}

// tell answers those who wait.
func tell(waiting []*renewal, granted bool) {
	for _, r := range waiting {
		r.done <- granted
	}
}

// due returns the open sessions that nothing was heard of for so long that they may be ended.
func (g *granter) due(open []placement.Session, now time.Time, dead time.Duration) (over []wire.NodeSession) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.leading {
		return nil
	}
	heard := make(map[wire.NodeSession]time.Time, len(open))
	for i := range open {
		id := open[i].ID
		last, known := g.heard[id]
		if !known { // it was opened since
			last = now
		}
		heard[id] = last
		if now.Sub(last) >= dead {
			over = append(over, id)
		}
	}
	g.heard = heard
	return over
}

// heardOf says how long ago a session was heard of, by the leader.
func (g *granter) heardOf(session wire.NodeSession, now time.Time) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last, ok := g.heard[session]
	return now.Sub(last), ok && g.leading
}
