package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// endTime bounds how long Run waits for raft to end.
const endTime = 5 * time.Second

// Run starts raft, keeps the replica until ctx ends, and takes snapshots. It returns early with an error when the replica
// must not go on: an entry that the table does not understand, bytes without their checksum (ErrCorrupt), a disk that can
// no longer be trusted, or one that does not answer (ErrStuck). With ErrStuck nothing more is sent or heard from then on,
// and what hangs is left behind until the disk lets go of it.
func (r *Replica) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.stream = newStream(&r.cfg)
	if err := r.start(); err != nil {
		r.stream.cut()
		return errors.Join(err, r.Close())
	}
	r.tell()
	// Others than raft's own, so that shutting down can wait for them; they end with ctx, or once raft answers them.
	var helpers sync.WaitGroup
	helpers.Go(func() { r.snapshots(ctx) })
	helpers.Go(func() { r.pulse(ctx) })
	err := r.watch(ctx)
	cancel()
	if errors.Is(err, ErrStuck) {
		if r.Leading() {
			r.summon()
		}
		_ = r.trans.Close()
	}
	return errors.Join(err, r.shutdown(&helpers, err))
}

// start makes a transport and starts raft.
func (r *Replica) start() (err error) {
	conf := r.config()
	r.trans = newTransport(r.stream, &r.cfg, conf.Logger)
	logs, stable := &guardedLog{LogStore: r.logs, fail: r.machine.fail}, &guardedStable{StableStore: r.stable, fail: r.machine.fail}
	defer func() {
		if p := recover(); p != nil { // raft panics where it cannot read its log
			err = fmt.Errorf("start raft: %v", p)
			if cause, ok := p.(error); ok {
				err = fmt.Errorf("start raft: %w", cause)
			}
		}
		if err != nil {
			r.trans.Close()
		}
	}()
	rf, err := raft.NewRaft(conf, r.machine, logs, stable, r.snaps, r.trans)
	switch {
	case r.machine.broken() != nil:
		err = r.machine.broken()
	case err != nil:
		err = fmt.Errorf("start raft: %w", err)
	}
	if err != nil {
		if rf != nil {
			rf.Shutdown()
		}
		return err
	}
	logs.running.Store(true)
	stable.running.Store(true)
	// What the filter sees is never lost; what goes through a channel may be.
	rf.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		r.peers.observe(o.Data)
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			r.tell()
		}
		return false
	}))
	r.raft.Store(rf)
	r.leadAlone()
	return nil
}

// leadAlone makes the only voter lead at once: it has nobody to wait for, so it is told that its time has come, as a
// leader that hands over tells its successor.
func (r *Replica) leadAlone() {
	if !r.onlyVoter() {
		return
	}
	if err := r.trans.timeoutNow(&r.cfg, r.cfg.ID, r.cfg.Addr); err != nil { // it leads after the usual time
		r.cfg.Log.Warn("the only voter could not tell itself to lead", "err", err)
	}
}

// onlyVoter says that this replica is a voter and there is no other.
func (r *Replica) onlyVoter() bool {
	others, self := 0, false
	for _, s := range r.Servers() {
		switch {
		case !s.Voter:
		case s.ID == r.cfg.ID:
			self = true
		default:
			others++
		}
	}
	return self && others == 0
}

// shutdown ends raft: first calls that are under way are answered, then connections are closed, then raft stops.
func (r *Replica) shutdown(helpers *sync.WaitGroup, cause error) error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	stuck := errors.Is(cause, ErrStuck)
	if stuck {
		r.end()
	}
	done := make(chan error, 1)
	go func() { // ends when the disk has let go of raft
		r.settle(stuck)
		_ = r.trans.Close() // cuts the stream
		err := r.raft.Load().Shutdown().Error()
		r.trans.CloseStreams()
		r.stream.wait()
		r.end()
		helpers.Wait()
		r.closeStores()
		if err != nil {
			err = fmt.Errorf("stop raft: %w", err)
		}
		done <- err
	}()
	if stuck {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-time.After(endTime):
		_ = r.trans.Close()
		r.end()
		return fmt.Errorf("%w: raft has not ended after %v", ErrStuck, endTime)
	}
}

// settle waits for the answers to what raft was asked: raft forgets some of it when it is stopped in between. Where it
// cannot answer any more, because its main goroutine was ended, a moment is enough; where it hangs, or
// restores a backup, its end is awaited.
func (r *Replica) settle(stuck bool) {
	answered := make(chan struct{})
	go func() {
		r.asked.Wait()
		close(answered)
	}()
	if stuck {
		<-answered
		return
	}
	limit := time.After(min(r.cfg.Timing.LeaderLease+500*time.Millisecond, endTime/2))
	if r.restoring.Load() > 0 {
		limit = nil
	}
	select {
	case <-answered:
	case <-limit:
	}
}

func (r *Replica) end() {
	r.shutOnce.Do(func() { close(r.ended) })
	r.tell()
}

// snapshots takes a snapshot whenever it is poked.
func (r *Replica) snapshots(ctx context.Context) {
	for {
		select {
		case <-r.poke:
			r.snapshot()
		case <-ctx.Done():
			return
		}
	}
}

// grown counts what was applied, and has a snapshot taken when it is enough.
func (r *Replica) grown(bytes int64) {
	if bytes < r.cfg.SnapshotBytes {
		return
	}
	r.machine.written.Store(0)
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// snapshot takes a snapshot, after which raft drops the log that it makes needless. What fails is tried again.
func (r *Replica) snapshot() {
	began, rf := r.cfg.Now(), r.raft.Load()
	if r.log != nil {
		conf := rf.ReloadableConfig()
		conf.TrailingLogs = r.log.newest(r.cfg.SnapshotBytes)
		if err := rf.ReloadConfig(conf); err != nil {
			r.cfg.Log.Error("the length of the log could not be set", "err", err)
		}
	}
	switch err := rf.Snapshot().Error(); {
	case err == nil:
		r.counts.snapshots.Add(1)
		r.cfg.Log.Info("table snapshot written", "took", r.cfg.Now().Sub(began))
	case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
	default:
		r.counts.snapshotFailures.Add(1)
		r.cfg.Log.Error("the table's snapshot could not be written; the log is kept", "err", err)
	}
}

// broken says why the log can no longer be written.
func (r *Replica) broken() error {
	if r.log == nil {
		return nil
	}
	if !r.log.mu.TryLock() { // a write is under way
		return nil
	}
	defer r.log.mu.Unlock()
	if errors.Is(r.log.broken, os.ErrClosed) {
		return nil
	}
	return r.log.broken
}
