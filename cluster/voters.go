package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

const (
	// steadyTime is how long a replica must have been heard of without a gap before it gets a vote.
	steadyTime = 3 * time.Second
	// leavingSilent is how long the leader must not have heard of a voter for it not to count while another one goes.
	leavingSilent = 2 * time.Second
	// nearEnd is by how many entries its table may be behind then.
	nearEnd = 1000
)

// silentTime is how long the leader must not have heard of a voter before another takes its place.
func (n *Node) silentTime() time.Duration { return n.times().Dead }

// electorate is what a leader remembers of the replicas between two looks.
type electorate struct {
	steady map[string]time.Time // since when it has been heard of, by server id
}

// seeToVoters promotes and demotes what package consensus plans, and removes the replicas of nodes that were revoked.
func (n *Node) seeToVoters(ctx context.Context) error {
	if err := n.removeRevoked(ctx); err != nil {
		return err
	}
	return n.plan(ctx, "")
}

func (n *Node) removeRevoked(ctx context.Context) error {
	for _, info := range n.table.NodeInfos() {
		if info.Revoked && info.Node != n.cfg.NodeID {
			if err := n.removeServers(ctx, info.Node); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan takes the steps to the voters there should be, given that a node is leaving ("" = none).
func (n *Node) plan(ctx context.Context, leaving string) error {
	done, err := n.admitting.await(ctx)
	if err != nil {
		return err
	}
	defer done()
	r := n.replica.Load()
	for _, step := range consensus.PlanVoters(n.peers(leaving), n.place().Server, n.cfg.MaxVoters) {
		if !step.Promote {
			if err := r.Demote(ctx, step.ID); err != nil {
				return err
			}
			n.log.Info("a voter is a non-voter now", "server", step.ID)
			continue
		}
		if err := n.handAuthority(ctx, step.ID); err != nil {
			return fmt.Errorf("promote %s: %w", step.ID, err)
		}
		if err := r.Promote(ctx, step.ID); err != nil {
			return err
		}
		n.log.Info("a non-voter is a voter now", "server", step.ID)
	}
	return nil
}

// peers is what the plan is made from: contact times of raft, and how far tables are.
func (n *Node) peers(leaving string) []consensus.Peer {
	r := n.replica.Load()
	now, home, silent := n.cfg.Now(), n.table.Cluster().Region, n.silentTime()
	if leaving != "" { // whose vote is counted on from then on should be there now
		silent = min(silent, leavingSilent)
	}
	sessions := map[string]placement.Session{}
	for _, s := range n.table.Sessions() {
		sessions[s.Node] = s
	}
	steady := map[string]time.Time{}
	var out []consensus.Peer
	for _, s := range r.Servers() {
		node := nodeOf(s.ID)
		session, open := sessions[node]
		p := consensus.Peer{
			ID: s.ID, Voter: s.Voter, Home: open && session.Region == home, Leaving: node == leaving,
			Live: s.ID == n.place().Server || now.Sub(r.Contact(s.ID)) < silent,
		}
		if since := n.electorate.steady[s.ID]; now.Sub(r.Contact(s.ID)) < time.Second {
			if since.IsZero() {
				since = now
			}
			steady[s.ID] = since
			lag := n.lag.of(session.ID, r.LastIndex())
			p.CaughtUp = open && now.Sub(since) >= steadyTime && lag >= 0 && lag <= nearEnd
		}
		out = append(out, p)
	}
	n.electorate.steady = steady
	return out
}

// handAuthority gives a voter to be what it needs to sign certificates.
func (n *Node) handAuthority(ctx context.Context, server string) error {
	a := n.authority.Load()
	if a == nil {
		return errors.New("this node has nothing that signs certificates")
	}
	text, err := a.Encode()
	if err != nil {
		return err
	}
	for _, s := range n.replica.Load().Servers() {
		if s.ID == server {
			limit, cancel := context.WithTimeout(ctx, enterTime)
			defer cancel()
			_, err = n.client.Call(limit, s.Addr, nodeOf(server), control.Authority, text)
			return err
		}
	}
	return nil
}

// takeAuthority keeps what signs certificates, given by a voter.
func (n *Node) takeAuthority(_ context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	if n.roles()[from.NodeID] != "voter" {
		return nil, coded(codeDenied, "node %s is no voter", from.NodeID)
	}
	a, err := trust.ParseAuthority(body)
	if err != nil {
		return nil, errBadCall
	}
	if string(a.Certificate()) != string(n.identity.Authority()) {
		return nil, coded(codeDenied, "it has not signed this node's certificate")
	}
	if n.cfg.DataDir != "" {
		if err := a.Save(n.authorityPath()); err != nil {
			return nil, err
		}
	}
	n.authority.Store(a)
	return nil, nil
}
