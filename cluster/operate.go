package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// HandOver is for a node that stops and means to come back: leadership goes to another voter, gossip says goodbye, and the
// session stays open until its lease is over, so that the node finds its instances if it is back before.
func (n *Node) HandOver(ctx context.Context) error {
	n.mu.Lock()
	n.leaving = true
	n.mu.Unlock()
	yielded := n.yield(ctx)
	err := n.gossip.Load().Leave(ctx)
	if errors.Is(err, gossip.ErrNotRunning) { // it has not begun, or has ended with the rest
		err = nil
	}
	return errors.Join(yielded, err)
}

// yield gives the leadership away, if this node has it and there is another voter.
func (n *Node) yield(ctx context.Context) error {
	r := n.replica.Load()
	if r == nil || !r.Leading() {
		return nil
	}
	for _, s := range r.Servers() {
		if s.Voter && s.ID != n.place().Server {
			return r.TransferLeadership(ctx, "")
		}
	}
	return nil
}

// Leave takes this node out of the cluster for good: its replica is removed, so that the number of voters shrinks, its
// session ends, and gossip says goodbye. Afterwards, when Left says so, the node answers nothing more: stop it, also where
// Leave has returned an error. Started again with the same data it asks for --join. The last voter cannot leave.
func (n *Node) Leave(ctx context.Context) error {
	r := n.replica.Load()
	if r == nil || n.Node() == 0 {
		return errors.New("leave the cluster: this node is not a member")
	}
	if n.leading() && n.onlyVoter() { // somebody has to be there to hand over to
		if err := n.plan(ctx, n.cfg.NodeID); err != nil {
			return fmt.Errorf("leave the cluster: %w", err)
		}
	}
	others := 0
	for _, s := range r.Servers() {
		if s.Voter && nodeOf(s.ID) != n.cfg.NodeID {
			others++
		}
	}
	if others == 0 {
		return fmt.Errorf("leave the cluster: %w", ErrOnlyVoter)
	}
	n.mu.Lock()
	n.leaving = true
	n.mu.Unlock()
	err := n.depart(ctx)
	n.mu.Lock()
	n.leaving, n.left = err == nil, err == nil
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	n.log.Info("this node has left the cluster")
	err = errors.Join(n.setPlace(func(m *member) { m.Left = true }), n.dropAuthority()) // it signs for the cluster no more
	if err := n.gossip.Load().Leave(ctx); err != nil {
		n.log.Warn("the others find out by themselves that this node is gone", "err", err)
	}
	if err != nil {
		return fmt.Errorf("this node has left the cluster and could not note that: %w", err)
	}
	return nil
}

// Left says that this node has left the cluster: what is left to do is to stop it.
func (n *Node) Left() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.left
}

// unlessGoing keeps the end of the session from ending a node that leaves: whoever runs it does.
func (n *Node) unlessGoing(err error) error {
	if errors.Is(err, ErrSessionOver) && n.going() {
		return nil
	}
	return err
}

// depart has the leader remove this node, which is not this node any more.
func (n *Node) depart(ctx context.Context) error {
	body := appendText(appendU64(nil, uint64(n.Node())), n.cfg.NodeID)
	for {
		changed := n.leaderChanged()
		if err := n.yield(ctx); err != nil {
			return err
		}
		_, err := n.callLeader(ctx, control.Leave, body)
		if errors.Is(err, ErrNoLeader) && n.departAnywhere(ctx, body) {
			return nil
		}
		if err == nil || !errors.Is(err, ErrNoLeader) && !errors.Is(err, control.ErrUnknown) {
			return err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		}
		pause.Stop()
	}
}

// departAnywhere asks the nodes that this one knows, of whom one may lead: a replica that was removed, and whose answer was
// lost, hears of no leader any more.
func (n *Node) departAnywhere(ctx context.Context, body []byte) bool {
	for _, addr := range n.peerAddrs() {
		limit, cancel := context.WithTimeout(ctx, renewTime)
		_, err := n.client.Call(limit, addr, "", control.Leave, body)
		cancel()
		if err == nil {
			return true
		}
	}
	return false
}

// Instead of a session of the node that leaves, an operator's word: all of its sessions, by force, or for good.
const (
	byForce wire.NodeSession = 0
	forGood wire.NodeSession = math.MaxUint64
)

// takeLeave removes a node that leaves, or that an operator wants to be gone.
func (n *Node) takeLeave(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	f := fields{b: body}
	session, node := wire.NodeSession(f.u64()), f.text()
	if f.bad || node == "" {
		return nil, errBadCall
	}
	operators := session == byForce || session == forGood
	if !operators && node != from.NodeID {
		return nil, coded(codeDenied, "%s may not leave for %s", from.NodeID, node)
	}
	if !n.leading() {
		return nil, n.notLeader()
	}
	switch session {
	case byForce:
		return nil, n.removeNode(ctx, node)
	case forGood:
		return nil, n.revokeNode(ctx, node)
	}
	if err := n.removeServers(ctx, node); err != nil {
		return nil, err
	}
	_, err := n.one(ctx, &placement.EndSession{Session: session, At: n.cfg.Now().Unix()})
	return nil, err
}

// removeServers removes a node's replicas, as the leader. Votes are seen to before, so that an odd number is left and a
// majority of it lives.
func (n *Node) removeServers(ctx context.Context, node string) error {
	r := n.replica.Load()
	servers := slices.DeleteFunc(r.Servers(), func(s consensus.Server) bool { return nodeOf(s.ID) != node })
	if len(servers) == 0 {
		return nil
	}
	if err := n.plan(ctx, node); err != nil {
		return err
	}
	for _, s := range servers {
		if err := r.Remove(ctx, s.ID); err != nil {
			return err
		}
		n.log.Info("a replica was removed", "peer", node, "server", s.ID)
	}
	return nil
}

// removeNode removes a node by force, as the leader.
func (n *Node) removeNode(ctx context.Context, node string) error {
	// While it has its session: if it lives, its vote may be needed to do without it.
	if err := n.removeServers(ctx, node); err != nil {
		return err
	}
	r, err := n.one(ctx, &placement.Unbind{NodeID: node, At: n.cfg.Now().Unix()})
	if err != nil {
		return err
	}
	if r.Outcome != placement.Done {
		return coded(codeNoNode, "%v", ErrNoNode)
	}
	n.port.Cut(node)
	return nil
}

// ForceRemove removes a node that does not answer: its sessions end, its replica is removed, and its id is free for
// another key. If it lives it finds itself out of the cluster and enters again as a new one; to keep it out, use Revoke.
func (n *Node) ForceRemove(ctx context.Context, node string) error {
	if node == n.cfg.NodeID {
		return fmt.Errorf("remove a node by force: %w: ask another node, or have this one leave", ErrNotHere)
	}
	if err := n.askForRemoval(ctx, byForce, node, n.removeNode); err != nil {
		return fmt.Errorf("remove node %q by force: %w", node, err)
	}
	return nil
}

// askForRemoval has whoever leads do to a node what the word says.
func (n *Node) askForRemoval(ctx context.Context, word wire.NodeSession, node string, do func(context.Context, string) error) error {
	body := appendText(appendU64(nil, uint64(word)), node)
	err := n.untilLed(ctx, func() error {
		if n.leading() {
			return do(ctx, node)
		}
		_, err := n.callLeader(ctx, control.Leave, body)
		return err
	})
	if isCode(err, codeNoNode) {
		return ErrNoNode
	}
	return err
}

// untilLed repeats something until a leader has answered.
func (n *Node) untilLed(ctx context.Context, do func() error) error {
	for {
		changed := n.leaderChanged()
		err := do()
		if !errors.Is(err, ErrNoLeader) && !isCode(err, codeNotLeader) {
			return err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		case <-n.stopped:
			pause.Stop()
			return placement.ErrStopped
		}
		pause.Stop()
	}
}

// Revoke shuts a node out: its sessions end, its connections are closed by all nodes, and neither its certificate nor a
// new one lets it in, until it is removed by force.
func (n *Node) Revoke(ctx context.Context, node string) error {
	if node == n.cfg.NodeID {
		return fmt.Errorf("revoke: %w: ask another node", ErrNotHere)
	}
	if err := n.askForRemoval(ctx, forGood, node, n.revokeNode); err != nil {
		return fmt.Errorf("revoke node %q: %w", node, err)
	}
	return nil
}

// revokeNode shuts a node out for good, as the leader. Its replica goes first, while its connections are open: once it is
// shut out its vote is as good as that of a dead node, and another dead one would be too many. A leader that is to be
// shut out lets another one lead.
func (n *Node) revokeNode(ctx context.Context, node string) error {
	if node == n.cfg.NodeID {
		if err := n.yield(ctx); err != nil {
			return err
		}
		return n.notLeader()
	}
	if _, known := n.table.NodeInfo(node); !known {
		return coded(codeNoNode, "%v", ErrNoNode)
	}
	if err := n.removeServers(ctx, node); err != nil {
		return err
	}
	r, err := n.one(ctx, &placement.Revoke{NodeID: node, At: n.cfg.Now().Unix()})
	if err == nil && r.Outcome != placement.Done {
		err = coded(codeNoNode, "%v", ErrNoNode)
	}
	return err
}
