package nodeport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrClosed is returned by Dial when the port's Run has ended.
var ErrClosed = errors.New("the node port is closed")

// Port is this node's end of all connections between nodes.
type Port struct {
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	hello     *strangers // in their handshake
	anonymous *strangers // after it, without certificate
	complain  complaints

	accepted, served, dialled, dialFailed, cut, aged atomic.Uint64
	// cuts counts calls of Cut, so that a handshake can tell whether one came in between.
	cuts atomic.Uint64

	mu        sync.Mutex
	closed    bool
	conns     map[*Conn]struct{}
	nodes     map[string]map[*Conn]struct{}
	listeners map[Kind]*listener
}

// New returns a port that has started nothing.
func New(cfg Config) (*Port, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Port{
		cfg: cfg, log: cfg.Log, now: cfg.Now,
		hello:     newStrangers(cfg.Strangers, cfg.StrangersPerAddr),
		anonymous: newStrangers(cfg.Strangers, cfg.StrangersPerAddr),
		complain:  complaints{log: cfg.Log, now: cfg.Now},
		conns:     make(map[*Conn]struct{}),
		nodes:     make(map[string]map[*Conn]struct{}),
		listeners: make(map[Kind]*listener),
	}, nil
}

// Addr is where the port listens.
func (p *Port) Addr() net.Addr { return p.cfg.Listener.Addr() }

// Counters says what the port has seen so far.
func (p *Port) Counters() Counters {
	c := Counters{
		Accepted: p.accepted.Load(), Served: p.served.Load(),
		Dialled: p.dialled.Load(), DialFailed: p.dialFailed.Load(), Cut: p.cut.Load(), Aged: p.aged.Load(),
		Strangers: p.hello.count() + p.anonymous.count(), Refused: p.complain.counts(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conns := range p.nodes {
		c.Open += len(conns)
	}
	return c
}

// Run accepts and serves until ctx ends, then closes every connection and returns when all handlers have. An error is
// the listener's.
func (p *Port) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		p.shut()
		return nil
	})
	g.Go(func() error { return p.accept(ctx, g) })
	return g.Wait()
}

func (p *Port) shut() {
	p.mu.Lock()
	p.closed = true
	conns := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	listeners := make([]*listener, 0, len(p.listeners))
	for _, l := range p.listeners {
		listeners = append(listeners, l)
	}
	p.mu.Unlock()
	_ = p.cfg.Listener.Close() // accept learns of it
	for _, l := range listeners {
		_ = l.Close()
	}
	for _, c := range conns {
		_ = c.raw.Close()
	}
}

// Cut ends all connections with a node, at once, and those whose handshake is going on (whose they are is not known
// yet; who is welcome comes again). Make sure before it that the node's certificate is not accepted any more.
func (p *Port) Cut(nodeID string) {
	p.cuts.Add(1)
	p.mu.Lock()
	conns := make([]*Conn, 0, len(p.nodes[nodeID]))
	for c := range p.nodes[nodeID] {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		p.cut.Add(1)
		c.kill(WasCut)
	}
}

// track takes c among the connections that end with the port.
func (p *Port) track(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

// know notes whose connection c is. cuts is how often Cut was called before its handshake.
func (p *Port) know(c *Conn, cuts uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	// Cut counts first and then takes the lock: either it has counted by now, or it will find c.
	if p.cuts.Load() != cuts {
		return &refusal{WasCut, nil}
	}
	of := p.nodes[c.peer.NodeID]
	if c.in {
		n := 0
		for other := range of {
			if other.in {
				n++
			}
		}
		if n >= p.cfg.PerNode {
			return &refusal{TooMany, fmt.Errorf("node %s has %d connections", c.peer.NodeID, n)}
		}
	}
	if of == nil {
		of = make(map[*Conn]struct{})
		p.nodes[c.peer.NodeID] = of
	}
	of[c] = struct{}{}
	c.age = time.AfterFunc(p.cfg.MaxAge-rand.N(p.cfg.MaxAge/8+1), func() {
		p.aged.Add(1)
		_ = c.raw.Close() // whoever uses it learns of it
	})
	return nil
}

func (p *Port) forget(c *Conn) {
	p.mu.Lock()
	if c.age != nil {
		c.age.Stop()
	}
	delete(p.conns, c)
	if of := p.nodes[c.peer.NodeID]; of != nil {
		if delete(of, c); len(of) == 0 {
			delete(p.nodes, c.peer.NodeID)
		}
	}
	p.mu.Unlock()
	p.hello.remove(c)
	p.anonymous.remove(c)
}

// Dial connects to a node for one kind of talk. The other end must show the certificate of nodeID; "" is any node. A
// connection that the other end does not want may fail at its first read only.
func (p *Port) Dial(ctx context.Context, addr, nodeID string, kind Kind) (net.Conn, error) {
	c, err := p.dial(ctx, addr, kind, p.cfg.ClientTLS(nodeID), func(state tls.ConnectionState) (Peer, error) {
		peer, err := p.cfg.Peer(state)
		if err == nil && nodeID != "" && peer.NodeID != nodeID {
			err = fmt.Errorf("the certificate is of node %s", peer.NodeID)
		}
		return peer, err
	})
	return p.made(c, err, kind, addr, nodeID)
}

// DialAnonymous connects for control without a certificate of this node, and without checking the other end's: whoever
// calls it has to prove and to check by what he sends.
func (p *Port) DialAnonymous(ctx context.Context, addr string) (net.Conn, error) {
	c, err := p.dial(ctx, addr, Control, p.cfg.EnrolTLS, func(tls.ConnectionState) (Peer, error) { return Peer{}, nil })
	return p.made(c, err, Control, addr, "")
}

func (p *Port) made(c *Conn, err error, kind Kind, addr, nodeID string) (net.Conn, error) {
	if err == nil {
		p.dialled.Add(1)
		return c, nil
	}
	p.dialFailed.Add(1)
	if nodeID == "" {
		nodeID = "any node"
	} else {
		nodeID = "node " + nodeID
	}
	return nil, fmt.Errorf("dial %s at %s for %s: %w", nodeID, addr, kind, err)
}

func (p *Port) dial(
	ctx context.Context, addr string, kind Kind, conf *tls.Config, who func(tls.ConnectionState) (Peer, error),
) (_ *Conn, err error) {
	if conf == nil {
		return nil, errors.New("this node has no certificate for that")
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	cuts := p.cuts.Load()
	raw, err := p.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{raw: raw, port: p}
	defer func() {
		if err != nil {
			p.forget(c)
			_ = raw.Close()
		}
	}()
	if !p.track(c) {
		return nil, ErrClosed
	}
	g := &guard{Conn: raw}
	secure := tls.Client(g, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	g.open = true
	state := secure.ConnectionState()
	peer, err := who(state)
	if err != nil {
		return nil, err
	}
	peer.Remote, peer.TLS = raw.RemoteAddr(), &state
	c.Conn, c.peer = secure, peer
	if err := p.know(c, cuts); err != nil {
		return nil, err
	}
	if at, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(at) // fails with the connection, and so does the write
	}
	if _, err := c.Write([]byte{byte(kind)}); err != nil {
		return nil, fmt.Errorf("say what for: %w", err)
	}
	return c, c.SetDeadline(time.Time{})
}
