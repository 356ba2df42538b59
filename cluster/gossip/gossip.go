package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// Gossip is this node among the others.
type Gossip struct {
	cfg       Config
	timing    Timing
	transport *transport
	ring      *memberlist.Keyring
	list      *memberlist.Memberlist // from Run on, for what Run starts
	listing   listing
	counts    counts
	logs      *lines
	refused   limiter // lines about metadata
	strangers limiter // lines about other clusters
	lonely    limiter // lines about joins that reach nobody

	started     atomic.Bool
	joining     atomic.Int32  // joins of ours on their way
	left        atomic.Bool   // this node has said goodbye
	leave       chan farewell // wishes to leave
	over        chan struct{} // Run has returned
	unpublished chan struct{} // meta has changed

	mu   sync.Mutex
	meta Meta
}

// Errors that a caller branches on.
var (
	// ErrIncarnation: this node is of another incarnation already, and changes that only by starting anew.
	ErrIncarnation = errors.New("the node is of another incarnation")
	// ErrNotRunning: Run has not started or has returned.
	ErrNotRunning = errors.New("gossip does not run")
)

// New checks the configuration and binds the sockets. It starts nothing.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g := &Gossip{
		cfg: cfg, timing: cfg.timing(), meta: cfg.Meta,
		leave: make(chan farewell), over: make(chan struct{}), unpublished: make(chan struct{}, 1),
		listing: listing{members: make(map[string]*listed)},
		refused: limiter{every: quiet}, strangers: limiter{every: time.Hour}, lonely: limiter{every: time.Minute},
		ring: &memberlist.Keyring{},
	}
	g.logs = &lines{g: g, limit: limiter{every: quiet}}
	primary, all := cfg.Keys()
	if err := install(g.ring, primary, all); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	var err error
	if g.transport, err = bind(&g.cfg, &g.counts); err != nil {
		return nil, err
	}
	return g, nil
}

// Addr is where it listens, for tcp and udp.
func (g *Gossip) Addr() netip.AddrPort { return g.transport.bound }

// AdvertiseAddr is what others are told.
func (g *Gossip) AdvertiseAddr() netip.AddrPort { return g.transport.advertise }

// Close frees the sockets of a Gossip that is not going to Run.
func (g *Gossip) Close() {
	if g.started.CompareAndSwap(false, true) {
		g.transport.close()
		close(g.over)
	}
}

// Run is a member until ctx ends. To others the node is then dead, unless it said goodbye before (Leave).
func (g *Gossip) Run(ctx context.Context) error {
	if !g.started.CompareAndSwap(false, true) {
		return errors.New("gossip: run twice or closed")
	}
	defer close(g.over)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(g.transport.accept)
	group.Go(g.transport.read)
	list, err := memberlist.Create(g.config())
	if err != nil {
		g.logs.muted.Store(true)
		g.transport.close()
		return errors.Join(fmt.Errorf("gossip: %w", err), group.Wait())
	}
	g.list = list
	group.Go(func() error { return g.rejoin(ctx) })
	group.Go(func() error { return g.publish(ctx) })
	group.Go(func() error { return g.rotate(ctx) })
	group.Go(func() error { return g.hint(ctx) })
	group.Go(func() error { return g.depart(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		g.logs.muted.Store(true)
		g.transport.close() // joins that wait for an answer end here
		return nil
	})
	return errors.Join(group.Wait(), list.Shutdown())
}

func (g *Gossip) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label = g.cfg.Name, g.cfg.Cluster
	c.Transport, c.Keyring = g.transport, g.ring
	c.BindPort = int(g.transport.bound.Port())
	c.ProtocolVersion = memberlist.ProtocolVersionMax
	c.EnableCompression = false
	t := g.timing
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = t.Probe, t.ProbeTimeout, t.Suspicion
	c.GossipInterval, c.PushPullInterval, c.TCPTimeout = t.Gossip, t.PushPull, t.Stream
	c.GossipToTheDeadTime, c.DeadNodeReclaimTime = t.Forget, t.Reclaim
	h := hooks{g}
	c.Delegate, c.Events, c.Alive, c.Merge, c.Ping = h, h, h, h, h
	c.Logger = log.New(g.logs, "", 0)
	return c
}

// Incarnation is that of the cluster this node is in, zero while it is in none.
func (g *Gossip) Incarnation() [16]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta.Incarnation
}

// UpdateMeta changes what this node says of itself; others hear of it within a second or so. A zero incarnation keeps
// the one there is.
func (g *Gossip) UpdateMeta(m Meta) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	present := g.meta.Incarnation
	if m.Incarnation == [16]byte{} {
		m.Incarnation = present
	}
	if present != [16]byte{} && m.Incarnation != present {
		return fmt.Errorf("gossip: %w", ErrIncarnation)
	}
	g.meta = m
	poke(g.unpublished)
	return nil
}

// publish tells others what this node says of itself.
func (g *Gossip) publish(ctx context.Context) error {
	for {
		select {
		case <-g.unpublished:
			// It is queued to be gossiped, and nothing is gained by waiting for that: its error says that we did not.
			_ = g.list.UpdateNode(time.Nanosecond)
		case <-ctx.Done():
			return nil
		}
	}
}

// hint sends the loads of this node's instances to every member.
func (g *Gossip) hint(ctx context.Context) error {
	if g.cfg.Loads == nil {
		return nil
	}
	tick := time.NewTicker(g.timing.Loads)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if g.left.Load() {
			continue
		}
		loads, others := g.cfg.Loads(), g.others()
		for len(loads) > 0 && len(others) > 0 {
			var b []byte
			b, loads = appendLoads(nil, g.cfg.Name, loads)
			for _, m := range others {
				if g.list.SendBestEffort(m.node(), b) == nil {
					g.counts.loadsSent.Add(1)
				}
			}
		}
	}
}

// poke leaves a note for a goroutine that has at most one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
