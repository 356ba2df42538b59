package consensus

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// raft panics where it cannot read an entry that it has to apply, and where it cannot write down a term. That would take
// the whole process and its clients along for what ends one replica. So what stands between raft and its stores notes
// why, and ends the goroutine that asked: its deferred calls run, and Run does the rest.

// guardedLog is the log as raft has it.
type guardedLog struct {
	raft.LogStore
	fail    func(error)
	running atomic.Bool // before, errors go to whoever starts raft
	cut     atomic.Bool // the end of the log was removed, and nothing written since
	// newest says how far the newest snapshot reaches; index 0: there is none.
	newest func() (index, term uint64)
}

// GetLog reads an entry. What cannot be read ends the replica.
func (g *guardedLog) GetLog(index uint64, l *raft.Log) error {
	err := g.LogStore.GetLog(index, l)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || !g.running.Load() {
		return err
	}
	g.fail(fmt.Errorf("read the log: %w", err))
	runtime.Goexit()
	return nil
}

// DeleteRange removes entries. Having installed a snapshot, raft has the whole log removed, and goes on as if it were still
// there where it reaches beyond the snapshot: then it panics at the next entry, and what it had told the leader to have is
// gone. So what continues the snapshot stays. A log that is another one than the snapshot's goes, and this replica ends, so
// that the next one finds what is there.
func (g *guardedLog) DeleteRange(from, to uint64) error {
	first, err1 := g.FirstIndex()
	last, err2 := g.LastIndex()
	if err1 == nil && err2 == nil && to >= last {
		g.cut.Store(true)
	}
	if err := errors.Join(err1, err2); err != nil || from > first || to < last || !g.running.Load() {
		return errors.Join(err, g.LogStore.DeleteRange(from, to))
	}
	index, term := g.newest()
	if index < first || index >= last {
		return g.LogStore.DeleteRange(from, to)
	}
	var l raft.Log
	if err := g.GetLog(index, &l); err != nil {
		return err
	}
	if l.Term == term {
		return g.LogStore.DeleteRange(from, index)
	}
	if err := g.LogStore.DeleteRange(from, to); err != nil {
		return err
	}
	g.fail(fmt.Errorf("the log up to %d was not that of the leader's snapshot at %d and is removed", last, index))
	runtime.Goexit()
	return nil
}

// StoreLog writes an entry.
func (g *guardedLog) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries. Where a follower has removed the end of its log and cannot write what the leader has in its
// place, as on a full disk, raft goes on to believe that the old end is there, and refuses every leader for good. So the
// replica ends; the next one reads what the log has.
func (g *guardedLog) StoreLogs(logs []*raft.Log) error {
	err := g.LogStore.StoreLogs(logs)
	switch {
	case err == nil:
		g.cut.Store(false)
	case g.cut.Load() && g.running.Load():
		g.fail(fmt.Errorf("the end of the log was removed, and what takes its place could not be written: %w", err))
		runtime.Goexit()
	}
	return err
}

// IsMonotonic says that there are no gaps.
func (g *guardedLog) IsMonotonic() bool {
	m, ok := g.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// guardedStable is the vote as raft has it.
type guardedStable struct {
	raft.StableStore
	fail    func(error)
	running atomic.Bool
}

// Set keeps a value.
func (g *guardedStable) Set(key, value []byte) error {
	return g.check(g.StableStore.Set(key, value))
}

// SetUint64 keeps a number.
func (g *guardedStable) SetUint64(key []byte, value uint64) error {
	return g.check(g.StableStore.SetUint64(key, value))
}

func (g *guardedStable) check(err error) error {
	if err == nil || !g.running.Load() {
		return err
	}
	g.fail(err)
	runtime.Goexit()
	return nil
}
