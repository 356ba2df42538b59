// Package api is the public HTTP of a node for everything that is not an upgrade.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"crypto/ed25519"

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

// Logins remembers who logged in; *logins.Store is one.
type Logins interface {
	Put(app string, id auth.Identity) bool
	Get(app, id string) (auth.Identity, bool)
	Find(id string) (auth.Identity, bool)
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
	IdempotencyKey string
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
	Clock     func() time.Time                    // monotonic where it can be
	Log       *slog.Logger
}

// Config says what the endpoints hand out and how much they take.
type Config struct {
	// Listed makes registerApp refuse (--apps listed).
	Listed bool
	// PublicURL is what connection info hands out, such as
	// "https://edge.example.com:8443"; "" takes the request's Host.
	PublicURL string
	// LoginsPerSecond bounds logins per IPv4 address or IPv6 /64; 0 means 20.
	LoginsPerSecond float64
	// LiftLoopback takes the limit from loopback addresses (dev, bench).
	LiftLoopback bool
	// Secure reports whether the request came by TLS. Default: r.TLS != nil.
	Secure func(r *http.Request) bool
}

// API is the http.Handler. It owns no goroutine.
type API struct {
	cfg  Config
	deps Deps
}

// New checks the configuration and returns the handler.
func New(cfg Config, deps Deps) (*API, error) { return &API{cfg: cfg, deps: deps}, nil }

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// Collect emits the counters.
func (a *API) Collect(emit func(name string, value float64, labels ...string)) {}
