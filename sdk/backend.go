package sdk

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// Handlers are what a backend does. All of one state's run one at a time, in
// order, on that state's goroutine; different states run beside each other. A
// handler may block: its state waits, others do not. Nil handlers do nothing.
// What a handler sends leaves when the handlers that are due have returned, and
// within a millisecond; State.Flush writes it at once. A handler that panics
// loses its state: the coordinator is told that it was released, and the panic
// is logged.
type Handlers struct {
	// NewState makes a state for user, who created it with data (valid during
	// the call only). An error refuses it, and the create goes to another
	// instance.
	NewState func(s *State, user string, data []byte) error
	// Load brings a state here that was created before: it has moved from
	// another instance, or somebody connects to an id that may be on a disk. An
	// error refuses it: those who connect are closed with 4000. Nil accepts it,
	// empty.
	Load func(s *State) error
	// Join admits a session. An error turns it away; a *CloseError says how.
	Join func(s *State, who *Session) error
	// Leave tells that a session that had joined has ended. It is not called when
	// the whole state goes: Gone is.
	Leave func(s *State, who *Session)
	// Message is one message of a session. data is valid during the call only.
	Message func(s *State, from *Session, data []byte)
	// Gone tells that the state has left this instance (it was released, or is
	// another's now). Nothing more is called for it.
	Gone func(s *State)
}

// BackendConfig is how a backend reaches its coordinators and who it is.
type BackendConfig struct {
	// Addrs are tunnel ports of coordinators, "host:port", tried in turn from a
	// random one on. At least one.
	Addrs []string
	// InOrder begins with the first of Addrs, for who knows which one is near;
	// the others are tried when that one fails or goes away.
	InOrder bool
	// Secret is the app's.
	Secret Secret
	// StoreID names this instance within its app, at most 256 bytes. A process
	// that takes the place of an earlier one uses its name. Empty: random.
	StoreID string
	// Region is where it runs, at most 64 bytes; may be empty.
	Region string
	// Capacity is how many sessions it wants at most; 0 = does not say.
	Capacity int
	// Login says which logins the app offers; nil says nothing.
	Login *Login
	// TLS is used as it is when not nil (with ServerName set to the host when
	// empty). RootCAs replaces the system's roots where TLS is nil. Plain turns
	// TLS off.
	TLS     *tls.Config
	RootCAs *x509.CertPool
	Plain   bool
	// Load, if set, reports how full the instance is, 0 to 1, every heartbeat;
	// by default sessions over Capacity.
	Load func() float64
	// OnAttached and OnDetached, if set, tell of the tunnel. They must not block.
	OnAttached func(addr string)
	OnDetached func(err error)
	// RejoinWait is how long a session of a state that was kept over a break of
	// the tunnel may be missing before it counts as having left; 0 = 10 s.
	RejoinWait time.Duration
	// MaxMessage is the largest message either way, in bytes; 0 = 15 MiB.
	MaxMessage int
	// Log takes a line when the tunnel changes; nil discards.
	Log *slog.Logger
}

// Secret is an app's secret; it prints as ***.
type Secret = tunnel.Secret

// Login is the login configuration of an app.
type Login struct {
	// Anonymous allows anonymous logins; Separator joins the words of a name.
	Anonymous *AnonymousLogin `json:"anonymous,omitempty"`
	// Nickname allows logins by nickname.
	Nickname *NicknameLogin `json:"nickname,omitempty"`
	// Google allows logins by a Google id token.
	Google *GoogleLogin `json:"google,omitempty"`
}

// AnonymousLogin configures anonymous logins.
type AnonymousLogin struct {
	Separator string `json:"separator"`
}

// NicknameLogin configures logins by nickname.
type NicknameLogin struct{}

// GoogleLogin configures logins by Google: the audience of its tokens.
type GoogleLogin struct {
	ClientID string `json:"clientId"`
}

// CloseError is a close code with a reason. Returned by Handlers.Join it turns
// the session away with them; 4000 to 4499 let a client come back.
type CloseError struct {
	Code   wire.Code
	Reason string
}

// Error returns code and reason.
func (e *CloseError) Error() string { return fmt.Sprintf("closed with code %d: %q", e.Code, e.Reason) }

var (
	// ErrDetached says that the tunnel is broken, so nothing can be sent.
	ErrDetached = errors.New("the tunnel to the coordinator is broken")
	// ErrGone says that the state or the session has ended.
	ErrGone = errors.New("the state or session has ended")
	// ErrTooBig says that a message is above the limit.
	ErrTooBig = errors.New("message is too big")
)

// loginJSON is the login configuration as the tunnel carries it.
func (l *Login) loginJSON() (json.RawMessage, error) {
	if l == nil {
		return nil, nil
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode login configuration: %w", err)
	}
	return b, nil
}
