package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// Dialer is what a client needs of a nodeport.Port.
type Dialer interface {
	Dial(ctx context.Context, addr, nodeID string, kind nodeport.Kind) (net.Conn, error)
	DialAnonymous(ctx context.Context, addr string) (net.Conn, error)
}

// ClientCounters are what a client has seen.
type ClientCounters struct {
	// Calls were asked for. Failed ones had an error as answer, NotSent ones never left, of Unknown ones nobody knows.
	Calls, Failed, NotSent, Unknown uint64
	// Dialled connections were made, DialFailed ones were not.
	Dialled, DialFailed uint64
	// Connections there are now.
	Connections int
}

// Client calls other nodes, over one connection to each.
type Client struct {
	cfg  Config
	dial Dialer

	calls, failed, notSent, unknown, dialled, dialFailed atomic.Uint64

	ctx  context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[string]*conn // by node, or "@" and address where any node will do
}

// NewClient returns a client that has started nothing.
func NewClient(cfg Config, dial Dialer) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if dial == nil {
		return nil, errors.New("control: a way to dial is needed")
	}
	c := &Client{cfg: cfg, dial: dial, conns: make(map[string]*conn)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Counters says what the client has seen so far.
func (c *Client) Counters() ClientCounters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ClientCounters{
		Calls: c.calls.Load(), Failed: c.failed.Load(), NotSent: c.notSent.Load(), Unknown: c.unknown.Load(),
		Dialled: c.dialled.Load(), DialFailed: c.dialFailed.Load(), Connections: len(c.conns),
	}
}

// Run waits for the end of ctx, then closes all connections and returns when their goroutines have ended.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
	return nil
}

// attempts is how often a call is tried that was not sent because its connection had just been lost.
const attempts = 3

// Call asks a node for something and waits for its answer. The node is nodeID, at addr unless there is a connection with
// it already; with nodeID "" it is whichever node is at addr. An error without ErrNotSent and ErrUnknown in it is the
// other node's own (see Error), or ErrTooLarge when the body is. The other node sees how much time ctx leaves.
func (c *Client) Call(ctx context.Context, addr, nodeID string, verb Verb, body []byte) ([]byte, error) {
	key := nodeID
	if key == "" {
		key = "@" + addr
	}
	c.calls.Add(1)
	dial := func(ctx context.Context) (net.Conn, error) { return c.dial.Dial(ctx, addr, nodeID, nodeport.Control) }
	for attempt := 1; ; attempt++ {
		cn, err := c.conn(key, dial)
		var got []byte
		if err == nil {
			got, err = cn.call(ctx, verb, body)
		}
		// A connection that had been good may have been lost before the call was on it: then a new one may do.
		if errors.Is(err, errLost) && attempt < attempts && ctx.Err() == nil {
			continue
		}
		return got, c.counted(verb, addr, nodeID, err)
	}
}

// CallAnonymous calls a node while this one has no certificate: over a connection of its own, whose other end has not
// been checked either. The body is made when that connection is there, so that it can be bound to it.
func (c *Client) CallAnonymous(
	ctx context.Context, addr string, verb Verb, body func(nodeport.Peer) ([]byte, error),
) ([]byte, error) {
	c.calls.Add(1)
	cn, err := c.conn("", func(ctx context.Context) (net.Conn, error) { return c.dial.DialAnonymous(ctx, addr) })
	if err != nil {
		return nil, c.counted(verb, addr, "", err)
	}
	defer cn.fail(errIdle)
	if err := cn.ready(ctx); err != nil {
		return nil, c.counted(verb, addr, "", err)
	}
	bound, err := body(cn.peer)
	if err != nil {
		return nil, c.counted(verb, addr, "", fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	got, err := cn.call(ctx, verb, bound)
	return got, c.counted(verb, addr, "", err)
}

// counted counts an error, and says in it what was called.
func (c *Client) counted(verb Verb, addr, nodeID string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*Error)): // it may be one that carries ErrUnknown from further on
		c.failed.Add(1)
	case errors.Is(err, ErrUnknown):
		c.unknown.Add(1)
	default:
		c.notSent.Add(1)
	}
	if nodeID == "" {
		return fmt.Errorf("call %s at %s: %w", verb, addr, err)
	}
	return fmt.Errorf("call %s of node %s: %w", verb, nodeID, err)
}

// conn returns the connection of a key, or begins to make it. With the key "" it is always a new one, which is not kept.
func (c *Client) conn(key string, dial func(context.Context) (net.Conn, error)) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cn := c.conns[key]; cn != nil {
		return cn, nil
	}
	if c.closed {
		return nil, fmt.Errorf("%w: the client is closed", ErrNotSent)
	}
	cn := newConn(c, key, dial)
	if key != "" {
		c.conns[key] = cn
	}
	c.wg.Go(cn.run)
	return cn, nil
}

// drop forgets a connection that has failed.
func (c *Client) drop(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns[cn.key] == cn {
		delete(c.conns, cn.key)
	}
}
