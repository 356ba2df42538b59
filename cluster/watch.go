package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/placement"
)

// watch follows the table for what concerns this node: who was shut out, where others are, and its own end.
func (n *Node) watch(ctx context.Context) error {
	every := time.NewTicker(time.Second) // roles change without an entry of the table
	defer every.Stop()
	seen, cut, told, only := uint64(0), map[string]bool{}, gossip.Meta{}, n.place().Only
	for {
		changed := n.table.Changed()
		now := n.table.Index()
		if changes, ok := n.table.Changes(seen, nil); !ok || slices.ContainsFunc(changes, aboutNodes) {
			n.shutOut(cut)
			if err := n.followNodes(); err != nil {
				return err
			}
		}
		seen = now
		if m := n.meta(); m != told && n.gossip.Load().UpdateMeta(m) == nil { // of another incarnation: said elsewhere
			told = m
		}
		if now := n.onlyVoter(); now != only && n.Node() != 0 {
			if err := n.setPlace(func(m *member) { m.Only = now }); err != nil {
				return err
			}
			only = now
		}
		select {
		case <-changed:
			// Entries come in bursts; what is looked at here can wait for the end of one.
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func aboutNodes(c placement.Change) bool { return c.Kind == placement.NodesChanged }

// shutOut ends the connections of nodes that were revoked since.
func (n *Node) shutOut(cut map[string]bool) {
	for _, info := range n.table.NodeInfos() {
		if info.Revoked && !cut[info.Node] {
			n.port.Cut(info.Node)
			n.log.Info("a node was revoked; its connections are closed", "peer", info.Node)
		}
		cut[info.Node] = info.Revoked
	}
}

// followNodes notes where others are, and ends this node when its session is over.
func (n *Node) followNodes() error {
	id := n.Node()
	if id == 0 {
		return nil
	}
	if _, open := n.table.Session(id); !open {
		if n.going() {
			return nil
		}
		if info, _ := n.table.NodeInfo(n.cfg.NodeID); info.Revoked {
			return named(n.cfg.NodeID, ErrRevoked)
		}
		return ErrSessionOver
	}
	return n.setPlace(func(m *member) {
		m.Peers = n.peerAddrs()
		if c := n.table.Cluster(); c.Generation != 0 {
			m.Incarnation, m.Generation = c.Incarnation, c.Generation
		}
	})
}

// onlyVoter says whether the replicas agree on one voter, and that it is this node's.
func (n *Node) onlyVoter() bool {
	voters, own := 0, false
	for _, s := range n.replica.Load().Servers() {
		if s.Voter {
			voters++
			own = own || s.ID == n.place().Server
		}
	}
	return own && voters == 1
}

// going says that the node is leaving.
func (n *Node) going() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leaving
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
