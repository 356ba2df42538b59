package placement

import (
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// world is a table under test with a log of its own.
type world struct {
	t     testing.TB
	table *Table
	index uint64
	log   [][]byte
}

var (
	appA = wire.AppIDOf("secret-a")
	appB = wire.AppIDOf("secret-b")
)

const testGeneration = 7

func newWorld(t testing.TB) *world {
	w := &world{t: t, table: New()}
	w.must(&Form{Generation: testGeneration, Incarnation: [16]byte{1}, MACKey: [32]byte{1, 2, 3}, Name: "games"})
	return w
}

// do applies the commands as one entry.
func (w *world) do(cmds ...Command) []Result {
	w.t.Helper()
	w.index++
	entry := AppendEntry(nil, cmds...)
	w.log = append(w.log, entry)
	rs, err := w.table.Apply(w.index, entry, nil)
	if err != nil {
		w.t.Fatalf("apply %d: %v", w.index, err)
	}
	if len(rs) != len(cmds) {
		w.t.Fatalf("apply %d: %d results for %d commands", w.index, len(rs), len(cmds))
	}
	return rs
}

func (w *world) must(cmd Command) Result {
	w.t.Helper()
	r := w.do(cmd)[0]
	if r.Outcome != Done {
		w.t.Fatalf("%T %+v: outcome %d", cmd, cmd, r.Outcome)
	}
	return r
}

func (w *world) want(o Outcome, cmd Command) Result {
	w.t.Helper()
	r := w.do(cmd)[0]
	if r.Outcome != o {
		w.t.Fatalf("%T %+v: outcome %d, want %d", cmd, cmd, r.Outcome, o)
	}
	return r
}

func (w *world) session() wire.NodeSession {
	w.t.Helper()
	return w.must(&OpenSession{NodeID: "n1", Region: "eu"}).Node
}

func (w *world) legacy(app wire.AppID, storeID string, node wire.NodeSession) Instance {
	w.t.Helper()
	r := w.must(&Register{App: app, StoreID: storeID, Region: "eu", Node: node})
	inst, ok := w.table.Instance(r.Instance)
	if !ok {
		w.t.Fatalf("instance %d unknown after its registration", r.Instance)
	}
	return inst
}

func (w *world) native(app wire.AppID, storeID string, incarnation byte, node wire.NodeSession) Instance {
	w.t.Helper()
	r := w.must(&Register{App: app, StoreID: storeID, Native: true, Incarnation: [16]byte{incarnation}, Node: node})
	inst, _ := w.table.Instance(r.Instance)
	return inst
}

func (w *world) row(app wire.AppID, state wire.StateID) Row {
	w.t.Helper()
	row, ok := w.table.Lookup(app, state)
	if !ok {
		w.t.Fatalf("state %s has no row", state)
	}
	return row
}

func (w *world) noRow(app wire.AppID, state wire.StateID) {
	w.t.Helper()
	if row, ok := w.table.Lookup(app, state); ok {
		w.t.Fatalf("state %s has a row: %+v", state, row)
	}
}
