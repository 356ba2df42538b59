package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// Timing are the times by which replicas find out that a leader is gone. What raft asks of them: LeaderLease <= Heartbeat
// <= Election.
type Timing struct {
	Heartbeat, Election, LeaderLease time.Duration
}

// Alone is for a replica that is the only voter: nobody else's silence has to be told from a slow network, and it leads
// some tens of milliseconds after its start.
func Alone() Timing {
	return Timing{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond}
}

// Config of a Replica.
type Config struct {
	// Dir is the folder for log, vote and snapshots, mode 0700, which must be there; "" keeps all in memory.
	Dir string
	// ID names the replica; Transport carries what it says to others.
	ID        raft.ServerID
	Transport raft.Transport
	Timing    Timing
	// SnapshotBytes is the length of log at which a snapshot is taken.
	SnapshotBytes int64
	Log           *slog.Logger
	// Open opens a file of the log of at least size bytes; nil is the disk. Tests put their faults in here.
	Open func(path string, size int64) (File, error)
}

// Errors of Propose that a caller branches on.
var (
	// ErrNotLeader: this replica does not lead, and nothing was proposed.
	ErrNotLeader = errors.New("this replica does not lead")
	// ErrUnknown: the leadership was lost or the replica stopped; what was proposed may or may not be committed.
	ErrUnknown = errors.New("what became of the proposal is unknown")
)

// Replica is one replica of the table.
type Replica struct {
	cfg     Config
	machine *machine
	log     *logStore // nil in memory
	stable  raft.StableStore
	snaps   raft.SnapshotStore
	logs    raft.LogStore
	raft    *raft.Raft

	written atomic.Int64 // bytes of entries since the last snapshot
	poke    chan struct{}
	counts  counts

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of leadership; nil while nobody waits
}

type counts struct {
	proposed, syncs, syncNanos, longestSync atomic.Uint64
	snapshots, snapshotFailures             atomic.Uint64
}

// New opens what the folder has, or makes it: the table is then as of the newest snapshot, and goes on from the log once
// a leader has said what of it is committed. ErrCorrupt is wrapped where a checksum is wrong.
func New(cfg Config, table *placement.Table) (*Replica, error) {
	if cfg.Open == nil {
		cfg.Open = openDisk
	}
	r := &Replica{cfg: cfg, machine: newMachine(table), poke: make(chan struct{}, 1)}
	if err := r.openStores(); err != nil {
		return nil, err
	}
	conf := r.config()
	var err error
	if r.raft, err = raft.NewRaft(conf, r.machine, r.logs, r.stable, r.snaps, cfg.Transport); err != nil {
		r.closeStores()
		if errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		return nil, fmt.Errorf("start raft: %w", err)
	}
	select {
	case <-r.machine.failed:
		return nil, errors.Join(r.machine.err, r.shutdown())
	default:
		return r, nil
	}
}

func (r *Replica) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = r.cfg.ID
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = r.cfg.Timing.Heartbeat, r.cfg.Timing.Election, r.cfg.Timing.LeaderLease
	c.CommitTimeout = min(c.CommitTimeout, r.cfg.Timing.Heartbeat)
	c.MaxAppendEntries = 256
	c.BatchApplyCh = true
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Minute, 16_384, 4096
	c.NoLegacyTelemetry = true
	c.Logger = logger(r.cfg.Log)
	return c
}

func (r *Replica) openStores() (err error) {
	if r.cfg.Dir == "" {
		mem := raft.NewInmemStore()
		r.logs, r.stable, r.snaps = mem, mem, raft.NewInmemSnapshotStore()
		return nil
	}
	if r.log, err = openLog(r.cfg.Dir, r.cfg.Open, r.synced); err != nil {
		return err
	}
	if r.stable, err = openStable(r.cfg.Dir); err == nil {
		r.snaps, err = raft.NewFileSnapshotStoreWithLogger(r.cfg.Dir, 2, logger(r.cfg.Log))
	}
	if err == nil {
		err = r.checkSnapshots()
	}
	if err != nil {
		r.log.close()
		return err
	}
	r.logs = r.log
	return nil
}

// checkSnapshots reads the newest snapshot as raft would, so that a wrong checksum is told from its absence: raft passes
// over one that cannot be read, and a log whose beginning is gone would then make another table.
func (r *Replica) checkSnapshots() error {
	list, err := r.snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(r.cfg.Dir, "snapshots", "*-*-*"))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	whole := 0
	for _, path := range found {
		if filepath.Ext(path) != ".tmp" {
			whole++
		}
	}
	if len(list) == 0 && whole > 0 {
		return fmt.Errorf("read %s: %w", found[0], ErrCorrupt)
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

// Bootstrap makes the replicas the voters of a new cluster. Only for a Replica that is Fresh.
func (r *Replica) Bootstrap(servers ...raft.Server) error {
	if err := r.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return fmt.Errorf("make a new cluster: %w", err)
	}
	return nil
}

// Run keeps the replica until ctx ends, and takes snapshots. It returns early with an error when the replica must not go
// on: an entry that the table does not understand, or a disk that can no longer be trusted.
func (r *Replica) Run(ctx context.Context) error {
	states := make(chan raft.Observation, 16)
	observer := raft.NewObserver(states, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-states:
			r.tell()
		case <-r.poke:
			r.snapshot()
		case <-tick.C:
			err = r.broken()
		case <-r.machine.failed:
			err = r.machine.err
		case <-ctx.Done():
		}
	}
	return errors.Join(err, r.shutdown())
}

// broken says why the log can no longer be written.
func (r *Replica) broken() error {
	if r.log == nil {
		return nil
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.log.broken
}

// Close ends a replica that was never run.
func (r *Replica) Close() error { return r.shutdown() }

func (r *Replica) shutdown() error {
	err := r.raft.Shutdown().Error()
	r.tell()
	r.closeStores()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
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

// Lead waits until this replica leads and has applied everything that was committed before, or until it has ended.
func (r *Replica) Lead(ctx context.Context) error {
	for {
		select {
		case leading := <-r.raft.LeaderCh():
			if !leading {
				continue
			}
			err := r.Barrier(ctx)
			if errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnknown) {
				continue
			}
			return err
		case <-r.machine.failed:
			return r.machine.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leading says whether this replica leads, by its own knowledge.
func (r *Replica) Leading() bool { return r.raft.State() == raft.Leader }

// Barrier waits until everything committed before has been applied here. ErrNotLeader, ErrUnknown, ctx's error.
func (r *Replica) Barrier(ctx context.Context) error {
	return wait(ctx, r.raft.Barrier(0))
}

// wait waits for a future, or for the end of ctx.
func wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with the leadership or the replica at the latest
	select {
	case err := <-done:
		return told(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// Propose has entries committed and applied, in order, and returns the results of all their commands. It
// waits as long as this replica leads. One caller at a time, so that the entries follow each other.
func (r *Replica) Propose(entries [][]byte) (results []placement.Result, err error) {
	futures := make([]raft.ApplyFuture, len(entries))
	for _, e := range entries {
		if len(e) > placement.MaxEntry {
			return nil, fmt.Errorf("propose an entry of %d bytes, at most %d: %w", len(e), placement.MaxEntry, placement.ErrEntry)
		}
	}
	size := int64(0)
	for i, e := range entries {
		// raft keeps the bytes: a caller may use its buffer again.
		futures[i] = r.raft.ApplyLog(raft.Log{Data: append([]byte(nil), e...)}, 0)
		size += int64(len(e))
	}
	for i, f := range futures {
		if ferr := f.Error(); ferr != nil {
			err = told(ferr)
			if i > 0 { // some of them are committed
				err = fmt.Errorf("%w: %w", ErrUnknown, ferr)
			}
			return nil, err
		}
		a := f.Response().(answer)
		if a.err != nil {
			return nil, a.err
		}
		results = append(results, a.results...)
	}
	r.counts.proposed.Add(uint64(len(entries)))
	if r.written.Add(size) >= r.cfg.SnapshotBytes {
		select {
		case r.poke <- struct{}{}:
		default:
		}
	}
	return results, nil
}

// snapshot takes a snapshot, after which raft drops the log that it makes needless. What fails is tried again.
func (r *Replica) snapshot() {
	r.written.Store(0)
	began := time.Now()
	switch err := r.raft.Snapshot().Error(); {
	case err == nil:
		r.counts.snapshots.Add(1)
		r.cfg.Log.Info("table snapshot written", "took", time.Since(began))
	case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
	default:
		r.counts.snapshotFailures.Add(1)
		r.cfg.Log.Error("the table's snapshot could not be written; the log is kept", "err", err)
	}
}

// Collect emits what the replica did. Durations are in seconds.
func (r *Replica) Collect(emit func(name string, value float64, labels ...string)) {
	leading := 0.0
	if r.Leading() {
		leading = 1
	}
	emit("raft_leading", leading)
	emit("raft_term", float64(r.raft.CurrentTerm()))
	emit("raft_last_index", float64(r.raft.LastIndex()))
	emit("raft_commit_index", float64(r.raft.CommitIndex()))
	emit("raft_applied_index", float64(r.raft.AppliedIndex()))
	emit("raft_entries_proposed_total", float64(r.counts.proposed.Load()))
	if r.log == nil {
		return
	}
	emit("raft_syncs_total", float64(r.counts.syncs.Load()))
	emit("raft_sync_seconds_total", time.Duration(r.counts.syncNanos.Load()).Seconds())
	emit("raft_sync_longest_seconds", time.Duration(r.counts.longestSync.Load()).Seconds())
	emit("raft_snapshots_total", float64(r.counts.snapshots.Load()))
	emit("raft_snapshot_failures_total", float64(r.counts.snapshotFailures.Load()))
}
