package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Errors of Login that callers branch on.
var (
	// ErrLoginDisabled: the app has no such login.
	ErrLoginDisabled = errors.New("this login is not configured for the app")
	// ErrCredential: the nickname or the identity token is not acceptable.
	ErrCredential = errors.New("the credential is not valid")
	// ErrUnavailable: the issuer's keys could not be fetched, and no earlier ones
	// are young enough.
	ErrUnavailable = errors.New("the identity provider cannot be reached")
)

// MaxNickname is the longest nickname in bytes.
const MaxNickname = 128

// Google's tokens name it with and without the scheme.
var googleIssuers = []string{"https://accounts.google.com", "accounts.google.com"}

const googleKeys = "https://www.googleapis.com/oauth2/v3/certs"

// ProvidersConfig says how logins are checked.
type ProvidersConfig struct {
	// MACKey authenticates anonymous ids. Required, not all zero.
	MACKey [32]byte
	// AllowHosts are the hosts ("issuer.internal:8443"; without a port 443 and 80)
	// whose key sets may be fetched by plain HTTP and from loopback or link-local
	// addresses.
	AllowHosts []string
	// GoogleKeys is where Google's key set is fetched. Default: Google's own.
	GoogleKeys string
	// Clock tells the wall time, with a monotonic reading. Required.
	Clock func() time.Time
	// Log gets at most one line per failing issuer and minute. Required.
	Log *slog.Logger
}

// Providers turns what a client offers into an Identity. Safe for concurrent
// use; it owns no goroutine: keys are fetched by the login that needs them.
type Providers struct {
	cfg     ProvidersConfig
	issuers *issuers
	logins  [logins]atomic.Uint64
}

// The outcomes of a login that are counted.
const (
	loginDone = iota
	loginDisabled
	loginRefused
	loginUnavailable
	logins
)

// NewProviders checks the configuration and returns the providers.
func NewProviders(cfg ProvidersConfig) (*Providers, error) {
	if cfg.MACKey == ([32]byte{}) {
		return nil, errors.New("login providers: a MAC key is required")
	}
	if cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("login providers: a clock and a log are required")
	}
	if cfg.GoogleKeys == "" {
		cfg.GoogleKeys = googleKeys
	}
	return &Providers{cfg: cfg, issuers: newIssuers(cfg)}, nil
}

// LoginRequest is one attempt to log in.
type LoginRequest struct {
	// Method is anonymous, nickname, google or the name of a custom issuer.
	Method string
	// Config is the app's login configuration.
	Config LoginConfig
	// Nickname is what the client wants to be called; empty draws a name.
	Nickname string
	// IDToken is the identity token of an issuer.
	IDToken string
}

// Login checks one attempt. Its error wraps ErrLoginDisabled, ErrCredential or
// ErrUnavailable. It waits at most 5 s for an issuer.
func (p *Providers) Login(ctx context.Context, r LoginRequest) (Identity, error) {
	id, err := p.login(ctx, &r)
	switch {
	case err == nil:
		p.logins[loginDone].Add(1)
	case errors.Is(err, ErrLoginDisabled):
		p.logins[loginDisabled].Add(1)
	case errors.Is(err, ErrUnavailable):
		p.logins[loginUnavailable].Add(1)
	default:
		p.logins[loginRefused].Add(1)
	}
	return id, err
}

func (p *Providers) login(ctx context.Context, r *LoginRequest) (Identity, error) {
	if !r.Config.Enabled(r.Method) {
		return Identity{}, ErrLoginDisabled
	}
	switch r.Method {
	case TypeAnonymous:
		return p.newAnonymous(r.Config.NameSeparator()), nil
	case TypeNickname:
		return p.nickname(r.Nickname)
	case TypeGoogle:
		src := source{names: googleIssuers, audience: r.Config.Google, keys: p.cfg.GoogleKeys, pinned: true}
		c, err := p.issuers.verify(ctx, src, r.IDToken)
		if err != nil {
			return Identity{}, err
		}
		return c.identity(TypeGoogle, ""), nil
	}
	o := r.Config.OIDC[r.Method]
	c, err := p.issuers.verify(ctx, source{names: []string{o.Issuer}, audience: o.Audience, keys: o.JWKS}, r.IDToken)
	if err != nil {
		return Identity{}, err
	}
	// Subjects of different issuers may be equal; ids of one app must not.
	return c.identity(r.Method, r.Method+":"), nil
}

// nickname makes a new identity of the name that the client chose; without one
// (two SDKs send no body) a name is drawn as for anonymous users.
func (p *Providers) nickname(name string) (Identity, error) {
	if len(name) > MaxNickname || !utf8.ValidString(name) {
		return Identity{}, ErrCredential
	}
	id := Identity{Type: TypeNickname, ID: randomID(nicknameRandom), Name: name}
	if name == "" {
		_, draw := p.sign(id.ID)
		id.Name = drawName(draw, Separator)
	}
	return id, nil
}

// Collect emits the counters of logins and of issuers' keys.
func (p *Providers) Collect(emit func(name string, value float64, labels ...string)) {
	for i, outcome := range [logins]string{"done", "disabled", "refused", "unavailable"} {
		emit("logins_total", float64(p.logins[i].Load()), "outcome", outcome)
	}
	p.issuers.collect(emit)
}
