package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Node is this node's part in the cluster: one replica of the table, and the writer that gets commands committed. Its
// methods may be called by any number of goroutines; those that change the table wait for Run, and answer
// placement.ErrStopped after it.
type Node struct {
	cfg     Config
	log     *slog.Logger
	table   *placement.Table
	replica *consensus.Replica
	self    placement.Session
	halt    context.CancelFunc // ends the replica
	halted  chan error         // has its end
	dir     *dataDir           // nil: in memory

	proposals chan *proposal
	stopped   chan struct{}
	stop      sync.Once
	loads     loads
	counts    counts
	opened    time.Time

	// The sweeper's.
	gone      map[wire.InstanceID]time.Time // since when it has seen them gone
	leftovers bool                          // what an earlier life left has been removed

	entries [][]byte // the writer's
}

const (
	// maxQueue is how many proposals may wait for the writer before those who propose wait themselves.
	maxQueue = 4096
	// openTime bounds how long the only voter may take to lead and to apply its log.
	openTime = time.Minute
)

// Open makes the table, or loads it from its data directory, and opens a node session. Raft runs from here on, since
// opening a session needs it; nothing is proposed by others before Run. Errors say what to do: a directory in
// use, one that others may read, one of another kind, a log or snapshot that is damaged.
func Open(cfg Config) (*Node, error) {
	cfg.fill()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, table: placement.New(),
		proposals: make(chan *proposal, maxQueue), stopped: make(chan struct{}), opened: cfg.Now(),
	}
	if err := n.load(); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("open table: %w", err)
	}
	return n, nil
}

func (n *Node) load() error {
	folder := ""
	if n.cfg.DataDir != "" {
		dir, err := openDir(n.cfg.DataDir)
		if err != nil {
			return err
		}
		n.dir, folder = dir, dir.path
	}
	var err error
	n.replica, err = consensus.New(consensus.Config{
		Dir: folder, ID: onlyVoter, Addr: onlyVoter, Timing: consensus.OneRegion(), Now: n.cfg.Now,
		SnapshotBytes: n.cfg.SnapshotBytes, Log: n.log,
	}, n.table)
	switch {
	case errors.Is(err, consensus.ErrCorrupt):
		return fmt.Errorf("load %s: %w: restore the data directory from a backup, or begin with an empty one", folder, err)
	case err != nil:
		return err
	}
	if err := n.lead(); err != nil {
		return err
	}
	return n.begin()
}

// onlyVoter names the replica of a node that forms a cluster of one, and is its address there.
const onlyVoter = "1"

// lead makes this node the only voter of a new cluster, unless it is one already, and waits until it leads and its table
// has everything that was committed.
func (n *Node) lead() error {
	fresh, err := n.replica.Fresh()
	if err == nil && fresh {
		err = n.replica.Bootstrap(consensus.Server{ID: onlyVoter, Addr: onlyVoter})
	}
	if err == nil {
		run, stop := context.WithCancel(context.Background())
		n.halt, n.halted = stop, make(chan error, 1)
		go func() { n.halted <- n.replica.Run(run) }() // ends with Run or Close
		ctx, cancel := context.WithTimeout(context.Background(), openTime)
		defer cancel()
		err = n.replica.Lead(ctx)
	}
	if err != nil {
		return fmt.Errorf("apply the log: %w", err)
	}
	return nil
}

// begin forms the table if it is new, and opens a node session.
func (n *Node) begin() error {
	var first []placement.Command
	if n.table.Generation() == 0 {
		first = append(first, n.form())
	}
	results, err := n.commitOne(append(first, &placement.OpenSession{NodeID: n.cfg.NodeID, Region: n.cfg.Region}))
	if err != nil {
		return fmt.Errorf("open node session: %w", err)
	}
	last := results[len(results)-1]
	if last.Outcome != placement.Done {
		return fmt.Errorf("open node session: %w", placement.ErrFull)
	}
	n.self, _ = n.table.Session(last.Node)
	return nil
}

// form makes up a new cluster. Its generation counts minutes, so that a table made anew where one was lost gives
// epochs above the old ones.
func (n *Node) form() *placement.Form {
	minutes := n.cfg.Now().Sub(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Minute
	f := &placement.Form{Generation: uint32(min(max(minutes, 1), 1<<24-1))}
	_, _ = rand.Read(f.Incarnation[:]) // crypto/rand never fails
	_, _ = rand.Read(f.MACKey[:])
	return f
}

// Run gets committed what is proposed until ctx is done, and sweeps. It returns early with an error when the replica can
// no longer be trusted: what was promised until then is kept, nothing more is promised.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case err := <-n.halted:
			n.halted <- nil
			return err
		case <-ctx.Done():
			n.halt()
			err := <-n.halted
			n.halted <- nil
			return err
		}
	})
	g.Go(func() error { return n.write(ctx) })
	g.Go(func() error { return n.sweepEvery(ctx, time.Minute) })
	err := g.Wait()
	n.end()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Close gives up a Node that was never run. Run does so itself when it returns.
func (n *Node) Close() error {
	var err error
	switch {
	case n.halt != nil:
		n.halt()
		err = <-n.halted
		n.halted <- nil
	case n.replica != nil:
		err = n.replica.Close()
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

// Table returns the table, to be read only.
func (n *Node) Table() *placement.Table { return n.table }

// Node returns this node's session.
func (n *Node) Node() wire.NodeSession { return n.self.ID }

// Session returns this node's session with its number and boot.
func (n *Node) Session() placement.Session { return n.self }

// MACKey returns the secret made with the table.
func (n *Node) MACKey() [32]byte { return n.table.MACKey() }

// loads are what instances report of themselves: hints, not in the table.
type loads struct {
	mu sync.Mutex
	of map[wire.InstanceID]report
}

type report struct {
	permille uint32
	sessions uint64
	at       time.Time
}

// reportLife is how long a report counts.
const reportLife = 15 * time.Second

// Report notes the load that an instance reports, in thousandths of what it can do, and its sessions: a hint for
// placing, forgotten after 15 s.
func (n *Node) Report(id wire.InstanceID, permille uint32, sessions uint64) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	if n.loads.of == nil {
		n.loads.of = map[wire.InstanceID]report{}
	}
	n.loads.of[id] = report{permille, sessions, n.cfg.Now()}
}

// Load returns the last report of an instance, if it is fresh.
func (n *Node) Load(id wire.InstanceID) (permille uint32, sessions uint64, ok bool) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	r, ok := n.loads.of[id]
	if !ok || n.cfg.Now().Sub(r.at) > reportLife {
		return 0, 0, false
	}
	return r.permille, r.sessions, true
}

// counts are plain counters.
type counts struct {
	batches, commands, refused, swept atomic.Uint64
}

// Collect emits what the table holds and what its writer did.
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
	emit("table_proposals_waiting", float64(len(n.proposals)))
	n.replica.Collect(emit)
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
