package placement

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// fill makes n firm rows with random ids over three instances, batched as the writer does, and returns the ids.
func fill(t testing.TB, w *world, n int) []wire.StateID {
	node := w.session()
	var insts []wire.InstanceID
	for _, s := range []string{"a", "b", "c"} {
		insts = append(insts, w.legacy(appA, s, node).ID)
	}
	w.must(&SetApp{App: appA, Secrets: [][32]byte{{1}}, Settings: AppSettings{MaxStates: 1 << 30}})
	rng := rand.New(rand.NewPCG(1, 2))
	states := make([]wire.StateID, n)
	entry := make([]byte, 0, MaxEntry)
	var results []Result
	for i := 0; i < n; {
		entry = AppendEntry(entry[:0])
		for range 4000 {
			if i == n {
				break
			}
			states[i] = wire.StateID(rng.Uint64())
			entry = AppendCommand(entry, &Create{App: appA, State: states[i], Instance: insts[i%3]})
			i++
		}
		w.index++
		var err error
		if results, err = w.table.Apply(w.index, entry, results[:0]); err != nil {
			t.Fatal(err)
		}
	}
	return states
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryPerState is P16: at most 100 bytes a state. TRUNKLINE_BIG=1 measures 10 million as well.
func TestMemoryPerState(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector keeps memory of its own")
	}
	for _, n := range rowCounts() {
		w := newWorld(t)
		before := heapInUse()
		fill(t, w, n)
		per := float64(heapInUse()-before) / float64(n)
		t.Logf("%d states: %.1f bytes each", n, per)
		if per > 100 {
			t.Errorf("%d states take %.1f bytes each, at most 100", n, per)
		}
		runtime.KeepAlive(w)
	}
}

// stall takes a snapshot and writes it down beside Apply, each time of an entry that removes and one that makes batch
// states, and returns how long the calls of the writer took: Snapshot first, then each Apply, longest first.
func stall(t testing.TB, w *world, states []wire.StateID, batch int) (frozen time.Duration, applies []time.Duration) {
	began := time.Now()
	snap := w.table.Snapshot()
	frozen = time.Since(began)
	written := make(chan struct{})
	go func() {
		defer close(written)
		if _, err := snap.WriteTo(io.Discard); err != nil {
			t.Error(err)
		}
	}()
	rng := rand.New(rand.NewPCG(7, 8))
	entry := make([]byte, 0, MaxEntry)
	var results []Result
	apply := func() {
		w.index++
		began := time.Now()
		var err error
		results, err = w.table.Apply(w.index, entry, results[:0])
		applies = append(applies, time.Since(began))
		if err != nil || results[0].Outcome != Done {
			t.Fatalf("%v, %v", results[0], err)
		}
	}
	for done := false; !done; {
		at := rng.IntN(len(states) - batch + 1)
		inst := w.row(appA, states[at]).Instance
		entry = AppendEntry(entry[:0])
		for _, state := range states[at : at+batch] {
			row, _ := w.table.Lookup(appA, state)
			entry = AppendCommand(entry, &Release{App: appA, State: state, Epoch: row.Epoch})
		}
		apply()
		entry = AppendEntry(entry[:0])
		for _, state := range states[at : at+batch] {
			entry = AppendCommand(entry, &Create{App: appA, State: state, Instance: inst})
		}
		apply()
		select {
		case <-written:
			done = true
		default:
		}
	}
	slices.SortFunc(applies, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	return frozen, applies
}

// batches are how many commands an entry has: one, what some milliseconds bring under load, and as many as fit.
var batches = []int{1, 256, 4000}

// rowCounts are the numbers of states that are measured.
func rowCounts() []int {
	switch {
	case raceEnabled:
		return []int{20_000}
	case testing.Short():
		return []int{100_000}
	case os.Getenv("TRUNKLINE_BIG") != "":
		return []int{1_000_000, 10_000_000}
	}
	return []int{1_000_000}
}

// TestSnapshotStall is the first half of P17: no Apply waits longer than 20 ms while a snapshot of 1 M states is
// taken and written down. Of ten tries one has to show it: other programs share the processors.
func TestSnapshotStall(t *testing.T) {
	n := rowCounts()[0]
	w := newWorld(t)
	states := fill(t, w, n)
	for _, batch := range batches {
		best := time.Hour
		for try := 0; try < 10 && best > 20*time.Millisecond; try++ {
			frozen, applies := stall(t, w, states, batch)
			t.Logf("%d states, %d entries of %d: snapshot %v, longest apply %v", n, len(applies), batch, frozen, applies[0])
			best = min(best, max(frozen, applies[0]))
		}
		if best > 20*time.Millisecond && !raceEnabled {
			t.Errorf("an apply of %d commands took %v during a snapshot, at most 20 ms", batch, best)
		}
	}
}

// TestRestoreTime is the second half of P17: 1 M states are restored within 2 s.
func TestRestoreTime(t *testing.T) {
	n := rowCounts()[0]
	w := newWorld(t)
	fill(t, w, n)
	b := snapshotOf(t, w.table)
	restored := New()
	began := time.Now()
	if err := restored.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("restoring %d states took %v", n, took)
	if took > 2*time.Second && !raceEnabled {
		t.Errorf("restoring %d states took %v, at most 2 s", n, took)
	}
	if got := restored.Stats().Rows; got != n {
		t.Errorf("restored %d rows of %d", got, n)
	}
}

// BenchmarkMemory is P16's first figure. Its time is that of filling the table.
func BenchmarkMemory(b *testing.B) {
	for _, n := range rowCounts() {
		b.Run(fmt.Sprintf("states=%d", n), func(b *testing.B) {
			var per float64
			for b.Loop() {
				w := newWorld(b)
				before := heapInUse()
				fill(b, w, n)
				per = float64(heapInUse()-before) / float64(n)
				runtime.KeepAlive(w)
			}
			b.ReportMetric(per, "B/state")
		})
	}
}

// BenchmarkSnapshotStall is P17's first figure: what Apply takes beside a snapshot that is being written down. Its time
// is that of writing it.
func BenchmarkSnapshotStall(b *testing.B) {
	for _, n := range rowCounts() {
		w := newWorld(b)
		states := fill(b, w, n)
		for _, batch := range batches {
			b.Run(fmt.Sprintf("states=%d/entry=%d", n, batch), func(b *testing.B) {
				var frozen, longest time.Duration
				var applies []time.Duration
				for b.Loop() {
					var f time.Duration
					f, applies = stall(b, w, states, batch)
					frozen, longest = max(frozen, f), max(longest, applies[0])
				}
				b.ReportMetric(float64(frozen.Microseconds())/1000, "ms-snapshot")
				b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest-apply")
				b.ReportMetric(float64(applies[len(applies)/2].Microseconds())/1000, "ms-median-apply")
			})
		}
	}
}

// BenchmarkRestore is P17's second figure.
func BenchmarkRestore(b *testing.B) {
	for _, n := range rowCounts() {
		b.Run(fmt.Sprintf("states=%d", n), func(b *testing.B) {
			w := newWorld(b)
			fill(b, w, n)
			snapshot := snapshotOf(b, w.table)
			w = nil
			b.SetBytes(int64(len(snapshot)))
			for b.Loop() {
				if err := New().Restore(bytes.NewReader(snapshot)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHash is what comparing replicas costs each of them.
func BenchmarkHash(b *testing.B) {
	for _, n := range rowCounts() {
		b.Run(fmt.Sprintf("states=%d", n), func(b *testing.B) {
			w := newWorld(b)
			fill(b, w, n)
			for b.Loop() {
				w.table.Hash()
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range append([]int{1_000}, rowCounts()...) {
		b.Run(fmt.Sprintf("states=%d", n), func(b *testing.B) {
			w := newWorld(b)
			states := fill(b, w, n)
			rng := rand.New(rand.NewPCG(3, 4))
			rng.Shuffle(n, func(i, j int) { states[i], states[j] = states[j], states[i] })
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if _, ok := w.table.Lookup(appA, states[i%n]); !ok {
					b.Fatal("lost a state")
				}
			}
		})
	}
}

func BenchmarkApplyCreate(b *testing.B) {
	w := newWorld(b)
	fill(b, w, 1000)
	inst := w.table.Instances(appA)[0].ID
	rng := rand.New(rand.NewPCG(5, 6))
	entry := make([]byte, 0, MaxEntry)
	var results []Result
	b.ReportAllocs()
	for b.Loop() {
		entry = AppendEntry(entry[:0])
		for range 256 {
			entry = AppendCommand(entry, &Create{App: appA, State: wire.StateID(rng.Uint64()), Instance: inst, Mode: PendingRow})
		}
		w.index++
		results, _ = w.table.Apply(w.index, entry, results[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(256*b.N), "ns/create")
}

func BenchmarkChoose(b *testing.B) {
	w := newWorld(b)
	fill(b, w, 30)
	rng := rand.New(rand.NewPCG(5, 6))
	var cs []Candidate
	b.ReportAllocs()
	for b.Loop() {
		cs = w.table.Candidates(appA, cs[:0])
		if _, err := Choose(Inputs{Candidates: cs, Region: "eu", Random: rng.Uint64()}); err != nil {
			b.Fatal(err)
		}
	}
}
