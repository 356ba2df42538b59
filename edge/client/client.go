package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// Seat is a client's place in its state, as the router gives it out. Down and Drained are called by the connection's
// reader only.
type Seat interface {
	// Down hands up one message of the client. It may block: that is back-pressure, and the client's clocks stand still
	// meanwhile. payload is valid during the call only. An error ends the connection.
	Down(payload []byte, unreliable bool) error
	// Drained says that the reader has no further message at hand: what Down caused should be flushed.
	Drained()
	// Leave says that the connection has ended. It is called exactly once.
	Leave()
}

// Out is the way to a client. No method blocks, all are safe for concurrent use, and after Close or the end of the
// connection they do nothing.
type Out interface {
	// Registered is called once, before anything is delivered: the client may be told that it has arrived.
	Registered()
	// Deliver queues one message; Flush sends it. payload is copied. An unreliable one is dropped (and counted) when
	// much is waiting already.
	Deliver(payload []byte, unreliable bool)
	// Acked says that the state's instance has taken the client's messages up to this number. Only native clients hear
	// of it; Flush sends it.
	Acked(seq uint64)
	// Flush sends what is queued as far as the socket takes it at once; the rest follows by itself.
	Flush()
	// Close tells the client why and ends the connection after what is queued. An empty reason is replaced by the code's.
	Close(code wire.Code, reason string)
	// Queued is how many bytes wait for the client to take them.
	Queued() int
}

// JoinRequest says who wants to be in which state.
type JoinRequest struct {
	App     wire.AppID
	State   wire.StateID
	User    string
	Addr    netip.Addr
	Native  bool          // the client has stream, numbers and acknowledgements
	Stream  wire.StreamID // native only
	Next    uint64        // native: the number of the client's next message, at least 1; 1 for others
	Resumed bool          // native: the stream existed before, perhaps elsewhere
	Out     Out
}

// CreateRequest asks for a new state, for the revisions that create over the WebSocket.
type CreateRequest struct {
	App  wire.AppID
	User string
	Data []byte // valid during the call only
	Addr netip.Addr
}

// Refusal is why a request was not granted; the client reads it in its close frame.
type Refusal struct {
	Code   wire.Code
	Reason string // empty: that of the code
}

// Router knows where states live.
type Router interface {
	// Join seats a client. It may wait for an instance, within ctx. Out may be used before Join returns, beginning with
	// Registered. A nil Refusal means that Seat.Leave will be called.
	Join(ctx context.Context, r JoinRequest) (Seat, *Refusal)
	// Create makes a state.
	Create(ctx context.Context, r CreateRequest) (wire.StateID, *Refusal)
}

// Verified is what a good token says.
type Verified struct {
	App     wire.AppID
	User    string
	Expires time.Time // zero: never
}

// Authenticator checks tokens. Verify is called from many goroutines; every error reads as 4002 to the client.
type Authenticator interface {
	Verify(token []byte) (Verified, error)
}

// AppPolicy says whether an app is served here, and the largest message of its clients in bytes. It must not block.
type AppPolicy func(app wire.AppID) (allowed bool, maxMessage int)

// Clock is the time a Server goes by; a nil Deps.Clock is the machine's.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own after d, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// Deps is what a Server needs of others.
type Deps struct {
	Router  Router
	Auth    Authenticator
	Policy  AppPolicy
	Handler http.Handler // everything that is not an upgrade
	TLS     *tls.Config  // nil: no TLS on any listener
	Log     *slog.Logger
	Clock   Clock
}

// Config is what an operator may set.
type Config struct {
	// PlainHTTP takes HTTP and WebSocket without TLS as well, told apart by the first byte. Without Deps.TLS it must be set.
	PlainHTTP bool
	// PlainFrom lists the networks from which port 7148 is taken without TLS.
	PlainFrom []netip.Prefix
	// URLTokens allows revision E, whose token is part of the URL.
	URLTokens bool
	// Handshake is how long a connection may take from accept until it has said what it wants.
	Handshake time.Duration
	// MinRate is the least average rate of a request's body, in bytes per second.
	MinRate int
	// MaxHalfOpen bounds the connections that have not said yet what they want; beyond it one of them is closed for the next.
	MaxHalfOpen int
	// ConnsPerIP bounds the connections of one IPv4 address or IPv6 /64; 0 is no limit.
	ConnsPerIP int
	// ConnsPerApp bounds the sessions of one app; 0 is no limit.
	ConnsPerApp int
	// LiftLoopback exempts loopback addresses from ConnsPerIP.
	LiftLoopback bool
	// Ping is how often a silent client is pinged. After two pings without a byte it is cut.
	Ping time.Duration
	// MaxQueue is how many bytes may wait for one client, or one message if that is more; a client over it is cut.
	MaxQueue int
	// Stall is how long a client may take nothing while bytes wait for it.
	Stall time.Duration
	// Linger is how long a connection that we closed waits for the client to close too.
	Linger time.Duration
	// FirstWait is how long a legacy TCP client waits for its state to speak first before it is answered anyway.
	FirstWait time.Duration
	// FirstPause is the silence between the first bytes to a legacy TCP client and what follows.
	FirstPause time.Duration
}

// Default returns the values of docs/configuration.md.
func Default() Config {
	return Config{
		URLTokens:   true,
		Handshake:   10 * time.Second,
		MinRate:     1 << 10,
		MaxHalfOpen: 10_000,
		ConnsPerIP:  1_000,
		Ping:        15 * time.Second,
		MaxQueue:    1 << 20,
		Stall:       10 * time.Second,
		Linger:      2 * time.Second,
		FirstWait:   2 * time.Second,
		FirstPause:  50 * time.Millisecond,
	}
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"handshake time", c.Handshake},
		{"ping interval", c.Ping},
		{"stall limit", c.Stall},
		{"linger time", c.Linger},
		{"first wait", c.FirstWait},
		{"first pause", c.FirstPause},
	} {
		if d.v <= 0 {
			return fmt.Errorf("client %s must be above zero, not %v", d.name, d.v)
		}
	}
	for _, n := range []struct {
		name string
		v    int
	}{
		{"minimum rate", c.MinRate},
		{"half-open limit", c.MaxHalfOpen},
		{"queue limit", c.MaxQueue},
	} {
		if n.v <= 0 {
			return fmt.Errorf("client %s must be above zero, not %d", n.name, n.v)
		}
	}
	if c.ConnsPerIP < 0 || c.ConnsPerApp < 0 {
		return errors.New("client connection limits must not be negative")
	}
	return nil
}
