package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// maxDeparted bounds the users that an absent instance is told about when it is back.
const maxDeparted = 100_000

// home is this node's view of one instance: it outlives the instance's tunnels by a grace.
type home struct {
	router *Router
	id     wire.InstanceID
	app    wire.AppID
	store  string
	legacy bool

	// live is the attachment that works now. It is cleared before the rooms are detached and set before they are
	// bound, so that a room which reads it under its own lock can never keep one that is gone.
	live atomic.Pointer[attachment]

	// turn is held while an attachment comes or goes, rooms and all.
	turn sync.Mutex

	mu       sync.Mutex
	gen      wire.Gen
	gone     bool
	rooms    map[wire.StateID]*room
	told     []departure                 // left, and the owner of a legacy instance was told so not long ago
	departed []tunnel.Session            // left while the tunnel was broken, or before all nodes had said whom they have
	refused  refusedRoute                // where not to open a route again at once
	leaving  map[wire.StateID]wire.Epoch // states without a room here that the owner has not been told of
	idle     time.Time                   // since when an instance on another node has had no room here
}

func newHome(r *Router, id wire.InstanceID, app wire.AppID, store string, legacy bool, gen wire.Gen) *home {
	return &home{router: r, id: id, app: app, store: store, legacy: legacy, gen: gen, rooms: make(map[wire.StateID]*room)}
}

// bind makes rm one of this instance's rooms and lets it live if a tunnel is there. It reports whether the room lives now.
func (h *home) bind(rm *room, epoch wire.Epoch) bool {
	h.mu.Lock()
	if h.gone {
		h.mu.Unlock()
		rm.poke() // whoever drives it took the home for one that is in use
		return false
	}
	h.rooms[rm.state] = rm
	h.mu.Unlock()

	rm.mu.Lock()
	if rm.phase == phasePending || rm.phase == phaseClosing {
		rm.mu.Unlock()
		return false
	}
	a := h.live.Load()
	if rm.phase == phaseLive && a == nil && (rm.home != h || rm.epoch != epoch) {
		rm.lostLocked(time.Now()) // it lived elsewhere
	}
	rm.home, rm.epoch = h, epoch
	flush, lives := false, false
	if a != nil {
		flush, lives = rm.goLiveLocked(h, a, epoch), true
	}
	rm.mu.Unlock()
	if flush {
		a.tun.Flush()
	}
	if lives && h.router.movedOn(h, rm, epoch) { // and the watch may have looked at the room before it lived
		h.router.rowChanged(rm.roomKey)
	}
	return lives
}

// movedOn says whether the own table knows better than that a state is an instance's in an epoch.
func (r *Router) movedOn(h *home, rm *room, epoch wire.Epoch) bool {
	known := epoch.Index() <= r.table.Index() // before the row is looked at
	row, ok := r.table.Lookup(rm.app, rm.state)
	return known && (!ok || row.Free || row.Instance != h.id || row.Epoch != epoch)
}

// unbind forgets rm if it is still the room of its state. A node that has nobody left in a state says so to the owner, so
// that neither keeps account of it any more; a is the room's way there, or nil.
func (h *home) unbind(rm *room, a *attachment, epoch wire.Epoch) {
	h.mu.Lock()
	was := h.rooms[rm.state] == rm
	if was {
		delete(h.rooms, rm.state)
		if a != nil && a.away() { // under the lock: the next room of the state gets a line of its own
			h.leaveLocked(a, rm.state, epoch)
		}
	}
	h.mu.Unlock()
	if was && a != nil && a.away() {
		a.tun.Flush()
	}
}

// leaveLocked tells the owner that nobody is left here in a state, now or when all that was said has been sent.
func (h *home) leaveLocked(a *attachment, state wire.StateID, epoch wire.Epoch) {
	if a.route.near.Leave(state, epoch) {
		delete(h.leaving, state)
		return
	}
	if h.leaving == nil {
		h.leaving = make(map[wire.StateID]wire.Epoch)
	}
	h.leaving[state] = epoch
}

// leaveIdle goes on with the states that are to be left.
func (h *home) leaveIdle(a *attachment) {
	h.mu.Lock()
	for state, epoch := range h.leaving {
		if h.rooms[state] != nil {
			delete(h.leaving, state) // somebody came back
		} else {
			h.leaveLocked(a, state, epoch)
		}
	}
	h.mu.Unlock()
	a.tun.Flush()
}

// room returns the room of the state on this instance, or nil.
func (h *home) room(state wire.StateID) *room {
	h.mu.Lock()
	rm := h.rooms[state]
	h.mu.Unlock()
	return rm
}

// snapshot returns the rooms as they are now.
func (h *home) snapshot() []*room {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*room, 0, len(h.rooms))
	for _, rm := range h.rooms {
		out = append(out, rm)
	}
	return out
}

// attach makes a, which is here, the instance's tunnel: a route to where it was before is given up, users who left
// meanwhile are taken off, then every waiting room lives again. It reports false, and does nothing, where a newer
// attachment has been registered.
func (h *home) attach(a *attachment) bool {
	h.turn.Lock()
	newest := a.gen >= h.genNow()
	if newest {
		if old := h.live.Load(); old != nil && old.away() {
			h.router.leaveRouteInTurn(old)
		}
		h.attachInTurn(a)
	}
	h.turn.Unlock()
	a.tun.Flush()
	return newest
}

// expect notes a registration: older attachments come too late.
func (h *home) expect(gen wire.Gen) {
	h.mu.Lock()
	h.gen = max(h.gen, gen)
	h.mu.Unlock()
}

func (h *home) attachInTurn(a *attachment) {
	for told := false; ; {
		h.mu.Lock()
		h.gen = max(h.gen, a.gen)
		if len(h.departed) == 0 && (told || len(h.told) == 0) || a.syncing.Load() {
			h.live.Store(a)
			h.mu.Unlock()
			break
		}
		departed := h.takeDepartedLocked(a)
		told = true
		h.mu.Unlock()
		h.takeAllOff(a, departed)
	}
	for _, rm := range h.snapshot() {
		rm.mu.Lock()
		if rm.home == h && rm.phase == phaseWaiting {
			rm.goLiveLocked(h, a, rm.epoch)
		}
		rm.mu.Unlock()
		rm.poke()
	}
}

// settle ends the time in which nobody is taken off: all nodes have said whom they have.
func (h *home) settle(a *attachment) {
	h.mu.Lock()
	a.syncing.Store(false)
	var departed []tunnel.Session
	if h.live.Load() == a {
		departed = h.takeDepartedLocked(a)
	}
	h.mu.Unlock()
	h.takeAllOff(a, departed)
	a.tun.Flush()
}

func (h *home) takeAllOff(a *attachment, departed []tunnel.Session) {
	if h.legacy && a.away() {
		ghosts := make([]ghost, 0, len(departed))
		for i := range departed {
			ghosts = append(ghosts, ghost{departed[i].State, departed[i].User})
		}
		h.router.sendGhosts(a.owner, h.id, ghosts)
		return
	}
	for i := range departed {
		h.takeOff(a, &departed[i])
	}
}

// detach takes the rooms off a tunnel that has ended. It reports whether a was the live one.
func (h *home) detach(a *attachment) bool {
	h.turn.Lock()
	defer h.turn.Unlock()
	return h.detachInTurn(a)
}

func (h *home) detachInTurn(a *attachment) bool {
	if !h.live.CompareAndSwap(a, nil) {
		return false
	}
	now := time.Now()
	h.mu.Lock()
	h.departed = append(h.departed, a.recent.since(now.Add(-recentTime))...)
	h.leaving = nil
	h.mu.Unlock()
	for _, rm := range h.snapshot() {
		rm.mu.Lock()
		if rm.att == a {
			rm.lostLocked(now)
		}
		rm.mu.Unlock()
	}
	return true
}

// lostLocked is what the end of its tunnel means to a room.
func (rm *room) lostLocked(now time.Time) {
	if rm.phase != phaseLive { // pending or closing: whoever drives it looks at the attachment
		rm.att, rm.line = nil, nil
		rm.tellLocked()
		return
	}
	rm.detachLocked(now)
	if len(rm.members) > 0 { // guests drive nothing: their node does
		rm.seekLocked()
	}
}

// noteDeparted remembers a session that left while the tunnel was broken, or takes it off at once if a newer tunnel came.
func (h *home) noteDeparted(t tunnel.Session) {
	h.mu.Lock()
	if a := h.live.Load(); a != nil && !a.syncing.Load() {
		h.mu.Unlock()
		h.takeOff(a, &t)
		a.tun.Flush()
		return
	}
	if len(h.departed) < maxDeparted {
		h.departed = append(h.departed, t)
	}
	h.mu.Unlock()
}

// noteTold remembers a session whose end the owner of a legacy instance has been told of, since that word may be lost.
func (h *home) noteTold(t tunnel.Session) {
	h.mu.Lock()
	if len(h.told) < maxDeparted {
		h.told = append(h.told, departure{t, time.Now()})
	}
	h.mu.Unlock()
}

// forgetTold forgets what was told so long ago that it has arrived, over a lane that is connected.
func (h *home) forgetTold(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.told) && now.Sub(h.told[n].at) > recentTime {
		n++
	}
	if h.told = h.told[n:]; len(h.told) == 0 {
		h.told = nil
	}
}

// takeDepartedLocked returns all whom the instance may have to be told of; they are told now.
func (h *home) takeDepartedLocked(a *attachment) []tunnel.Session {
	all := h.departed
	for i := range h.told {
		all = append(all, h.told[i].t)
	}
	h.departed, h.told = nil, nil
	if h.legacy && a.away() {
		now := time.Now()
		for i := range all[:min(len(all), maxDeparted)] {
			h.told = append(h.told, departure{all[i], now})
		}
	}
	return all
}

// takeOff tells the instance that a session it had is gone. A legacy instance knows users only, so nothing is said while
// the user has another session here, and another node that holds its tunnel decides for itself; a native one gets an OPEN
// first, since the channel was the former tunnel's.
func (h *home) takeOff(a *attachment, t *tunnel.Session) {
	if rm := h.room(t.State); h.legacy && rm != nil && len(rm.ofUser([]byte(t.User))) > 0 {
		return
	}
	if h.legacy && a.away() {
		h.noteTold(*t)
		h.router.sendGhosts(a.owner, h.id, []ghost{{t.State, t.User}})
		return
	}
	line := a.tun.Line(t.State, t.Epoch)
	if !a.legacy {
		t.Gen, t.Resumed = a.gen, true
		t.Channel = a.channels.add(nil)
		line.Open(t)
		a.channels.drop(t.Channel)
	}
	line.Close(t, t.Next, wire.CodeGoingAway)
}

// finish ends the home: its instance is gone. It returns the rooms that must look for another one and every user that the
// instance had, for the day it comes back.
func (h *home) finish() (rooms []*room, users []ghost) {
	h.mu.Lock()
	h.gone = true
	for _, rm := range h.rooms {
		rooms = append(rooms, rm)
	}
	departed, told := h.departed, h.told
	h.rooms, h.departed, h.told = make(map[wire.StateID]*room), nil, nil
	h.mu.Unlock()
	for i := range departed {
		users = append(users, ghost{departed[i].State, departed[i].User})
	}
	for i := range told {
		users = append(users, ghost{told[i].t.State, told[i].t.User})
	}
	now := time.Now()
	for _, rm := range rooms {
		rm.mu.Lock()
		for user := range rm.users {
			users = append(users, ghost{rm.state, user})
		}
		if rm.home == h {
			rm.evictLocked()
			if rm.phase == phaseLive {
				rm.lostLocked(now)
			}
			rm.home = nil
		}
		rm.mu.Unlock()
	}
	return rooms, users
}

// haunting are the ghosts of an instance that is gone. node was told of them for the sake of its later life told.
type haunting struct {
	users []ghost
	told  wire.InstanceID
	node  wire.NodeSession
}

// ghost is a user whom an instance that is gone may still believe to have.
type ghost struct {
	state wire.StateID
	user  string
}

// recent remembers who left a legacy tunnel a moment ago: what was written to a tunnel that turns out to be dead may not
// have arrived, and a legacy backend would keep the user for ever. To be told twice is harmless.
type recent struct {
	mu   sync.Mutex
	list [recentMost]departure // a ring
	next int
}

type departure struct {
	t  tunnel.Session
	at time.Time
}

const (
	recentTime = 10 * time.Second
	recentMost = 64
)

func (r *recent) note(t tunnel.Session) {
	r.mu.Lock()
	r.list[r.next%recentMost] = departure{t, time.Now()}
	r.next++
	r.mu.Unlock()
}

func (r *recent) since(t time.Time) (out []tunnel.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := max(0, r.next-recentMost); i < r.next; i++ {
		if d := r.list[i%recentMost]; d.at.After(t) {
			out = append(out, d.t)
		}
	}
	return out
}
