package edge

import (
	"context"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// watch applies what the table says, from whichever node it came, to what this node has open.
func (r *Router) watch(ctx context.Context, since uint64) {
	open := r.openSessions()
	var changes []placement.Change
	for {
		changed := r.table.Changed()
		to, ok := r.table.Index(), false
		changes, ok = r.table.Changes(since, changes[:0])
		nodes := !ok
		for i := range changes {
			nodes = nodes || changes[i].Kind == placement.NodesChanged
			to = max(to, changes[i].Index)
		}
		if nodes {
			open = r.nodesChanged(open)
		}
		if ok {
			for i := range changes {
				r.heed(ctx, &changes[i])
			}
		} else { // too long ago to tell what changed
			r.heedAll(ctx)
		}
		since = to
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Router) openSessions() map[wire.NodeSession]struct{} {
	open := make(map[wire.NodeSession]struct{})
	for _, s := range r.table.Sessions() {
		open[s.ID] = struct{}{}
	}
	return open
}

// nodesChanged ends what leads to node sessions that are over.
func (r *Router) nodesChanged(before map[wire.NodeSession]struct{}) map[wire.NodeSession]struct{} {
	open := r.openSessions()
	for node := range before {
		if _, still := open[node]; !still && r.connects() && node != r.node {
			r.links.End(node)
		}
	}
	r.syncs.tell()
	return open
}

func (r *Router) heed(ctx context.Context, c *placement.Change) {
	switch c.Kind {
	case placement.RowChanged, placement.RowRemoved:
		r.rowChanged(roomKey{c.App, c.State})
	case placement.InstanceChanged:
		r.instanceChanged(ctx, c.Instance)
	case placement.InstanceLeft:
		if h := r.home(c.Instance); h != nil {
			r.bury(h)
		}
	}
}

func (r *Router) heedAll(ctx context.Context) {
	for _, h := range r.allHomes() {
		r.follow(ctx, h)
	}
	for _, in := range r.table.AllInstances() {
		r.instanceChanged(ctx, in.ID)
	}
	for _, rm := range r.rooms.all() {
		r.rowChanged(rm.roomKey)
	}
}

// instanceChanged follows an instance to where it has attached.
func (r *Router) instanceChanged(ctx context.Context, id wire.InstanceID) {
	in, ok := r.table.Instance(id)
	if !ok || in.Gone {
		return
	}
	if h := r.home(id); h != nil {
		r.follow(ctx, h)
	} else {
		r.sayWhoIsHere(&in)
	}
	r.layOwnGhosts(&in)
	r.feed(in.App)
}

// follow makes a home agree with what the table says of its instance. It does not block.
func (r *Router) follow(ctx context.Context, h *home) {
	in, ok := r.table.Instance(h.id)
	if !ok || in.Gone {
		r.bury(h)
		return
	}
	if !r.elsewhere(in.Node) {
		r.leaveStale(h, in.Node)
		return
	}
	if a := h.live.Load(); a != nil && !a.away() {
		a.local.Close(wire.CodeTakenOver.String())
		r.spawn(func(ctx context.Context) {
			select {
			case <-a.ended: // nothing of the older tunnel arrives after anything of the newer
				r.follow(ctx, h)
			case <-ctx.Done():
			}
		})
		return
	}
	r.dismiss(h)
	if !h.wanted() {
		r.leaveStale(h, in.Node)
	} else if !r.reach(h, in.Node, in.Gen) {
		return // whoever put it off comes back
	}
	r.sayWhoIsHere(&in)
}

// wanted says that there is somebody here for the instance, or something to tell it.
func (h *home) wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)+len(h.departed)+len(h.told) > 0
}

// dismiss sends the guests of an instance away that has attached to another node.
func (r *Router) dismiss(h *home) {
	for _, rm := range h.snapshot() {
		rm.mu.Lock()
		if rm.home == h {
			rm.evictLocked()
		}
		rm.mu.Unlock()
	}
}

// bury gives up an instance that is gone: its rooms look for another one.
func (r *Router) bury(h *home) {
	if !r.dropHome(h) {
		return
	}
	a := h.live.Load()
	rooms, users := h.finish()
	if a != nil {
		a.local.Close(wire.CodeGoingAway.String())
	}
	r.log.Info("instance is gone, its states move", "app", h.app.String(), "instance", uint64(h.id), "store", clip(h.store),
		"rooms", len(rooms))
	if h.legacy {
		r.keepGhosts(storeKey{h.app, h.store}, users)
	}
	for _, rm := range rooms {
		rm.poke()
	}
}

// rowChanged makes a room agree with what the table says of its state.
func (r *Router) rowChanged(key roomKey) {
	rm := r.rooms.find(key)
	if rm == nil {
		if row, ok := r.table.Lookup(key.app, key.state); ok && row.Tentative && row.Node == r.node && r.connects() {
			r.noteTentative(key, row.Epoch) // the node that asked for it may not live to come here
		}
		return
	}
	rm.mu.Lock()
	row, ok := r.table.Lookup(key.app, key.state) // under the lock: the room may come to live by a newer row meanwhile
	h := rm.home
	same := ok && !row.Free && h != nil && h.id == row.Instance && rm.epoch == row.Epoch
	created := rm.creator
	settled := created != nil && (!same || !row.Pending)
	// An owner that can be reached says itself what becomes of its guests, behind what its instance said before.
	lost := rm.phase == phaseLive && !same && (!rm.att.away() || rm.att.stalled.Load())
	if lost {
		rm.evictLocked()
		rm.lostLocked(time.Now())
		rm.home = nil
	}
	if rm.phase == phaseWaiting {
		rm.notBefore = time.Time{}
	}
	idle := rm.phase == phaseWaiting && len(rm.guests) > 0
	rm.mu.Unlock()
	switch {
	case settled && !same:
		r.disownCreate(created) // its node may not be able to say so
	case settled:
		r.endCreate(rm, created)
	case lost && h != nil:
		h.unbind(rm, nil, 0)
	case idle:
		r.rehouse(rm)
	}
	if same && rm.tentative.Load() != row.Tentative && h != nil && h.remote() {
		rm.tentative.Store(row.Tentative)
	}
	rm.poke()
}

// remote says that the home lives by a route.
func (h *home) remote() bool {
	a := h.live.Load()
	return a != nil && a.away()
}

// noteTentative lists a tentative row that nobody is in, to be removed unless somebody comes back.
func (r *Router) noteTentative(key roomKey, epoch wire.Epoch) {
	r.mu.Lock()
	r.tentative[key] = tentativeRow{epoch, time.Now().Add(r.cfg.TentativeTTL)}
	r.mu.Unlock()
}
