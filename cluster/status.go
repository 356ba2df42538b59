package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// statusTime is how long a node may take to say how it is.
const statusTime = 2 * time.Second

// NodeStatus is how a node is, as it says itself.
type NodeStatus struct {
	Node    string           `json:"node"`
	Session wire.NodeSession `json:"session"`
	Region  string           `json:"region"`
	Version string           `json:"version"`
	// Error is why nothing more is known: it did not answer.
	Error string `json:"error,omitempty"`

	Draining bool `json:"draining"`

	Server string `json:"server,omitempty"`
	Role   string `json:"role,omitempty"`
	Leader string `json:"leader,omitempty"` // node; "" knows none
	Term   uint64 `json:"term,omitempty"`
	// Of raft's log and of the table.
	LastIndex    uint64 `json:"last_index,omitempty"`
	CommitIndex  uint64 `json:"commit_index,omitempty"`
	AppliedIndex uint64 `json:"applied_index,omitempty"`
	// LastContact is how long ago it heard of its leader, LeaseLeft how long its lease lasts, in milliseconds; negative:
	// unknown, over.
	LastContact int64 `json:"last_contact_ms"`
	LeaseLeft   int64 `json:"lease_left_ms"`

	Keys []trust.KeyInfo `json:"keys,omitempty"`
	// Extra is what other parts of the node add: links.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// OwnStatus returns how this node is.
func (n *Node) OwnStatus() NodeStatus {
	now := n.cfg.Now()
	until, _ := n.Lease()
	st := NodeStatus{
		Node: n.cfg.NodeID, Session: n.Node(), Region: n.cfg.Region, Version: n.cfg.Version, Draining: n.going(),
		Server: n.place().Server, Role: n.role().String(), AppliedIndex: n.table.Index(), LastContact: -1,
		LeaseLeft: until.Sub(now).Milliseconds(), Keys: n.keys.List(),
	}
	if until.IsZero() {
		st.LeaseLeft = -1
	}
	st.Leader, _ = n.Leader()
	if r := n.replica.Load(); r != nil {
		st.Term, st.LastIndex, st.CommitIndex = r.Term(), r.LastIndex(), r.CommitIndex()
		if at := r.LastContact(); !at.IsZero() {
			st.LastContact = now.Sub(at).Milliseconds()
		}
	}
	if n.cfg.Extra != nil {
		st.Extra = n.cfg.Extra()
	}
	return st
}

func (n *Node) takeStatus(context.Context, nodeport.Peer, []byte) ([]byte, error) {
	return json.Marshal(n.OwnStatus())
}

// Status asks every node with a session how it is, in the order of their sessions.
func (n *Node) Status(ctx context.Context) []NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	sessions := n.table.Sessions()
	out := make([]NodeStatus, len(sessions))
	var g errgroup.Group
	g.SetLimit(32)
	for i, s := range sessions {
		g.Go(func() error {
			out[i] = n.statusOf(ctx, s)
			return nil
		})
	}
	_ = g.Wait()
	return out
}

func (n *Node) statusOf(ctx context.Context, s placement.Session) NodeStatus {
	if s.ID == n.Node() {
		return n.OwnStatus()
	}
	st := NodeStatus{Node: s.Node, Session: s.ID, Region: s.Region, LastContact: -1, LeaseLeft: -1}
	b, err := n.client.Call(ctx, s.NodeAddr, s.Node, control.Status, nil)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	st.Node = s.Node // whose connection it is, whatever is said over it
	if err == nil && st.Session != s.ID {
		st = NodeStatus{Node: s.Node, Session: s.ID, Region: s.Region, LastContact: -1, LeaseLeft: -1}
		err = errors.New("another life of the node answers")
	}
	if err != nil {
		st.Error = err.Error()
	}
	return st
}

// Peer is one of raft's servers.
type Peer struct {
	Server string `json:"server"`
	Node   string `json:"node"`
	Addr   string `json:"addr"`
	Voter  bool   `json:"voter"`
	Leader bool   `json:"leader"`
	// LastContact is how long ago the leader heard of it, in milliseconds; negative where this node does not lead.
	LastContact int64 `json:"last_contact_ms"`
}

// Peers returns raft's servers, as this node has them.
func (n *Node) Peers() []Peer {
	r := n.replica.Load()
	if r == nil {
		return nil
	}
	leader, _, _ := r.Leader()
	now := n.cfg.Now()
	var out []Peer
	for _, s := range r.Servers() {
		p := Peer{Server: s.ID, Node: nodeOf(s.ID), Addr: s.Addr, Voter: s.Voter, Leader: s.ID == leader, LastContact: -1}
		if at := r.Contact(s.ID); !at.IsZero() {
			p.LastContact = now.Sub(at).Milliseconds()
		}
		out = append(out, p)
	}
	return out
}

// everyMember asks all nodes with an open session for the same, this one through do, and collects the answers by node.
func (n *Node) everyMember(
	ctx context.Context, verb control.Verb, body []byte, do func() ([]byte, error),
) (map[string][]byte, map[string]error) {
	answers, failed := map[string][]byte{}, map[string]error{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(32)
	for _, s := range n.table.Sessions() {
		g.Go(func() error {
			var b []byte
			var err error
			if s.ID == n.Node() {
				b, err = do()
			} else {
				limit, cancel := context.WithTimeout(ctx, enterTime)
				defer cancel()
				b, err = n.client.Call(limit, s.NodeAddr, s.Node, verb, body)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[s.Node] = err
			} else {
				answers[s.Node] = b
			}
			return nil
		})
	}
	_ = g.Wait()
	return answers, failed
}
