package api

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/wire"
)

// Errors of [Rooms.Create] that have an answer of their own.
var (
	ErrNoInstance    = errors.New("no instance of the app is connected")
	ErrTooManyStates = errors.New("the app has as many states as it may")
	ErrBusy          = errors.New("too much is going on")
)

// Tokens makes and checks tokens; *auth.Tokens is one.
type Tokens interface {
	Mint(app string, id auth.Identity) (string, error)
	Verify(token []byte) (auth.Verified, error)
}

// Providers checks logins; *auth.Providers is one.
type Providers interface {
	Login(ctx context.Context, r auth.LoginRequest) (auth.Identity, error)
	Anonymous(id, separator string) (auth.Identity, bool)
}

// Logins remembers who logged in; *logins.Store is one. Calls are cheap.
type Logins interface {
	Put(app string, id auth.Identity) bool // false: not remembered, the queue is full
	Get(app, id string) (auth.Identity, bool)
	Find(id string) (auth.Identity, bool) // only if exactly one app knows the id
}

// Apps is what must be known of apps. Calls are cheap and do not block.
type Apps interface {
	// Allowed reports whether the app may be used: always with --apps open.
	Allowed(app wire.AppID) bool
	// Login is the app's login configuration: pinned, or the union over its
	// live instances, or that of the last one. Zero: none is known.
	Login(app wire.AppID) auth.LoginConfig
	// MaxMessage is the largest create body in bytes.
	MaxMessage(app wire.AppID) int
	// HasSecret reports whether the secret is one of the app's.
	HasSecret(app wire.AppID, secret auth.Secret) bool
}

// Lobby is a state as a list of lobbies shows it.
type Lobby struct {
	State                         wire.StateID
	Visibility, Region, CreatedBy string
	CreatedAt                     time.Time
}

// CreateRequest asks for a new state. Data is valid during the call only.
type CreateRequest struct {
	App            wire.AppID
	User           string
	Data           []byte
	Region         string // "" where the client named none
	Lobby          *Lobby // nil for a plain create; State is not set yet
	IdempotencyKey string // already taken care of; for information
}

// Rooms makes states and knows those that live.
type Rooms interface {
	// Create returns when the state exists. Errors: ErrNoInstance,
	// ErrTooManyStates, ErrBusy, or any other (answered with 500).
	Create(ctx context.Context, r CreateRequest) (wire.StateID, error)
	// Lobbies returns at most limit public lobbies of the app, newest first; a
	// region of "" means all.
	Lobbies(app wire.AppID, region string, limit int) []Lobby
	// Status reports whether clients may connect: false only while the state is
	// known but not accepted by an instance yet. An unknown state is true, since
	// connecting places it.
	Status(app wire.AppID, state wire.StateID) (active bool)
}

// Deps is what the endpoints stand on. All are required.
type Deps struct {
	Tokens    Tokens
	Providers Providers
	Logins    Logins
	Apps      Apps
	Rooms     Rooms
	Keys      func() map[string]ed25519.PublicKey // public keys by kid, for JWKS
	Ready     func() error                        // nil: ready
	Clock     func() time.Time                    // with a monotonic reading
	Log       *slog.Logger
}

func (d *Deps) complete() error {
	for _, missing := range [...]struct {
		name string
		is   bool
	}{
		{"tokens", d.Tokens == nil},
		{"providers", d.Providers == nil},
		{"logins", d.Logins == nil},
		{"apps", d.Apps == nil},
		{"rooms", d.Rooms == nil},
		{"keys", d.Keys == nil},
		{"ready", d.Ready == nil},
		{"clock", d.Clock == nil},
		{"log", d.Log == nil},
	} {
		if missing.is {
			return errors.New("api: " + missing.name + " is required")
		}
	}
	return nil
}
