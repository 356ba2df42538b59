package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Node is this node's part in the cluster: one replica of the table, and what gets commands committed, here or by whoever
// leads. Its methods may be called by any number of goroutines; those that change the table wait for Run, and answer
// placement.ErrStopped after it.
type Node struct {
	cfg   Config
	log   *slog.Logger
	table *placement.Table
	dir   *dataDir // nil: in memory

	keys     *trust.Keys
	identity *trust.Identity
	port     *nodeport.Port
	client   *control.Client
	server   *control.Server
	gossip   atomic.Pointer[gossip.Gossip] // another one once a node that joins has learned the times of its cluster
	raft     net.Listener                  // connections of other replicas, which wait until this one runs
	nodeAddr string                        // as other nodes dial it

	proposals chan *proposal // to the writer
	forwards  chan *proposal // to the forwarder
	nudge     chan uint64    // to the ticking goroutine: the number of a batch
	window    window
	holder    holder
	granter   granter
	loads     loads
	counts    counts
	refusals  *pace
	entries   [][]byte // the writer's

	replica    atomic.Pointer[consensus.Replica] // nil until the node has a place
	authority  atomic.Pointer[trust.Authority]   // nil: this node signs no certificates
	session    atomic.Pointer[placement.Session] // nil until it is open
	lag        lags
	met        met
	admitting  turn       // of the leader, while it changes the servers
	electorate electorate // under admitting

	// rowsHeld is until when no free row gets a new owner: after a recovery those that hold states are to say so first.
	rowsHeld time.Time

	joined  chan struct{} // closed when the own table has the own session
	stopped chan struct{} // closed when Run has ended
	stop    sync.Once

	placing turn // while the node's place is changed, on the disk too
	mu      sync.Mutex
	member  member
	leaving bool
	left    bool        // for good
	adding  trust.KeyID // what KeyAdd has not finished
}

// Errors of operators' requests that callers branch on.
var (
	// ErrNoNode: nobody knows a node of that name.
	ErrNoNode = errors.New("no such node")
	// ErrNotHere: this node cannot do that to itself.
	ErrNotHere = errors.New("not by this node itself")
	// ErrOnlyVoter: the table would leave with this node.
	ErrOnlyVoter = errors.New("this node is the only voter, and there is no other that has been up for some seconds to take over: " +
		"start one and try again, or, if there is to be no cluster any more, stop this node")
	// ErrNotYet: other nodes have to take the step before first.
	ErrNotYet = errors.New("not yet")
	// ErrNoLeader: nobody leads the cluster, as far as this node can reach it, and nothing was done.
	ErrNoLeader = errors.New("no node leads the cluster")
)

// ErrSessionOver is returned by Run when the cluster has ended this life of the node, or has removed its replica: it was
// not heard of for too long, or an operator said so. Whoever runs nodes opens a new one, in the same process if it likes.
var ErrSessionOver = errors.New("the cluster has ended this node's session")

// turn lets one goroutine after the other do something that waits for a disk or for others.
type turn chan struct{}

// take waits for the turn, and returns what gives it back.
func (t turn) take() (done func()) {
	t <- struct{}{}
	return func() { <-t }
}

// await is take, unless ctx ends before.
func (t turn) await(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Table returns the table, to be read only. It is empty until the node has caught up: see Joined.
func (n *Node) Table() *placement.Table { return n.table }

// Joined waits until this node is a member: its own table has its own session, and with it all that was committed before,
// and it holds its lease.
// From then on Node, Session and MACKey hold.
func (n *Node) Joined(ctx context.Context) error {
	select {
	case <-n.joined:
		return nil
	case <-n.stopped:
		return placement.ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Node returns this node's session, 0 before it is open.
func (n *Node) Node() wire.NodeSession {
	if s := n.session.Load(); s != nil {
		return s.ID
	}
	return 0
}

// Session returns this node's session with its number and boot.
func (n *Node) Session() placement.Session {
	if s := n.session.Load(); s != nil {
		return *s
	}
	return placement.Session{}
}

// MACKey returns the secret made with the table.
func (n *Node) MACKey() [32]byte { return n.table.MACKey() }

// NodeAddr is where other nodes reach this one's node port, GossipAddr its gossip.
func (n *Node) NodeAddr() string { return n.nodeAddr }

// GossipAddr is where other nodes reach this one's gossip.
func (n *Node) GossipAddr() string { return n.gossip.Load().AdvertiseAddr().String() }

// Lease returns until when this node may count on its session, and whether it may now.
func (n *Node) Lease() (until time.Time, held bool) { return n.holder.lease(n.cfg.Now()) }

// Leader returns the node that leads, as far as this one knows.
func (n *Node) Leader() (node string, ok bool) {
	node, _, ok = n.leader()
	return node, ok
}

func (n *Node) leader() (node, addr string, ok bool) {
	r := n.replica.Load()
	if r == nil {
		return "", "", false
	}
	id, addr, ok := r.Leader()
	return nodeOf(id), addr, ok
}

func (n *Node) leading() bool {
	r := n.replica.Load()
	return r != nil && r.Leading()
}

// leaderChanged returns a channel that is closed at the next change of leadership. Take it before looking.
func (n *Node) leaderChanged() <-chan struct{} {
	if r := n.replica.Load(); r != nil {
		return r.Changed()
	}
	return nil
}

// Close gives up a Node that was never run. Run does so itself when it returns.
func (n *Node) Close() error {
	var err error
	if r := n.replica.Load(); r != nil {
		err = r.Close()
	}
	if g := n.gossip.Load(); g != nil {
		g.Close()
	}
	if n.cfg.Listener != nil {
		if cerr := n.cfg.Listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	n.end()
	return err
}

// end tells whoever waits, and unlocks the data directory.
func (n *Node) end() {
	n.stop.Do(func() {
		close(n.stopped)
		if n.dir != nil {
			n.dir.close()
		}
	})
}

// randomStateID draws an id that nobody can guess; never 0.
func randomStateID() wire.StateID {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:])
		var id uint64
		for i := range b {
			id = bits.RotateLeft64(id, 8) | uint64(b[i])
		}
		if id != 0 {
			return wire.StateID(id)
		}
	}
}

// counts are plain counters.
type counts struct {
	begun, batches, commands, refused, swept, forwarded, expired atomic.Uint64
	renewals, renewalsFailed                                     atomic.Uint64
	enrolled, enrolRefused                                       atomic.Uint64
}

// Collect emits what the table holds and what this node did.
func (n *Node) Collect(emit func(name string, value float64, labels ...string)) {
	st := n.table.Stats()
	emit("table_states", float64(st.Rows))
	emit("table_apps", float64(st.Apps))
	emit("table_instances", float64(st.Instances), "state", "live")
	emit("table_instances", float64(st.Gone), "state", "gone")
	emit("table_node_sessions", float64(st.Sessions))
	emit("table_keys", float64(st.Keys))
	emit("table_index", float64(n.table.Index()))
	emit("table_batches_total", float64(n.counts.batches.Load()))
	emit("table_commands_total", float64(n.counts.commands.Load()))
	emit("table_commands_refused_total", float64(n.counts.refused.Load()))
	emit("table_rows_swept_total", float64(n.counts.swept.Load()))
	emit("table_proposals_waiting", float64(len(n.proposals)+len(n.forwards)))
	emit("table_batches_forwarded_total", float64(n.counts.forwarded.Load()))
	until, _ := n.Lease()
	emit("lease_seconds_left", max(0, until.Sub(n.cfg.Now()).Seconds()))
	emit("lease_renewals_total", float64(n.counts.renewals.Load()))
	emit("lease_renewals_failed_total", float64(n.counts.renewalsFailed.Load()))
	emit("sessions_expired_total", float64(n.counts.expired.Load()))
	emit("enrolments_total", float64(n.counts.enrolled.Load()))
	emit("enrolments_refused_total", float64(n.counts.enrolRefused.Load()))
	n.collectMembers(emit)
	n.collectPort(emit)
	if r := n.replica.Load(); r != nil {
		r.Collect(emit)
	}
}
