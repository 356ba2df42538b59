package sdk

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	"github.com/trunkline-edge/trunkline/wire"
)

// ClientConfig is where a client connects and what it does there. Callbacks run
// one at a time on the goroutine of Run; nil ones are not called.
type ClientConfig struct {
	// Addrs are coordinators, tried in turn from a random one on:
	// "wss://host[:port]" or "ws://…" for WebSocket, "tls://host:port" or
	// "tcp://…" for the TCP port (7148). At least one.
	Addrs []string
	// InOrder begins with the first of Addrs, for who knows which one is near;
	// the others are tried when that one fails or goes away.
	InOrder bool
	// App is the app's id, 64 lowercase hex digits.
	App string
	// State is the state to connect to, in base 36.
	State string
	// Token is sent with every connect; TokenSource, if set, is asked before
	// each one instead, and when a token is about to expire, then from another
	// goroutine.
	Token       string
	TokenSource func(ctx context.Context) (string, error)
	// TLS is used as it is when not nil (with ServerName set to the host when
	// empty); RootCAs replaces the system's roots where it is nil.
	TLS     *tls.Config
	RootCAs *x509.CertPool
	// OnMessage takes one message; data is valid during the call only.
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
	// Addr is the one of ClientConfig.Addrs that answered.
	Addr string
	// State is what the state's text meant.
	State wire.StateID
	// Resumed says that this is not the client's first connection.
	Resumed bool
}

// Gap says where messages may be missing.
type Gap struct {
	// From and To are the numbers of the first and last message from the
	// backend that are missing; 0 when nobody knows whether any is.
	From, To uint64
	// Lost is how many messages of ours may not have arrived: they were given
	// up because Keep was reached, or because nobody acknowledges there.
	Lost int
	// Certain says that something is missing, not only perhaps.
	Certain bool
}

const (
	// keepBytes is ClientConfig.Keep by default.
	keepBytes = 1 << 20
	// keptCost is what a kept message counts beside its bytes.
	keptCost = 64
)

// ErrFull says that Keep bytes wait to be sent: the connection is gone or slow.
var ErrFull = errors.New("too much waits to be sent")

// Client is one client of one state. Make it with NewClient.
type Client struct {
	cfg    ClientConfig
	app    wire.AppID
	stream wire.StreamID
	secure *tls.Config
	addrs  []string

	// Of the goroutine of Run.
	seen      uint64 // number of the last message received
	connected bool   // there was a connection

	mu    sync.Mutex
	kept  []keptMessage // not acknowledged, oldest first
	bytes int           // of kept, with keptCost each
	next  int           // index in kept of the first that this connection has not sent
	seq   uint64        // number of the last message given to Send
	lost  int           // given up unacknowledged since the last connection
	acks  bool          // the present connection has acknowledged something
	out   *outbox       // of the present connection, or nil
	over  bool
}

// keptMessage is a message of ours that is not acknowledged.
type keptMessage struct {
	seq  uint64
	data []byte
}

// NewClient checks the configuration; it starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("sdk: a client needs the address of a coordinator")
	}
	for _, addr := range cfg.Addrs {
		if err := checkAddr(addr); err != nil {
			return nil, err
		}
	}
	app, err := wire.ParseAppID(cfg.App)
	if err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	if _, err := wire.ParseStateID(cfg.State); err != nil {
		return nil, fmt.Errorf("sdk: %w", err)
	}
	if cfg.MaxMessage < 0 || cfg.MaxMessage > maxMessage || cfg.Keep < 0 {
		return nil, errors.New("sdk: largest message or bytes to keep out of range")
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = maxMessage
	}
	if cfg.Keep == 0 {
		cfg.Keep = keepBytes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, app: app, secure: secureConfig(cfg.TLS, cfg.RootCAs), addrs: cfg.Addrs}
	rand.Read(c.stream[:])
	return c, nil
}

func checkAddr(addr string) error {
	u, err := url.Parse(addr)
	if err != nil {
		return fmt.Errorf("sdk: address %q: %w", addr, err)
	}
	switch u.Scheme {
	case "ws", "wss":
	case "tcp", "tls":
		if u.Port() == "" {
			return fmt.Errorf("sdk: address %q has no port", addr)
		}
	default:
		return fmt.Errorf("sdk: address %q must begin with wss://, ws://, tls:// or tcp://", addr)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("sdk: address %q has no host", addr)
	}
	return nil
}

// Send sends one message; data is copied. While there is no connection it is
// kept, as far as Keep allows, and sent when there is one. Any goroutine may
// call it. It fails with ErrTooBig, ErrFull or, when Run has returned, ErrGone.
func (c *Client) Send(data []byte) error {
	if len(data) > c.cfg.MaxMessage {
		return ErrTooBig
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return ErrGone
	}
	// What was sent and is not acknowledged yet makes room: a coordinator that
	// does not acknowledge must not stop us. It is counted, for OnGap.
	for c.bytes+len(data)+keptCost > c.cfg.Keep && c.next > 0 {
		c.forget(1)
		c.lost++
	}
	if c.bytes > 0 && c.bytes+len(data)+keptCost > c.cfg.Keep {
		return ErrFull
	}
	c.seq++
	c.kept = append(c.kept, keptMessage{c.seq, append([]byte(nil), data...)})
	c.bytes += len(data) + keptCost
	if c.out != nil {
		c.out.wake()
	}
	return nil
}

// forget drops the n oldest kept messages; c.mu is held.
func (c *Client) forget(n int) {
	for i := range n {
		c.bytes -= len(c.kept[i].data) + keptCost
		c.kept[i] = keptMessage{}
	}
	c.kept = c.kept[n:]
	c.next = max(c.next-n, 0)
}

// acked forgets every message up to seq that was sent on this connection. The backend may have had more of them, by an
// earlier one that was thought dead; but the coordinator takes them in order only, so they are sent again and dropped there.
func (c *Client) acked(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(c.upTo(seq, c.next))
}

// begin makes a connection begin with seq: what comes before is not asked for any more.
func (c *Client) begin(seq uint64) {
	c.mu.Lock()
	c.forget(c.upTo(seq-1, len(c.kept)))
	c.mu.Unlock()
	c.rewind(seq)
}

// upTo counts the kept messages up to seq, most at most; c.mu is held.
func (c *Client) upTo(seq uint64, most int) (n int) {
	for n < most && c.kept[n].seq <= seq {
		n++
	}
	return n
}

// disconnected makes everything kept due again on the next connection. Where
// nothing was ever acknowledged, nobody keeps account either: what was sent is
// given up then, since it would arrive twice.
func (c *Client) disconnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.acks {
		c.lost += c.next
		c.forget(c.next)
	}
	c.out, c.next, c.acks = nil, 0, false
}

// rewind makes the connection send from seq on.
func (c *Client) rewind(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = 0
	for c.next < len(c.kept) && c.kept[c.next].seq < seq {
		c.next++
	}
	if c.out != nil {
		c.out.wake()
	}
}

// first is the number that a new connection begins with: the oldest kept, or
// the next.
func (c *Client) first() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) > 0 {
		return c.kept[0].seq
	}
	return c.seq + 1
}
