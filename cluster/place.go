package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// maxTries bounds how often a compare-and-set is repeated after somebody else was faster.
const maxTries = 16

// Create draws an id, has an instance chosen and commits a pending row. Errors: placement.ErrNoInstance,
// ErrTooManyStates, ErrUnknown, ErrStopped, ctx's.
func (n *Node) Create(ctx context.Context, r placement.CreateRequest) (placement.Placed, error) {
	// The id stays the same over all tries: a row that has it is this one's, however it came about.
	a := &ask{kind: askCreate, app: r.App, state: randomStateID(), region: r.Region, avoid: r.Avoid}
	for range maxTries {
		out, err := n.submit(ctx, a)
		if err == nil {
			err = out.refused()
		}
		if err != nil {
			return placement.Placed{}, fmt.Errorf("create a state: %w", err)
		}
		if out.fate == fateDone {
			return placement.Placed{State: a.state, Instance: out.instance, Epoch: out.epoch}, nil
		}
	}
	return placement.Placed{}, fmt.Errorf("create a state: %w", placement.ErrStale)
}

// refused is the error of an ask that the leader has answered with no.
func (out *answer) refused() error {
	switch out.fate {
	case fateNoInstance:
		return placement.ErrNoInstance
	case fateFull:
		return placement.ErrTooManyStates
	}
	return nil
}

// Place returns the row of a state, with a live owner. An unknown state gets a tentative row; one whose instance is
// gone a new owner and epoch. Errors: placement.ErrNoInstance, ErrTooManyStates, ErrUnknown, ErrStopped, ctx's.
func (n *Node) Place(ctx context.Context, r placement.PlaceRequest) (placement.Row, error) {
	a := &ask{kind: askPlace, app: r.App, state: r.State, region: r.Region, avoid: r.Avoid}
	for range maxTries {
		if row, ok := n.table.Lookup(r.App, r.State); ok && !row.Free {
			return row, nil
		}
		out, err := n.submit(ctx, a)
		if err == nil {
			err = out.refused()
		}
		if err != nil {
			return placement.Row{}, fmt.Errorf("place state %s: %w", r.State, err)
		}
	}
	return placement.Row{}, fmt.Errorf("place state %s: %w", r.State, placement.ErrStale)
}

// Firm makes a pending or tentative row firm. placement.ErrStale: the row is not of that epoch.
func (n *Node) Firm(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	if row, ok := n.table.Lookup(app, state); ok && row.Epoch == epoch && !row.Pending && !row.Tentative {
		return nil
	}
	return n.onRow(ctx, "make firm", state, &placement.Firm{App: app, State: state, Epoch: epoch})
}

// Remove removes a row that is pending, tentative or free; one that is not there is removed already.
// placement.ErrStale: it is firm, or of another epoch.
func (n *Node) Remove(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return n.onRow(ctx, "remove", state, &placement.Remove{App: app, State: state, Epoch: epoch})
}

// Release removes a row because its native instance has released the state. placement.ErrStale: of another epoch.
func (n *Node) Release(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return n.onRow(ctx, "release", state, &placement.Release{App: app, State: state, Epoch: epoch})
}

// Untaint forgets that storeID may hold an old copy of a state: its process has said that it let go of it.
func (n *Node) Untaint(ctx context.Context, app wire.AppID, state wire.StateID, storeID string) error {
	if row, ok := n.table.Lookup(app, state); !ok || row.Taint != storeID {
		return nil
	}
	// Repeated later it could take away a younger taint.
	if _, err := n.once(ctx, &placement.Untaint{App: app, State: state, StoreID: storeID}); err != nil {
		return fmt.Errorf("untaint state %s: %w", state, err)
	}
	return nil
}

// onRow commits a command that compares a row's epoch.
func (n *Node) onRow(ctx context.Context, what string, state wire.StateID, cmd placement.Command) error {
	for range maxTries {
		r, err := n.one(ctx, cmd)
		if err == nil && r.Outcome == placement.Again {
			continue // made in the same batch
		}
		if err == nil && r.Outcome != placement.Done {
			err = placement.ErrStale
		}
		if err != nil {
			return fmt.Errorf("%s state %s: %w", what, state, err)
		}
		return nil
	}
	return errors.New(what + " state: the table is too busy")
}
