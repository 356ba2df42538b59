package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

// Open binds the ports between nodes, and reads or makes what the data directory has. Nothing that others see is started
// before Run. Errors say what to do: a directory in use, one that others may read, one of another kind or node, a log or
// snapshot that is damaged.
func Open(cfg Config) (*Node, error) {
	cfg.fill()
	n := &Node{
		cfg: cfg, log: cfg.Log, table: placement.New(),
		proposals: make(chan *proposal, maxQueue), forwards: make(chan *proposal, maxQueue), nudge: make(chan uint64, 1),
		admitting: make(turn, 1), placing: make(turn, 1),
		joined: make(chan struct{}), stopped: make(chan struct{}), holder: holder{begun: make(chan struct{})},
	}
	n.refusals = n.every(lineEvery)
	err := cfg.Validate()
	if err == nil {
		err = n.open()
	}
	if err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("open the cluster's node: %w", err)
	}
	return n, nil
}

func (n *Node) open() error {
	// Ports come first: when one is taken, nothing on the disk has been touched.
	for _, step := range []func() error{n.bind, n.openDir, n.openPlace, n.openPort, n.openReplica} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// bind takes the node port.
func (n *Node) bind() (err error) {
	if n.cfg.Listener == nil {
		if n.cfg.Listener, err = n.cfg.Network.Listen(n.cfg.NodeAddr); err != nil {
			return fmt.Errorf("bind the node port: %w", err)
		}
	}
	n.nodeAddr, err = advertised(n.cfg.AdvertiseNode, n.cfg.Listener.Addr().String())
	return err
}

// advertised is the address that others are told.
func advertised(said, bound string) (string, error) {
	if said == "" {
		return bound, nil
	}
	host, port, err := net.SplitHostPort(said)
	if err != nil {
		return "", fmt.Errorf("the address to advertise, %q, is not host:port", said)
	}
	if port == "0" {
		_, port, err = net.SplitHostPort(bound)
	}
	return net.JoinHostPort(host, port), err
}

// openDir locks the data directory and reads the secrets.
func (n *Node) openDir() (err error) {
	if n.cfg.DataDir == "" {
		if n.keys = n.cfg.Keys; n.keys == nil {
			n.keys = trust.NewKeys(ownName)
		}
		n.identity, err = trust.OpenIdentity("", time.Now)
		return err
	}
	if n.dir, err = openDir(n.cfg.DataDir); err != nil {
		return err
	}
	if n.identity, err = trust.OpenIdentity(filepath.Join(n.cfg.DataDir, nodeFolder), time.Now); err != nil {
		return err
	}
	if n.keys = n.cfg.Keys; n.keys == nil {
		n.keys, err = ownKeys(filepath.Join(n.cfg.DataDir, nodeFolder, ownKeyFile))
	}
	return err
}

// ownName is the name of a cluster that was given none.
const ownName = "trunkline"

// ownKeys reads the key file that a node made for itself, or makes it.
func ownKeys(path string) (*trust.Keys, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		text, err := trust.Generate(ownName)
		if err == nil {
			err = trust.WritePrivate(path, text)
		}
		if err != nil {
			return nil, err
		}
	}
	return trust.LoadKeys(path)
}

// openPlace finds out which place in which cluster this node has: the one it had; none, to be asked for; or the first in a
// new cluster.
func (n *Node) openPlace() error {
	m, known, err := member{}, false, error(nil)
	if n.cfg.DataDir != "" {
		m, known, err = readMember(n.cfg.DataDir)
	}
	if err != nil {
		return err
	}
	if known {
		return n.returnTo(m)
	}
	if n.dir != nil {
		if files, err := n.dir.replicaFiles(); err != nil || len(files) > 0 {
			return errors.Join(err, fmt.Errorf("%s has a table (%v) but does not say which node's: "+
				"it is of an older version or was copied; name another directory", n.cfg.DataDir, files))
		}
	}
	if len(n.cfg.Join) > 0 {
		n.member = member{Node: n.cfg.NodeID, Cluster: n.keys.Name()}
		return nil
	}
	return n.found()
}

// returnTo takes up the place that the data directory names.
func (n *Node) returnTo(m member) error {
	switch {
	case m.Node != n.cfg.NodeID:
		return fmt.Errorf("the data directory %s is that of node %q, not of %q: use that id, or another directory",
			n.cfg.DataDir, m.Node, n.cfg.NodeID)
	case m.Cluster != n.keys.Name():
		return fmt.Errorf("the data directory %s is of cluster %q, the key file of %q: "+
			"use its own key file, or an empty directory to join %[3]q", n.cfg.DataDir, m.Cluster, n.keys.Name())
	case m.Left && len(n.cfg.Join) == 0:
		return fmt.Errorf("node %q has left cluster %q: start it with --join to enter again, "+
			"or with an empty data directory to form a new one", m.Node, m.Cluster)
	case m.Left:
		m = member{Node: m.Node, Cluster: m.Cluster}
	}
	n.member = m
	if m.Recovered {
		n.rowsHeld = n.cfg.Now().Add(TimesOf(m.Profile).Dead)
	}
	if m.Server == "" && n.dir != nil {
		if err := consensus.Wipe(n.dir.path); err != nil {
			return err
		}
	}
	a, err := trust.LoadAuthority(n.authorityPath())
	if err == nil {
		n.authority.Store(a)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (n *Node) authorityPath() string { return filepath.Join(n.cfg.DataDir, nodeFolder, authorityFile) }

// firstServer names the replica of the node that forms a cluster.
func firstServer(node string) string { return node + ".1" }

// found makes up a new cluster, of which this node is the first. What the table begins with is proposed in Run.
func (n *Node) found() error {
	m := member{
		Node: n.cfg.NodeID, Cluster: n.keys.Name(), Server: firstServer(n.cfg.NodeID),
		Generation: generationAt(n.cfg.Now()), Profile: n.cfg.Profile, Forming: true,
	}
	_, _ = rand.Read(m.Incarnation[:]) // crypto/rand never fails
	m.Lineage = m.Incarnation
	if err := n.makeAuthority(); err != nil {
		return err
	}
	n.member = m
	if err := n.signOwn(); err != nil {
		return err
	}
	return writeMember(n.cfg.DataDir, m) // last: from here on the cluster is there
}

// generationAt counts minutes, so that a table made anew where one was lost gives epochs above the old ones.
func generationAt(now time.Time) uint32 {
	minutes := now.Sub(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Minute
	return uint32(min(max(minutes, 1), 1<<24-1))
}

// makeAuthority makes what signs the certificates of a cluster.
func (n *Node) makeAuthority() error {
	a, err := trust.NewAuthority(time.Now())
	if err == nil && n.cfg.DataDir != "" {
		err = a.Save(n.authorityPath())
	}
	if err != nil {
		return err
	}
	n.authority.Store(a)
	return nil
}

// signOwn has this node's own authority sign its certificate.
func (n *Node) signOwn() error {
	g, err := n.authority.Load().Issue(n.identity.Public(), trust.Claims{Incarnation: n.place().Incarnation, NodeID: n.cfg.NodeID},
		time.Now(), trust.CertificateLife)
	if err != nil {
		return err
	}
	return n.identity.SetGrant(g)
}

// openPort makes the node port, the calls over it, and gossip, which binds its own sockets.
func (n *Node) openPort() (err error) {
	if n.server, err = control.NewServer(n.controlConfig(), n.handlers()); err != nil {
		return err
	}
	cfg := nodeport.Default()
	cfg.Listener, cfg.Network, cfg.Log = n.cfg.Listener, n.cfg.Network, n.log
	cfg.ServerTLS = n.identity.ServerTLS(n.allowed)
	cfg.ClientTLS = func(node string) *tls.Config { return n.identity.ClientTLS(node, n.allowed) }
	cfg.EnrolTLS = trust.EnrolTLS()
	cfg.Peer = peerOf
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{
		nodeport.Control: func(ctx context.Context, conn net.Conn, peer nodeport.Peer) { n.server.Serve(ctx, conn, peer) },
		nodeport.Link:    n.serveLink,
	}
	if n.port, err = nodeport.New(cfg); err != nil {
		return err
	}
	n.raft = n.port.Listener(nodeport.Raft)
	if n.client, err = control.NewClient(n.controlConfig(), n.port); err != nil {
		return err
	}
	return n.openGossip(n.cfg.GossipAddr)
}

// openGossip binds gossip, in the times of the profile that this node knows.
func (n *Node) openGossip(bind string) error {
	g, err := gossip.New(gossip.Config{
		Name: n.cfg.NodeID, Cluster: n.keys.Name(), Meta: n.meta(),
		Keys: n.keys.GossipKeys, KeysChanged: n.keys.Changed,
		Network: n.cfg.Network, Bind: bind, Advertise: n.cfg.AdvertiseGossip,
		Profile: gossip.Profile(n.place().Profile), Seeds: n.seeds, Loads: n.ownLoads, OnLoad: n.takeLoads,
		Log: n.log, Now: n.cfg.Now,
	})
	if err == nil {
		n.gossip.Store(g)
	}
	return err
}

func (n *Node) controlConfig() control.Config {
	c := control.Default()
	c.Log = n.log
	return c
}

func peerOf(s tls.ConnectionState) (nodeport.Peer, error) {
	p, ok := trust.PeerOf(s)
	if !ok {
		return nodeport.Peer{}, errors.New("the certificate names no node")
	}
	return nodeport.Peer{NodeID: p.NodeID, KeyHash: p.KeyHash, Incarnation: p.Incarnation}, nil
}

// allowed refuses the certificate of a node that the cluster has shut out.
func (n *Node) allowed(p trust.Peer) error {
	info, known := n.table.NodeInfo(p.NodeID)
	switch {
	case !known:
		return nil
	case info.Revoked:
		return named(p.NodeID, ErrRevoked)
	case info.Key != [32]byte{} && info.Key != p.KeyHash:
		return named(p.NodeID, ErrBound)
	}
	return nil
}

// openReplica opens the replica of a node that has a place.
func (n *Node) openReplica() error {
	m := n.place()
	if m.Server == "" {
		return nil
	}
	r, err := n.newReplica(m)
	switch {
	case errors.Is(err, consensus.ErrCorrupt) && !m.Only && (len(m.Peers) > 0 || len(n.cfg.Join) > 0):
		n.log.Error("what this node keeps of the table is damaged; it is thrown away and fetched from the others", "err", err)
		return n.forgetReplica()
	case errors.Is(err, consensus.ErrCorrupt):
		return fmt.Errorf("load %s: %w: restore the data directory from a backup, recover another node that has the table, "+
			"or begin with an empty one", n.dir.path, err)
	case err != nil:
		return err
	}
	fresh, err := r.Fresh()
	switch {
	case err != nil || !fresh:
	case m.Forming:
		err = r.Bootstrap(consensus.Server{ID: m.Server, Addr: n.nodeAddr, Voter: true})
	case m.Settled:
		// What it had promised as a voter is gone with the files, so it must not come back under that name.
		_ = r.Close()
		if m.Only || len(m.Peers) == 0 && len(n.cfg.Join) == 0 {
			return fmt.Errorf("the table in %s is gone: restore it from a backup, or begin with an empty data directory", n.dir.path)
		}
		n.log.Warn("what this node kept of the table is gone; it is fetched from the others")
		return n.forgetReplica()
	}
	if err != nil {
		return errors.Join(err, r.Close())
	}
	n.replica.Store(r)
	return nil
}

// forgetReplica throws the replica away: the node asks for a new place, with a name that was never used.
func (n *Node) forgetReplica() error {
	if err := n.setPlace(func(m *member) { m.Server, m.Settled, m.Forming = "", false, false }); err != nil {
		return err
	}
	if n.dir == nil {
		return nil
	}
	return consensus.Wipe(n.dir.path)
}

func (n *Node) newReplica(m member) (*consensus.Replica, error) {
	timing := consensus.OneRegion()
	if m.Profile == placement.MultiRegion {
		timing = consensus.MultiRegion()
	}
	cfg := consensus.Config{
		ID: m.Server, Addr: n.nodeAddr, Listener: n.raft,
		Dial: func(ctx context.Context, addr, id string) (net.Conn, error) {
			return n.port.Dial(ctx, addr, nodeOf(id), nodeport.Raft)
		},
		Resolve: func(id string) (string, bool) { return n.heardAddr(nodeOf(id)) },
		Timing:  timing, SnapshotBytes: n.cfg.SnapshotBytes, Log: n.log, Now: n.cfg.Now, Open: n.cfg.OpenFile,
	}
	if n.dir != nil {
		cfg.Dir = n.dir.path
	}
	return consensus.New(cfg, n.table)
}
