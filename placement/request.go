package placement

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

// What a node asks of whoever gets commands committed (package cluster). The types stand here because those who ask
// may see the table but not how it is agreed on.

// Errors a caller branches on.
var (
	ErrNoInstance    = errors.New("no live instance of the app takes new states")
	ErrTooManyStates = errors.New("the app has as many states as it may")
	ErrStale         = errors.New("the row or instance has changed since")
	ErrHeld          = errors.New("another attachment holds the instance")
	ErrNoApp         = errors.New("no such app")
	ErrAppExists     = errors.New("the app exists already")
	ErrFull          = errors.New("a limit of the table is reached")
	ErrDenied        = errors.New("the node is revoked, or bound to another key")
	ErrUnknown       = errors.New("what was asked may or may not have been done")
	ErrStopped       = errors.New("the table is not being written any more")
)

// HeldError says who holds the instance that a registration wanted. errors.Is(err, ErrHeld) holds.
type HeldError struct {
	Instance wire.InstanceID
	Gen      wire.Gen
	Node     wire.NodeSession
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%v: instance %d is attached to node session %d with gen %d", ErrHeld, e.Instance, e.Node, e.Gen)
}

// Unwrap returns ErrHeld.
func (e *HeldError) Unwrap() error { return ErrHeld }

// CreateRequest asks for a new state.
type CreateRequest struct {
	App    wire.AppID
	Region string          // the asking node's; preferred while it has room
	Avoid  wire.InstanceID // not this one while there is another; 0 = any
}

// Placed is a new state; its row is pending.
type Placed struct {
	State    wire.StateID // never 0
	Instance wire.InstanceID
	Epoch    wire.Epoch
}

// PlaceRequest asks for an owner of a state.
type PlaceRequest struct {
	App    wire.AppID
	State  wire.StateID
	Region string
	Avoid  wire.InstanceID
}

// RegisterRequest is a registration that came in on a tunnel.
type RegisterRequest struct {
	App         wire.AppID
	StoreID     string // 1 to MaxStoreID bytes
	Native      bool
	Incarnation [16]byte // native: random, not zero; legacy: zero
	Region      string
	Capacity    uint32          // states it likes to hold; 0 = not said
	Login       json.RawMessage // at most MaxLogin bytes; nil = none
	Holds       []wire.Held     // states that a native instance says it has in memory
	// Replace and ReplaceGen name the attachment that the caller knows to be over. Zero: nobody is expected under
	// that name. A native registration needs none: the same incarnation is the same process.
	Replace    wire.InstanceID
	ReplaceGen wire.Gen
}

// Attached is a registered instance.
type Attached struct {
	Instance wire.InstanceID
	Gen      wire.Gen
	Again    bool // it was known before: the same instance, gen one higher
}
