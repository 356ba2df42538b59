package bench

import (
	"math"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want Spread
	}{
		{nil, Spread{}},
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
		{[]float64{4, 1, 2, 100}, Spread{3, 1, 100}},
		{[]float64{math.NaN(), 5, math.Inf(1)}, Spread{5, 5, 5}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestRatioIsOfPairsNotOfMedians(t *testing.T) {
	// The machine was twice as fast in the second round; the ratio of each pair did not change.
	got := ratioOf([]float64{50, 100, 60}, []float64{100, 200, 120})
	if got != (Spread{0.5, 0.5, 0.5}) {
		t.Fatalf("ratio %v", got)
	}
	if got := ratioOf([]float64{1, 2, 3}, []float64{0, 1}); got != (Spread{2, 2, 2}) {
		t.Fatalf("a round that is missing or empty: %v", got)
	}
}

func TestDifferenceIsOfPairs(t *testing.T) {
	if got := differenceOf([]float64{150, 300, 90}, []float64{100, 100, 50}); got != (Spread{50, 40, 200}) {
		t.Fatalf("%+v", got)
	}
}

func TestCompact(t *testing.T) {
	for x, want := range map[float64]string{
		455123: "455k", 12345: "12.3k", 832.4: "832", 12.34: "12.3", 2.0449: "2.04", 0: "0", 0.0012: "0.0012",
		1_234_567: "1.2M", 99_960: "100k", 9_996: "10.0k", 0.65: "0.65",
	} {
		if got := compact(x); got != want {
			t.Errorf("compact(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestLatencyUnits(t *testing.T) {
	for micros, want := range map[float64]string{26.2: "26.2µs", 999.4: "999µs", 4923: "4.92ms", 541_000: "541ms", 1_100_000: "1.10s"} {
		if got := latency(micros); got != want {
			t.Errorf("latency(%v) = %q, want %q", micros, got, want)
		}
	}
	if got := (Spread{1000, 500, 2000}).latency(); got != "1.00ms (500µs-2.00ms)" {
		t.Errorf("spread %q", got)
	}
}

func TestLatenciesOnlyWhileRecording(t *testing.T) {
	l := newLatencies()
	l.record(0, 100, []int64{0})
	l.recording.Store(true)
	l.record(1, int64(time.Millisecond), []int64{0})
	l.record(2, int64(time.Hour), []int64{0})
	l.record(3, 0, []int64{5}) // a clock that went back counts as the least
	h := l.merged()
	if h.TotalCount() != 3 {
		t.Fatalf("%d recorded", h.TotalCount())
	}
	p := percentilesOf(h)
	if p.P50 < 999 || p.P50 > 1001 || p.Max < 119e6 || p.Max > 121e6 {
		t.Fatalf("percentiles %+v", p)
	}
}

// A server answers in 1 ms but stands still from second 1 to second 2 of 10. A tenth of all messages was due in that
// second; a generator that waits for each answer before it sends the next would have seen one slow message in
// thousands, and called p99 a millisecond.
func TestCoordinatedOmissionOnFakeTime(t *testing.T) {
	const (
		perSecond = 1000.0
		service   = int64(time.Millisecond)
		from, to  = int64(time.Second), int64(2 * time.Second)
		end       = int64(10 * time.Second)
	)
	answered := func(sent int64) int64 {
		if sent >= from && sent < to {
			sent = to
		}
		return sent + service
	}
	l := newLatencies()
	l.recording.Store(true)
	var f flight
	s := newSchedule(0, perSecond)
	blocked := int64(0) // until then the sender cannot write: the server does not read
	for now := int64(0); now < end; now += int64(100 * time.Microsecond) {
		if now >= from && now < to {
			blocked = to
		}
		if now < blocked {
			continue
		}
		n := 0
		s.due(now, func(_, moment int64) {
			if !f.push(moment) {
				t.Fatal("flight is full")
			}
			n++
		})
		l.record(0, answered(now), f.pop(nil, n))
	}
	p := percentilesOf(l.merged())
	if p.P50 > 1200 {
		t.Errorf("p50 %.0f µs: the undisturbed nine tenths answered in about 1 ms", p.P50)
	}
	// Uniform over the stalled second: p99 is where 90 % of the stalled messages are faster.
	if p.P99 < 890e3 || p.P99 > 910e3 {
		t.Errorf("p99 %.0f µs, want about 900 ms", p.P99)
	}
	if p.Max < 1000e3 || p.Max > 1010e3 {
		t.Errorf("max %.0f µs, want about 1001 ms", p.Max)
	}
	if got := l.merged().TotalCount(); got < 9990 {
		t.Errorf("%d messages; none may be left out because of the stall", got)
	}
}

func TestScheduleHandsOutEachMomentOnce(t *testing.T) {
	s := newSchedule(1000, 4) // every 250 ms
	var ks, moments []int64
	collect := func(k, m int64) { ks, moments = append(ks, k), append(moments, m) }
	s.due(999, collect)
	if len(ks) != 0 {
		t.Fatal("nothing is due before the start")
	}
	s.due(1000+int64(time.Second), collect)
	s.due(1000+int64(time.Second), collect)
	if len(ks) != 5 || ks[4] != 4 || moments[4] != 1000+int64(time.Second) {
		t.Fatalf("%v %v", ks, moments)
	}
}

func TestFlightKeepsOrderAndLimit(t *testing.T) {
	var f flight
	next, want := int64(0), int64(0)
	for range 1000 {
		for range 7 {
			f.push(next)
			next++
		}
		for _, got := range f.pop(nil, 6) {
			if got != want {
				t.Fatalf("popped %d, want %d", got, want)
			}
			want++
		}
	}
	if f.len() != 1000 || cap(f.due) > 8000 {
		t.Fatalf("%d in flight, room for %d", f.len(), cap(f.due))
	}
	for f.push(0) {
	}
	if f.len() != flightLimit {
		t.Fatalf("limit at %d", f.len())
	}
	if got := f.pop(nil, flightLimit+10); len(got) != flightLimit {
		t.Fatalf("popped %d", len(got))
	}
}

func TestCounterSums(t *testing.T) {
	var c counter
	for who := range 20 {
		c.add(who, 2)
	}
	if c.sum() != 40 {
		t.Fatal(c.sum())
	}
}
