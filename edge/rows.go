package edge

import (
	"context"
	"time"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/wire"
)

// This file holds what the owner proposes about rows: firm, removed, released.

// proposal names a change of a row that nobody waits for.
type proposal struct {
	what string
	roomKey
	epoch wire.Epoch
}

// proposeOnce makes a proposal unless the same one is under way: an instance may send any number of frames that ask for it.
func (r *Router) proposeOnce(p proposal, commit func(ctx context.Context) error) {
	r.mu.Lock()
	_, under := r.proposed[p]
	r.proposed[p] = struct{}{}
	r.mu.Unlock()
	if under {
		return
	}
	r.spawn(func(ctx context.Context) {
		defer func() {
			r.mu.Lock()
			delete(r.proposed, p)
			r.mu.Unlock()
		}()
		if err := commit(ctx); err != nil {
			r.proposalFailed(p.what, p.roomKey, err)
		}
	})
}

// makeFirm commits that the instance vouches for the state.
func (r *Router) makeFirm(key roomKey, epoch wire.Epoch) {
	r.forgetTentative(key)
	r.proposeOnce(proposal{"firm", key, epoch}, func(ctx context.Context) error {
		return r.placer.Firm(ctx, key.app, key.state, epoch)
	})
}

// turnAway removes the tentative row of a state that its instance does not have, once its last session was closed. For
// some seconds more the state answers 4000 at once.
func (r *Router) turnAway(key roomKey, epoch wire.Epoch) {
	rm := r.acquire(key)
	rm.mu.Lock()
	busy := !rm.emptyLocked() || rm.phase == phasePending || rm.phase == phaseClosing || rm.phase == phaseLive && rm.epoch != epoch
	if !busy {
		rm.closeLocked()
	}
	rm.mu.Unlock()
	if busy {
		r.release(rm)
		return
	}
	r.denied.put(key, struct{}{}, time.Now().Add(r.cfg.DeniedTTL))
	r.removeRow(rm, epoch, refuse(wire.CodeStateNotFound))
}

// closeLocked parks whoever comes while the state's row is being removed.
func (rm *room) closeLocked() {
	rm.detachLocked(time.Time{})
	rm.phase = phaseClosing
}

// removeRow removes the row of a closing room, then turns those that came meanwhile away, or lets them look again when
// refusal is nil. It takes over the caller's hold on the room.
func (r *Router) removeRow(rm *room, epoch wire.Epoch, refusal *client.Refusal) {
	r.forgetTentative(rm.roomKey)
	r.spawn(func(ctx context.Context) {
		defer r.release(rm)
		if err := r.placer.Remove(ctx, rm.app, rm.state, epoch); err != nil {
			r.proposalFailed("remove", rm.roomKey, err)
		} else {
			r.stats.rowsRemoved.Add(1)
		}
		r.reopen(rm, refusal)
	})
}

// reopen ends the closing phase.
func (r *Router) reopen(rm *room, refusal *client.Refusal) {
	rm.tentative.Store(false)
	rm.mu.Lock()
	h := rm.home
	rm.phase, rm.home, rm.refusal = phaseWaiting, nil, refusal
	if len(rm.members) > 0 {
		rm.seekLocked()
	}
	rm.tellLocked()
	rm.mu.Unlock()
	if h != nil {
		h.unbind(rm, nil, 0)
	}
	r.rehouse(rm)
	rm.poke()
}

// releaseState removes the row of a state that its native instance has let go of. Sessions that come meanwhile are parked
// and placed anew afterwards; the instance hears that it is free of the state.
func (r *Router) releaseState(a *attachment, state wire.StateID, epoch wire.Epoch) {
	key := roomKey{a.home.app, state}
	switch row, ok := r.table.Lookup(key.app, state); {
	case !ok || row.Instance != a.home.id || epoch < row.Epoch:
		r.untaint(a.home, state)
		a.disown(state, epoch)
		return
	case epoch > row.Epoch: // nobody has given it that one
		r.stats.dropStaleEpoch.Add(1)
		return
	}
	rm := r.acquire(key)
	rm.mu.Lock()
	if rm.phase == phaseClosing || rm.phase == phasePending || (rm.phase == phaseLive && (rm.att != a || rm.epoch != epoch)) {
		rm.mu.Unlock()
		r.release(rm)
		r.untaint(a.home, state)
		return
	}
	rm.closeLocked()
	rm.mu.Unlock()
	r.spawn(func(ctx context.Context) {
		line := a.tun.Line(state, epoch)
		if err := r.placer.Release(ctx, key.app, state, epoch); err != nil {
			r.proposalFailed("release", key, err)
			line.NotOwner()
		} else {
			r.stats.released.Add(1)
			line.Released()
		}
		a.tun.Flush()
		line.End()
		r.reopen(rm, nil)
		r.release(rm)
	})
}

// untaint takes note that an instance no longer has its old copy of a state that moved on from it.
func (r *Router) untaint(h *home, state wire.StateID) {
	if row, ok := r.table.Lookup(h.app, state); !ok || row.Taint != h.store {
		r.stats.dropNotOwner.Add(1)
		return
	}
	r.proposeOnce(proposal{what: "untaint", roomKey: roomKey{h.app, state}}, func(ctx context.Context) error {
		return r.placer.Untaint(ctx, h.app, state, h.store)
	})
}

// sweep removes tentative rows that nobody came back to, and forgets what is over.
func (r *Router) sweep(now time.Time) {
	r.mu.Lock()
	due := make(map[roomKey]wire.Epoch)
	for key, row := range r.tentative {
		if now.After(row.until) {
			due[key] = row.epoch
			delete(r.tentative, key)
		}
	}
	r.mu.Unlock()
	for key, epoch := range due {
		if row, ok := r.table.Lookup(key.app, key.state); !ok || r.elsewhere(row.Node) {
			continue // its instance has attached to another node since
		}
		rm := r.acquire(key)
		rm.mu.Lock()
		idle := rm.emptyLocked() && !rm.seeking && rm.phase == phaseWaiting
		if idle {
			rm.phase = phaseClosing
		}
		rm.mu.Unlock()
		if idle {
			r.removeRow(rm, epoch, nil)
		} else {
			r.release(rm)
		}
	}
	r.sweepHomes(now)
	r.checkLanes(now)
	r.denied.sweep(now)
	r.ghosts.sweep(now)
	r.syncs.heard.sweep(now)
	r.buckets.sweep(now)
	r.quiet.sweep(now)
}

// proposalFailed counts and logs a command that nobody waits for. A command refused by its compare-and-set is the normal
// end of a race: the table's word holds.
func (r *Router) proposalFailed(what string, key roomKey, err error) {
	r.stats.proposalFailed.Add(1)
	if r.ctx.Err() == nil {
		r.log.Debug("proposal was not applied", "what", what, "app", key.app.String(), "state", key.state.String(), "error", err)
	}
}
