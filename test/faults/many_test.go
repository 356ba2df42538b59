package faults

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// TestManyStates: 100,000, in a soak 1,000,000 (TRUNKLINE_MANY=1 without the rest of one). Memory, the time that a snapshot
// stops the table, restoring, looking up and a node's restart stay within bounds that do not depend on the number, or in
// proportion to it.
func TestManyStates(t *testing.T) {
	many := longer(100_000, 1_000_000)
	if os.Getenv("TRUNKLINE_MANY") != "" {
		many = 1_000_000
	}
	w := form(t, 3)
	n := w.Follower().Get()
	ctx, cancel := limited(20 * time.Minute)
	defer cancel()
	if err := n.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{MaxStates: 2 * uint64(many)}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := n.Register(ctx, placement.RegisterRequest{App: app, StoreID: name, Region: "eu"}); err != nil {
			t.Fatal(err)
		}
	}
	w.Same()
	before := heap()
	began := time.Now()
	states := w.createMany(ctx, many)
	took := time.Since(began)
	w.Same()
	perRow := float64(heap()-before) / 3 / float64(many) // three tables in this process
	t.Logf("%d states in %v, %.0f/s; %.0f bytes of memory each", many, took, float64(many)/took.Seconds(), perRow)
	if perRow > 100 {
		t.Errorf("a state takes %.0f bytes", perRow)
	}
	table := n.Table()
	if rows := table.Stats().Rows; rows != many {
		t.Errorf("%d rows", rows)
	}
	w.snapshots(table, many)
	w.lookups(table, states)
	f := w.Follower()
	f.Restart()
	began = time.Now()
	f.Joined()
	t.Logf("a node was a member %v after its restart", time.Since(began))
	if took := time.Since(began); took > 15*time.Second+time.Duration(many)*5*time.Microsecond {
		t.Errorf("a node was a member %v after its restart", took)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// createMany creates states through a node that does not lead, 256 at a time.
func (w *world) createMany(ctx context.Context, many int) []wire.StateID {
	n := w.Follower().Get()
	states := make([]wire.StateID, many)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(many); i = next.Add(1) - 1 {
				p, err := n.Create(ctx, placement.CreateRequest{App: app, Region: "eu"})
				if err != nil {
					w.t.Error(err)
					return
				}
				states[i] = p.State
			}
		})
	}
	all.Wait()
	return states
}

// snapshots takes some while the table is written, and restores one.
func (w *world) snapshots(table *placement.Table, many int) {
	w.t.Helper()
	var longest time.Duration
	var buf bytes.Buffer
	for range 5 {
		began := time.Now()
		s := table.Snapshot() // what stops the table; the rest does not
		longest = max(longest, time.Since(began))
		buf.Reset()
		if _, err := s.WriteTo(&buf); err != nil {
			w.t.Fatal(err)
		}
	}
	began := time.Now()
	other := placement.New()
	if err := other.Restore(bytes.NewReader(buf.Bytes())); err != nil {
		w.t.Fatal(err)
	}
	took := time.Since(began)
	w.t.Logf("a snapshot of %d MiB stops the table for %v at most, restoring it takes %v", buf.Len()>>20, longest, took)
	if longest > 20*time.Millisecond {
		w.t.Errorf("a snapshot stops the table for %v", longest)
	}
	if most := 500*time.Millisecond + time.Duration(many)*4*time.Microsecond; took > most {
		w.t.Errorf("restoring takes %v, at most %v", took, most)
	}
}

// lookups looks states up in random order.
func (w *world) lookups(table *placement.Table, states []wire.StateID) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(w.Seed, 3))
	const times = 50_000
	each := time.Hour
	for range 5 { // the best of them: others want the processor too
		began := time.Now()
		for range times {
			if _, ok := table.Lookup(app, states[r.IntN(len(states))]); !ok {
				w.t.Fatal("a state is lost")
			}
		}
		each = min(each, time.Since(began)/times)
	}
	w.t.Logf("a look-up takes %v", each)
	if each > 5*time.Microsecond {
		w.t.Errorf("a look-up takes %v", each)
	}
}
