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

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Local is the table of one node: a single writer that journals commands and applies them. Its methods may be called
// by any number of goroutines; those that change the table wait for Run, and answer placement.ErrStopped after it.
type Local struct {
	cfg   Config
	log   *slog.Logger
	table *placement.Table
	self  placement.Session
	dir   *dataDir // nil: in memory

	proposals chan *proposal
	stopped   chan struct{}
	stop      sync.Once
	loads     loads
	counts    counts
	opened    time.Time

	// The sweeper's.
	gone      map[wire.InstanceID]time.Time // since when it has seen them gone
	leftovers bool                          // what an earlier life left has been removed

	// The writer's.
	journal  *journal
	snapshot chan struct{} // holds a token while a snapshot is being written
	entries  [][]byte
	results  []placement.Result
}

// maxQueue is how many proposals may wait for the writer before those who propose wait themselves.
const maxQueue = 4096

// Open makes the table, or loads it from its data directory, and opens a node session. It starts nothing. Errors say
// what to do: a directory in use, one that others may read, one of another kind, a journal or snapshot that is damaged.
func Open(cfg Config) (*Local, error) {
	cfg.fill()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	l := &Local{
		cfg: cfg, log: cfg.Log, table: placement.New(),
		proposals: make(chan *proposal, maxQueue), stopped: make(chan struct{}), snapshot: make(chan struct{}, 1),
		opened: cfg.Now(),
	}
	if err := l.load(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open table: %w", err)
	}
	return l, nil
}

func (l *Local) load() error {
	if l.cfg.DataDir != "" {
		dir, err := openDir(l.cfg.DataDir, l.log)
		if err != nil {
			return err
		}
		l.dir = dir
		if l.journal, err = dir.load(l.table); err != nil {
			return err
		}
	}
	var first []placement.Command
	incarnation := l.table.Incarnation()
	if l.table.Generation() == 0 {
		form := l.form()
		first, incarnation = append(first, form), form.Incarnation
	}
	if l.dir != nil && l.journal == nil {
		var err error
		if l.journal, err = l.dir.begin(incarnation, l.table.Index()+1); err != nil {
			return err
		}
	}
	results, err := l.commitOne(append(first, &placement.OpenSession{NodeID: l.cfg.NodeID, Region: l.cfg.Region}))
	if err != nil {
		return err
	}
	last := results[len(results)-1]
	if last.Outcome != placement.Done {
		return fmt.Errorf("open node session: %w", placement.ErrFull)
	}
	l.self, _ = l.table.Session(last.Node)
	return nil
}

// form makes up a new cluster. Its generation counts minutes, so that a table made anew where one was lost gives
// epochs above the old ones.
func (l *Local) form() *placement.Form {
	minutes := l.cfg.Now().Sub(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Minute
	f := &placement.Form{Generation: uint32(min(max(minutes, 1), 1<<24-1))}
	_, _ = rand.Read(f.Incarnation[:]) // crypto/rand never fails
	_, _ = rand.Read(f.MACKey[:])
	return f
}

// Run writes what is proposed until ctx is done, and sweeps. It returns early with an error when the journal can no
// longer be trusted: what was promised until then is kept, nothing more is promised.
func (l *Local) Run(ctx context.Context) error {
	defer l.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.write(ctx, g) })
	g.Go(func() error { return l.sweepEvery(ctx, time.Minute) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Close gives up the data directory. Run does so itself when it returns.
func (l *Local) Close() error {
	l.stop.Do(func() {
		close(l.stopped)
		if l.journal != nil {
			l.journal.file.Close()
		}
		if l.dir != nil {
			l.dir.close()
		}
	})
	return nil
}

// Table returns the table, to be read only.
func (l *Local) Table() *placement.Table { return l.table }

// Node returns this node's session.
func (l *Local) Node() wire.NodeSession { return l.self.ID }

// Session returns this node's session with its number and boot.
func (l *Local) Session() placement.Session { return l.self }

// MACKey returns the secret made with the table.
func (l *Local) MACKey() [32]byte { return l.table.MACKey() }

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
func (l *Local) Report(id wire.InstanceID, permille uint32, sessions uint64) {
	l.loads.mu.Lock()
	defer l.loads.mu.Unlock()
	if l.loads.of == nil {
		l.loads.of = map[wire.InstanceID]report{}
	}
	l.loads.of[id] = report{permille, sessions, l.cfg.Now()}
}

// Load returns the last report of an instance, if it is fresh.
func (l *Local) Load(id wire.InstanceID) (permille uint32, sessions uint64, ok bool) {
	l.loads.mu.Lock()
	defer l.loads.mu.Unlock()
	r, ok := l.loads.of[id]
	if !ok || l.cfg.Now().Sub(r.at) > reportLife {
		return 0, 0, false
	}
	return r.permille, r.sessions, true
}

// counts are plain counters.
type counts struct {
	batches, commands, refused  atomic.Uint64
	journalBytes, syncNanos     atomic.Uint64
	snapshots, snapshotFailures atomic.Uint64
	swept                       atomic.Uint64
	longestSync                 atomic.Uint64
}

func (c *counts) synced(d time.Duration, bytes int64) {
	c.syncNanos.Add(uint64(d))
	c.journalBytes.Add(uint64(bytes))
	if n := uint64(d); n > c.longestSync.Load() {
		c.longestSync.Store(n)
	}
}

// Collect emits what the table holds and what its writer did.
func (l *Local) Collect(emit func(name string, value float64, labels ...string)) {
	st := l.table.Stats()
	emit("table_states", float64(st.Rows))
	emit("table_apps", float64(st.Apps))
	emit("table_instances", float64(st.Instances), "state", "live")
	emit("table_instances", float64(st.Gone), "state", "gone")
	emit("table_node_sessions", float64(st.Sessions))
	emit("table_keys", float64(st.Keys))
	emit("table_index", float64(l.table.Index()))
	emit("table_batches_total", float64(l.counts.batches.Load()))
	emit("table_commands_total", float64(l.counts.commands.Load()))
	emit("table_commands_refused_total", float64(l.counts.refused.Load()))
	emit("table_rows_swept_total", float64(l.counts.swept.Load()))
	emit("table_proposals_waiting", float64(len(l.proposals)))
	if l.dir != nil {
		emit("journal_bytes_total", float64(l.counts.journalBytes.Load()))
		emit("journal_sync_seconds_total", time.Duration(l.counts.syncNanos.Load()).Seconds())
		emit("journal_sync_longest_seconds", time.Duration(l.counts.longestSync.Load()).Seconds())
		emit("snapshots_total", float64(l.counts.snapshots.Load()))
		emit("snapshot_failures_total", float64(l.counts.snapshotFailures.Load()))
	}
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
