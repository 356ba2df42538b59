package placement

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/trunkline-edge/trunkline/wire"
)

// known removes from results of a repeat the mark that they are those of then.
func known(t testing.TB, rs []Result) []Result {
	t.Helper()
	if rs[0] != (Result{Outcome: Done, Known: true}) {
		t.Fatalf("not answered from memory: %+v", rs)
	}
	rs = slices.Clone(rs)
	rs[0].Known = false
	return rs
}

// TestRequestIsAppliedOnce: a repeat gets every field of the results of then and changes nothing, also from another
// replica and after a restore.
func TestRequestIsAppliedOnce(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	old := w.native(appA, "c", 3, n)
	cmds := []Command{
		&Request{Session: n, Counter: 1},
		&Register{App: appA, StoreID: "a", Node: n},
		&Register{App: appA, StoreID: "b", Node: n},
		&Register{App: appA, StoreID: "c", Native: true, Incarnation: [16]byte{3}, Node: n},
		&OpenSession{NodeID: "n2"},
		&Create{App: appA, State: 1, Instance: old.ID},
		&Create{App: appA, State: 1, Instance: old.ID},
		&Create{App: appA, State: 2, Instance: 99},
		&Release{App: appA, State: 3, Epoch: 1},
	}
	first := w.do(cmds...)
	want := []Result{
		{Outcome: Done},
		{Outcome: Done, Instance: wire.InstanceID(w.index), Gen: 1, Node: n},
		{Outcome: Again},
		{Outcome: Done, Instance: old.ID, Gen: 2, Node: n, Known: true},
		{Outcome: Done, Node: wire.NodeSession(w.index)},
		{Outcome: Done, Epoch: wire.MakeEpoch(testGeneration, w.index)},
		{Outcome: Stale},
		{Outcome: NoInstance},
		{Outcome: Done},
	}
	if !slices.Equal(first, want) {
		t.Fatalf("results %+v, want %+v", first, want)
	}
	stats := w.table.Stats()
	if again := known(t, w.do(cmds...)); !slices.Equal(again, first) {
		t.Errorf("asked again: %+v, was %+v", again, first)
	}
	back := New()
	if err := back.Restore(bytes.NewReader(snapshotOf(t, w.table))); err != nil {
		t.Fatal(err)
	}
	rs, err := back.Apply(back.Index()+1, AppendEntry(nil, cmds...), nil)
	if err != nil || !slices.Equal(known(t, rs), first) {
		t.Errorf("asked a restored table: %+v, %v, was %+v", rs, err, first)
	}
	if w.table.Stats() != stats || back.Stats() != stats {
		t.Errorf("a repeat changed the table: %+v and %+v, was %+v", w.table.Stats(), back.Stats(), stats)
	}
}

// TestRequestsShareAnEntry: each groups what follows it, what comes before the first belongs to none, and a repeat in
// the same entry is one.
func TestRequestsShareAnEntry(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a := w.legacy(appA, "a", n)
	create := func(s wire.StateID) *Create { return &Create{App: appA, State: s, Instance: a.ID} }
	one, two := &Request{Session: n, Counter: 1}, &Request{Session: n, Counter: 2}
	entry := []Command{create(1), one, create(2), two, create(3), create(4), one, create(2)}
	outcomes := func(rs []Result) (s string) { // + where Known
		for _, r := range rs {
			s += fmt.Sprint(r.Outcome)
			if r.Known {
				s += "+"
			}
		}
		return s
	}
	if got := outcomes(w.do(entry...)); got != "1111111+1" {
		t.Errorf("outcomes %s", got)
	}
	if got := outcomes(w.do(entry...)); got != "21+11+111+1" {
		t.Errorf("outcomes of the same entry again %s", got)
	}
	if rows := w.table.Stats().Rows; rows != 4 {
		t.Errorf("%d rows", rows)
	}
}

// TestCounterSaysWhatIsTheSame: whoever computes anew for a repeat may come to other commands.
func TestCounterSaysWhatIsTheSame(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a, b := w.legacy(appA, "a", n), w.legacy(appA, "b", n)
	first := w.do(&Request{Session: n, Counter: 7}, &Create{App: appA, State: 1, Instance: a.ID}, &Firm{App: appA, State: 9})
	again := w.do(
		&Request{Session: n, Counter: 7}, &Create{App: appA, State: 1, Instance: b.ID}, &Drain{Instance: a.ID},
		&Create{App: appA, State: 2, Instance: b.ID},
	)
	if !slices.Equal(known(t, again)[:3], first) || again[3] != (Result{Outcome: Stale}) {
		t.Errorf("%+v, was %+v", again, first)
	}
	if short := w.do(&Request{Session: n, Counter: 7}); !slices.Equal(known(t, short), first[:1]) {
		t.Errorf("%+v", short)
	}
	w.noRow(appA, 2)
}

func TestRequestOfNobodyIsStale(t *testing.T) {
	w := &world{t: t, table: New()}
	form := &Form{Generation: 1, Incarnation: [16]byte{1}}
	if rs := w.do(&Request{Session: 1, Counter: 1}, form); rs[0].Outcome != Stale || rs[1].Outcome != Stale {
		t.Errorf("before Form: %+v", rs)
	}
	w.must(form)
	n := w.session()
	bind := &BindNode{NodeID: "n2", Key: keyA}
	for _, q := range []*Request{{Session: n + 1, Counter: 1}, {Counter: 1}} {
		if rs := w.do(q, bind); rs[0].Outcome != Stale || rs[1].Outcome != Stale {
			t.Errorf("%+v: %+v", q, rs)
		}
	}
	if rs := w.do(&Request{Session: n}, bind); rs[0].Outcome != Refused || rs[1].Outcome != Stale {
		t.Errorf("counter 0: %+v", rs)
	}
	// A request may end its own session: it is over for the repeat.
	end := []Command{&Request{Session: n, Counter: 1}, &EndSession{Session: n}, bind}
	if rs := w.do(end...); rs[1].Outcome != Done || rs[2].Outcome != Done {
		t.Errorf("%+v", rs)
	}
	if rs := w.do(end...); rs[0].Outcome != Stale || rs[2].Outcome != Stale {
		t.Errorf("a session that is over: %+v", rs)
	}
	if len(w.table.content.Load().requests) > 0 {
		t.Error("requests of no session are remembered")
	}
}

// TestLastRequestsAreRemembered: in whatever order they come, none below the last 128 is applied.
func TestLastRequestsAreRemembered(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	bind := func(counter uint64) []Result {
		id := fmt.Sprint("node-", counter)
		return w.do(&Request{Session: n, Counter: counter}, &BindNode{NodeID: id, Key: keyA})
	}
	for i := uint64(0); i < MaxRequests; i++ {
		if rs := bind(2 * (MaxRequests - i)); rs[0] != (Result{Outcome: Done}) {
			t.Fatalf("counter %d, the %d. one: %+v", 2*(MaxRequests-i), i, rs)
		}
	}
	for _, c := range []struct {
		counter uint64
		want    Result
	}{
		{1, Result{Outcome: Stale}}, // below all, and there is no room
		{2, Result{Outcome: Done, Known: true}},
		{3, Result{Outcome: Done}}, // forgets 2
		{2, Result{Outcome: Stale}},
		{3, Result{Outcome: Done, Known: true}},
		{1000, Result{Outcome: Done}},
		{3, Result{Outcome: Stale}},
		{4, Result{Outcome: Done, Known: true}},
	} {
		if rs := bind(c.counter); rs[0] != c.want || (rs[1].Outcome == Stale) != (c.want.Outcome == Stale) {
			t.Errorf("counter %d: %+v, want %+v", c.counter, rs, c.want)
		}
	}
	if _, ok := w.table.NodeInfo("node-1"); ok {
		t.Error("what was Stale was applied")
	}
}

// TestRequestsLikeAMap: what is remembered against a map, and its bytes against their bound.
func TestRequestsLikeAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q, want := &requests{}, map[uint64]int{}
		largest := rapid.SampledFrom([]int{1, 200, 60_000}).Draw(rt, "largest")
		for range rapid.IntRange(1, 300).Draw(rt, "requests") {
			counter := rapid.Uint64Range(1, 400).Draw(rt, "counter")
			if _, known := q.find(counter); known || counter <= q.forgotten {
				continue
			}
			n := rapid.IntRange(0, largest).Draw(rt, "bytes")
			q.add(remembered{counter: counter, answers: make([]byte, n)})
			want[counter] = n
		}
		bytes, last := 0, q.forgotten
		for _, m := range q.list {
			if m.counter <= last || len(m.answers) != want[m.counter] {
				rt.Fatalf("counter %d after %d, %d bytes, want %d", m.counter, last, len(m.answers), want[m.counter])
			}
			last, bytes = m.counter, bytes+len(m.answers)
			delete(want, m.counter)
		}
		for counter := range want {
			if counter > q.forgotten {
				rt.Fatalf("counter %d is lost", counter)
			}
		}
		if bytes != q.bytes || bytes > maxAnswers || len(q.list) > MaxRequests {
			rt.Fatalf("%d requests of %d bytes, counted %d", len(q.list), bytes, q.bytes)
		}
	})
}

// TestLargestAnswersAreBounded: the entry with the most results for its bytes, and the one with the longest, are
// remembered and leave room for no more than the bound says.
func TestLargestAnswersAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	w.native(appA, "a", 1, n)
	for counter, cmd := range []Command{
		&RemoveKey{},
		&Register{App: appA, StoreID: "a", Native: true, Incarnation: [16]byte{1}, Node: n},
	} {
		cmds := []Command{&Request{Session: n, Counter: uint64(counter) + 1}}
		one := len(AppendEntry(nil, cmd)) - 1
		for range (MaxEntry - 64) / one {
			cmds = append(cmds, cmd)
		}
		for range 3 { // the last two are repeats
			if rs := w.do(cmds...); rs[0].Outcome != Done || rs[len(rs)-1].Outcome == 0 {
				t.Fatalf("%T: %+v and %+v", cmd, rs[0], rs[len(rs)-1])
			}
		}
	}
	q := w.table.content.Load().requests[n]
	if len(q.list) != 2 || q.bytes > maxAnswers || q.bytes < maxAnswers/2 {
		t.Errorf("%d requests of %d bytes", len(q.list), q.bytes)
	}
	w.do(&Request{Session: n, Counter: 9}, &RemoveKey{})
	if q.bytes > maxAnswers {
		t.Errorf("%d bytes", q.bytes)
	}
	back := New()
	if err := back.Restore(bytes.NewReader(snapshotOf(t, w.table))); err != nil {
		t.Fatal(err)
	}
}
