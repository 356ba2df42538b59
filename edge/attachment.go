package edge

import (
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// attachment is one tunnel of an instance, or the route to the node that holds it, and its Sink: the Sink methods are
// called by its reader only. A route speaks native, whatever the instance does.
type attachment struct {
	router   *Router
	home     *home
	tun      tunnel.End
	local    tunnel.Tunnel    // tun, where the tunnel is on this node
	route    *outbound        // where it is not
	owner    wire.NodeSession // the node that holds the tunnel; 0: this one
	gen      wire.Gen
	legacy   bool
	unnamed  bool // the instance gave no storeId, so it cannot come back
	remote   string
	channels channels
	recent   recent        // of a legacy instance: who left a moment ago
	ended    chan struct{} // closed when the tunnel's reader has returned and the rooms are detached
	syncing  atomic.Bool   // legacy: other nodes have yet to say whom they have; set before it is live, cleared under home.mu
	stalled  atomic.Bool   // a route whose lane has had no connection for a while
	held     atomic.Bool   // somebody waits for its lane to have one

	// The reader's own.

	last    *room      // the room of the last frame: most frames name the same one again
	dirty   []*session // sessions to flush when the input is drained
	leaving bool       // the instance said goodbye
}

// roomOf returns the room of a state that the instance names, or nil, counted, when the frame is for nobody.
func (a *attachment) roomOf(state wire.StateID, epoch wire.Epoch) *room {
	rm := a.last
	if rm == nil || rm.state != state || rm.gone.Load() {
		rm = a.home.room(state)
		if rm == nil {
			a.strayFrame(state, epoch)
			return nil
		}
		a.last = rm
	}
	return rm
}

// away says that the tunnel is on another node: there, and only there, rows are proposed for what the instance says.
func (a *attachment) away() bool { return a.owner != 0 }

// guestOn returns whose session has the channel, if it is one of another node, and its channel there.
func (a *attachment) guestOn(channel uint32) (*party, uint32) {
	if channel == 0 {
		return nil, 0
	}
	if s := a.channels.get(channel); s != nil && s.party != nil {
		return s.party, s.channel
	}
	return nil, 0
}

// vouch makes the row of a state firm at the first frame that its instance sends for it.
func (a *attachment) vouch(rm *room) {
	if !a.away() && rm.tentative.Load() && rm.tentative.CompareAndSwap(true, false) {
		rm.router.makeFirm(rm.roomKey, rm.epochNow())
	}
}

// strayFrame deals with a frame for a state that has no session here: legal when the instance owns the state (it cannot
// know that everybody left), dropped and answered otherwise.
func (a *attachment) strayFrame(state wire.StateID, epoch wire.Epoch) {
	r := a.router
	if a.away() {
		r.stats.dropNoSession.Add(1)
		return
	}
	key := roomKey{a.home.app, state}
	row, ok := r.table.Lookup(key.app, state)
	if !ok || row.Instance != a.home.id || (!a.legacy && epoch != row.Epoch) {
		r.stats.dropNotOwner.Add(1)
		if !a.legacy {
			a.disown(state, epoch)
		}
		return
	}
	r.stats.dropNoSession.Add(1)
	if row.Tentative {
		r.makeFirm(key, row.Epoch)
	}
}

// current reports whether a native frame's epoch is that of the room, by the room's own knowledge.
func (a *attachment) current(rm *room, epoch wire.Epoch) bool {
	if a.legacy || rm.epochNow() == epoch {
		return true
	}
	a.router.stats.dropStaleEpoch.Add(1)
	return false
}

func (a *attachment) ToSession(channel uint32, _ uint64, payload []byte, unreliable bool) {
	s := a.channels.get(channel)
	if s == nil {
		a.router.stats.dropNoSession.Add(1)
		return
	}
	a.vouch(s.room)
	a.dirty = s.deliver(payload, unreliable, a.dirty)
	a.router.stats.framesUp.Add(1)
}

func (a *attachment) ToUser(state wire.StateID, epoch wire.Epoch, user, payload []byte) {
	rm := a.roomOf(state, epoch)
	if rm == nil || !a.current(rm, epoch) {
		return
	}
	a.vouch(rm)
	var found bool
	if a.dirty, found = rm.toUser(a, user, payload, a.dirty); !found {
		a.last = nil
		a.router.stats.dropNoSession.Add(1)
		return
	}
	a.router.stats.framesUp.Add(1)
}

func (a *attachment) ToAll(state wire.StateID, epoch wire.Epoch, except uint32, payload []byte, unreliable bool) {
	rm := a.roomOf(state, epoch)
	if rm == nil || !a.current(rm, epoch) {
		return
	}
	a.vouch(rm)
	var n int
	if a.dirty, n = rm.toAll(a, except, payload, unreliable, a.dirty); n == 0 {
		a.last = nil
	}
	a.router.stats.broadcasts.Add(1)
	a.router.stats.framesUp.Add(uint64(n))
}

// CloseUser is how a legacy backend kicks a player, and how it says that it does not have the state.
func (a *attachment) CloseUser(state wire.StateID, user []byte) {
	rm := a.home.room(state)
	if rm == nil {
		a.router.stats.dropNoSession.Add(1)
		return
	}
	a.router.stats.kicks.Add(1)
	tentative, epoch := rm.tentative.Load(), rm.epochNow()
	for _, s := range rm.ofUser(user) {
		s.close(wire.CodeStateNotFound, wire.CodeStateNotFound.Reason(), !tentative)
	}
	if tentative {
		a.router.turnAway(rm.roomKey, epoch)
	}
}

func (a *attachment) CloseSession(channel uint32, code wire.Code, reason []byte) {
	s := a.channels.get(channel)
	if s == nil {
		return
	}
	a.router.stats.kicks.Add(1)
	text := string(reason)
	if text == "" {
		text = code.Reason()
	}
	if a.away() && code == wire.CodeStateNotFound && s.room.tentative.Load() {
		a.router.denied.put(s.room.roomKey, struct{}{}, time.Now().Add(a.router.cfg.DeniedTTL))
	}
	s.close(code, text, true)
}

func (a *attachment) StateAccepted(state wire.StateID, epoch wire.Epoch) {
	if a.router.creates.settle(createKey{a.home.id, state, epoch}, true) || a.away() {
		return
	}
	if row, ok := a.router.table.Lookup(a.home.app, state); !ok || row.Instance != a.home.id || row.Epoch != epoch {
		a.disown(state, epoch) // too late: the create was repeated elsewhere
	}
}

// disown tells a native instance that a state is not, or no longer, its own.
func (a *attachment) disown(state wire.StateID, epoch wire.Epoch) {
	line := a.tun.Line(state, epoch)
	line.NotOwner()
	a.tun.Flush()
	line.End()
}

// StateRefused answers NEW_STATE, or an OPEN of a state that the instance cannot load.
func (a *attachment) StateRefused(state wire.StateID, epoch wire.Epoch, code wire.Code, reason []byte) {
	if a.router.creates.settle(createKey{a.home.id, state, epoch}, false) || a.away() {
		return
	}
	rm := a.home.room(state)
	if rm == nil || !a.current(rm, epoch) {
		return
	}
	text := string(reason)
	if text == "" {
		text = code.Reason()
	}
	for _, s := range rm.everyone() {
		s.close(code, text, false)
	}
	a.tun.Line(state, epoch).End() // what was said on it was for nobody
	if rm.tentative.Load() {
		a.router.turnAway(rm.roomKey, epoch)
	}
}

// StateReleased: the instance has let go of the state; its row goes.
func (a *attachment) StateReleased(state wire.StateID, epoch wire.Epoch) {
	if !a.away() {
		a.router.releaseState(a, state, epoch)
	}
}

// NotOwner: the node that was asked for a state does not have it. Its table may be behind or ahead of this one's, so the
// room looks again, after a pause that grows.
func (a *attachment) NotOwner(state wire.StateID, epoch wire.Epoch) {
	a.router.creates.settle(createKey{a.home.id, state, epoch}, false)
	rm := a.home.room(state)
	if rm == nil {
		return
	}
	a.router.stats.notOwnerHeard.Add(1)
	now := time.Now()
	rm.mu.Lock()
	if rm.att == a && rm.epoch == epoch && rm.phase == phaseLive {
		rm.shunLocked(now)
		rm.detachLocked(now)
		if len(rm.members) > 0 {
			rm.seekLocked()
		}
	}
	rm.mu.Unlock()
}

func (a *attachment) SessionAccepted(channel uint32) {
	s := a.channels.get(channel)
	if s == nil {
		return
	}
	a.vouch(s.room)
	s.room.mu.Lock()
	if s.att == a && !s.joined {
		s.joinLocked(true)
		if p := s.party; p != nil {
			p.up.Join(s.channel)
			a.dirty = p.touch(a.dirty)
		}
	}
	s.room.mu.Unlock()
}

func (a *attachment) Acked(channel uint32, seq uint64) {
	s := a.channels.get(channel)
	if s == nil {
		return
	}
	if a.away() {
		s.noteSeated(a)
	}
	if seq > s.acked.Load() {
		s.acked.Store(seq)
		s.out.Acked(seq)
		if !s.upDirty.Swap(true) {
			a.dirty = append(a.dirty, s)
		}
	}
}

// noteSeated lets the client's messages go: the owner has answered the session's OPEN.
func (s *session) noteSeated(a *attachment) {
	if s.seated.Load() {
		return
	}
	s.room.mu.Lock()
	if s.att == a {
		s.seated.Store(true)
		s.room.tellLocked()
	}
	s.room.mu.Unlock()
}

// Expected says that the instance has a hole. A tunnel loses nothing, so only frames that an earlier attachment swallowed
// can be missing; they are counted, not repeated. An owner on another node says so when it has lost the instance's tunnel:
// what follows waits here until it acknowledges again, or the state is elsewhere.
func (a *attachment) Expected(channel uint32, _ uint64) {
	if !a.away() {
		a.router.stats.holes.Add(1)
		return
	}
	s := a.channels.get(channel)
	if s == nil {
		return
	}
	s.room.mu.Lock()
	if s.att == a {
		s.seated.Store(false)
	}
	s.room.mu.Unlock()
}

func (a *attachment) Load(load tunnel.Load) {
	a.router.placer.Report(a.home.id, load.Permille, load.Sessions)
}

func (a *attachment) Leaving() { a.leaving = true }

// Drained flushes every session that this read has touched.
func (a *attachment) Drained() {
	for i, s := range a.dirty {
		s.upDirty.Store(false)
		s.out.Flush()
		a.dirty[i] = nil
	}
	a.dirty = a.dirty[:0]
}

// epochNow returns the room's epoch.
func (rm *room) epochNow() wire.Epoch {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return rm.epoch
}
