package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// Table is what a table of so many states costs and how fast it is, in this process.
type Table struct {
	States int     `json:"states"`
	Bytes  float64 `json:"heap_bytes_per_state"`
	// Lookup is the processor time of one look-up of a random state, in nanoseconds; LookupHot that of one of a few states in
	// use, which the processor's caches have; Miss that of loading a random word from as much memory as the table has.
	Lookup            Spread  `json:"lookup_ns"`
	LookupHot         Spread  `json:"lookup_hot_ns"`
	Miss              Spread  `json:"memory_ns"`
	LookupAllocations float64 `json:"lookup_allocations"`
	// The rest is of the first table of a run only. Snapshot is how long taking a snapshot keeps the writer, Restore how long it takes until a table has it again.
	Snapshot      Spread  `json:"snapshot_ms"`
	SnapshotBytes int     `json:"snapshot_bytes"`
	Restore       Spread  `json:"restore_s"`
	Stalls        []Stall `json:"stalls,omitempty"`
}

// Stall is how long Apply takes while a snapshot is written down.
type Stall struct {
	Commands int    `json:"commands_per_entry"`
	Longest  Spread `json:"longest_ms"`
	Median   Spread `json:"median_ms"`
	// Alone is the longest of as many with no snapshot beside them: what the machine itself makes them wait.
	Alone Spread `json:"longest_alone_ms"`
}

// stallBatches are how many commands an entry has: one, what some milliseconds bring under load, and as many as fit.
var stallBatches = []int{1, 256, 4000}

const (
	lookups     = 2_000_000
	hotStates   = 1000
	fillBatch   = 4000
	tableStores = 3
)

func (b *bench) table(ctx context.Context) error {
	for i, n := range b.o.States {
		x, err := b.tableOf(ctx, n, i == 0)
		if err != nil {
			return err
		}
		b.report.Tables = append(b.report.Tables, *x)
	}
	return nil
}

// tableOf fills a table and measures it, with a garbage collector as a node has it; snapshots take their time and are
// optional.
func (b *bench) tableOf(ctx context.Context, n int, snapshots bool) (*Table, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	since := neighboursNow()
	b.say("table: filling it with %d states", n)
	before := heapInUse()
	f, err := fillTable(n)
	if err != nil {
		return nil, named("fill the table", err)
	}
	ids := uint64(n) * 8 // the benchmark's own list of states
	x := &Table{States: n, Bytes: float64(heapInUse()-before-ids) / float64(n)}
	b.say("table: %s bytes a state", compact(x.Bytes))
	if err := b.lookUps(f, x); err != nil {
		return nil, err
	}
	if snapshots {
		if err := b.stalls(ctx, f, x); err != nil {
			return nil, err
		}
		if err := b.restores(ctx, f, x); err != nil {
			return nil, err
		}
	}
	b.trackNeighbours(since)
	return x, nil
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what the first one has finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// filled is a table with states in it, and what is needed to change it.
type filled struct {
	table  *placement.Table
	index  uint64
	app    wire.AppID
	stores []wire.InstanceID
	states []wire.StateID
	entry  []byte
	out    []placement.Result
}

// fillTable makes a table with n states with random ids over some instances.
func fillTable(n int) (*filled, error) {
	f := &filled{table: placement.New(), app: wire.AppIDOf("trunkline-bench"), states: make([]wire.StateID, 0, n)}
	if _, err := f.apply(&placement.Form{Generation: 1, Incarnation: [16]byte{1}, MACKey: [32]byte{1}, Name: "bench"}); err != nil {
		return nil, err
	}
	opened, err := f.apply(&placement.OpenSession{NodeID: "node-1", Region: "bench"})
	if err != nil {
		return nil, err
	}
	app := &placement.SetApp{App: f.app, Secrets: [][32]byte{f.app}, Settings: placement.AppSettings{MaxStates: maxStates}}
	if _, err := f.apply(app); err != nil {
		return nil, err
	}
	for i := range tableStores {
		r, err := f.apply(&placement.Register{App: f.app, StoreID: fmt.Sprintf("store-%d", i+1), Node: opened.Node})
		if err != nil {
			return nil, err
		}
		f.stores = append(f.stores, r.Instance)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for len(f.states) < n {
		f.begin()
		for range min(fillBatch, n-len(f.states)) {
			state := wire.StateID(rng.Uint64())
			f.add(&placement.Create{App: f.app, State: state, Instance: f.stores[len(f.states)%tableStores]})
			f.states = append(f.states, state)
		}
		if err := f.commit(); err != nil {
			return nil, err
		}
	}
	f.entry, f.out = nil, nil // memory that is not the table's
	return f, nil
}

func (f *filled) begin() { f.entry = placement.AppendEntry(f.entry[:0]) }

func (f *filled) add(c placement.Command) { f.entry = placement.AppendCommand(f.entry, c) }

// commit applies the entry; every command in it must be done.
func (f *filled) commit() (err error) {
	f.index++
	if f.out, err = f.table.Apply(f.index, f.entry, f.out[:0]); err != nil {
		return err
	}
	for _, r := range f.out {
		if r.Outcome != placement.Done {
			return fmt.Errorf("a command was answered with %v", r.Outcome)
		}
	}
	return nil
}

func (f *filled) apply(c placement.Command) (placement.Result, error) {
	f.begin()
	f.add(c)
	if err := f.commit(); err != nil {
		return placement.Result{}, err
	}
	return f.out[0], nil
}

// lookUps measures look-ups of states in random order: of all there are, and of some that are in use all the time.
func (b *bench) lookUps(f *filled, x *Table) error {
	rng := rand.New(rand.NewPCG(3, 4))
	var all, hot, miss []float64
	words := newMemory(int(x.Bytes) * x.States)
	for range b.o.Rounds {
		rng.Shuffle(len(f.states), func(i, j int) { f.states[i], f.states[j] = f.states[j], f.states[i] })
		for _, c := range []struct {
			states []wire.StateID
			into   *[]float64
		}{{f.states, &all}, {f.states[:hotStates], &hot}} {
			nanos, allocations, err := f.lookUp(c.states)
			if err != nil {
				return err
			}
			*c.into = append(*c.into, nanos)
			x.LookupAllocations = max(x.LookupAllocations, allocations)
		}
		nanos, err := words.missTime()
		if err != nil {
			return err
		}
		miss = append(miss, nanos)
	}
	x.Lookup, x.LookupHot, x.Miss = spreadOf(all), spreadOf(hot), spreadOf(miss)
	b.say("table: look-ups of %v ns, of %d states in use %v ns, with %s allocations; a random word of as much memory takes %v ns", x.Lookup,
		hotStates, x.LookupHot, compact(x.LookupAllocations), x.Miss)
	return nil
}

// lookUp looks states up in the order given.
func (f *filled) lookUp(states []wire.StateID) (nanos, allocations float64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, err := ownCPU()
	for i := range lookups {
		if _, ok := f.table.Lookup(f.app, states[i%len(states)]); !ok {
			return 0, 0, errors.New("the table has lost a state")
		}
	}
	ended, err2 := ownCPU()
	runtime.ReadMemStats(&after)
	// Whole ones: reading the figures allocates a little.
	nanos = float64((ended - began).Nanoseconds()) / lookups
	return nanos, float64((after.Mallocs - before.Mallocs) / lookups), errors.Join(err, err2)
}

// memory is words of which each names the next, in one circle through all of them.
type memory []uint64

func newMemory(size int) memory {
	m := make(memory, max(size/8, 1))
	for i := range m {
		m[i] = uint64(i)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for i := len(m) - 1; i > 0; i-- { // Sattolo's shuffle
		j := rng.IntN(i)
		m[i], m[j] = m[j], m[i]
	}
	return m
}

// missTime is the processor time of loading a random word, one after the other: what memory costs a look-up at least.
func (m memory) missTime() (nanos float64, err error) {
	began, err := ownCPU()
	at := uint64(0)
	for range lookups {
		at = m[at]
	}
	ended, err2 := ownCPU()
	runtime.KeepAlive(at)
	return float64((ended - began).Nanoseconds()) / lookups, errors.Join(err, err2)
}

// ownCPU is the processor time of this process, which other programs' does not add to.
func ownCPU() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

// stalls measures Apply beside snapshots, with entries of several sizes.
func (b *bench) stalls(ctx context.Context, f *filled, x *Table) error {
	var frozen []float64
	for _, commands := range stallBatches {
		var longest, median, alone []float64
		for range b.o.Rounds {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			snapshot, applies, err := f.stall(commands)
			if err != nil {
				return named("apply beside a snapshot", err)
			}
			quiet, err := f.applies(commands, func(n int) bool { return n < len(applies) })
			if err != nil {
				return named("apply", err)
			}
			frozen = append(frozen, millis(snapshot))
			longest, median = append(longest, millis(applies[len(applies)-1])), append(median, millis(applies[len(applies)/2]))
			alone = append(alone, millis(quiet[len(quiet)-1]))
		}
		s := Stall{Commands: commands, Longest: spreadOf(longest), Median: spreadOf(median), Alone: spreadOf(alone)}
		b.say("table: entries of %d commands beside a snapshot: longest %v ms, median %v ms; longest without one %v ms", commands, s.Longest, s.Median, s.Alone)
		x.Stalls = append(x.Stalls, s)
	}
	x.Snapshot = spreadOf(frozen)
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// stall takes a snapshot and writes it down beside Apply. It returns how long Snapshot took, and each Apply.
func (f *filled) stall(commands int) (frozen time.Duration, applies []time.Duration, err error) {
	began := time.Now()
	snap := f.table.Snapshot()
	frozen = time.Since(began)
	written := make(chan error, 1)
	go func() {
		_, err := snap.WriteTo(io.Discard)
		written <- err
	}()
	applies, err = f.applies(commands, func(int) bool { return len(written) == 0 })
	return frozen, applies, errors.Join(err, <-written)
}

// applies takes turns between an entry that removes and one that makes so many states, for as long as more says so of the
// number there were. It returns how long each Apply took, the longest last.
func (f *filled) applies(commands int, more func(n int) bool) (took []time.Duration, err error) {
	apply := func() error {
		began := time.Now()
		err := f.commit()
		took = append(took, time.Since(began))
		return err
	}
	rng := rand.New(rand.NewPCG(5, uint64(commands)))
	for len(took) == 0 || more(len(took)) {
		at := rng.IntN(len(f.states) - commands + 1)
		if err := f.replace(f.states[at:at+commands], apply); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return took, nil
}

// replace releases states in one entry and makes them again in the next.
func (f *filled) replace(states []wire.StateID, apply func() error) error {
	f.begin()
	for _, state := range states {
		row, ok := f.table.Lookup(f.app, state)
		if !ok {
			return errors.New("the table has lost a state")
		}
		f.add(&placement.Release{App: f.app, State: state, Epoch: row.Epoch})
	}
	if err := apply(); err != nil {
		return err
	}
	f.begin()
	for i, state := range states {
		f.add(&placement.Create{App: f.app, State: state, Instance: f.stores[i%tableStores]})
	}
	return apply()
}

// restores measures how long a new table takes to read a snapshot that is in memory.
func (b *bench) restores(ctx context.Context, f *filled, x *Table) error {
	var text bytes.Buffer
	if _, err := f.table.Snapshot().WriteTo(&text); err != nil {
		return named("write a snapshot", err)
	}
	x.SnapshotBytes = text.Len()
	var took []float64
	for range b.o.Rounds {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		restored := placement.New()
		runtime.GC() // the table of the round before
		began := time.Now()
		if err := restored.Restore(bytes.NewReader(text.Bytes())); err != nil {
			return named("restore", err)
		}
		took = append(took, time.Since(began).Seconds())
		if rows := restored.Stats().Rows; rows != x.States {
			return fmt.Errorf("restore: %d states of %d", rows, x.States)
		}
	}
	x.Restore = spreadOf(took)
	b.say("table: restoring %d states takes %v s", x.States, x.Restore)
	return nil
}
