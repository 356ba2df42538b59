package consensus

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// raft's leader sends heartbeats for as long as its process lives, also while its disk hangs and nothing is committed. So
// a leader proposes something at least every pulseEvery, and what becomes of it is watched: two pulses that are not
// committed within pulseLimit, and it hands over; it gives up where it cannot even do that.
const (
	pulseEvery = 250 * time.Millisecond
	pulseLimit = 2 * time.Second
	// stallLimit is how long nothing may be committed, two pulses.
	stallLimit = pulseLimit + pulseEvery
	// handOver is how long handing over may take, and handOverAgain how long after a failure it is tried again.
	handOver      = 2 * time.Second
	handOverAgain = 5 * time.Second
	// diskLimit is how long any replica waits for its disk.
	diskLimit  = 5 * time.Second
	watchEvery = 100 * time.Millisecond
	// stoodStill is how late a look means that this process did not run.
	stoodStill = time.Second
	// slowDisk is how long a sync may take without a line in the log.
	slowDisk = 500 * time.Millisecond
)

// pulse proposes an entry that says nothing whenever this replica leads others and nobody proposes.
func (r *Replica) pulse(ctx context.Context) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if r.Leading() && r.progress.idle() >= pulseEvery && !r.onlyVoter() {
			limit, cancel := context.WithTimeout(ctx, pulseEvery)
			_, _ = r.Tick(limit) // watch sees what becomes of it
			cancel()
		}
	}
}

// watch returns an error when the replica must not go on, nil when ctx ends.
func (r *Replica) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w := watchdog{replica: r, last: r.cfg.Now()}
	for {
		select {
		case <-r.machine.failed:
			return r.machine.err
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.wake()
			if err := r.broken(); err != nil {
				return err
			}
			if err := w.look(ctx); err != nil {
				return err
			}
		}
	}
}

// watchdog is what the watching goroutine remembers.
type watchdog struct {
	replica  *Replica
	transfer chan error // the hand-over under way
	began    time.Time  // of it, or of the one that failed
	said     bool       // that the disk is slow
	last     time.Time  // when it last looked
}

// wake notes that it looks again. Where it could not for a while, the process stood still, or the whole machine did, and
// so did whatever it waits for: that gets its time from now on.
func (w *watchdog) wake() {
	now := w.replica.cfg.Now()
	if now.Sub(w.last) > stoodStill {
		w.replica.disk.again(now)
		w.replica.progress.again(now)
	}
	w.last = now
}

func (w *watchdog) look(ctx context.Context) error {
	r := w.replica
	disk := r.disk.waiting()
	if said := disk > slowDisk; said != w.said {
		if w.said = said; said {
			r.cfg.Log.Warn("the disk with the log is slow", "waiting", disk)
		}
	}
	if r.onlyVoter() { // nobody would take over
		return nil
	}
	if disk > diskLimit {
		return fmt.Errorf("%w: a write to the log has not ended after %v", ErrStuck, disk)
	}
	if !r.Leading() {
		w.transfer = nil
		return nil
	}
	stall, now := r.progress.stalled(), r.cfg.Now()
	select {
	case err := <-w.transfer:
		w.transfer = nil
		r.cfg.Log.Warn("the leadership could not be handed over", "err", err)
	default:
	}
	switch {
	case stall < stallLimit:
		return nil
	case disk >= pulseLimit: // raft's own goroutine is in that write and can hand over nothing
		return fmt.Errorf("%w: nothing was committed for %v, and a write to the log has not ended after %v", ErrStuck, stall, disk)
	case w.transfer != nil && now.Sub(w.began) > handOver:
		return fmt.Errorf("%w: nothing was committed for %v, and handing over the leadership has not ended after %v", ErrStuck, stall, handOver)
	case w.transfer == nil && now.Sub(w.began) > handOverAgain:
		r.cfg.Log.Warn("nothing is committed; handing over the leadership", "for", stall)
		r.counts.transfers.Add(1)
		done := make(chan error, 1)
		go func() { done <- r.TransferLeadership(ctx, "") }() // ends with ctx at the latest
		w.transfer, w.began = done, now
	}
	return nil
}

// summon tells another voter that its time has come, when raft's own goroutine hangs and cannot: that saves the others the
// time until they miss this leader. Whether it wins is for the voters to say.
func (r *Replica) summon() {
	const within = 500 * time.Millisecond
	limit := time.After(within)
	for _, s := range r.Servers() {
		if !s.Voter || s.ID == r.cfg.ID || r.cfg.Now().Sub(r.peers.last(s.ID)) > within {
			continue
		}
		done := make(chan error, 1)
		go func() { done <- r.trans.timeoutNow(&r.cfg, s.ID, s.Addr) }() // ends when connections are cut
		select {
		case err := <-done:
			if err == nil {
				return
			}
		case <-limit:
			return
		}
	}
}

// progress knows since when proposals have been waiting without one being answered.
type progress struct {
	now func() time.Time

	mu      sync.Mutex
	waiting int
	since   time.Time // of the last answer, or of the first proposal after none was waiting
	last    time.Time // of the last proposal
}

// again lets what is waiting wait from now on.
func (p *progress) again(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = now
}

func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = p.now()
	if p.waiting == 0 {
		p.since = p.last
	}
	p.waiting++
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = p.now()
	p.waiting--
}

func (p *progress) stalled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == 0 {
		return 0
	}
	return p.now().Sub(p.since)
}

// idle returns how long ago the last proposal was made.
func (p *progress) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now().Sub(p.last)
}

// probe knows since when a write has been under way.
type probe struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time // zero: none is
}

// during runs a write.
func (p *probe) during(write func() error) error {
	p.set(p.now())
	defer p.set(time.Time{})
	return write()
}

func (p *probe) set(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = t
}

// again lets a write that is under way begin now.
func (p *probe) again(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() {
		p.since = now
	}
}

func (p *probe) began() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since
}

func (p *probe) waiting() time.Duration {
	if since := p.began(); !since.IsZero() {
		return p.now().Sub(since)
	}
	return 0
}
