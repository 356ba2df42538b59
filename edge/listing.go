package edge

import (
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/wire"
)

// Lobbies returns up to limit public lobbies of the app whose states live, newest first; region "" means all.
func (r *Router) Lobbies(app wire.AppID, region string, limit int) []api.Lobby {
	return r.lobbies.newest(app, region, limit)
}

// Status reports whether clients may connect to the state: not while its create is in progress.
func (r *Router) Status(app wire.AppID, state wire.StateID) (active bool) {
	row, ok := r.table.Lookup(app, state)
	return !ok || !row.Pending
}

// Attachment is what this node knows of an instance beyond the table.
type Attachment struct {
	Connected bool
	Remote    string // address of the tunnel's other end
	RTT       time.Duration
	Queued    int // bytes that the instance has not taken
	Sessions  int // sessions of this node's clients in its states
	Guests    int // sessions of other nodes' clients, where the tunnel is here
}

// Attachment tells about an instance's tunnel on this node.
func (r *Router) Attachment(id wire.InstanceID) Attachment {
	h := r.home(id)
	if h == nil {
		return Attachment{}
	}
	var out Attachment
	for _, rm := range h.snapshot() {
		rm.mu.Lock()
		out.Sessions += len(rm.members)
		out.Guests += len(rm.guests)
		rm.mu.Unlock()
	}
	if a := h.live.Load(); a != nil && !a.away() {
		out.Connected, out.Remote, out.RTT, out.Queued = true, a.remote, a.local.RTT(), a.tun.Queued()
	}
	return out
}

// SessionsIn returns how many sessions of this node's clients are in the state.
func (r *Router) SessionsIn(app wire.AppID, state wire.StateID) int {
	rm := r.rooms.find(roomKey{app, state})
	if rm == nil {
		return 0
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	return len(rm.members)
}

// Tunnels returns how many tunnels this node has.
func (r *Router) Tunnels() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.tunnels)
}

// Sessions returns how many sessions this node has.
func (r *Router) Sessions() int { return int(r.stats.sessions.Load()) }
