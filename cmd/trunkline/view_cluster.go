package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

// clusterView is a node's cluster as package admin shows and changes it.
type clusterView struct{ *node }

// Ready answers why the node is no working part of its cluster, or nil.
func (v clusterView) Ready() error {
	if v.table.Node() == 0 {
		return errors.New("the node has not joined: its table has not caught up")
	}
	if _, ok := v.table.Leader(); !ok {
		return errors.New("no leader is known")
	}
	if _, held := v.table.Lease(); !held {
		return errors.New("the node's lease is over: it does not reach the leader")
	}
	return nil
}

// Members lists the nodes that the table or gossip knows.
func (v clusterView) Members(context.Context) ([]admin.Member, error) {
	leader, _ := v.table.Leader()
	list := v.table.Members()
	out := make([]admin.Member, 0, len(list))
	for _, m := range list {
		state := m.State
		switch {
		case m.Revoked:
			state = "revoked"
		case m.Role == "joining" && m.Session == 0 && m.State == "live":
			state = "joining"
		}
		out = append(out, admin.Member{
			NodeID: m.Node, Number: m.Number, Boot: m.Boot, Session: uint64(m.Session), Region: m.Region,
			NodeAddr: m.NodeAddr, GossipAddr: m.GossipAddr, Version: m.Version, State: state, Role: roleWord(m.Role),
			Leader: m.Session != 0 && m.Node == leader, Draining: m.Draining, LeaseMillis: leftMillis(m.LeaseLeft), Lag: m.Lag,
		})
	}
	slices.SortStableFunc(out, func(a, b admin.Member) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// leftMillis keeps what is not known apart from nothing.
func leftMillis(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

func roleWord(role string) string {
	if role == "joining" {
		return ""
	}
	return role
}

// extra is what this program adds to what a node says about itself.
type extra struct {
	Draining bool         `json:"draining"`
	Sessions int          `json:"sessions"`
	Tunnels  int          `json:"tunnels"`
	Links    []admin.Link `json:"links"`
}

// extra says how this node's data plane is.
func (n *node) extra() json.RawMessage {
	x := extra{Draining: n.draining.Load()}
	if n.joined.Load() {
		x.Sessions, x.Tunnels = n.router.Sessions(), n.router.Tunnels()
		table := n.table.Table()
		for _, p := range n.router.Peers() {
			s, ok := table.Session(p.Session)
			if !ok {
				continue
			}
			x.Links = append(x.Links, admin.Link{
				Peer: s.Node, Connected: p.Connected == p.Lanes, Unacked: p.Unacked, Breaks: p.Breaks, Since: p.Since,
			})
		}
	}
	text, err := json.Marshal(x)
	if err != nil {
		return nil
	}
	return text
}

// ClusterStatus asks every node how it is.
func (v clusterView) ClusterStatus(ctx context.Context) (admin.ClusterStatus, error) {
	info := v.table.Table().Cluster()
	out := admin.ClusterStatus{
		Cluster: info.Name, Incarnation: hex.EncodeToString(info.Incarnation[:]), Generation: info.Generation,
		Profile: profileWord(info.Profile), Region: info.Region, AskedAt: v.settings.NodeID, MaxVoters: v.settings.MaxVoters,
		Voters: []string{}, Nodes: []admin.NodeStatus{},
	}
	out.Leader, _ = v.table.Leader()
	for _, p := range v.table.Peers() {
		if p.Voter {
			out.Voters = append(out.Voters, p.Node)
		}
	}
	for _, st := range v.table.Status(ctx) {
		if st.Node == v.settings.NodeID {
			out.Term = st.Term
		}
		out.Nodes = append(out.Nodes, nodeStatus(&st))
	}
	return out, nil
}

func nodeStatus(st *cluster.NodeStatus) admin.NodeStatus {
	out := admin.NodeStatus{
		NodeID: st.Node, Error: st.Error, Session: uint64(st.Session), Region: st.Region, Version: st.Version, Role: st.Role,
		Leader: st.Leader, Term: st.Term, LastIndex: st.LastIndex, CommitIndex: st.CommitIndex, AppliedIndex: st.AppliedIndex,
		ContactMillis: max(0, st.LastContact), LeaseHeld: st.LeaseLeft > 0, LeaseMillis: max(0, st.LeaseLeft),
		Links: []admin.Link{},
	}
	var x extra
	if json.Unmarshal(st.Extra, &x) == nil {
		out.Draining, out.Sessions, out.Tunnels = x.Draining, x.Sessions, x.Tunnels
		out.Links = append(out.Links, x.Links...)
	}
	return out
}

func profileWord(p uint8) string {
	if p == placement.MultiRegion {
		return "multi-region"
	}
	return "one-region"
}

// Peers lists raft's servers.
func (v clusterView) Peers(context.Context) (admin.Peers, error) {
	out := admin.Peers{Peers: []admin.Peer{}}
	out.Leader, _ = v.table.Leader()
	out.Term = v.table.OwnStatus().Term
	for _, p := range v.table.Peers() {
		out.Peers = append(out.Peers, admin.Peer{
			ServerID: p.Server, NodeID: p.Node, Addr: p.Addr, Voter: p.Voter, Leader: p.Leader,
			Self: p.Node == v.settings.NodeID, ContactMillis: max(-1, p.LastContact),
		})
	}
	return out, nil
}

// Leave takes this node out of the cluster; the process then stops by itself.
func (v clusterView) Leave(ctx context.Context) error {
	if err := v.table.Leave(ctx); err != nil {
		return told(err)
	}
	v.leaving.Do(func() { close(v.left) })
	return nil
}

// ForceRemove takes another node out.
func (v clusterView) ForceRemove(ctx context.Context, node string) error {
	if err := v.other(node); err != nil {
		return err
	}
	return told(v.table.ForceRemove(ctx, node))
}

// Revoke shuts another node out.
func (v clusterView) Revoke(ctx context.Context, node string) error {
	if err := v.other(node); err != nil {
		return err
	}
	return told(v.table.Revoke(ctx, node))
}

// other refuses this node itself, and a name that nobody has.
func (v clusterView) other(node string) error {
	if node == v.settings.NodeID {
		return fmt.Errorf("this is the node that you ask: ask another one: %w", admin.ErrRefused)
	}
	if _, known := v.table.Table().NodeInfo(node); !known {
		return fmt.Errorf("node %q: %w", clip(node), admin.ErrNotFound)
	}
	return nil
}

// told names the kind of an error for the operator.
func told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, placement.ErrUnknown), errors.Is(err, placement.ErrStopped),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", admin.ErrRefused, err)
}

// Snapshot writes down the table.
func (v clusterView) Snapshot(_ context.Context, w io.Writer) error {
	_, err := v.table.SnapshotSave(w)
	return err
}

// Keys says which secrets the nodes have.
func (v clusterView) Keys(ctx context.Context) (admin.KeyList, error) {
	states, err := v.table.KeyStatus(ctx)
	if err != nil {
		return admin.KeyList{}, told(err)
	}
	out := admin.KeyList{Cluster: v.table.Table().Cluster().Name, Keys: []admin.Key{}, Members: []admin.KeyMember{}}
	members := map[string]*admin.KeyMember{}
	member := func(node string) *admin.KeyMember {
		if members[node] == nil {
			members[node] = &admin.KeyMember{NodeID: node, Keys: []string{}}
		}
		return members[node]
	}
	for _, st := range states {
		id := string(st.ID)
		out.Keys = append(out.Keys, admin.Key{
			ID: id, Primary: slices.Contains(st.Primary, v.settings.NodeID), Missing: append([]string{}, slices.Concat(st.Missing, st.Silent)...),
		})
		for _, node := range st.Has {
			member(node).Keys = append(member(node).Keys, id)
		}
		for _, node := range st.Primary {
			member(node).Primary = id
		}
		for _, node := range st.Missing {
			member(node)
		}
		for _, node := range st.Silent {
			member(node).Error = "it does not answer"
		}
	}
	for _, m := range members {
		out.Members = append(out.Members, *m)
	}
	slices.SortFunc(out.Members, func(a, b admin.KeyMember) int { return strings.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// AddKey gives every node a secret.
func (v clusterView) AddKey(ctx context.Context, secret admin.Secret) (string, error) {
	var given *trust.Secret
	if secret != "" {
		s, err := trust.ParseSecret(string(secret))
		if err != nil {
			return "", fmt.Errorf("%w: %w", admin.ErrRefused, err)
		}
		given = &s
	}
	id, err := v.table.KeyAdd(ctx, given)
	return string(id), keyTold(err)
}

// UseKey has every node encrypt with a secret.
func (v clusterView) UseKey(ctx context.Context, id string) error {
	return keyTold(v.table.KeyUse(ctx, trust.KeyID(id)))
}

// DropKey has every node forget a secret.
func (v clusterView) DropKey(ctx context.Context, id string) error {
	return keyTold(v.table.KeyDrop(ctx, trust.KeyID(id)))
}

// keyTold names the kind of an error of a rotation: a step that others must make possible first can be tried again.
func keyTold(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrNoKey):
		return fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	case errors.Is(err, trust.ErrTooManyKeys):
		return fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", admin.ErrNotYet, err)
}
