package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

type sessionID = wire.NodeSession

const (
	// firstPause and longestPause are between tries to reach the cluster.
	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
	// enterTime bounds one call that asks to be let in.
	enterTime = 10 * time.Second
)

// A node asks for its place with
//
//	u8 length | server id, empty to get a new one | u8 length | address of its node port
//
// and is answered u8 status and: 0, the server id it has; 1, not here, but u8 length | node | u8 length | address; 2,
// nothing: no server of that id is part of the cluster.
const (
	entered uint8 = iota
	elsewhere
	noServer
)

// errRemoved: the cluster does not know this node's replica any more.
var errRemoved = errors.New("this node's replica was removed from the cluster")

// enterAnew gets this node a place: its replica becomes one that has the whole table and no vote.
func (n *Node) enterAnew(ctx context.Context) error {
	var server string
	err := n.persist(ctx, "this node is not a member of the cluster yet", func(ctx context.Context, addr string) (err error) {
		server, err = n.askToEnter(ctx, addr, "")
		return err
	})
	if err == nil {
		err = n.setPlace(func(m *member) { m.Server = server })
	}
	if err == nil {
		err = n.openReplica()
	}
	return err
}

// confirm has the leader check this node's place, and note where it is reached now. Where the replica leads itself, or
// knows who does, nobody else need be found.
func (n *Node) confirm(ctx context.Context) error {
	checks := n.every(lineEvery)
	return n.removed(n.persist(ctx, "the cluster has not confirmed this node's place yet", func(ctx context.Context, addr string) error {
		return n.confirmAt(ctx, addr, checks)
	}))
}

// confirmAt does it through the node at an address. checks says when to find out why a node is not let in.
func (n *Node) confirmAt(ctx context.Context, addr string, checks *pace) error {
	server := n.place().Server
	if n.leading() {
		_, err := n.admit(ctx, n.cfg.NodeID, server, n.nodeAddr)
		return err
	}
	if _, leader, ok := n.leader(); ok {
		addr = leader
	}
	_, err := n.askToEnter(ctx, addr, server)
	if errors.Is(err, trust.ErrIncarnation) || errors.Is(err, control.ErrNotSent) && checks.due() {
		// Of another incarnation, revoked, or with a certificate that is not taken any more: who proves to know the
		// secret is told.
		if cerr := n.enrolAt(ctx, addr); errors.As(cerr, new(final)) {
			return cerr
		}
	}
	return err
}

// removed makes the end of this life of a removed replica: the next one enters as a new one.
func (n *Node) removed(err error) error {
	if !errors.Is(err, errRemoved) {
		return err
	}
	n.log.Warn("this node's replica was removed from the cluster; it enters as a new one", "server", n.place().Server)
	if err := n.setPlace(func(m *member) { m.Server, m.Settled = "", false }); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrSessionOver, errRemoved)
}

// doubt finds out, when this node's lease was not renewed three times, whether the cluster has gone on without it: an entry
// that says so does not reach who was shut out, and his clients must not wait for the end of the lease.
func (n *Node) doubt(ctx context.Context) error {
	checks := n.every(lineEvery)
	for {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		times := n.times()
		if until, _ := n.Lease(); n.going() || until.Sub(n.cfg.Now()) > times.Lease-3*times.Renew {
			continue
		}
		for _, addr := range n.addresses(ctx) {
			limit, cancel := context.WithTimeout(ctx, renewTime)
			err := n.confirmAt(limit, addr, checks)
			cancel()
			if end := (final{}); errors.As(err, &end) {
				return end.error
			}
			if errors.Is(err, errRemoved) && !n.going() {
				return n.removed(err)
			}
		}
	}
}

// final errors end persist.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// persist tries something with each address at which the cluster may be reached, until it works.
func (n *Node) persist(ctx context.Context, what string, try func(ctx context.Context, addr string) error) error {
	lines, pause := n.every(lineEvery), firstPause
	for {
		addrs := n.addresses(ctx)
		if n.leading() {
			addrs = []string{n.nodeAddr}
		}
		var reasons []string
		for _, addr := range addrs {
			limit, cancel := context.WithTimeout(ctx, enterTime)
			var watching sync.WaitGroup
			watching.Go(func() { n.cancelOnceLed(limit, cancel) })
			err := try(limit, addr)
			cancel()
			watching.Wait()
			if err == nil || errors.Is(err, errRemoved) {
				return err
			}
			var end final
			if errors.As(err, &end) {
				return end.error
			}
			reasons = append(reasons, reason(addr, err))
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if lines.due() && (len(reasons) > 0 || len(addrs) == 0) {
			n.log.Warn(what+"; it goes on trying", "addresses", addrs, "err", strings.Join(reasons, "; "))
		}
		timer := time.NewTimer(pause)
		select {
		case <-n.leaderChanged():
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}

// reason is why an address was of no use, in words for an operator who has named it.
func reason(addr string, err error) string {
	text := err.Error()
	if !strings.Contains(text, addr) {
		text = addr + ": " + text
	}
	if errors.Is(err, io.EOF) {
		text += " (is it a node port, " + defaultNodePort + " by default, and not that of gossip?)"
	}
	return text
}

// cancelOnceLed gives up a try when a leader has turned up: it is known then whom to ask, and who was asked may be one that
// never answers. It ends with the try.
func (n *Node) cancelOnceLed(try context.Context, cancel context.CancelFunc) {
	before, _ := n.Leader()
	for {
		changed := n.leaderChanged()
		if now, ok := n.Leader(); ok && now != before {
			cancel()
		}
		select {
		case <-changed:
		case <-try.Done():
			return
		}
	}
}

// addresses are where the cluster may be reached: what an operator said, and what this node knows.
func (n *Node) addresses(ctx context.Context) []string {
	var out []string
	add := func(addr string) {
		if addr != "" && addr != n.nodeAddr && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	if r := n.replica.Load(); r != nil {
		for _, s := range r.Servers() {
			add(s.Addr)
		}
	}
	for _, addr := range n.place().Peers {
		add(addr)
	}
	for _, said := range n.cfg.Join {
		for _, addr := range n.resolve(ctx, said) {
			add(addr)
		}
	}
	return out
}

// resolve returns all addresses that a host and port to join mean.
func (n *Node) resolve(ctx context.Context, said string) []string {
	host, port, err := net.SplitHostPort(said)
	if err != nil {
		host, port = said, defaultNodePort
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(host, port)}
	}
	limit, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(limit, host)
	if err != nil { // the network may know the name
		return []string{net.JoinHostPort(host, port)}
	}
	for i := range found {
		found[i] = net.JoinHostPort(found[i], port)
	}
	return found
}

// askToEnter asks the node at an address, and whoever it names as the leader.
func (n *Node) askToEnter(ctx context.Context, addr, server string) (string, error) {
	body := appendText(appendText(nil, server), n.nodeAddr)
	node := ""
	for range 3 {
		b, err := n.client.Call(ctx, addr, node, control.Enter, body)
		if isCode(err, codeRevoked) {
			return "", final{named(n.cfg.NodeID, ErrRevoked)}
		}
		if isCode(err, codeDenied) {
			return "", final{fmt.Errorf("enter the cluster: %w", err)}
		}
		if err != nil {
			return "", err
		}
		f := fields{b: b}
		switch status := f.u8(); {
		case status == entered:
			return f.text(), nil
		case status == noServer:
			return "", errRemoved
		case status == elsewhere && len(f.b) > 2:
			node, addr = f.text(), f.text()
		default:
			return "", fmt.Errorf("the node at %s knows no leader", addr)
		}
		if f.bad {
			return "", errBadCall
		}
	}
	return "", errors.New("the leader was not found")
}

// takeEntry answers a node that asks for its place.
func (n *Node) takeEntry(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	f := fields{b: body}
	server, addr := f.text(), f.text()
	if f.bad || len(f.b) > 0 || addr == "" || server != "" && nodeOf(server) != from.NodeID {
		return nil, errBadCall
	}
	id, err := n.admit(ctx, from.NodeID, server, addr)
	switch {
	case errors.Is(err, errRemoved):
		return []byte{noServer}, nil
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, ErrNoLeader):
		out := []byte{elsewhere}
		if node, addr, ok := n.leader(); ok && node != n.cfg.NodeID {
			out = appendText(appendText(out, node), addr)
		}
		return out, nil
	case err != nil:
		return nil, err
	}
	return appendText([]byte{entered}, id), nil
}

// admit gives a node its place: the one it says it has, at its present address, or a new one. Only the leader can.
func (n *Node) admit(ctx context.Context, node, server, addr string) (string, error) {
	if !n.leading() {
		return "", ErrNoLeader
	}
	done, err := n.admitting.await(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	r := n.replica.Load()
	if err := r.Barrier(ctx); err != nil {
		return "", err
	}
	if info, known := n.table.NodeInfo(node); known && info.Revoked {
		return "", coded(codeRevoked, "node %q was revoked", node)
	}
	servers := r.Servers()
	if server != "" {
		i := slices.IndexFunc(servers, func(s consensus.Server) bool { return s.ID == server })
		if i < 0 {
			return "", errRemoved
		}
		if servers[i].Addr == addr {
			return server, nil
		}
	}
	if err := n.clear(ctx, servers, node, server, addr); err != nil {
		return "", err
	}
	if server != "" {
		n.log.Info("a node is at another address", "peer", node, "address", addr)
		return server, r.SetAddress(ctx, server, addr)
	}
	server = fmt.Sprintf("%s.%d", node, r.LastIndex()+1)
	n.log.Info("a node enters the cluster", "peer", node, "server", server, "address", addr)
	return server, r.AddNonvoter(ctx, server, addr)
}

// clear removes the replicas that a node has left behind, and whatever else stands at its address and is over.
func (n *Node) clear(ctx context.Context, servers []consensus.Server, node, keep, addr string) error {
	for _, s := range servers {
		other := nodeOf(s.ID)
		if s.ID == keep || other != node && s.Addr != addr {
			continue
		}
		if other != node && n.lives(other) {
			return coded(codeDenied, "%s is the address of node %s, which is a member: give one of them another address", addr, other)
		}
		if err := n.replica.Load().Remove(ctx, s.ID); err != nil {
			return err
		}
		n.log.Info("a replica was removed: its node has come back as another one", "server", s.ID)
	}
	return nil
}

// lives says whether a node has an open session.
func (n *Node) lives(node string) bool {
	return slices.ContainsFunc(n.table.Sessions(), func(s placement.Session) bool { return s.Node == node })
}

// peerAddrs are the node ports of all other nodes that have a session or a replica.
func (n *Node) peerAddrs() []string {
	var out []string
	if r := n.replica.Load(); r != nil {
		for _, s := range r.Servers() {
			if nodeOf(s.ID) != n.cfg.NodeID {
				out = append(out, s.Addr)
			}
		}
	}
	for _, s := range n.table.Sessions() {
		if s.Node != n.cfg.NodeID && s.NodeAddr != "" && !slices.Contains(out, s.NodeAddr) {
			out = append(out, s.NodeAddr)
		}
	}
	slices.Sort(out)
	return out
}

// seeds are where gossip of other nodes is reached.
func (n *Node) seeds() []string {
	out := n.met.list()
	for _, s := range n.table.Sessions() {
		if s.Node != n.cfg.NodeID && s.GossipAddr != "" {
			out = append(out, s.GossipAddr)
		}
	}
	return out
}
