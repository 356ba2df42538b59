package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/placement"
)

// Run makes this node a member, if it is none, and keeps it one until ctx is done. It returns early with an error when
// the replica can no longer be trusted, and with ErrSessionOver when the cluster goes on without this node: what was
// promised until then is kept, nothing more is promised.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.port.Run(ctx) })
	g.Go(func() error { return n.client.Run(ctx) })
	g.Go(func() error { return n.live(ctx, g) })
	err := g.Wait()
	if r := n.replica.Load(); r != nil {
		err = errors.Join(err, r.Close()) // of one that never came to run
	}
	n.gossip.Load().Close()
	n.end()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// live leads this node from its start to its session, and starts what has to run on the way.
func (n *Node) live(ctx context.Context, g *errgroup.Group) error {
	if err := n.certify(ctx); err != nil {
		return err
	}
	if n.replica.Load() == nil {
		if err := n.enterAnew(ctx); err != nil {
			return err
		}
	}
	if err := n.startGossip(ctx, g); err != nil {
		return err
	}
	r := n.replica.Load()
	for _, part := range []func(context.Context) error{r.Run, n.write, n.forward, n.lead, n.watch, n.keepCertificate, n.meet} {
		g.Go(func() error { return n.unlessGoing(part(ctx)) })
	}
	if len(n.cfg.Join) > 0 {
		g.Go(func() error { return n.unlessGoing(n.checkJoin(ctx)) })
	}
	if n.place().Forming {
		if err := n.form(ctx); err != nil {
			return fmt.Errorf("form the cluster: %w", err)
		}
	}
	id, err := n.begin(ctx)
	if err != nil {
		return err
	}
	// Raft turns to a replica that was away after up to ten seconds: longer than a session lasts that nobody renews.
	g.Go(func() error { return n.unlessGoing(n.renew(ctx, id)) })
	if err := n.arrive(ctx, id); err != nil {
		return err
	}
	return n.unlessGoing(n.doubt(ctx))
}

// startGossip runs gossip in the times of the cluster's profile, which a node that joins has just learned.
func (n *Node) startGossip(ctx context.Context, g *errgroup.Group) error {
	if n.place().Profile != n.cfg.Profile {
		bound := n.gossip.Load().Addr().String()
		n.gossip.Load().Close()
		if err := n.openGossip(bound); err != nil {
			return err
		}
	}
	if err := n.gossip.Load().UpdateMeta(n.meta()); err != nil {
		return err
	}
	g.Go(func() error { return n.gossip.Load().Run(ctx) })
	return nil
}

// form makes the table of a new cluster.
func (n *Node) form(ctx context.Context) error {
	if err := n.replica.Load().Lead(ctx); err != nil {
		return err
	}
	if n.table.Generation() == 0 {
		m := n.place()
		f := &placement.Form{
			Generation: m.Generation, Incarnation: m.Incarnation, MACKey: randomKey(),
			Name: m.Cluster, Profile: m.Profile, Region: n.cfg.Region,
		}
		if _, err := n.one(ctx, f); err != nil {
			return err
		}
		if n.table.Incarnation() != m.Incarnation {
			return errors.New("its table is that of another cluster")
		}
	}
	return n.setPlace(func(m *member) { m.Forming = false })
}

// begin has the cluster confirm this node's place, and opens its session.
func (n *Node) begin(ctx context.Context) (sessionID, error) {
	if err := n.confirm(ctx); err != nil {
		return 0, err
	}
	return n.openSession(ctx)
}

// arrive waits until the own table has the session and its lease has begun: then the node is a member.
func (n *Node) arrive(ctx context.Context, id sessionID) error {
	for {
		changed := n.table.Changed()
		if s, ok := n.table.Session(id); ok {
			n.session.Store(&s)
			break
		}
		if n.table.Index() > uint64(id) {
			return ErrSessionOver
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-n.holder.begun: // who says before that it is ready is not
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.setPlace(func(m *member) { m.Settled, m.Recovered, m.Addr, m.Peers = true, false, n.nodeAddr, n.peerAddrs() }); err != nil {
		return err
	}
	if err := n.gossip.Load().UpdateMeta(n.meta()); err != nil {
		return err
	}
	s := n.Session()
	n.log.Info("this node is a member of the cluster", "cluster", n.place().Cluster,
		"session", uint64(s.ID), "number", s.Number, "boot", s.Boot, "server", n.place().Server)
	close(n.joined)
	return nil
}

// openSession opens a session, however long it takes. One that was opened by a try whose answer was lost is never renewed,
// so it ends by itself.
func (n *Node) openSession(ctx context.Context) (id sessionID, err error) {
	cmd := &placement.OpenSession{
		NodeID: n.cfg.NodeID, Region: n.cfg.Region, NodeAddr: n.nodeAddr, GossipAddr: n.GossipAddr(),
		Key: n.identity.KeyHash(), Proto: Proto,
	}
	lines := n.every(lineEvery)
	for ctx.Err() == nil {
		var out answer
		if out, _, err = n.decide(ctx, commands(cmd)); err == nil {
			switch r := out.results[0]; r.Outcome {
			case placement.Done:
				return r.Node, nil
			case placement.Again:
				continue
			case placement.Denied:
				return 0, n.denied(n.cfg.NodeID)
			case placement.Full:
				return 0, fmt.Errorf("open a node session: %w", placement.ErrFull)
			default:
				return 0, fmt.Errorf("open a node session: outcome %d", r.Outcome)
			}
		}
		if ctx.Err() == nil && lines.due() {
			n.log.Warn("no session yet: nobody leads the cluster, as far as this node can reach it; it goes on trying", "err", err)
		}
		if errors.Is(err, placement.ErrStopped) {
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// Why a node gets neither certificate nor session.
var (
	// ErrRevoked: an operator has shut the node out.
	ErrRevoked = errors.New("was revoked and is out of its cluster for good: keep it stopped, and see docs/operations/security.md")
	// ErrBound: the name is that of a node with another disk.
	ErrBound = errors.New("is the name of a node with another disk: if that one lives, start this one under another --node-id; " +
		"if its disk is lost, have it forgotten first, by trunkline force-remove at a member")
)

// denied says which of the two it is, as far as the own table knows.
func (n *Node) denied(node string) error {
	if info, _ := n.table.NodeInfo(node); info.Revoked {
		return named(node, ErrRevoked)
	}
	return named(node, ErrBound)
}

func named(node string, why error) error { return fmt.Errorf("node %q %w", node, why) }

// meta is what gossip tells of this node.
func (n *Node) meta() gossip.Meta {
	s := n.Session()
	m := gossip.Meta{
		Incarnation: n.place().Incarnation, Number: s.Number, Session: s.ID, Role: n.role(), ProtoMin: MinProto, ProtoMax: Proto,
		Region: n.cfg.Region, NodeAddr: n.nodeAddr, Version: n.cfg.Version, Draining: n.going(),
	}
	m.Version = m.Version[:min(len(m.Version), 32)]
	if m.Validate() != nil { // long names: whoever needs them finds them in the table
		m.Region, m.Version = "", ""
	}
	return m
}

func (n *Node) role() gossip.Role {
	id := n.place().Server
	r := n.replica.Load()
	if r == nil || id == "" {
		return gossip.Joining
	}
	for _, s := range r.Servers() {
		switch {
		case s.ID != id:
		case s.Voter:
			return gossip.Voter
		default:
			return gossip.NonVoter
		}
	}
	return gossip.Joining
}

// pace says when a line is due that must not come too often.
type pace struct {
	now func() time.Time
	gap time.Duration

	mu   sync.Mutex
	next time.Time
}

// lineEvery is the time between two lines about what goes on failing.
const lineEvery = 10 * time.Second

func (n *Node) every(gap time.Duration) *pace { return &pace{now: n.cfg.Now, gap: gap} }

func (p *pace) due() bool {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(p.gap)
	return true
}

func randomKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // crypto/rand never fails
	return key
}
