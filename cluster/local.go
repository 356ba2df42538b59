package cluster

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Config of a Local.
type Config struct {
	DataDir string // "" = memory only
	NodeID  string
	Region  string
	Log     *slog.Logger
	Now     func() time.Time // wall and monotonic; default time.Now
}

// Local is the table of one node.
type Local struct{}

// Open opens or makes the table and opens a node session.
func Open(cfg Config) (*Local, error) { return &Local{}, nil }

// Run writes until ctx is done.
func (l *Local) Run(ctx context.Context) error { return nil }

// Close gives up the data directory when Run is not called.
func (l *Local) Close() error { return nil }

// Table returns the table, to be read only.
func (l *Local) Table() *placement.Table { return nil }

// Node returns this node's session.
func (l *Local) Node() wire.NodeSession { return 0 }

// Session returns this node's session with its number and boot.
func (l *Local) Session() placement.Session { return placement.Session{} }

// MACKey returns the secret made with the table.
func (l *Local) MACKey() [32]byte { return [32]byte{} }

// Create places a new state: a pending row.
func (l *Local) Create(ctx context.Context, r placement.CreateRequest) (placement.Placed, error) {
	return placement.Placed{}, nil
}

// Place returns the row of a state with a live owner; an unknown state gets a tentative row, a free one a new owner.
func (l *Local) Place(ctx context.Context, r placement.PlaceRequest) (placement.Row, error) {
	return placement.Row{}, nil
}

// Firm makes a pending or tentative row firm.
func (l *Local) Firm(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return nil
}

// Remove removes a row that is pending, tentative or free; a firm one is ErrStale.
func (l *Local) Remove(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return nil
}

// Release removes a row because its native instance has released the state.
func (l *Local) Release(ctx context.Context, app wire.AppID, state wire.StateID, epoch wire.Epoch) error {
	return nil
}

// Untaint forgets that storeID may hold an old copy of a state: it has said that it released it.
func (l *Local) Untaint(ctx context.Context, app wire.AppID, state wire.StateID, storeID string) error {
	return nil
}

// Register attaches an instance to this node.
func (l *Local) Register(ctx context.Context, r placement.RegisterRequest) (placement.Attached, error) {
	return placement.Attached{}, nil
}

// Gone says that an instance is gone: its rows are free.
func (l *Local) Gone(ctx context.Context, id wire.InstanceID, gen wire.Gen) error { return nil }

// Drain stops new states for an instance.
func (l *Local) Drain(ctx context.Context, id wire.InstanceID) error { return nil }

// Report notes the load an instance reports: a hint, no entry.
func (l *Local) Report(id wire.InstanceID, permille uint32, sessions uint64) {}

// PutApp makes an app with one secret, given as its SHA-256.
func (l *Local) PutApp(ctx context.Context, app wire.AppID, secret [32]byte, s placement.AppSettings) error {
	return nil
}

// SetApp changes an app's settings.
func (l *Local) SetApp(ctx context.Context, app wire.AppID, change func(*placement.AppSettings)) error {
	return nil
}

// AddSecret adds a secret, given as its SHA-256.
func (l *Local) AddSecret(ctx context.Context, app wire.AppID, secret [32]byte) error { return nil }

// RemoveSecret removes a secret, given as its SHA-256; the last one stays.
func (l *Local) RemoveSecret(ctx context.Context, app wire.AppID, secret [32]byte) error { return nil }

// DeleteApp removes an app with its instances and rows.
func (l *Local) DeleteApp(ctx context.Context, app wire.AppID) error { return nil }

// PutKey publishes the public key that this node signs with.
func (l *Local) PutKey(ctx context.Context, kid string, public ed25519.PublicKey) error { return nil }

// Keys returns all public keys.
func (l *Local) Keys() []placement.Key { return nil }

// Key returns the public key with a kid.
func (l *Local) Key(kid string) (ed25519.PublicKey, bool) { return nil, false }

// Collect emits the package's counters and gauges.
func (l *Local) Collect(emit func(name string, value float64, labels ...string)) {}
