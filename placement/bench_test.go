package placement

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
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
	sizes := []int{1_000_000}
	if testing.Short() {
		sizes = []int{100_000}
	}
	if os.Getenv("TRUNKLINE_BIG") != "" {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		w := newWorld(t)
		before := heapInUse()
		states := fill(t, w, n)
		states = nil
		per := float64(heapInUse()-before) / float64(n)
		t.Logf("%d states: %.1f bytes each", n, per)
		if per > 100 {
			t.Errorf("%d states take %.1f bytes each, at most 100", n, per)
		}
		runtime.KeepAlive(w)
		_ = states
	}
}

// TestSnapshotStall is P17: no Apply waits longer than 20 ms while a snapshot is taken and written down, and a restore
// takes at most 2 s. (Times are lenient under the race detector, which is several times slower.)
func TestSnapshotStall(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 100_000
	}
	w := newWorld(t)
	states := fill(t, w, n)
	written := make(chan int64)
	pr, pw := io.Pipe()
	start := time.Now()
	snap := w.table.Snapshot()
	t.Logf("freezing %d states took %v", n, time.Since(start))
	go func() {
		_, err := snap.WriteTo(pw)
		pw.CloseWithError(err)
	}()
	restored := New()
	go func() {
		began := time.Now()
		if err := restored.Restore(pr); err != nil {
			t.Error(err)
		}
		written <- int64(time.Since(began))
	}()
	var longest time.Duration
	count := 0
	for done := false; !done; {
		began := time.Now()
		w.must(&Firm{App: appA, State: states[count%n], Epoch: w.row(appA, states[count%n]).Epoch})
		w.must(&Release{App: appA, State: states[count%n], Epoch: w.row(appA, states[count%n]).Epoch})
		longest = max(longest, time.Since(began))
		count++
		select {
		case took := <-written:
			t.Logf("write and restore beside %d changes took %v, longest two applies %v", 2*count, time.Duration(took), longest)
			done = true
		default:
		}
	}
	if longest > 40*time.Millisecond && !raceEnabled {
		t.Errorf("two applies took %v during a snapshot, at most 40 ms", longest)
	}
	if got := restored.Stats().Rows; got != n {
		t.Errorf("restored %d rows of %d", got, n)
	}
}

func BenchmarkLookup(b *testing.B) {
	sizes := []int{1_000, 1_000_000}
	if os.Getenv("TRUNKLINE_BIG") != "" {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
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
