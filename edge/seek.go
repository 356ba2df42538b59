package edge

import (
	"context"
	"errors"
	"time"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// seekLocked starts the goroutine that finds the room an instance, unless it runs.
func (rm *room) seekLocked() {
	if rm.seeking {
		return
	}
	rm.seeking = true
	if rm.heldFrom.IsZero() {
		rm.heldFrom = time.Now()
	}
	rm.router.spawn(func(ctx context.Context) { rm.router.seek(ctx, rm) })
}

// seek drives a waiting room until it lives, nobody is left in it, or the hold is over.
func (r *Router) seek(ctx context.Context, rm *room) {
	defer r.unhungry(rm)
	for {
		refusal, settled := r.seekOnce(ctx, rm)
		rm.mu.Lock()
		if settled || rm.phase == phaseLive || refusal != nil || rm.gone.Load() {
			rm.seeking = false
			rm.refusal = refusal
			// A tunnel that broke since seekOnce looked left the room waiting, and saw a seek running: look again.
			if refusal == nil && rm.phase == phaseWaiting && !rm.gone.Load() {
				rm.seeking = true
				rm.mu.Unlock()
				continue
			}
			rm.tellLocked()
			rm.mu.Unlock()
			if refusal != nil {
				r.closeRoom(rm, refusal)
			}
			return
		}
		if len(rm.members) == 0 && rm.joiners == 0 { // guests have their own node to drive them
			rm.seeking = false
			rm.mu.Unlock()
			return
		}
		left, early := r.cfg.Hold-time.Since(rm.heldFrom), false
		if pause := time.Until(rm.notBefore); pause > 0 && pause < left {
			left, early = pause, true
		}
		rm.mu.Unlock()
		timer := time.NewTimer(max(left, 0))
		select {
		case <-rm.wake:
		case <-timer.C:
			if early {
				continue
			}
			rm.mu.Lock()
			rm.heldFrom = time.Now() // who joins later waits its own time
			rm.mu.Unlock()
			r.stats.holdOver.Add(1)
			r.closeRoom(rm, refuse(wire.CodeNoInstance))
		case <-ctx.Done():
			timer.Stop()
			rm.mu.Lock()
			rm.seeking = false
			rm.tellLocked()
			rm.mu.Unlock()
			return
		}
		timer.Stop()
	}
}

// seekOnce looks at the table once and acts on it. settled means that the room lives or that someone else drives it.
func (r *Router) seekOnce(ctx context.Context, rm *room) (refusal *client.Refusal, settled bool) {
	rm.mu.Lock()
	p, early := rm.phase, time.Now().Before(rm.notBefore)
	rm.mu.Unlock()
	if p == phaseClosing || p == phasePending || early {
		return nil, false // whoever set it pokes us
	}
	row, ok := r.table.Lookup(rm.app, rm.state)
	if ok && row.Pending {
		return nil, false
	}
	if ok {
		if in, alive := r.table.Instance(row.Instance); alive && !in.Gone {
			h := r.homeOf(&row)
			if h == nil { // this node has not taken note of the instance yet; feed pokes when it has
				r.beHungry(rm)
				if h = r.homeOf(&row); h == nil {
					return nil, false
				}
			}
			rm.tentative.Store(row.Tentative)
			r.forgetTentative(rm.roomKey)
			return nil, h.bind(rm, row.Epoch)
		}
	}
	return r.place(ctx, rm)
}

// place asks for an instance for an unknown state or for one whose instance is gone, and binds the room to it.
func (r *Router) place(ctx context.Context, rm *room) (refusal *client.Refusal, settled bool) {
	r.beHungry(rm) // before asking, so that an instance which registers meanwhile is not missed
	select {
	case r.placing <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	row, err := r.placer.Place(ctx, placement.PlaceRequest{App: rm.app, State: rm.state, Region: r.cfg.Region})
	<-r.placing
	switch {
	case err == nil:
		r.stats.placements.Add(1)
		rm.tentative.Store(row.Tentative)
		if h := r.homeOf(&row); h != nil {
			return nil, h.bind(rm, row.Epoch)
		}
		return nil, false
	case errors.Is(err, placement.ErrNoInstance):
		return nil, false
	case errors.Is(err, placement.ErrTooManyStates):
		return &client.Refusal{Code: wire.CodeTryLater, Reason: "the app has as many states as it may"}, true
	case ctx.Err() != nil:
		return nil, false
	default:
		r.stats.proposalFailed.Add(1)
		if r.quiet.allow("place "+rm.app.String(), time.Now()) {
			r.log.Error("placing a state failed", "app", rm.app.String(), "state", rm.state.String(), "error", err)
		}
		return refuse(wire.CodeInternal), true
	}
}

// closeRoom closes every session of the room.
func (r *Router) closeRoom(rm *room, refusal *client.Refusal) {
	for _, s := range rm.all() {
		s.close(refusal.Code, refusal.Reason, true)
	}
}

// beHungry lists the room among those that any instance of its app will wake.
func (r *Router) beHungry(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hungry[rm.app] == nil {
		r.hungry[rm.app] = make(map[*room]struct{})
	}
	r.hungry[rm.app][rm] = struct{}{}
}

func (r *Router) unhungry(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hungry[rm.app], rm)
	if len(r.hungry[rm.app]) == 0 {
		delete(r.hungry, rm.app)
	}
}

// feed wakes the rooms of the app that wait for an instance.
func (r *Router) feed(app wire.AppID) {
	r.mu.Lock()
	var rooms []*room
	for rm := range r.hungry[app] {
		rooms = append(rooms, rm)
	}
	r.mu.Unlock()
	for _, rm := range rooms {
		rm.poke()
	}
}
