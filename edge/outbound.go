package edge

import (
	"context"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// This file is the side of the node that has clients of a state whose instance has its tunnel elsewhere.

const (
	// routePause is how long a route that has ended is not opened again, ownerPause and ownerPauseMost how long a node that
	// said it is not the owner is not asked again.
	routePause     = 200 * time.Millisecond
	ownerPause     = 20 * time.Millisecond
	ownerPauseMost = time.Second
	// idleHome is how long an instance on another node is remembered without a room here.
	idleHome = 30 * time.Second
)

// outbound is the route of an attachment, and its Receiver.
type outbound struct {
	a *attachment

	ready chan struct{} // closed when the fields below are set
	rt    *link.Route
	near  *tunnel.Near
}

// Take hands up what the owner sends.
func (o *outbound) Take(batch []byte) error {
	o.a.router.stats.linkDown.Add(1)
	return o.near.Take(batch, o.a)
}

// Drained flushes the sessions that got something, and what is owed to the owner.
func (o *outbound) Drained() {
	o.a.Drained()
	o.near.Flush()
}

// Room goes on sending.
func (o *outbound) Room() {
	select {
	case <-o.ready:
		o.near.Flush()
	default: // nothing was sent yet
	}
}

// Resumed lets those go on who wait for a connection.
func (o *outbound) Resumed() { o.a.resume() }

// connected says whether what is sent leaves this node at once. While the owner cannot be reached messages are better held,
// since they are lost if it is dead. Who is told that it is not is woken by a change of its room.
func (a *attachment) connected() bool {
	if a.route == nil || a.route.rt.Connected() {
		return true
	}
	a.held.Store(true)
	return a.route.rt.Connected() // it may be since, and resume may have been called before
}

// resume wakes those who were told that the route is not connected.
func (a *attachment) resume() {
	if !a.held.Swap(false) {
		return
	}
	for _, rm := range a.home.snapshot() {
		rm.mu.Lock()
		if rm.att == a {
			rm.tellLocked()
		}
		rm.mu.Unlock()
	}
}

// Ended puts the rooms back to waiting, and looks again a little later.
func (o *outbound) Ended(err error) {
	o.a.router.spawn(func(ctx context.Context) {
		select {
		case <-o.ready:
		case <-ctx.Done():
			return
		}
		o.a.router.routeEnded(ctx, o.a, err)
	})
}

// connects says whether there are other nodes to go to.
func (r *Router) connects() bool { return r.links != nil }

// elsewhere reports whether a node session is another node's, and open: one to which a route may lead.
func (r *Router) elsewhere(node wire.NodeSession) bool {
	if r.links == nil || node == r.node {
		return false
	}
	s, open := r.table.Session(node)
	return open && s.Node != r.name
}

// homeOf returns the home of a row's instance, with a route where its tunnel is on another node; nil where this node does
// not know the instance yet.
func (r *Router) homeOf(row *placement.Row) *home {
	h := r.home(row.Instance)
	if !r.connects() {
		return h
	}
	if h != nil {
		if a := h.live.Load(); a != nil && (a.owner == row.Node || !a.away() && row.Node == r.node) {
			return h
		}
	}
	if !r.elsewhere(row.Node) {
		if h != nil {
			r.leaveStale(h, row.Node)
		}
		return h
	}
	if h == nil {
		in, ok := r.table.Instance(row.Instance)
		if !ok || in.Gone {
			return nil
		}
		h = r.makeHome(&in)
	}
	r.reach(h, row.Node, row.Gen)
	return h
}

// makeHome returns the home of an instance, made when there is none.
func (r *Router) makeHome(in *placement.Instance) *home {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.homes[in.ID]
	if h == nil {
		h = newHome(r, in.ID, in.App, in.StoreID, !in.Native, in.Gen)
		r.homes[in.ID] = h
	}
	return h
}

// reach makes the route to the node that holds an instance's tunnel what the home lives by. A tunnel of its own that the
// home still has is closed elsewhere first.
func (r *Router) reach(h *home, node wire.NodeSession, gen wire.Gen) (done bool) {
	h.turn.Lock()
	defer h.turn.Unlock()
	a := h.live.Load()
	switch {
	case a != nil && (!a.away() || a.owner == node):
		return a.away()
	case a != nil:
		r.leaveRouteInTurn(a)
	}
	h.mu.Lock()
	early := h.gone || h.refused.node == node && time.Now().Before(h.refused.until)
	h.mu.Unlock()
	if early || r.ctx.Err() != nil {
		return false
	}
	a = &attachment{router: r, home: h, owner: node, gen: gen, ended: make(chan struct{})}
	o := &outbound{a: a, ready: make(chan struct{})}
	o.rt = r.links.Route(node, h.id, gen, o)
	o.near = tunnel.NewNear(o.rt, r.tcfg)
	a.route, a.tun = o, o.near
	close(o.ready)
	r.stats.routes.Add(1)
	h.attachInTurn(a)
	a.tun.Flush() // into the lane's memory: no I/O
	return true
}

// refusedRoute is a route that has just ended.
type refusedRoute struct {
	node  wire.NodeSession
	until time.Time
}

// leaveStale closes a route of an instance that is not where it leads.
func (r *Router) leaveStale(h *home, node wire.NodeSession) {
	h.turn.Lock()
	defer h.turn.Unlock()
	if a := h.live.Load(); a != nil && a.away() && a.owner != node {
		r.leaveRouteInTurn(a)
	}
}

// leaveRouteInTurn gives a route up; the caller has the turn.
func (r *Router) leaveRouteInTurn(a *attachment) {
	if !a.home.detachInTurn(a) {
		return
	}
	a.route.rt.Close()
	a.route.near.Over(link.ErrOver)
	r.stats.routes.Add(-1)
	close(a.ended)
}

// routeEnded takes note that a route has ended by itself.
func (r *Router) routeEnded(ctx context.Context, a *attachment, err error) {
	a.route.near.Over(err)
	h := a.home
	h.mu.Lock()
	h.refused = refusedRoute{a.owner, time.Now().Add(routePause)}
	h.mu.Unlock()
	if !h.detach(a) {
		return
	}
	r.stats.routes.Add(-1)
	r.stats.routesBroken.Add(1)
	close(a.ended)
	r.log.Debug("a route to an instance has ended", "app", h.app.String(), "instance", uint64(h.id), "node", uint64(a.owner), "error", err)
	select {
	case <-time.After(routePause):
		r.follow(ctx, h)
	case <-ctx.Done():
	}
}

// shunLocked puts off asking the owner again.
func (rm *room) shunLocked(now time.Time) {
	if now.Sub(rm.notBefore) > ownerPauseMost {
		rm.pause = ownerPause
	} else {
		rm.pause = min(2*max(rm.pause, ownerPause), ownerPauseMost)
	}
	rm.notBefore = now.Add(rm.pause)
}

// sweepHomes forgets instances on other nodes that no room here has needed for a while.
func (r *Router) sweepHomes(now time.Time) {
	if !r.connects() {
		return
	}
	for _, h := range r.allHomes() {
		a := h.live.Load()
		if a != nil && !a.away() {
			continue
		}
		if a != nil {
			h.leaveIdle(a)
		}
		if in, ok := r.table.Instance(h.id); ok && !in.Gone && !r.elsewhere(in.Node) {
			continue // its grace, or its lease, decides
		}
		h.mu.Lock()
		over := false
		switch {
		case len(h.rooms) > 0:
			h.idle = time.Time{}
		case h.idle.IsZero():
			h.idle = now
		default:
			over = now.Sub(h.idle) > idleHome && len(h.departed)+len(h.told) == 0 || now.Sub(h.idle) > ghostTime
			h.gone = over
		}
		h.mu.Unlock()
		if over {
			r.dropHome(h)
		}
	}
}

// dropHome forgets a home, and the route it has.
func (r *Router) dropHome(h *home) (was bool) {
	r.mu.Lock()
	if was = r.homes[h.id] == h; was {
		delete(r.homes, h.id)
	}
	r.mu.Unlock()
	h.turn.Lock()
	defer h.turn.Unlock()
	if a := h.live.Load(); a != nil && a.away() {
		r.leaveRouteInTurn(a)
	}
	return was
}

func (r *Router) allHomes() []*home {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*home, 0, len(r.homes))
	for _, h := range r.homes {
		out = append(out, h)
	}
	return out
}

// holdBack keeps an account of the nodes that cannot be reached: rooms on them count as held, so joins wait and sessions
// are closed after a hold.
type holdBack struct {
	mu    sync.Mutex
	since map[wire.NodeSession]time.Time
}

// checkLanes is called each second.
func (r *Router) checkLanes(now time.Time) {
	if !r.connects() {
		return
	}
	over := make(map[wire.NodeSession]bool)
	lost := make(map[wire.NodeSession]bool)
	r.lost.mu.Lock()
	if r.lost.since == nil {
		r.lost.since = make(map[wire.NodeSession]time.Time)
	}
	for _, n := range r.links.Unreachable(unreachableAfter) {
		if _, open := r.table.Session(n); !open {
			r.links.End(n) // a lane was opened when it was ended already
			continue
		}
		lost[n] = true
		since, known := r.lost.since[n]
		if !known {
			since = now
		}
		if known && now.Sub(since) >= r.cfg.Hold {
			over[n], since = true, now
		}
		r.lost.since[n] = since
	}
	for n := range r.lost.since {
		if !lost[n] {
			delete(r.lost.since, n)
		}
	}
	r.lost.mu.Unlock()
	for _, h := range r.allHomes() {
		if a := h.live.Load(); a != nil && a.away() {
			r.checkRoute(h, a, lost[a.owner], over[a.owner])
			if !a.stalled.Load() {
				h.forgetTold(now)
			}
		}
	}
}

// checkRoute notes whether the owner at the other end of a route can be reached, and closes the sessions that have waited
// for it long enough.
func (r *Router) checkRoute(h *home, a *attachment, lost, over bool) {
	if a.stalled.Swap(lost) == lost && !over {
		return
	}
	for _, rm := range h.snapshot() {
		if over {
			r.stats.holdOver.Add(1)
			r.closeRoom(rm, refuse(wire.CodeNoInstance))
		}
		rm.mu.Lock()
		rm.tellLocked()
		rm.mu.Unlock()
	}
}

// unreachableAfter is how long a lane may be without a connection before the node at its other end counts as unreachable.
const unreachableAfter = time.Second

// Unreachable returns the nodes that this one has had no connection to for a while, and needs.
func (r *Router) Unreachable() []wire.NodeSession {
	if !r.connects() {
		return nil
	}
	return r.links.Unreachable(unreachableAfter)
}

// Peers tells of the links to and from each other node.
func (r *Router) Peers() []link.Peer {
	if !r.connects() {
		return nil
	}
	return r.links.Peers()
}
