package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

var (
	errDraining  = errors.New("node is going away")
	errNotTaken  = errors.New("instance did not take the state")
	errNoTunnel  = errors.New("instance has no tunnel here")
	createsTried = 3
)

// createKey names a create that waits for its instance's word.
type createKey struct {
	instance wire.InstanceID
	state    wire.StateID
	epoch    wire.Epoch
}

// creates are the creates that wait for a native instance.
type creates struct {
	mu   sync.Mutex
	open map[createKey]func(accepted bool)
}

func (c *creates) init() { c.open = make(map[createKey]func(bool)) }

// begin has answer called, once, with what the instance says; it must not block.
func (c *creates) begin(k createKey, answer func(accepted bool)) {
	c.mu.Lock()
	c.open[k] = answer
	c.mu.Unlock()
}

func (c *creates) end(k createKey) {
	c.mu.Lock()
	delete(c.open, k)
	c.mu.Unlock()
}

// settle answers a waiting create and reports whether one waited.
func (c *creates) settle(k createKey, accepted bool) bool {
	c.mu.Lock()
	answer := c.open[k]
	delete(c.open, k)
	c.mu.Unlock()
	if answer == nil {
		return false
	}
	answer(accepted)
	return true
}

// Create makes a new state and returns when its instance has it: NEW_STATE written to a legacy one, accepted by a native
// one. An instance that fails is passed over, three times at most. Errors: api.ErrNoInstance, api.ErrTooManyStates, or
// what the last instance said.
func (r *Router) Create(ctx context.Context, q api.CreateRequest) (wire.StateID, error) {
	if r.draining.Load() {
		return 0, api.ErrBusy
	}
	var avoid wire.InstanceID
	for range createsTried {
		region := q.Region
		if region == "" {
			region = r.cfg.Region
		}
		placed, err := r.placer.Create(ctx, placement.CreateRequest{App: q.App, Region: region, Avoid: avoid})
		switch {
		case errors.Is(err, placement.ErrNoInstance):
			return 0, api.ErrNoInstance
		case errors.Is(err, placement.ErrTooManyStates):
			return 0, api.ErrTooManyStates
		case err != nil:
			return 0, fmt.Errorf("place a new state: %w", err)
		}
		if err = r.start(ctx, placed, &q); err == nil {
			r.stats.created.Add(1)
			return placed.State, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		r.stats.createRetried.Add(1)
		avoid = placed.Instance
	}
	return 0, api.ErrNoInstance
}

// start brings a pending row to its instance and makes it firm. On an error the row has been removed.
func (r *Router) start(ctx context.Context, placed placement.Placed, q *api.CreateRequest) error {
	rm := r.acquire(roomKey{q.App, placed.State})
	defer r.release(rm)
	h := r.homeOfCreated(q.App, placed)
	err := errNoTunnel
	if h != nil {
		err = r.hand(ctx, h, rm, placed, q)
	}
	if err == nil {
		err = r.placer.Firm(ctx, q.App, placed.State, placed.Epoch)
	}
	if err == nil && q.Lobby != nil {
		r.lobbies.add(q.App, placed.State, *q.Lobby)
	}
	if err != nil {
		r.takeBack(ctx, rm, h, placed)
	}
	rm.mu.Lock() // whoever came meanwhile looks at the table now
	a := rm.att
	rm.phase, rm.att, rm.line = phaseWaiting, nil, nil
	rm.tellLocked()
	rm.mu.Unlock()
	if err == nil && a != nil && a.away() {
		h.unbind(rm, a, placed.Epoch) // whoever joins here binds anew
	}
	r.rehouse(rm)
	return err
}

// homeOfCreated returns the home of the instance that a new state was given to, or nil.
func (r *Router) homeOfCreated(app wire.AppID, placed placement.Placed) *home {
	if row, ok := r.table.Lookup(app, placed.State); ok && row.Instance == placed.Instance {
		return r.homeOf(&row)
	}
	return r.home(placed.Instance)
}

// takeBack removes the row of a create that failed, even when the caller has hung up: nobody has the id.
func (r *Router) takeBack(ctx context.Context, rm *room, h *home, placed placement.Placed) {
	if h != nil {
		h.unbind(rm, nil, 0)
		if a := h.live.Load(); a != nil {
			a.disown(placed.State, placed.Epoch)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.AcceptWait)
	defer cancel()
	if err := r.placer.Remove(ctx, rm.app, placed.State, placed.Epoch); err != nil {
		r.proposalFailed("remove", rm.roomKey, err)
	}
}

// hand writes NEW_STATE and waits for what the instance must say.
func (r *Router) hand(ctx context.Context, h *home, rm *room, placed placement.Placed, q *api.CreateRequest) error {
	h.mu.Lock()
	h.rooms[placed.State] = rm // so that a tunnel which breaks finds the room
	h.mu.Unlock()

	key := createKey{placed.Instance, placed.State, placed.Epoch}
	rm.mu.Lock()
	a := h.live.Load()
	if a == nil {
		rm.mu.Unlock()
		return errNoTunnel
	}
	answer := make(chan bool, 1)
	r.creates.begin(key, func(ok bool) { answer <- ok })
	defer r.creates.end(key)
	rm.phase, rm.home, rm.att, rm.epoch = phasePending, h, a, placed.Epoch
	rm.line = a.tun.Line(placed.State, placed.Epoch)
	rm.line.New(q.User, q.Data)
	rm.mu.Unlock()
	a.tun.Flush()
	if a.legacy {
		select {
		case <-a.ended:
			return errNoTunnel
		default:
			return nil
		}
	}
	timer := time.NewTimer(r.cfg.AcceptWait)
	defer timer.Stop()
	select {
	case ok := <-answer:
		if !ok {
			return errNotTaken
		}
		return nil
	case <-timer.C:
		r.stats.createSilent.Add(1)
		return errNotTaken
	case <-a.ended:
		return errNoTunnel
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clientRouter is the Router as client sessions see it: only Create differs from what the HTTP endpoints call.
type clientRouter struct{ *Router }

// ForClients returns the client.Router.
func (r *Router) ForClients() client.Router { return clientRouter{r} }

// Create makes a state for revisions A and B, which create over their WebSocket.
func (c clientRouter) Create(ctx context.Context, q client.CreateRequest) (wire.StateID, *client.Refusal) {
	id, err := c.Router.Create(ctx, api.CreateRequest{App: q.App, User: q.User, Data: q.Data})
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, api.ErrNoInstance):
		return 0, refuse(wire.CodeNoInstance)
	case errors.Is(err, api.ErrTooManyStates):
		return 0, refuse(wire.CodeTryLater)
	default:
		return 0, refuse(wire.CodeInternal)
	}
}
