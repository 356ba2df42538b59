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
