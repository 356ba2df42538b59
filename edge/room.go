package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// phase is where a room stands; see the package doc.
type phase uint8

const (
	phaseWaiting phase = iota
	phasePending
	phaseLive
	phaseClosing
)

// roomKey names a state.
type roomKey struct {
	app   wire.AppID
	state wire.StateID
}

// room is this node's view of one state that has business here.
type room struct {
	roomKey
	router *Router
	refs   int           // guarded by the shard that holds the room; 0 = out of the map
	wake   chan struct{} // pokes seek; holds one

	// tentative says that the state's row is not firm yet.
	tentative atomic.Bool
	// gone says that the room has been given up: whoever holds on to it must look again.
	gone atomic.Bool

	mu       sync.Mutex
	phase    phase
	seeking  bool
	epoch    wire.Epoch
	home     *home
	att      *attachment // nil unless live or pending
	line     tunnel.Line
	members  []*session
	users    map[string]*session // first of the chain of each user
	changed  chan struct{}       // closed at the next change of phase; nil when nobody waits
	refusal  *client.Refusal     // why the last seek gave up
	heldFrom time.Time           // when members began to wait
}

// changedLocked returns the channel that the next change of phase closes.
func (rm *room) changedLocked() <-chan struct{} {
	if rm.changed == nil {
		rm.changed = make(chan struct{})
	}
	return rm.changed
}

// tellLocked wakes everybody who waits for a change of phase.
func (rm *room) tellLocked() {
	if rm.changed != nil {
		close(rm.changed)
		rm.changed = nil
	}
}

// poke makes a running seek look again.
func (rm *room) poke() {
	select {
	case rm.wake <- struct{}{}:
	default:
	}
}

// goLiveLocked binds the room to the attachment and opens every member there. It reports whether the tunnel wants a
// flush. The caller holds rm.mu.
func (rm *room) goLiveLocked(h *home, a *attachment, epoch wire.Epoch) (flush bool) {
	if rm.phase == phaseLive && rm.att == a && rm.epoch == epoch {
		return false
	}
	rm.home, rm.att, rm.epoch = h, a, epoch
	rm.line = a.tun.Line(rm.state, epoch)
	rm.phase = phaseLive
	rm.refusal = nil
	if len(rm.members) > 0 && !rm.heldFrom.IsZero() {
		rm.router.stats.held.observe(time.Since(rm.heldFrom))
	}
	rm.heldFrom = time.Time{}
	if a.legacy {
		for _, s := range rm.users { // one SUBSCRIBE a user is enough when a state returns
			rm.openLocked(s)
			for o := s.next; o != nil; o = o.next {
				o.att, o.joined = a, true
			}
		}
	} else {
		for _, s := range rm.members {
			rm.openLocked(s)
		}
	}
	rm.tellLocked()
	return len(rm.members) > 0
}

// openLocked tells the instance of the session. The client is registered first, so that its acknowledgement precedes
// whatever the backend answers.
func (rm *room) openLocked(s *session) {
	s.att = rm.att
	s.t.Epoch, s.t.Gen = rm.epoch, rm.att.gen
	s.t.Next = s.sent + 1
	s.t.Resumed = s.t.Resumed || s.registered
	if !s.registered {
		s.registered = true
		s.out.Registered()
	}
	s.joined = rm.att.legacy // a legacy backend has no accept
	if !rm.att.legacy {
		s.t.Channel = rm.att.channels.add(s)
	}
	rm.line.Open(&s.t)
}

// addLocked seats the session.
func (rm *room) addLocked(s *session) {
	s.index = len(rm.members)
	rm.members = append(rm.members, s)
	if rm.users == nil {
		rm.users = make(map[string]*session, 1)
	}
	s.next = rm.users[s.t.User]
	rm.users[s.t.User] = s
}

// unseatLocked takes the session out of both indexes and reports whether it was its user's last.
func (rm *room) unseatLocked(s *session) (last bool) {
	end := len(rm.members) - 1
	rm.members[s.index] = rm.members[end]
	rm.members[s.index].index = s.index
	rm.members[end] = nil
	rm.members = rm.members[:end]
	s.index = -1
	head := rm.users[s.t.User]
	if head == s {
		if s.next == nil {
			delete(rm.users, s.t.User)
			return true
		}
		rm.users[s.t.User] = s.next
		s.next = nil
		return false
	}
	for p := head; p != nil; p = p.next {
		if p.next == s {
			p.next, s.next = s.next, nil
			break
		}
	}
	return false
}

// remove takes the session out of the room and tells the backend, or notes that it must be told when it is back. It
// reports false when the session had left before.
func (rm *room) remove(s *session, code wire.Code, tellBackend bool) bool {
	rm.mu.Lock()
	if s.index < 0 {
		rm.mu.Unlock()
		return false
	}
	last := rm.unseatLocked(s)
	var flush tunnel.Tunnel
	var absent *home
	a := s.att
	switch {
	case a != nil && a == rm.att:
		due := !a.legacy || last
		if due && tellBackend {
			rm.line.Close(&s.t, s.sent+1, code)
			flush = a.tun
			if a.legacy {
				a.recent.note(s.t)
			}
		}
		if !a.legacy {
			a.channels.drop(s.t.Channel)
		}
	case rm.home != nil && s.registered && tellBackend && (last || !rm.home.legacy):
		absent = rm.home
	}
	s.att = nil
	rm.tellLocked() // its reader may wait in Down for the hold to end
	rm.mu.Unlock()
	if flush != nil {
		flush.Flush()
	}
	if absent != nil {
		absent.noteDeparted(s.t)
	}
	return true
}

// detachLocked puts the room back to waiting because its tunnel has broken or its row is no longer its instance's.
func (rm *room) detachLocked(now time.Time) {
	rm.phase = phaseWaiting
	rm.att, rm.line = nil, nil
	rm.heldFrom = now
	for _, s := range rm.members {
		if s.att != nil && !s.att.legacy {
			if acked := s.acked.Load(); s.sent > acked {
				rm.router.stats.unacked.Add(s.sent - acked)
			}
		}
		s.att, s.joined = nil, false
	}
	rm.tellLocked()
}

// toUser delivers to every registered session of the user. It returns the list of sessions to flush and whether one was
// there.
func (rm *room) toUser(a *attachment, user, payload []byte, dirty []*session) ([]*session, bool) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.att != a {
		return dirty, false
	}
	s := rm.users[string(user)]
	if s == nil {
		return dirty, false
	}
	for ; s != nil; s = s.next {
		dirty = s.deliver(payload, false, dirty)
	}
	return dirty, true
}

// toAll delivers to every joined session but one.
func (rm *room) toAll(a *attachment, except uint32, payload []byte, unreliable bool, dirty []*session) ([]*session, int) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.att != a {
		return dirty, 0
	}
	n := 0
	for _, s := range rm.members {
		if s.joined && (except == 0 || s.t.Channel != except) {
			dirty = s.deliver(payload, unreliable, dirty)
			n++
		}
	}
	return dirty, n
}

// ofUser returns the user's sessions.
func (rm *room) ofUser(user []byte) []*session {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	var out []*session
	for s := rm.users[string(user)]; s != nil; s = s.next {
		out = append(out, s)
	}
	return out
}

// all returns the room's sessions as they are now.
func (rm *room) all() []*session {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return append([]*session(nil), rm.members...)
}
