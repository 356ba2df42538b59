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

// Create draws an id, chooses an instance and commits a pending row. Errors: placement.ErrNoInstance,
// ErrTooManyStates, ErrStopped, ctx's.
func (n *Node) Create(ctx context.Context, r placement.CreateRequest) (placement.Placed, error) {
	for range maxTries {
		placed := placement.Placed{State: randomStateID()}
		results, err := n.submit(ctx, func(b *batch) (_ []placement.Command, err error) {
			if err := b.room(r.App); err != nil {
				return nil, err
			}
			placed.Instance, err = b.choose(r.App, placement.Inputs{Region: r.Region, Avoid: r.Avoid})
			return []placement.Command{&placement.Create{
				App: r.App, State: placed.State, Instance: placed.Instance, Mode: placement.PendingRow,
			}}, err
		})
		if err != nil {
			return placement.Placed{}, fmt.Errorf("create a state: %w", err)
		}
		switch results[0].Outcome {
		case placement.Done:
			placed.Epoch = results[0].Epoch
			return placed, nil
		case placement.Full:
			return placement.Placed{}, fmt.Errorf("create a state: %w", placement.ErrTooManyStates)
		}
		// The id was taken, or the instance left in the same batch: once more.
	}
	return placement.Placed{}, fmt.Errorf("create a state: %w", placement.ErrStale)
}

// room refuses early what the table would refuse: a full app costs no entry.
func (b *batch) room(app wire.AppID) error {
	if a, ok := b.node.table.App(app); ok && a.States >= a.MaxStates {
		return placement.ErrTooManyStates
	}
	return nil
}

// Place returns the row of a state, with a live owner. An unknown state gets a tentative row; one whose instance is
// gone a new owner and epoch. Errors: placement.ErrNoInstance, ErrTooManyStates, ErrStopped, ctx's.
func (n *Node) Place(ctx context.Context, r placement.PlaceRequest) (placement.Row, error) {
	for range maxTries {
		if row, ok := n.table.Lookup(r.App, r.State); ok && !row.Free {
			return row, nil
		}
		results, err := n.submit(ctx, func(b *batch) ([]placement.Command, error) { return b.place(r) })
		if err != nil {
			return placement.Row{}, fmt.Errorf("place state %s: %w", r.State, err)
		}
		if len(results) > 0 && results[0].Outcome == placement.Full {
			return placement.Row{}, fmt.Errorf("place state %s: %w", r.State, placement.ErrTooManyStates)
		}
	}
	return placement.Row{}, fmt.Errorf("place state %s: %w", r.State, placement.ErrStale)
}

func (b *batch) place(r placement.PlaceRequest) ([]placement.Command, error) {
	row, known := b.node.table.Lookup(r.App, r.State)
	if known && !row.Free {
		return nil, nil
	}
	if !known {
		if err := b.room(r.App); err != nil {
			return nil, err
		}
	}
	to, err := b.choose(r.App, placement.Inputs{Region: r.Region, Avoid: r.Avoid, Taint: row.Taint})
	switch {
	case err != nil:
		return nil, err
	case known:
		return []placement.Command{&placement.Move{App: r.App, State: r.State, Expect: row.Epoch, To: to}}, nil
	default:
		return []placement.Command{&placement.Create{App: r.App, State: r.State, Instance: to, Mode: placement.TentativeRow}}, nil
	}
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
	return n.onRow(ctx, "untaint", state, &placement.Untaint{App: app, State: state, StoreID: storeID})
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
