package edge

import (
	"context"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Placer gets commands committed. Every method returns when this node's table has what was decided; the errors that a
// Router branches on are those of package placement.
type Placer interface {
	// Table is shared and read only; Node is this node's session in it.
	Table() *placement.Table
	Node() wire.NodeSession

	// Create places a new state (a pending row), Place finds an owner for a state that is unknown or free.
	Create(ctx context.Context, q placement.CreateRequest) (placement.Placed, error)
	Place(ctx context.Context, q placement.PlaceRequest) (placement.Row, error)
	// Firm, Remove and Release compare the epoch and set.
	Firm(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error
	Remove(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error
	Release(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error
	// Untaint forgets that a process may hold an old copy of a state.
	Untaint(ctx context.Context, app wire.AppID, state wire.StateID, storeID string) error

	// Register attaches an instance to this node; Gone frees its rows; Report is a hint and no command.
	Register(ctx context.Context, q placement.RegisterRequest) (placement.Attached, error)
	Gone(ctx context.Context, id wire.InstanceID, gen wire.Gen) error
	Report(id wire.InstanceID, permille uint32, sessions uint64)
}
