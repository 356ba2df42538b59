package consensus

import (
	"sync"
	"testing"
)

// TestLogBeyondASnapshotStays: raft, having installed a snapshot, removes the whole log, and reads on behind the snapshot.
func TestLogBeyondASnapshotStays(t *testing.T) {
	for name, c := range map[string]struct {
		first, index, term uint64
		from, to           uint64 // left, 0 for nothing
		ends               bool
	}{
		"the same log goes on":                {first: 1, index: 10, term: 1, from: 11, to: 20},
		"the snapshot is beyond":              {first: 1, index: 30, term: 1},
		"the snapshot is as far":              {first: 1, index: 20, term: 1},
		"no snapshot":                         {first: 1},
		"a conflict from the first entry on":  {first: 11, index: 10, term: 1},
		"the log is of a leader that is over": {first: 1, index: 10, term: 2, ends: true},
	} {
		s := reopen(t, t.TempDir())
		store(t, s, entries(c.first, 20, 1)...)
		var ended error
		g := &guardedLog{LogStore: s, fail: func(err error) { ended = err }, newest: func() (uint64, uint64) { return c.index, c.term }}
		g.running.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { // which it may end
			if err := g.DeleteRange(c.first, 20); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		wg.Wait()
		if (ended != nil) != c.ends {
			t.Errorf("%s: ended with %v", name, ended)
		}
		if c.from > 0 {
			holds(t, s, c.from, c.to, one)
		} else if last, _ := s.LastIndex(); last != 0 {
			t.Errorf("%s: the log reaches to %d", name, last)
		}
	}
}
