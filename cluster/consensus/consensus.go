package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// Timing are the times by which replicas find out that a leader is gone. What raft asks of them: LeaderLease <= Heartbeat
// <= Election. An election should last ten round trips between voters, and works from four on.
type Timing struct {
	Heartbeat, Election, LeaderLease time.Duration
}

// OneRegion is for voters some milliseconds apart.
func OneRegion() Timing { return Timing{time.Second, time.Second, 500 * time.Millisecond} }

// MultiRegion is for voters up to 250 ms apart.
func MultiRegion() Timing {
	return Timing{2500 * time.Millisecond, 2500 * time.Millisecond, 1500 * time.Millisecond}
}

// Config of a Replica.
type Config struct {
	// Dir is the folder for log, vote and snapshots, mode 0700, which must be there; "" keeps all in memory.
	Dir string
	// ID names the replica among the servers. One that has forgotten what it had (Wipe, a new folder) must come under an ID
	// that was never used, since its votes are forgotten too.
	ID string
	// Addr is where others dial this replica.
	Addr string
	// Listener has the connections that others dialled; Run closes it. nil: nobody comes.
	Listener net.Listener
	// Dial connects to the replica id at addr; nil: nobody is reached. It must heed its context.
	Dial func(ctx context.Context, addr, id string) (net.Conn, error)
	// Resolve says where a replica is to be dialled now; nil or !ok: at the address that the configuration has.
	Resolve func(id string) (addr string, ok bool)
	Timing  Timing
	// SnapshotBytes is the length of log at which a snapshot is taken.
	SnapshotBytes int64
	Log           *slog.Logger
	// Now is the clock of the watchdog and of contacts; nil is time.Now. (raft itself reads the system's.)
	Now func() time.Time
	// Open opens a file of the log of at least size bytes; nil is the disk. Tests put their faults in here.
	Open func(path string, size int64) (File, error)
}

// Errors that a caller branches on.
var (
	// ErrNotLeader: this replica does not lead, and nothing was proposed.
	ErrNotLeader = errors.New("this replica does not lead")
	// ErrUnknown: the leadership was lost or the replica stopped; what was proposed may or may not be committed.
	ErrUnknown = errors.New("what became of the proposal is unknown")
	// ErrStuck: the disk or raft itself does not answer. Run has returned without waiting for it.
	ErrStuck = errors.New("the replica is stuck")
)

// Replica is one replica of the table.
type Replica struct {
	cfg     Config
	machine *machine
	log     *logStore // nil in memory
	stable  raft.StableStore
	snaps   raft.SnapshotStore
	logs    raft.LogStore

	raft     atomic.Pointer[raft.Raft] // nil before Run
	stream   *stream                   // Run's
	trans    *transport                // Run's
	ended    chan struct{}             // closed when raft will answer nobody any more
	poke     chan struct{}             // wakes the one that takes snapshots
	disk     probe
	progress progress
	peers    contacts
	counts   counts
	// restoring counts the backups being restored.
	restoring atomic.Int32

	mu       sync.Mutex
	closing  bool
	asked    sync.WaitGroup // calls to raft that are not answered yet; Add under mu
	changed  chan struct{}  // closed at the next change of leadership; nil while nobody waits
	shutOnce sync.Once
}

type counts struct {
	proposed, syncs, syncNanos, longestSync atomic.Uint64
	snapshots, snapshotFailures             atomic.Uint64
	transfers                               atomic.Uint64
}

// New opens what the folder has, or makes it, and reads all of it once: ErrCorrupt is wrapped where a checksum is wrong.
// Raft starts with Run, so until then a caller may look at Fresh, and Bootstrap or Close and Wipe.
func New(cfg Config, table *placement.Table) (*Replica, error) {
	if cfg.ID == "" || cfg.Addr == "" {
		return nil, errors.New("a replica needs an id and an address")
	}
	if cfg.Open == nil {
		cfg.Open = openDisk
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Replica{cfg: cfg, ended: make(chan struct{}), poke: make(chan struct{}, 1)}
	r.machine = newMachine(table, r.grown)
	r.disk.now, r.progress.now, r.peers.now = cfg.Now, cfg.Now, cfg.Now
	if err := r.openStores(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Replica) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(r.cfg.ID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = r.cfg.Timing.Heartbeat, r.cfg.Timing.Election, r.cfg.Timing.LeaderLease
	c.CommitTimeout = min(c.CommitTimeout, r.cfg.Timing.Heartbeat)
	// 64 entries of the greatest size are 16 MiB: what a follower that is behind can be sent within the time of one call.
	c.MaxAppendEntries = 64
	c.BatchApplyCh = true
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Minute, 16_384, maxTrailing
	c.ShutdownOnRemove = false // a replica that was removed says so itself, and its owner ends it
	c.NoLegacyTelemetry = true
	c.Logger = logger(r.cfg.Log, r.cfg.Now)
	return c
}

// maxTrailing and minTrailing bound how many entries stay in the log behind a snapshot, for who was away for a moment; within
// them it is as many as SnapshotBytes hold.
const (
	maxTrailing = 4096
	minTrailing = 64
)

func (r *Replica) openStores() (err error) {
	if r.cfg.Dir == "" {
		mem := raft.NewInmemStore()
		r.logs, r.stable, r.snaps = mem, mem, raft.NewInmemSnapshotStore()
		return nil
	}
	if err := finishWipe(r.cfg.Dir); err != nil {
		return err
	}
	if r.log, err = openLog(r.cfg.Dir, r.cfg.Open, r.synced, &r.disk); err != nil {
		return err
	}
	stable, err := openStable(r.cfg.Dir, r.cfg.Open, &r.disk)
	if err == nil {
		r.stable = stable
		err = r.openSnapshots()
	}
	if err != nil {
		r.closeStores()
		return err
	}
	r.logs = r.log
	return nil
}

// openSnapshots reads the newest snapshot as raft would, so that a wrong checksum is told from its absence: raft passes
// over one that cannot be read, and a log whose beginning is gone would then make another table.
func (r *Replica) openSnapshots() error {
	found, err := filepath.Glob(filepath.Join(r.cfg.Dir, snapshotFolder, "*-*-*"))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	whole := 0
	for _, path := range found {
		if !strings.HasSuffix(path, ".tmp") {
			whole++
		} else if err := os.RemoveAll(path); err != nil { // a crash cut it off
			return fmt.Errorf("remove half a snapshot: %w", err)
		}
	}
	if r.snaps, err = raft.NewFileSnapshotStoreWithLogger(r.cfg.Dir, 2, logger(r.cfg.Log, r.cfg.Now)); err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	list, err := r.snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) < min(whole, 2) { // of the two that are kept, one has no readable description
		return fmt.Errorf("read the snapshots in %s: %w", filepath.Join(r.cfg.Dir, snapshotFolder), ErrCorrupt)
	}
	for _, meta := range list[:min(1, len(list))] {
		_, body, err := r.snaps.Open(meta.ID)
		if err != nil {
			return fmt.Errorf("read snapshot %s: %w: %w", meta.ID, ErrCorrupt, err)
		}
		body.Close()
	}
	return nil
}

func (r *Replica) closeStores() {
	if r.log != nil {
		r.log.close()
	}
	if s, ok := r.stable.(*stableStore); ok {
		s.close()
	}
}

func (r *Replica) synced(took time.Duration) {
	r.counts.syncs.Add(1)
	n := uint64(took)
	r.counts.syncNanos.Add(n)
	if n > r.counts.longestSync.Load() {
		r.counts.longestSync.Store(n)
	}
}

// Fresh says that the replica has no log, no vote and no snapshot: it may be made the first of a cluster, or join one.
func (r *Replica) Fresh() (bool, error) {
	has, err := raft.HasExistingState(r.logs, r.stable, r.snaps)
	return !has, err
}

// Bootstrap makes the replicas the voters of a new cluster, before Run. Only for a Replica that is Fresh, and for one of
// them only.
func (r *Replica) Bootstrap(voters ...Server) error {
	var conf raft.Configuration
	for _, v := range voters {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	if err := raft.BootstrapCluster(r.config(), r.logs, r.stable, r.snaps, nil, conf); err != nil {
		return fmt.Errorf("make a new cluster: %w", err)
	}
	return nil
}

// Close ends a replica that was never run.
func (r *Replica) Close() error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.shutOnce.Do(func() {
		close(r.ended)
		r.closeStores()
		if r.cfg.Listener != nil {
			r.cfg.Listener.Close()
		}
	})
	return nil
}

func (r *Replica) tell() {
	r.mu.Lock()
	changed := r.changed
	r.changed = nil
	r.mu.Unlock()
	if changed != nil {
		close(changed)
	}
}

// Changed returns a channel that is closed at the next change of leadership. Take it before looking.
func (r *Replica) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Collect emits what the replica did. Durations are in seconds.
func (r *Replica) Collect(emit func(name string, value float64, labels ...string)) {
	rf := r.raft.Load()
	if rf == nil {
		return
	}
	leading := 0.0
	if r.Leading() {
		leading = 1
	}
	emit("raft_leading", leading)
	emit("raft_term", float64(rf.CurrentTerm()))
	emit("raft_last_index", float64(rf.LastIndex()))
	emit("raft_commit_index", float64(rf.CommitIndex()))
	emit("raft_applied_index", float64(rf.AppliedIndex()))
	emit("raft_entries_proposed_total", float64(r.counts.proposed.Load()))
	emit("raft_watchdog_transfers_total", float64(r.counts.transfers.Load()))
	emit("raft_apply_longest_seconds", time.Duration(r.machine.longest.Load()).Seconds())
	emit("raft_proposal_waiting_seconds", r.progress.stalled().Seconds())
	if r.log == nil {
		return
	}
	emit("raft_syncs_total", float64(r.counts.syncs.Load()))
	emit("raft_sync_seconds_total", time.Duration(r.counts.syncNanos.Load()).Seconds())
	emit("raft_sync_longest_seconds", time.Duration(r.counts.longestSync.Load()).Seconds())
	emit("raft_sync_waiting_seconds", r.disk.waiting().Seconds())
	emit("raft_snapshots_total", float64(r.counts.snapshots.Load()))
	emit("raft_snapshot_failures_total", float64(r.counts.snapshotFailures.Load()))
}
