package edge

import (
	"context"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// behindTime is how long what another node sends waits for the own table to know of it.
const behindTime = 5 * time.Second

// arrivalKind is what another node has sent about a state.
type arrivalKind uint8

const (
	arriveOpen arrivalKind = iota
	arriveData
	arriveClose
	arriveNew
	arriveEnd // the node has nobody left in the state
)

// arrival is one thing that another node has sent about a state. One that cannot be done at once waits in the party's queue,
// and what follows for the same session as well; the credit of a message is given back when the message is done, so one
// state holds up no other.
type arrival struct {
	kind       arrivalKind
	unreliable bool
	code       wire.Code
	s          *session
	seq        uint64
	user       string
	payload    []byte
	until      time.Time // when waiting for the table ends; zero before it has begun
}

// take does what has arrived, or queues it. It is called by the lane's reader.
func (pt *party) take(arr arrival) {
	p := pt.peer
	var wait <-chan struct{}
	pt.mu.Lock()
	if !pt.draining || arr.s != nil && arr.s.waits == 0 {
		pt.mu.Unlock()
		if wait = pt.do(&arr, &p.touched); wait == nil {
			return
		}
		p.touched.flush() // what was taken for the session, before another goroutine goes on with it
		pt.mu.Lock()
	}
	if pt.over {
		pt.mu.Unlock()
		return
	}
	pt.keepLocked(arr)
	begun := pt.draining
	pt.draining = true
	pt.mu.Unlock()
	if !begun {
		p.router.stats.parked.Add(1)
		p.router.spawn(func(ctx context.Context) { pt.drain(ctx, wait) })
	}
	if p.waiting.Load() > maxArrivalBytes || p.arrivals.Load() > maxArrivals {
		p.cut() // it does not heed its credit
	}
}

// keepLocked queues a copy.
func (pt *party) keepLocked(arr arrival) {
	arr.payload = slices.Clone(arr.payload)
	pt.peer.waiting.Add(int64(len(arr.payload)))
	pt.peer.arrivals.Add(1)
	if arr.s != nil {
		arr.s.waits++
	}
	pt.queue = append(pt.queue, arr)
}

// drain does what waits, in order, until nothing does.
func (pt *party) drain(ctx context.Context, wait <-chan struct{}) {
	var t touched
	var timer *time.Timer
	for {
		if timer == nil {
			timer = time.NewTimer(behindTime)
			defer timer.Stop()
		} else {
			timer.Reset(behindTime)
		}
		select {
		case <-wait:
		case <-timer.C: // look whether that was too long
		case <-ctx.Done():
			return
		}
		wait = nil
		for wait == nil {
			pt.mu.Lock()
			if len(pt.queue) == 0 {
				pt.mu.Unlock()
				t.flush()
				pt.peer.far.Flush()
				pt.mu.Lock()
				if len(pt.queue) == 0 {
					pt.queue, pt.draining = nil, false
					pt.mu.Unlock()
					return
				}
			}
			arr := &pt.queue[0]
			head := *arr
			pt.mu.Unlock()
			wait = pt.do(&head, &t)
			pt.mu.Lock()
			switch {
			case len(pt.queue) == 0: // sent away meanwhile
			case wait != nil:
				pt.queue[0].until = head.until
			default:
				pt.peer.waiting.Add(-int64(len(head.payload)))
				pt.peer.arrivals.Add(-1)
				if head.s != nil {
					head.s.waits--
				}
				pt.queue[0] = arrival{}
				pt.queue = pt.queue[1:]
			}
			pt.mu.Unlock()
		}
		t.flush()
		pt.peer.far.Flush()
	}
}

// end drops what waits: the party was sent away, or its node is over.
func (pt *party) end() {
	pt.mu.Lock()
	for i := range pt.queue {
		pt.peer.waiting.Add(-int64(len(pt.queue[i].payload)))
		pt.peer.arrivals.Add(-1)
	}
	pt.queue, pt.over = nil, true
	pt.mu.Unlock()
}

func (pt *party) isOver() bool {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return pt.over
}

// do does one arrival, or answers what to wait for before it is tried again. It never blocks.
func (pt *party) do(arr *arrival, t *touched) (wait <-chan struct{}) {
	switch arr.kind {
	case arriveOpen:
		return pt.open(arr, t)
	case arriveData:
		return arr.s.pass(arr, t)
	case arriveClose:
		t.flush() // its acknowledgements, while the session is known
		pt.peer.drop(arr.s.channel)
		pt.peer.unseat(arr.s, arr.code)
		pt.up.CloseSession(arr.s.channel, arr.seq, arr.code, "") // nothing more comes: the channel is free at both ends
	case arriveNew:
		return pt.create(arr, t)
	case arriveEnd:
		pt.peer.clear(pt)
	}
	return nil
}

// clear unseats whoever is left of a party that has said that nobody is.
func (p *peer) clear(pt *party) {
	p.mu.Lock()
	var left []*session
	for ch, s := range p.guests {
		if s.party == pt {
			left = append(left, s)
			delete(p.guests, ch)
		}
	}
	p.mu.Unlock()
	for _, s := range left {
		p.unseat(s, wire.CodeGoingAway)
	}
}

// judge asks the own table, and answers what to wait for when that is behind what the other node knows, unless it has been
// for too long.
func (pt *party) judge(arr *arrival) (h *home, row placement.Row, v verdict, wait <-chan struct{}) {
	r := pt.peer.router
	if h, row, v = r.judge(pt.peer, pt.state, pt.epoch); v != verdictBehind {
		return h, row, v, nil
	}
	changed := r.table.Changed()
	if h, row, v = r.judge(pt.peer, pt.state, pt.epoch); v != verdictBehind {
		return h, row, v, nil
	}
	now := time.Now()
	if arr.until.IsZero() {
		arr.until = now.Add(behindTime)
		r.stats.behindWaited.Add(1)
	}
	if now.Before(arr.until) {
		return h, row, v, changed
	}
	return h, row, v, nil
}

// sendAway tells the node that the state is not here.
func (pt *party) sendAway() {
	p := pt.peer
	p.router.stats.notOwnerSaid.Add(1)
	pt.end() // before the node hears of it and asks again
	p.far.NotOwner(pt.state, pt.epoch)
	p.clear(pt)
	p.forget(pt)
}

// open seats a guest in the room of its state.
func (pt *party) open(arr *arrival, t *touched) (wait <-chan struct{}) {
	r, s := pt.peer.router, arr.s
	h, row, v, wait := pt.judge(arr)
	if wait != nil {
		return wait
	}
	if v != verdictOurs {
		pt.sendAway()
		return nil
	}
	rm := r.acquire(roomKey{h.app, pt.state})
	if !pt.peer.give(s, rm) {
		r.release(rm)
		return nil
	}
	rm.tentative.Store(row.Tentative)
	r.forgetTentative(rm.roomKey)
	r.stats.guests.Add(1)
	defer func() {
		if pt.peer.guest(s.channel) != s { // its node is over, or it was sent away, since it was given the room
			pt.peer.unseat(s, wire.CodeGoingAway)
		}
	}()
	rm.mu.Lock()
	was := rm.sameLocked(s)
	rm.addLocked(s)
	if was != nil { // its node has opened it anew
		defer was.party.peer.replace(was)
	}
	if rm.phase == phaseLive && rm.home == h && rm.epoch == pt.epoch && !rm.att.away() {
		rm.openLocked(s)
		t.end(rm.att.tun)
		rm.mu.Unlock()
		return nil
	}
	rm.mu.Unlock()
	h.bind(rm, pt.epoch)
	return nil
}

// give notes the room of a guest; false when the guest has gone meanwhile.
func (p *peer) give(s *session, rm *room) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.guests[s.channel] != s {
		return false
	}
	s.room = rm
	return true
}

// sameLocked returns the guest that is the same client's session, or nil.
func (rm *room) sameLocked(s *session) *session {
	for o := rm.users[s.t.User]; o != nil; o = o.next {
		if o.party != nil && o.t.Conn == s.t.Conn {
			return o
		}
	}
	return nil
}

// replace unseats a guest that has another seat now.
func (p *peer) replace(s *session) {
	p.drop(s.channel)
	p.unseat(s, wire.CodeGoingAway)
}

// pass hands a guest's message to the instance's tunnel.
func (s *session) pass(arr *arrival, t *touched) (wait <-chan struct{}) {
	n, rm := len(arr.payload), s.room
	if rm == nil {
		s.party.up.Consumed(n)
		return nil
	}
	rm.mu.Lock()
	switch {
	case s.index < 0: // it has left
		rm.mu.Unlock()
		s.party.up.Consumed(n)
		return nil
	case rm.phase != phaseLive || s.att == nil || s.att != rm.att:
		wait = rm.changedLocked()
		rm.mu.Unlock()
		s.router.stats.downHeld.Add(1)
		return wait
	}
	if wait = rm.line.Admit(n); wait != nil {
		rm.mu.Unlock()
		s.router.stats.downBlocked.Add(1)
		return wait
	}
	s.sent = arr.seq
	rm.line.Data(&s.t, arr.seq, arr.payload, arr.unreliable)
	t.end(rm.att.tun)
	legacy := rm.att.legacy
	rm.mu.Unlock()
	s.party.up.Consumed(n)
	if legacy {
		t.ack(s, arr.seq)
	}
	s.router.stats.framesDown.Add(1)
	return nil
}

// touched is what is to be flushed, and acknowledged for an instance that cannot, when what has arrived was done.
type touched struct {
	ends []tunnel.End
	acks []*session
}

func (t *touched) end(e tunnel.End) {
	if n := len(t.ends); n == 0 || t.ends[n-1] != e {
		t.ends = append(t.ends, e)
	}
}

func (t *touched) ack(s *session, seq uint64) {
	if s.written == 0 {
		t.acks = append(t.acks, s)
	}
	s.written = seq
}

// flush writes to the tunnels and then says so. The caller flushes the route.
func (t *touched) flush() {
	for i, e := range t.ends {
		e.Flush()
		t.ends[i] = nil
	}
	t.ends = t.ends[:0]
	for i, s := range t.acks {
		s.party.up.AckSoon(s.channel, s.written)
		s.written = 0
		t.acks[i] = nil
	}
	t.acks = t.acks[:0]
}
