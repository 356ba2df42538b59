package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/wire"
)

// Why a route has ended while its lane goes on. io.EOF: the other end has closed it.
var (
	// ErrRefused: nobody there takes routes to the instance.
	ErrRefused = errors.New("link: the other node refuses the route")
	// ErrFault: the other end could not make sense of what it got.
	ErrFault = errors.New("link: the other node does not understand what the route carries")
)

// MaxNotice is how many bytes a notice may have.
const MaxNotice = 1 << 10

// A Receiver takes what comes on a route. Take, Drained and Ended come from the goroutine that reads the lane, for all
// routes of the lane, so none of them may block; what they say themselves may be sent at once.
type Receiver interface {
	// Take takes whole frames, in order. batch is valid during the call only. An error closes the route.
	Take(batch []byte) error
	// Drained comes after Take when no more is at hand: flush.
	Drained()
	// Room comes when Route.Pending had answered more than half of what a sender should have under way, and has fallen:
	// flush. It may come from any goroutine, and beside the others.
	Room()
	// Resumed comes when the lane has a connection, which it had not. It may come from any goroutine, and beside the others.
	Resumed()
	// Ended is the last call but for a Room or Resumed, once, unless the route was closed at this end.
	Ended(err error)
}

// Route is the way of one instance between a node with clients and the node that holds the instance's tunnel, from either
// end. All methods may be called from any goroutine, and none blocks.
type Route struct {
	lane     *lane // nil: made when Links had ended
	id       uint32
	instance wire.InstanceID
	gen      wire.Gen

	receiver Receiver    // guarded by lane.mu
	dirty    bool        // Drained is owed; the reader's own
	waits    bool        // in the lane's list of those who wait for room; guarded by the stream's lock
	closed   atomic.Bool // nothing may be sent any more
}

// Route opens a route to an instance at another node session. What is sent is kept until the other node can be reached,
// within the bounds of the lane. Where the lane or the route ends, r is told; another one may be opened then, but not at
// once and again and again.
func (l *Links) Route(to wire.NodeSession, instance wire.InstanceID, gen wire.Gen, r Receiver) *Route {
	for {
		s := l.open(to, l.laneOf(instance))
		rt := s.lane.open(instance, gen, r)
		if rt != nil {
			return rt
		}
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if closed {
			rt = &Route{instance: instance, gen: gen}
			rt.closed.Store(true)
			return rt
		}
	}
}

// laneOf is the lane that carries all that concerns an instance.
func (l *Links) laneOf(instance wire.InstanceID) int {
	return int(uint64(instance) % uint64(l.cfg.Lanes))
}

// Notify sends a notice in the lane of an instance: it arrives after all that was sent before on routes to the instance
// that were opened here, and before all that is sent later.
func (l *Links) Notify(to wire.NodeSession, instance wire.InstanceID, body []byte) error {
	if len(body) > MaxNotice {
		return fmt.Errorf("link: a notice of %d bytes, at most %d are allowed", len(body), MaxNotice)
	}
	var head [itemHead]byte
	putHead(&head, itemNotice, len(body), 0)
	return l.open(to, l.laneOf(instance)).put(head[:], body)
}

// Instance is the instance that the route leads to, and Gen the attachment of it that is meant.
func (r *Route) Instance() wire.InstanceID { return r.instance }

// Gen is the attachment of the instance that is meant.
func (r *Route) Gen() wire.Gen { return r.gen }

// Peer is the node session at the other end; 0 where there is none.
func (r *Route) Peer() wire.NodeSession {
	if r.lane == nil {
		return 0
	}
	return r.lane.s.peer
}

// Send queues a batch of whole frames, which it copies.
func (r *Route) Send(batch []byte) error {
	for len(batch) > 0 {
		if r.closed.Load() {
			return net.ErrClosed
		}
		n, frames := cutBatch(batch)
		if frames == 0 {
			return fmt.Errorf("link: a batch of %d bytes that does not end with a frame", len(batch))
		}
		var head [itemHead]byte
		putHead(&head, itemFrames, n, r.id)
		if err := r.lane.s.put(head[:], batch[:n]); err != nil {
			return err
		}
		r.lane.s.counts.framesOut.Add(uint64(frames))
		batch = batch[n:]
	}
	return nil
}

// cutBatch returns how many bytes of a batch, cut between frames, go into one item, and how many frames they are; 0 when
// it does not end with one.
func cutBatch(batch []byte) (n, frames int) {
	for n < len(batch) {
		rest := batch[n:]
		if len(rest) < 4 {
			return 0, 0
		}
		size := 4 + uint64(binary.BigEndian.Uint32(rest))
		if size > uint64(min(len(rest), maxFrames)) {
			return 0, 0
		}
		if n+int(size) > maxFrames {
			break
		}
		n += int(size)
		frames++
	}
	return n, frames
}

// Pending is how many bytes should be fewer before more is sent. Where it is 64 KiB or more, Receiver.Room comes when it
// has fallen below that.
func (r *Route) Pending() int {
	if r.lane == nil {
		return 0
	}
	s := r.lane.s
	if n := int(s.pending.Load()); n < roomMark {
		return n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.pendingNow()
	if n >= roomMark && !r.waits && !r.closed.Load() && s.err == nil {
		r.waits = true
		s.waiting = append(s.waiting, r)
	}
	return n
}

// Connected says whether the lane has a connection. Where it has none, what is sent is kept for the next one, and lost if
// the other node's session ends before.
func (r *Route) Connected() bool { return r.lane != nil && r.lane.s.up.Load() }

// Close ends the route, behind what was sent on it. The Receiver is told nothing more, but for a call in progress.
func (r *Route) Close() {
	if r.closed.Swap(true) || r.lane == nil {
		return
	}
	r.lane.leave(r)
	r.lane.sayClosed(r.id, closedDone)
}

// room hands the room that there is in the lane to the routes that wait for it, as long as there is some.
func (s *stream) room() {
	for s.pending.Load() < roomMark {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			return
		}
		r := s.waiting[0]
		n := copy(s.waiting, s.waiting[1:])
		s.waiting[n] = nil
		s.waiting = s.waiting[:n]
		r.waits = false
		s.mu.Unlock()
		if to := s.lane.receiverOf(r); to != nil {
			to.Room()
		}
	}
}
