package placement

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// TestLookupBesideApply: readers without a lock see rows of one moment only: never a row with another row's epoch, an
// instance of another app, or a taint that was another's. The writer moves, removes, makes and snapshots all the time.
func TestLookupBesideApply(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	const states = 500
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	// Every epoch is known to belong to one instance only, written down before it can be seen.
	var owners sync.Map // epoch -> instance
	var stop atomic.Bool
	var wg sync.WaitGroup
	var seen atomic.Uint64
	apps := map[wire.InstanceID]wire.AppID{}
	var mu sync.Mutex
	for range 2 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				app := appA
				if i%2 == 1 {
					app = appB
				}
				row, ok := w.table.Lookup(app, wire.StateID(i/2%states))
				if !ok {
					continue
				}
				seen.Add(1)
				if owner, ok := owners.Load(row.Epoch); !ok || owner != row.Instance {
					t.Errorf("epoch %x names instance %d, it was given to %v", row.Epoch, row.Instance, owner)
					return
				}
				mu.Lock()
				of := apps[row.Instance]
				mu.Unlock()
				if of != app {
					t.Errorf("a state of app %s is on an instance of %s", app, of)
					return
				}
				if row.Taint != "" && row.Taint != app.String() {
					t.Errorf("taint %q in app %s", row.Taint, app)
					return
				}
			}
		})
	}
	for round := range rounds {
		for _, app := range []wire.AppID{appA, appB} {
			a := w.native(app, app.String(), byte(round%200)+1, n)
			b := w.native(app, "other", byte(round%200)+1, n)
			mu.Lock()
			apps[a.ID], apps[b.ID] = app, app
			mu.Unlock()
			owners.Store(wire.MakeEpoch(testGeneration, w.index+1), a.ID)
			var create, move, remove []Command
			for s := range states {
				create = append(create, &Create{App: app, State: wire.StateID(s), Instance: a.ID, Mode: TentativeRow})
			}
			w.do(create...)
			w.must(&Gone{Instance: a.ID, Gen: 1})
			epoch := wire.MakeEpoch(testGeneration, w.index-1)
			owners.Store(wire.MakeEpoch(testGeneration, w.index+1), b.ID)
			for s := range states {
				move = append(move, &Move{App: app, State: wire.StateID(s), Expect: epoch, To: b.ID})
			}
			w.do(move...)
			snap := w.table.Snapshot()
			epoch = wire.MakeEpoch(testGeneration, w.index)
			for s := range states {
				remove = append(remove, &Remove{App: app, State: wire.StateID(s), Epoch: epoch})
			}
			w.do(remove...)
			w.must(&Gone{Instance: b.ID, Gen: 1})
			if round%10 == 0 {
				var buf bytes.Buffer
				if _, err := snap.WriteTo(&buf); err != nil {
					t.Fatal(err)
				}
				back := New()
				if err := back.Restore(&buf); err != nil {
					t.Fatal(err)
				}
				if n := back.Stats().Rows; n != states {
					t.Fatalf("snapshot of %d rows", n)
				}
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := w.table.content.Load().check(); err != nil {
		t.Error(err)
	}
	if seen.Load() == 0 {
		t.Error("no reader ever saw a row: the test shows nothing")
	}
}

// TestRestoreBesideLookup: a table is replaced in one step.
func TestRestoreBesideLookup(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a := w.legacy(appA, "a", n)
	w.must(&Create{App: appA, State: 1, Instance: a.ID})
	w.must(&Create{App: appA, State: 2, Instance: a.ID})
	var b bytes.Buffer
	if _, err := w.table.Snapshot().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	changed := w.table.Changed()
	from := w.index
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if row, ok := w.table.Lookup(appA, 1); !ok || row.Instance != a.ID {
				t.Errorf("row %+v while restoring", row)
				return
			}
		}
	})
	for range 50 {
		if err := w.table.Restore(bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	<-changed
	if _, ok := w.table.Changes(from-1, nil); ok {
		t.Error("after a restore the table claims to know what changed before")
	}
}

// TestLookupAllocatesNothing is the part of P16 that no clock can blur.
func TestLookupAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	states := fill(t, w, 1000)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		w.table.Lookup(appA, states[i%1000])
		w.table.Lookup(appB, states[i%1000])
		i++
	}); n != 0 {
		t.Errorf("%v allocations per look-up", n)
	}
}
