package edge

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// detached runs when a tunnel's reader has returned. An instance that said goodbye, or one without a name to come back
// under, is gone at once; any other keeps its states for its grace.
func (r *Router) detached(a *attachment, err error) {
	h := a.home
	a.Drained() // what the reader had not come to
	was := h.detach(a)
	close(a.ended)
	r.stats.endedTunnels.add(tunnel.ReasonOf(err))
	r.log.Info("instance detached", "app", h.app.String(), "instance", uint64(h.id), "store", clip(h.store),
		"gen", uint32(a.gen), "reason", tunnel.ReasonOf(err), "goodbye", a.leaving)
	if !was || r.ctx.Err() != nil {
		return
	}
	if a.leaving || a.unnamed {
		r.gone(r.ctx, h, a.gen)
		return
	}
	if r.draining.Load() {
		return // it is this node that goes: the rows wait for what comes after it
	}
	if in, ok := r.table.Instance(h.id); !ok || in.Gone || in.Gen != a.gen {
		return // it is gone, or has attached again, here or elsewhere
	}
	r.startGrace(h, a.gen)
}

// startGrace waits for the instance to attach again and gives its states away if it does not.
func (r *Router) startGrace(h *home, gen wire.Gen) {
	grace := r.cfg.Grace
	if h.legacy {
		grace = r.cfg.LegacyGrace
	}
	r.spawn(func(ctx context.Context) {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			r.gone(ctx, h, gen)
		case <-ctx.Done():
		}
	})
}

// gone frees the instance's rows, unless a newer attachment came meanwhile, and lets the rooms look for another one.
func (r *Router) gone(ctx context.Context, h *home, gen wire.Gen) {
	if h.genNow() != gen || h.live.Load() != nil {
		return
	}
	err := r.placer.Gone(ctx, h.id, gen)
	switch {
	case errors.Is(err, placement.ErrStale):
		return // it registered again a moment ago
	case err != nil:
		r.stats.proposalFailed.Add(1)
		if ctx.Err() == nil {
			r.log.Error("freeing the rows of an instance failed", "app", h.app.String(), "instance", uint64(h.id), "error", err)
		}
		return
	}
	r.stats.instancesGone.Add(1)
	r.bury(h)
}

// genNow returns the gen of the last attachment.
func (h *home) genNow() wire.Gen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gen
}

// layGhosts takes off every user that an instance had before its states moved: a legacy SDK keeps its list of subscribers
// when its connection breaks.
func (r *Router) layGhosts(key storeKey, a *attachment) {
	left, ok := r.ghosts.take(key)
	if !ok {
		return
	}
	for _, g := range left.users {
		t := tunnel.Session{State: g.state, User: g.user}
		a.tun.Line(g.state, 0).Close(&t, 0, wire.CodeGoingAway)
	}
	a.tun.Flush()
}

func isTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}
