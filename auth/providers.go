package auth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

// LoginConfig is which logins an app has: what one backend registered, or the
// union over several. The zero value means that nobody configured anything:
// then anonymous and nickname are on.
type LoginConfig struct {
	Anonymous bool
	Separator string // joins the words of an anonymous name
	Nickname  bool
	Google    []string             // accepted client ids; empty: off
	OIDC      map[string]OIDCLogin // custom issuers by name
}

// OIDCLogin is one custom OpenID issuer.
type OIDCLogin struct {
	Issuer   string
	Audience []string
	JWKS     string // address of the key set; empty: by discovery
}

// ParseLogin reads a login configuration as backends register it (hathora
// authInfo, plus "oidc"). Empty, null and {} give the zero value.
func ParseLogin(raw json.RawMessage) (LoginConfig, error) { return LoginConfig{}, nil }

// Union returns what any of the configurations allows; the first separator counts.
func Union(configs ...LoginConfig) LoginConfig { return LoginConfig{} }

// Errors of Login that callers branch on.
var (
	ErrLoginDisabled = errors.New("this login is not configured for the app")
	ErrCredential    = errors.New("the credential is not valid")
	ErrUnavailable   = errors.New("the identity provider cannot be reached")
)

// ProvidersConfig says how logins are checked.
type ProvidersConfig struct {
	// MACKey authenticates anonymous ids. Required (not all zero).
	MACKey [32]byte
	// AllowHosts are issuers' "host:port" that may be plain HTTP or lie on
	// loopback or link-local addresses.
	AllowHosts []string
	// Clock tells the wall time. Required.
	Clock func() time.Time
	// Log gets one line per failing issuer and minute. Required.
	Log *slog.Logger
}

// Providers turns what a client offers into an Identity. Safe for concurrent
// use; it owns no goroutine.
type Providers struct{ cfg ProvidersConfig }

// NewProviders checks the configuration and returns the providers.
func NewProviders(cfg ProvidersConfig) (*Providers, error) { return &Providers{cfg: cfg}, nil }

// LoginRequest is one attempt to log in.
type LoginRequest struct {
	Method   string // anonymous, nickname, google or the name of a custom issuer
	Config   LoginConfig
	Nickname string
	IDToken  string
}

// Login checks one attempt.
func (p *Providers) Login(ctx context.Context, r LoginRequest) (Identity, error) {
	return Identity{}, ErrLoginDisabled
}

// Anonymous returns the identity behind an anonymous id, its name joined with
// the separator; false if the id was not made with this key.
func (p *Providers) Anonymous(id, separator string) (Identity, bool) { return Identity{}, false }

// Collect emits the counters of issuers.
func (p *Providers) Collect(emit func(name string, value float64, labels ...string)) {}
