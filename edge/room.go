package edge

import (
	"context"
	"slices"
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
	members  []*session          // of this node's clients
	guests   []*session          // of other nodes' clients; only where the tunnel is here
	parties  []*party            // whom the guests belong to
	users    map[string]*session // first of the chain of each user, guests included
	joiners  int                 // clients that wait to become members
	creator  *party              // pending: the node that asked for the state, where it is another one
	round    uint64              // counts toUser, so that it serves each party once
	changed  chan struct{}       // closed at the next change of phase; nil when nobody waits
	refusal  *client.Refusal     // why the last seek gave up
	heldFrom time.Time           // when members began to wait

	// notBefore is when to ask the owner again after it said that it is none; pause is how long that was put off.
	notBefore time.Time
	pause     time.Duration
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
	if a.away() {
		rm.evictLocked() // whoever came here for the state has one more hop to go, and makes it from where he is
	}
	if old := rm.att; old != nil && old != a && old.away() {
		rm.line.End()
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
				o.unopenLocked()
				o.att = a
				o.seatLocked()
				o.joinLocked(true)
			}
		}
	} else {
		for _, s := range rm.members {
			rm.openLocked(s)
		}
		for _, s := range rm.guests {
			rm.openLocked(s)
		}
	}
	rm.tellLocked()
	for _, p := range rm.parties {
		p.peer.flushSoon()
	}
	return len(rm.members)+len(rm.guests) > 0
}

// seatLocked lets the session's messages come: the instance, or the node that has its tunnel, has been told of it. A
// guest's are let go by its node when that hears of it; those that are on a route wait for the owner's word.
func (s *session) seatLocked() {
	s.seated.Store(!s.att.away())
	if s.party != nil {
		s.party.up.Ack(s.channel, 0) // of none of its messages: whether they are done is the instance's to say
	}
}

// openLocked tells the instance of the session. The client is registered first, so that its acknowledgement precedes
// whatever the backend answers.
func (rm *room) openLocked(s *session) {
	s.unopenLocked()
	s.att = rm.att
	s.seatLocked()
	s.t.Epoch, s.t.Gen = rm.epoch, rm.att.gen
	s.t.Next = s.sent + 1
	s.t.Resumed = s.t.Resumed || s.registered
	if !s.registered {
		s.registered = true
		s.out.Registered()
	}
	s.joinLocked(rm.att.legacy) // a legacy backend has no accept
	if !rm.att.legacy {
		s.t.Channel = rm.att.channels.add(s)
	}
	rm.line.Open(&s.t)
}

// unopenLocked forgets the session's channel.
func (s *session) unopenLocked() {
	if s.att != nil && !s.att.legacy {
		s.att.channels.drop(s.t.Channel)
	}
	s.att = nil
	s.joinLocked(false)
}

// listOf is where the session has its seat.
func (rm *room) listOf(s *session) *[]*session {
	if s.party != nil {
		return &rm.guests
	}
	return &rm.members
}

// addLocked seats the session.
func (rm *room) addLocked(s *session) {
	list := rm.listOf(s)
	s.index = len(*list)
	*list = append(*list, s)
	if p := s.party; p != nil {
		if p.seated == 0 {
			rm.parties = append(rm.parties, p)
		}
		p.seated++
	}
	if rm.users == nil {
		rm.users = make(map[string]*session, 1)
	}
	s.next = rm.users[s.t.User]
	rm.users[s.t.User] = s
}

// joinLocked notes whether broadcasts reach the session.
func (s *session) joinLocked(joined bool) {
	if p := s.party; p != nil && s.joined != joined {
		if joined {
			p.joined++
		} else {
			p.joined--
		}
	}
	s.joined = joined
}

// unseatLocked takes the session out of all indexes and reports whether it was its user's last.
func (rm *room) unseatLocked(s *session) (last bool) {
	list := rm.listOf(s)
	end := len(*list) - 1
	(*list)[s.index] = (*list)[end]
	(*list)[s.index].index = s.index
	(*list)[end] = nil
	*list = (*list)[:end]
	s.index = -1
	s.joinLocked(false)
	if p := s.party; p != nil {
		if p.seated--; p.seated == 0 {
			rm.parties = slices.DeleteFunc(rm.parties, func(o *party) bool { return o == p })
		}
	}
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
	var flush tunnel.End
	var absent, unsure *home
	a := s.att
	switch {
	case a != nil && a == rm.att:
		due := !a.legacy || last
		switch {
		case due && tellBackend && a.legacy && a.syncing.Load():
			absent = a.home // the user may have a session at a node that has not said so yet
		case due && tellBackend:
			rm.line.Close(&s.t, s.sent+1, code)
			flush = a.tun
			switch {
			case a.legacy:
				a.recent.note(s.t)
			case a.home.legacy:
				unsure = a.home // the owner may never read it
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
	if unsure != nil {
		unsure.noteTold(s.t)
	}
	return true
}

// detachLocked puts the room back to waiting because its tunnel has broken or its row is no longer its instance's.
func (rm *room) detachLocked(now time.Time) {
	if rm.att != nil && rm.att.away() {
		rm.line.End()
	}
	rm.phase = phaseWaiting
	rm.att, rm.line = nil, nil
	rm.heldFrom = now
	for _, s := range rm.members {
		if s.att != nil && !s.att.legacy {
			if acked := s.acked.Load(); s.sent > acked {
				rm.router.stats.unacked.Add(s.sent - acked)
			}
		}
		s.unopenLocked()
	}
	for _, s := range rm.guests { // what they have not had acknowledged counts where their clients are
		s.unopenLocked()
		s.party.up.Expected(s.channel, s.sent+1) // it waits there
	}
	for _, p := range rm.parties {
		p.peer.flushSoon()
	}
	rm.tellLocked()
}

// evictLocked sends all guests away: the state is not, or no longer, to be had here. Their nodes look for it again.
func (rm *room) evictLocked() {
	if len(rm.guests) == 0 {
		return
	}
	parties, n := slices.Clone(rm.parties), len(rm.guests)
	for len(rm.guests) > 0 {
		s := rm.guests[len(rm.guests)-1]
		rm.unseatLocked(s)
		s.unopenLocked()
	}
	rm.tellLocked()
	for _, p := range parties {
		p.end()
		p.peer.far.NotOwner(p.state, p.epoch)
	}
	r := rm.router
	r.stats.notOwnerSaid.Add(uint64(len(parties)))
	r.stats.guests.Add(-int64(n))
	r.spawn(func(context.Context) {
		for _, p := range parties {
			p.peer.forget(p)
			p.peer.far.Flush()
		}
		for range n {
			r.release(rm)
		}
	})
}

// toUser delivers to every registered session of the user, and once to each other node that has some. It returns the list
// of sessions to flush and whether one was there.
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
	rm.round++
	for ; s != nil; s = s.next {
		p := s.party
		switch {
		case p == nil:
			dirty = s.deliver(payload, false, dirty)
		case p.round != rm.round:
			p.round = rm.round
			p.up.ToUserBytes(user, payload)
			dirty = p.touch(dirty)
		}
	}
	return dirty, true
}

// toAll delivers to every joined session but one, and once to each other node that has some.
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
	if len(rm.parties) == 0 {
		return dirty, n
	}
	excepted, theirs := a.guestOn(except)
	for _, p := range rm.parties {
		if p.joined == 0 {
			continue
		}
		not := uint32(0)
		if p == excepted {
			not = theirs
		}
		p.up.ToAll(not, payload, unreliable)
		dirty = p.touch(dirty)
		n += p.joined
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

// all returns the sessions of this node's clients as they are now.
func (rm *room) all() []*session {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return slices.Clone(rm.members)
}

// everyone returns all sessions as they are now.
func (rm *room) everyone() []*session {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return append(slices.Clone(rm.members), rm.guests...)
}

// emptyLocked says that nobody is in the room.
func (rm *room) emptyLocked() bool { return len(rm.members)+len(rm.guests) == 0 }
