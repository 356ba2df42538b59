package client

import (
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// wheelSlots is into how many parts the ping interval is divided; every session is examined once per interval.
const wheelSlots = 16

// wheel holds the sessions. One goroutine turns it for all of them, so that none needs a timer.
type wheel struct {
	mu    sync.Mutex
	slots [wheelSlots][]*session
	next  int // where the next session goes
	hand  int // which slot is examined next
	count int
}

func (w *wheel) add(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot := w.next
	w.next = (w.next + 1) % wheelSlots
	s.slot = int32(len(w.slots[slot])*wheelSlots + slot)
	w.slots[slot] = append(w.slots[slot], s)
	w.count++
}

func (w *wheel) remove(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.slot < 0 {
		return
	}
	slot, i := int(s.slot)%wheelSlots, int(s.slot)/wheelSlots
	list := w.slots[slot]
	last := len(list) - 1
	list[i] = list[last]
	list[i].slot = s.slot
	list[last] = nil
	w.slots[slot] = list[:last]
	s.slot = -1
	w.count--
}

func (w *wheel) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// all lists the sessions.
func (w *wheel) all() []*session {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]*session, 0, w.count)
	for _, slot := range w.slots {
		list = append(list, slot...)
	}
	return list
}

// turn calls f for the sessions of the next slot.
func (w *wheel) turn(f func(*session)) {
	w.mu.Lock()
	list := append([]*session(nil), w.slots[w.hand]...)
	w.hand = (w.hand + 1) % wheelSlots
	w.mu.Unlock()
	for _, s := range list {
		f(s)
	}
}

// examine is called once per ping interval: it pings a session that nothing was heard of, cuts it after two pings, and
// looks after tokens. While the reader is held back, its clocks stand still: we are the ones who do not read.
func (s *Server) examine(c *session, now time.Time) {
	if c.native != nil {
		c.checkExpiry(now)
	}
	if !c.life.CompareAndSwap(lifeHeard, lifeSilent) && c.life.Load() == lifeSilent {
		s.silent(c)
		return
	}
	c.missed = 0
}

// silent is for a session that nothing was heard of for a whole interval.
func (s *Server) silent(c *session) {
	if c.grown.Load() && c.renew.CompareAndSwap(false, true) {
		_ = c.pc.SetReadDeadline(time.Now())
	}
	if c.quiet {
		return
	}
	if c.missed++; c.missed > 2 {
		c.end(wire.CodeGoingAway, "No answer to pings", whyIdle)
		return
	}
	s.count.pings.Add(1)
	c.ping()
}
