package edge

import (
	"context"
	"errors"

	"github.com/trunkline-edge/trunkline/wire"
)

// This file is the owner's part of a create that another node answers: that node has the row and decides about it, this one
// brings NEW_STATE to the instance once and passes the answer back.

var errOverrun = errors.New("edge: the other node sends more than it may")

// create makes the room of a new state and writes NEW_STATE to its instance.
func (pt *party) create(arr *arrival, t *touched) (wait <-chan struct{}) {
	p := pt.peer
	r := p.router
	h, row, v, wait := pt.judge(arr)
	if wait != nil {
		return wait
	}
	if v != verdictOurs || !row.Pending || !r.handOn(h, pt, arr, t) {
		pt.up.Refuse(wire.CodeTryLater, "")
		p.forget(pt)
	}
	return nil
}

// handOn gives NEW_STATE to the instance's tunnel. The room is pending, and held for the creator, until the row is settled.
func (r *Router) handOn(h *home, pt *party, arr *arrival, t *touched) bool {
	rm := r.acquire(roomKey{h.app, pt.state})
	h.mu.Lock()
	h.rooms[pt.state] = rm
	h.mu.Unlock()
	rm.mu.Lock()
	a := h.live.Load()
	if a == nil || a.away() || rm.creator != nil || rm.phase == phasePending {
		rm.mu.Unlock()
		r.release(rm)
		return false
	}
	rm.phase, rm.home, rm.att, rm.epoch, rm.creator = phasePending, h, a, pt.epoch, pt
	rm.line = a.tun.Line(pt.state, pt.epoch)
	pt.mu.Lock()
	pt.pending = rm
	pt.mu.Unlock()
	if !a.legacy {
		r.creates.begin(createKey{h.id, pt.state, pt.epoch}, func(ok bool) {
			if ok {
				pt.up.Accept()
			} else {
				pt.up.Refuse(wire.CodeTryLater, "")
			}
			pt.peer.far.Flush()
		})
	}
	rm.line.New(arr.user, arr.payload)
	t.end(a.tun)
	rm.mu.Unlock()
	if a.legacy {
		t.flush() // it counts as done when it was written
		pt.up.Accept()
	}
	return true
}

// created returns the room that waits for the creator's word, or nil. The caller has no hold on it.
func (r *Router) created(pt *party) *room {
	pt.mu.Lock()
	rm := pt.pending
	pt.mu.Unlock()
	if rm == nil {
		return nil
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.creator != pt {
		return nil
	}
	return rm
}

// disownCreate tells the instance that a state was taken back.
func (r *Router) disownCreate(pt *party) {
	rm := r.created(pt)
	if rm == nil {
		return
	}
	rm.mu.Lock()
	h, a := rm.home, rm.att
	rm.mu.Unlock()
	if h != nil {
		r.creates.end(createKey{h.id, pt.state, pt.epoch})
	}
	if a != nil {
		a.disown(pt.state, pt.epoch)
	}
	r.endCreate(rm, pt)
}

// orphanCreate settles a create whose node is over: NEW_STATE was written, so the state stays, unanswered.
func (r *Router) orphanCreate(pt *party) {
	rm := r.created(pt)
	if rm == nil {
		return
	}
	r.proposeOnce(proposal{"orphan", rm.roomKey, pt.epoch}, func(ctx context.Context) error {
		return r.placer.Firm(ctx, rm.app, rm.state, pt.epoch)
	})
}

// endCreate ends the pending phase of a room that another node created: its row is settled.
func (r *Router) endCreate(rm *room, pt *party) {
	rm.mu.Lock()
	if rm.creator != pt {
		rm.mu.Unlock()
		return
	}
	h := rm.home
	rm.creator = nil
	rm.phase, rm.att, rm.line = phaseWaiting, nil, nil
	rm.tellLocked()
	rm.mu.Unlock()
	if h != nil {
		r.creates.end(createKey{h.id, pt.state, pt.epoch})
	}
	r.rehouse(rm)
	r.release(rm)
}

// rehouse looks after the guests of a room that nobody else drives: it lives where its row is, or they are sent away.
func (r *Router) rehouse(rm *room) {
	row, ok := r.table.Lookup(rm.app, rm.state)
	ours := ok && !row.Free && row.Node == r.node
	rm.mu.Lock()
	if !ours {
		rm.evictLocked()
	}
	idle := len(rm.guests) == 0 || rm.phase != phaseWaiting
	rm.mu.Unlock()
	if idle || row.Pending {
		return
	}
	if in, ok := r.table.Instance(row.Instance); ok && !in.Gone {
		r.makeHome(&in).bind(rm, row.Epoch)
	}
}
