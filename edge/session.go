package edge

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// errLeft ends a client's reader whose session the router has closed.
var errLeft = errors.New("session has ended")

// session is one client's seat in a room. It implements client.Seat. The client may be another node's: then the session is a
// guest of the room, party is set, and nobody calls the methods of Seat.
type session struct {
	router *Router
	room   *room
	out    client.Out
	addr   netip.Addr
	native bool // the client hears of acknowledgements

	party   *party // of a guest
	channel uint32 // of a guest, on the route from its node

	// upDirty is set while the session stands on the list of those that the tunnel's reader will flush.
	upDirty atomic.Bool
	// seated says, on a route, that the instance has the session, so that what the client sends is not sent in vain. It is
	// written under room.mu.
	seated atomic.Bool
	// acked is the highest number that a native instance acknowledged.
	acked atomic.Uint64

	// The fields below are guarded by room.mu.

	t          tunnel.Session
	att        *attachment // where the session's OPEN went; nil while the room waits
	sent       uint64      // the number of the last frame that went down
	index      int         // in room.members or room.guests; -1 when not there
	next       *session    // the next session of the same user in this room
	registered bool        // the client has been told once
	joined     bool        // the backend has accepted it: broadcasts reach it

	// waits is how much of a guest stands in its party's queue, held that its client waits for it; guarded by party.mu.
	waits int
	held  bool

	// dirtied is the tunnel that frames went to since the last Drained. Only the client's reader touches it.
	dirtied tunnel.End
	// written is the last number that a legacy tunnel took since the last Drained, 0 when the instance acknowledges
	// itself. Only the client's reader touches it.
	written uint64
}

// Down passes one message of the client to the state's instance. It blocks while the state waits for one, and while the
// instance takes no more: that is the back-pressure.
func (s *session) Down(payload []byte, unreliable bool) error {
	rm := s.room
	rm.mu.Lock()
	for {
		if s.index < 0 {
			rm.mu.Unlock()
			return errLeft
		}
		var wait <-chan struct{}
		if rm.phase == phaseLive && s.att == rm.att && s.seated.Load() && rm.att.connected() {
			wait = rm.line.Admit(len(payload))
			if wait == nil {
				s.sent++
				rm.line.Data(&s.t, s.sent, payload, unreliable)
				s.dirtied = rm.att.tun
				if s.native && rm.att.legacy {
					s.written = s.sent
				}
				rm.mu.Unlock()
				s.router.stats.framesDown.Add(1)
				return nil
			}
			s.router.stats.downBlocked.Add(1)
		} else {
			wait = rm.changedLocked()
			s.router.stats.downHeld.Add(1)
		}
		rm.mu.Unlock()
		s.Drained()
		<-wait
		rm.mu.Lock()
	}
}

// Drained flushes the tunnel that this client's reader has written to.
func (s *session) Drained() {
	if t := s.dirtied; t != nil {
		s.dirtied = nil
		t.Flush()
		if s.written != 0 {
			s.out.Acked(s.written) // a legacy backend cannot: this node does, when it has taken the frames to write them
			s.out.Flush()
			s.written = 0
		}
	}
}

// Leave ends the session: its connection is gone.
func (s *session) Leave() {
	s.Drained()
	s.room.remove(s, wire.CodeNormal, true)
	s.router.stats.sessions.Add(-1)
	s.router.release(s.room)
}

// close ends the session from this side: it leaves the room at once and its client is told why. tellBackend is false
// where the backend itself turned the session away and must not hear of it again.
func (s *session) close(code wire.Code, reason string, tellBackend bool) {
	if s.room.remove(s, code, tellBackend) {
		s.out.Close(code, reason)
	}
}

// deliver appends one message for the client and notes it on dirty, the list that the caller flushes when its own input
// is drained.
func (s *session) deliver(payload []byte, unreliable bool, dirty []*session) []*session {
	s.out.Deliver(payload, unreliable)
	if !s.upDirty.Swap(true) {
		dirty = append(dirty, s)
	}
	return dirty
}
