package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// clusterView is a node as one of several, as package admin shows and changes it.
type clusterView struct{ *node }

var (
	errNoLeader  = errors.New("no leader is known")
	errNoLease   = errors.New("this node's lease is not held: it does not reach the leader")
	errNotCaught = errors.New("the table has not caught up with what was agreed on when the node started")
)

// Ready says why this node is not to be counted on as a member.
func (v clusterView) Ready() error {
	if v.table.Node() == 0 {
		return errNotCaught
	}
	if _, ok := v.table.Leader(); !ok {
		return errNoLeader
	}
	if _, held := v.table.Lease(); !held {
		return errNoLease
	}
	return nil
}

// Members lists the nodes.
func (v clusterView) Members(context.Context) ([]admin.Member, error) {
	leader, _ := v.table.Leader()
	var out []admin.Member
	for _, m := range v.table.Members() {
		a := admin.Member{
			NodeID: m.Node, Number: m.Number, Boot: m.Boot, Session: uint64(m.Session), Region: m.Region, NodeAddr: m.NodeAddr, GossipAddr: m.GossipAddr,
			Version: m.Version, State: m.State, Role: m.Role, Leader: m.Node == leader, Draining: m.Draining, LeaseMillis: -1, Lag: m.Lag,
		}
		if m.LeaseLeft >= 0 {
			a.LeaseMillis = m.LeaseLeft.Milliseconds()
		}
		if m.Revoked {
			a.State = "revoked"
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b admin.Member) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// nodeExtra is what a node adds to its answer about itself: what package cluster does not know.
type nodeExtra struct {
	Draining   bool         `json:"draining"`
	Sessions   int          `json:"sessions"`
	Tunnels    int          `json:"tunnels"`
	SyncMillis float64      `json:"syncMillis"`
	Links      []admin.Link `json:"links"`
}

// ClusterStatus asks every node how it is.
func (v clusterView) ClusterStatus(ctx context.Context) (admin.ClusterStatus, error) {
	info := v.table.Table().Cluster()
	out := admin.ClusterStatus{
		Cluster: info.Name, Incarnation: hex.EncodeToString(info.Incarnation[:]), Generation: info.Generation, Profile: profileName(info.Profile),
		Region: info.Region, AskedAt: v.settings.NodeID, MaxVoters: v.settings.MaxVoters, Term: v.table.OwnStatus().Term,
	}
	out.Leader, _ = v.table.Leader()
	for _, p := range v.table.Peers() {
		if p.Voter {
			out.Voters = append(out.Voters, p.Node)
		}
	}
	for _, st := range v.table.Status(ctx) {
		out.Nodes = append(out.Nodes, nodeStatusOf(st))
	}
	out.Nodes = append(out.Nodes, missing(v.table.Members())...)
	return out, nil
}

// missing are the nodes that raft counts on and that have no session, so that nobody could be asked.
func missing(members []cluster.Member) (out []admin.NodeStatus) {
	for _, m := range members {
		if m.Session != 0 || m.Role == "" {
			continue
		}
		state := m.State
		if m.Revoked {
			state = "revoked"
		}
		out = append(out, admin.NodeStatus{
			NodeID: m.Node, Role: m.Role, ContactMillis: -1, Error: fmt.Sprintf("%s: its session is over; raft still lists it as a %s", state, m.Role),
		})
	}
	return out
}

func profileName(p uint8) string {
	if p == placement.MultiRegion {
		return "multi-region"
	}
	return "one-region"
}

func nodeStatusOf(st cluster.NodeStatus) admin.NodeStatus {
	var extra nodeExtra
	if len(st.Extra) > 0 && json.Unmarshal(st.Extra, &extra) != nil && st.Error == "" {
		st.Error = "its answer cannot be read: is it of another version?"
	}
	return admin.NodeStatus{
		NodeID: st.Node, Error: st.Error, Session: uint64(st.Session), Region: st.Region, Version: st.Version, Role: st.Role, Leader: st.Leader, Term: st.Term,
		LastIndex: st.LastIndex, CommitIndex: st.CommitIndex, AppliedIndex: st.AppliedIndex, ContactMillis: st.LastContact,
		LeaseHeld: st.LeaseLeft > 0, LeaseMillis: max(0, st.LeaseLeft),
		Draining: extra.Draining, Sessions: extra.Sessions, Tunnels: extra.Tunnels, Links: extra.Links, SyncMillis: extra.SyncMillis,
	}
}

// extra is for cluster.Config.Extra.
func (v clusterView) extra() json.RawMessage {
	x := nodeExtra{Draining: v.draining.Load(), Links: v.links()}
	if v.joined.Load() {
		x.Sessions, x.Tunnels = v.router.Sessions(), v.router.Tunnels()
	}
	text, err := json.Marshal(x)
	if err != nil {
		return nil // plain fields: it cannot be
	}
	return text
}

// links are this node's links, for cluster.Config.Extra: nodes by name, of what package edge/link knows by session.
func (v clusterView) links() []admin.Link {
	if !v.joined.Load() {
		return nil
	}
	var out []admin.Link
	for _, p := range v.router.Peers() {
		s, ok := v.table.Table().Session(p.Session)
		if !ok {
			continue // its session is over: who has it is told by others
		}
		out = append(out, admin.Link{Peer: s.Node, Connected: p.Connected == p.Lanes, Unacked: p.Unacked, Breaks: p.Breaks, Since: p.Since})
	}
	return out
}

// Collect says which links are connected.
func (v clusterView) Collect(emit func(name string, value float64, labels ...string)) {
	seen := make(map[string]bool)
	for _, l := range v.links() {
		if seen[l.Peer] {
			continue // two lives of one node: the labels are the same
		}
		seen[l.Peer] = true
		up := 0.0
		if l.Connected {
			up = 1
		}
		emit("link_connected", up, "peer", l.Peer)
	}
}

// Peers lists raft's servers.
func (v clusterView) Peers(context.Context) (admin.Peers, error) {
	out := admin.Peers{Term: v.table.OwnStatus().Term}
	out.Leader, _ = v.table.Leader()
	for _, p := range v.table.Peers() {
		out.Peers = append(out.Peers, admin.Peer{
			ServerID: p.Server, NodeID: p.Node, Addr: p.Addr, Voter: p.Voter, Leader: p.Leader, Self: p.Node == v.settings.NodeID, ContactMillis: p.LastContact,
		})
	}
	return out, nil
}

// clusterError turns an error of a change of the cluster into one of the operators' port.
func clusterError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrNoNode):
		return fmt.Errorf("%w (`trunkline members` lists them): %w", err, admin.ErrNotFound)
	case unanswered(err):
		return fmt.Errorf("%w (%w: is there a leader? `trunkline status`)", err, admin.ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", err, admin.ErrRefused)
}

// unanswered says that the cluster did not decide, or that nobody knows what it has decided.
func unanswered(err error) bool {
	for _, target := range []error{
		context.DeadlineExceeded, context.Canceled, control.ErrNotSent, control.ErrUnknown,
		placement.ErrStopped, placement.ErrUnknown, cluster.ErrNoLeader,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// changeTime bounds a change of the cluster that waits for a leader.
const changeTime = 30 * time.Second

// Leave takes this node out of the cluster; the node then stops.
func (v clusterView) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime) // once begun it is carried out, whoever still listens
	defer cancel()
	err := v.table.Leave(ctx)
	if v.table.Left() {
		v.leaving.Do(func() { close(v.left) })
	}
	return clusterError(err)
}

// ForceRemove takes another node out.
func (v clusterView) ForceRemove(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	return clusterError(v.table.ForceRemove(ctx, node))
}

// Revoke shuts another node out.
func (v clusterView) Revoke(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	return clusterError(v.table.Revoke(ctx, node))
}

// Snapshot writes the table down.
func (v clusterView) Snapshot(_ context.Context, w io.Writer) error {
	_, err := v.table.SnapshotSave(w)
	return err
}

// Keys says which node has which secrets.
func (v clusterView) Keys(ctx context.Context) (admin.KeyList, error) {
	states, err := v.table.KeyStatus(ctx)
	if err != nil {
		return admin.KeyList{}, clusterError(err)
	}
	out := admin.KeyList{Cluster: v.table.Table().Cluster().Name}
	members := make(map[string]*admin.KeyMember)
	of := func(name string) *admin.KeyMember {
		if members[name] == nil {
			members[name] = &admin.KeyMember{NodeID: name}
		}
		return members[name]
	}
	for _, k := range states {
		id := string(k.ID)
		out.Keys = append(out.Keys, admin.Key{ID: id, Primary: slices.Contains(k.Primary, v.settings.NodeID), Missing: k.Missing})
		for _, name := range k.Has {
			of(name).Keys = append(of(name).Keys, id)
		}
		for _, name := range k.Primary {
			of(name).Primary = id
		}
		for _, name := range k.Silent {
			of(name).Error = "it does not answer"
		}
	}
	for _, m := range members {
		out.Members = append(out.Members, *m)
	}
	slices.SortFunc(out.Members, func(a, b admin.KeyMember) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// AddKey gives every node a further secret.
func (v clusterView) AddKey(ctx context.Context, text admin.Secret) (string, error) {
	var secret *trust.Secret
	if text != "" {
		s, err := trust.ParseSecret(string(text))
		if err != nil {
			return "", fmt.Errorf("%w: %w", err, admin.ErrRefused)
		}
		secret = &s
	}
	id, err := v.table.KeyAdd(ctx, secret)
	return string(id), keyError(err)
}

// UseKey has every node encrypt with a secret.
func (v clusterView) UseKey(ctx context.Context, id string) error {
	return keyError(v.table.KeyUse(ctx, trust.KeyID(id)))
}

// DropKey has no node accept a secret any more.
func (v clusterView) DropKey(ctx context.Context, id string) error {
	return keyError(v.table.KeyDrop(ctx, trust.KeyID(id)))
}

func keyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrNoKey):
		return fmt.Errorf("%w (`trunkline key status` lists them): %w", err, admin.ErrNotFound)
	case errors.Is(err, cluster.ErrNotYet):
		return fmt.Errorf("%w (`trunkline key status` shows who is in the way): %w", err, admin.ErrNotYet)
	case unanswered(err):
		return fmt.Errorf("%w (`trunkline key status` shows who does not answer): %w", err, admin.ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", err, admin.ErrRefused)
}

// question is an operator's request as it crosses from node to node.
type question struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// forwardTime bounds how long another node may take.
const forwardTime = 5 * time.Second

// Forward has another node answer.
func (v clusterView) Forward(ctx context.Context, node, method, path string, _ []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	to := wire.NodeSession(0)
	for _, s := range v.table.Table().Sessions() {
		if s.Node == node {
			to = max(to, s.ID) // the latest life
		}
	}
	if to == 0 {
		return 0, nil, fmt.Errorf("no node with a session is called %s (`trunkline members` lists them): %w", node, admin.ErrNotFound)
	}
	body, err := json.Marshal(question{method, path})
	if err != nil {
		return 0, nil, err
	}
	answer, err := v.table.Call(ctx, to, control.Operators, body)
	if err == nil && len(answer) < 2 {
		err = errors.New("its answer is too short")
	}
	if err != nil {
		return 0, nil, fmt.Errorf("node %s: %w: %w", node, err, admin.ErrUnreachable)
	}
	return int(binary.BigEndian.Uint16(answer)), answer[2:], nil
}

// answerOperators is the handler of that verb: cluster.Config.Handlers[control.Operators].
func (v clusterView) answerOperators(ctx context.Context, _ nodeport.Peer, body []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("an operator's request: %w", err)
	}
	status, answer := v.admin.Answer(ctx, q.Method, q.Path, nil)
	return append(binary.BigEndian.AppendUint16(nil, uint16(status)), answer...), nil
}
