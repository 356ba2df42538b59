package placement

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/wire"
)

// ErrIndex is wrapped by what Apply answers for an index that does not follow the last one.
var ErrIndex = errors.New("index does not follow")

// maxIndex is the highest index an epoch can carry.
const maxIndex = 1<<40 - 1

// Table is the table. Apply and Restore are for the one goroutine that writes; everything else is safe for any number of
// readers beside it.
type Table struct {
	content atomic.Pointer[content] // replaced by Restore alone
	index   atomic.Uint64

	mu      sync.RWMutex
	history history
	changed chan struct{} // nil while nobody waits
}

// New returns an empty table at index 0. Its first command must be Form.
func New() *Table {
	t := &Table{}
	t.content.Store(newContent())
	return t
}

// Apply applies the commands of one entry in order, appends a result for each to dst, and tells those who wait. The
// index must be higher than any before; gaps are fine. An error (ErrEntry, ErrIndex) means that nothing was changed
// and that whoever replays a log must not go on.
func (t *Table) Apply(index uint64, entry []byte, dst []Result) ([]Result, error) {
	if last := t.Index(); index <= last || index > maxIndex {
		return dst, fmt.Errorf("apply entry %d after %d: %w", index, last, ErrIndex)
	}
	commands, err := DecodeEntry(entry)
	if err != nil {
		return dst, fmt.Errorf("apply entry %d: %w", index, err)
	}
	c := t.content.Load()
	t.mu.Lock()
	c.index = index
	for _, cmd := range commands {
		dst = append(dst, c.step(cmd, index))
	}
	c.endGroup()
	t.history.add(c.noted)
	c.noted = c.noted[:0]
	woken := t.advance(index)
	t.mu.Unlock()
	if woken != nil {
		close(woken)
	}
	return dst, nil
}

// advance makes index visible and returns the channel to close after unlock.
func (t *Table) advance(index uint64) chan struct{} {
	t.index.Store(index)
	woken := t.changed
	t.changed = nil
	return woken
}

// Lookup returns the row of a state, joined with its instance. It takes no lock, allocates nothing, and does not slow
// down with the number of readers.
func (t *Table) Lookup(app wire.AppID, state wire.StateID) (Row, bool) {
	return t.content.Load().lookup(app, state)
}

// Index returns the index of the last entry applied. What it changed is visible.
func (t *Table) Index() uint64 { return t.index.Load() }

// Changed returns a channel that is closed when the next entry has been applied. Take it before looking at what may
// change.
func (t *Table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// WaitIndex returns when index has been applied, or ctx's error.
func (t *Table) WaitIndex(ctx context.Context, index uint64) error {
	for t.Index() < index {
		changed := t.Changed()
		if t.Index() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Changes appends to dst what entries after index since have changed, in order. !ok: that is longer ago than the table
// remembers (the last 65,536 changes, and nothing from before a Restore); look at everything again.
func (t *Table) Changes(since uint64, dst []Change) (changes []Change, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.history.after(since, dst)
}
