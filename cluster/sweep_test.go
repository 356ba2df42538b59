package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// TestFreeRowsAreSweptAfterTenMinutes: not before, and not those that somebody uses again.
func TestFreeRowsAreSweptAfterTenMinutes(t *testing.T) {
	clock := newClock()
	l := start(t, Config{Now: clock.now})
	ctx, s := t.Context(), &sweeper{Node: l.node}
	a := l.legacy("a")
	var placed []placement.Placed
	for range 10 {
		p := l.create()
		l.ok(l.Firm(ctx, app, p.State, p.Epoch))
		placed = append(placed, p)
	}
	l.legacy("b")
	l.ok(l.Gone(ctx, a.Instance, a.Gen))
	l.ok(s.sweep(ctx))
	clock.add(9 * time.Minute)
	l.ok(s.sweep(ctx))
	if n := l.Table().Stats().Rows; n != 10 {
		t.Fatalf("%d rows after nine minutes", n)
	}
	row, err := l.Place(ctx, placement.PlaceRequest{App: app, State: placed[0].State})
	l.ok(err)
	clock.add(3 * time.Minute)
	l.ok(s.sweep(ctx))
	if st := l.Table().Stats(); st.Rows != 1 || st.Gone != 0 {
		t.Fatalf("after twelve minutes: %+v", st)
	}
	if now := l.row(placed[0].State); now != row {
		t.Fatalf("row in use: %+v, was %+v", now, row)
	}
}

// TestSweepAfterRestart: earlier lives of the node end when nothing is attached to them, their keys are kept as long
// as tokens may live, and rows that they left pending or tentative go.
func TestSweepAfterRestart(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	l := start(t, Config{DataDir: dir, Now: clock.now})
	ctx := t.Context()
	l.ok(l.PutKey(ctx, "old", bytes.Repeat([]byte{1}, 32)))
	a := l.legacy("a")
	pending, firm := l.create(), l.create()
	l.ok(l.Firm(ctx, app, firm.State, firm.Epoch))
	tentative, err := l.Place(ctx, placement.PlaceRequest{App: app, State: 7})
	l.ok(err)
	first := l.Node()
	l.halt()

	l = start(t, Config{DataDir: dir, Now: clock.now})
	s := &sweeper{Node: l.node}
	l.ok(l.PutKey(ctx, "new", bytes.Repeat([]byte{2}, 32)))
	if n := len(l.Table().Sessions()); n != 2 {
		t.Fatalf("%d sessions before the lease of the older is over", n)
	}
	_, err = l.Register(ctx, placement.RegisterRequest{App: app, StoreID: "a", Replace: a.Instance, ReplaceGen: a.Gen})
	l.ok(err)
	mine := l.create() // pending in this life
	_, err = l.one(ctx, &placement.EndSession{Session: first, At: clock.now().Unix()})
	l.ok(err)
	l.ok(s.sweep(ctx))
	clock.add(9 * time.Minute)
	l.ok(s.sweep(ctx))
	l.row(pending.State)
	clock.add(2 * time.Minute)
	l.ok(s.sweep(ctx))
	for state, stays := range map[wire.StateID]bool{pending.State: false, 7: false, firm.State: true, mine.State: true} {
		if _, ok := l.Table().Lookup(app, state); ok != stays {
			t.Errorf("state %s is there: %v", state, ok)
		}
	}
	_ = tentative
	if _, ok := l.Key("old"); !ok {
		t.Error("the key of a life that is just over is gone: its tokens are still good")
	}
	clock.add(49 * time.Hour)
	l.ok(s.sweep(ctx))
	if _, ok := l.Key("old"); ok {
		t.Error("the key of a life long over stays")
	}
	if _, ok := l.Key("new"); !ok {
		t.Error("the key of this life is gone")
	}
}

// TestSweepManyRows: more rows than one proposal removes.
func TestSweepManyRows(t *testing.T) {
	clock := newClock()
	l := start(t, Config{Now: clock.now})
	a := l.legacy("a")
	var cmds []placement.Command
	for i := range 2*sweepAtOnce + 17 {
		cmds = append(cmds, &placement.Create{App: app, State: wire.StateID(i), Instance: a.Instance})
	}
	_, err := l.many(t.Context(), cmds)
	l.ok(err)
	l.ok(l.Gone(t.Context(), a.Instance, a.Gen))
	s := &sweeper{Node: l.node}
	l.ok(s.sweep(t.Context()))
	clock.add(10 * time.Minute)
	l.ok(s.sweep(t.Context()))
	if st := l.Table().Stats(); st.Rows != 0 || st.Gone != 0 || st.Apps != 0 {
		t.Fatalf("left: %+v", st)
	}
	if n := l.counts.swept.Load(); n != uint64(len(cmds)) {
		t.Fatalf("counted %d of %d", n, len(cmds))
	}
}
