package placement

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestListings(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a, b := w.legacy(appA, "a", n), w.legacy(appB, "b", n)
	for i := range 100 {
		w.must(&Create{App: appA, State: wire.StateID(i * 3), Instance: a.ID})
		w.must(&Create{App: appB, State: wire.StateID(i), Instance: b.ID})
	}
	var got []wire.StateID
	for from := wire.StateID(0); ; {
		page := w.table.States(appA, from, 7)
		for _, s := range page {
			if s.App != appA || s.Instance != a.ID || s.Epoch == 0 {
				t.Fatalf("state %+v", s)
			}
			got = append(got, s.State)
		}
		if len(page) < 7 {
			break
		}
		from = page[len(page)-1].State + 1
	}
	if len(got) != 100 {
		t.Fatalf("%d states in pages", len(got))
	}
	for i, s := range got {
		if s != wire.StateID(i*3) {
			t.Fatalf("state %d of the listing is %d", i, s)
		}
	}
	if s := w.table.States(appA, 0, 0); s != nil {
		t.Fatal("a page of none")
	}
	yielded := 0
	for s := range w.table.All() {
		if yielded++; s.App == appB && s.Instance != b.ID {
			t.Fatalf("state %+v", s)
		}
		if yielded == 150 {
			break
		}
	}
	if yielded != 150 {
		t.Fatalf("%d states yielded before the loop ended", yielded)
	}
	if st := w.table.Stats(); st != (Stats{Rows: 200, Apps: 2, Instances: 2, Sessions: 1}) {
		t.Fatalf("stats %+v", st)
	}
	cs := w.table.Candidates(appA, nil)
	if len(cs) != 1 || cs[0].Rows != 100 || cs[0].ID != a.ID || cs[0].StoreID != "a" || cs[0].Region != "eu" {
		t.Fatalf("candidates %+v", cs)
	}
	if cs := w.table.Candidates(wire.AppID{}, cs[:0]); len(cs) != 0 {
		t.Fatal("candidates of nobody")
	}
}

func TestChangesTell(t *testing.T) {
	w := newWorld(t)
	from := w.index
	changed := w.table.Changed()
	if changed != w.table.Changed() {
		t.Fatal("two watches of one moment")
	}
	n := w.session()
	select {
	case <-changed:
	default:
		t.Fatal("nobody was told")
	}
	a := w.legacy(appA, "a", n)
	e := w.must(&Create{App: appA, State: 5, Instance: a.ID, Mode: PendingRow}).Epoch
	w.must(&Firm{App: appA, State: 5, Epoch: e})
	w.must(&Gone{Instance: a.ID, Gen: 1})
	w.must(&Remove{App: appA, State: 5, Epoch: e})
	got, ok := w.table.Changes(from, nil)
	want := []Change{
		{Index: from + 1, Kind: NodesChanged},
		{Index: from + 2, App: appA, Instance: a.ID, Kind: InstanceChanged},
		{Index: from + 3, App: appA, State: 5, Instance: a.ID, Kind: RowChanged},
		{Index: from + 4, App: appA, State: 5, Instance: a.ID, Kind: RowChanged},
		{Index: from + 5, App: appA, Instance: a.ID, Kind: InstanceLeft},
		{Index: from + 6, App: appA, Kind: AppRemoved},
		{Index: from + 6, App: appA, State: 5, Kind: RowRemoved},
	}
	if !ok || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("changes\n got %v\nwant %v", got, want)
	}
	if got, ok := w.table.Changes(w.index, got[:0]); !ok || len(got) != 0 {
		t.Fatal("changes after the last")
	}
	if got, ok := w.table.Changes(from+4, nil); !ok || len(got) != 3 {
		t.Fatalf("changes after %d: %v", from+4, got)
	}
}

// TestChangesForget: what is no longer remembered is said to be so, never silently left out.
func TestChangesForget(t *testing.T) {
	var h history
	for i := range maxChanges + 10 {
		h.add([]Change{{Index: uint64(i/2 + 1)}})
	}
	if _, ok := h.after(4, nil); ok {
		t.Fatal("changes that were overwritten are claimed")
	}
	got, ok := h.after(5, nil)
	if !ok || len(got) != maxChanges || got[0].Index != 6 {
		t.Fatalf("%d changes after 5, %v", len(got), ok)
	}
	last := uint64(0)
	for _, ch := range got {
		if ch.Index < last {
			t.Fatal("out of order")
		}
		last = ch.Index
	}
	if got, _ := h.after(last-1, nil); len(got) != 2 {
		t.Fatalf("%d changes of the last index", len(got))
	}
	h.reset(7)
	if _, ok := h.after(6, nil); ok {
		t.Fatal("changes from before a restore are claimed")
	}
	if got, ok := h.after(7, nil); !ok || len(got) != 0 {
		t.Fatal("changes after a restore")
	}
}

func TestWaitIndex(t *testing.T) {
	w := newWorld(t)
	target := w.index + 3
	done := make(chan error, 1)
	go func() { done <- w.table.WaitIndex(t.Context(), target) }()
	for range 3 {
		select {
		case err := <-done:
			t.Fatalf("returned at index %d: %v", w.index, err)
		default:
		}
		w.session()
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.table.WaitIndex(ctx, w.index+1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := w.table.WaitIndex(ctx, w.index); err != nil {
		t.Fatal(err)
	}
}
