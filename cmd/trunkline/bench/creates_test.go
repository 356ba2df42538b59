package bench

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCreatorsAreAllBusyAtFullLoad(t *testing.T) {
	var now, most atomic.Int64
	creators := make([]creator, 8)
	all := make(chan struct{})
	for i := range creators {
		creators[i] = func(context.Context) error {
			n := now.Add(1)
			defer now.Add(-1)
			for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
			}
			if n == int64(len(creators)) {
				select {
				case <-all:
				default:
					close(all)
				}
			}
			<-all // the first ones wait for the last
			return nil
		}
	}
	cell, err := createLoad(t.Context(), creators, loadConfig{duration: 20 * time.Millisecond}, noMeter{})
	if err != nil || cell.Messages == 0 || cell.P50 == 0 {
		t.Fatalf("%+v, %v", cell, err)
	}
	if most.Load() != int64(len(creators)) {
		t.Errorf("%d creates in flight, not %d", most.Load(), len(creators))
	}
}

// A creator that stalls makes the others' moments late, and that has to show.
func TestCreatesByTheClockCountFromWhenTheyWereDue(t *testing.T) {
	const stall = 100 * time.Millisecond
	first := true
	slow := func(context.Context) error {
		if first {
			first = false
			time.Sleep(stall)
		}
		return nil
	}
	cell, err := createLoad(t.Context(), []creator{slow}, loadConfig{rate: 1000, duration: 2 * stall}, noMeter{})
	if err != nil {
		t.Fatal(err)
	}
	if cell.Max < float64(stall.Microseconds())*0.9 {
		t.Errorf("a stall of %v shows as %v µs", stall, cell.Max)
	}
	if cell.P90 < float64(stall.Microseconds())*0.1 {
		t.Errorf("those who waited behind a stall of %v count %v µs at 90 %%", stall, cell.P90)
	}
	if cell.PerSecond > 1100 {
		t.Errorf("%v creates per second, 1000 were due", cell.PerSecond)
	}
}

func TestACreateThatFailsEndsTheRun(t *testing.T) {
	refused := errors.New("no instance")
	ok := func(context.Context) error {
		time.Sleep(time.Millisecond)
		return nil
	}
	for _, rate := range []float64{0, 1000} {
		_, err := createLoad(t.Context(), []creator{ok, func(context.Context) error { return refused }},
			loadConfig{rate: rate, duration: time.Minute}, noMeter{})
		if !errors.Is(err, refused) || !strings.Contains(err.Error(), "creator 2") {
			t.Errorf("rate %v: %v", rate, err)
		}
	}
}

// Three processes that are members, of which the one that does not lead creates.
func TestCreatesThroughMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole processes")
	}
	b := &bench{
		lab: startLab(t), progress: testWriter{t}, report: &Report{},
		o: options{Kind: "states", InFlight: 16, Rounds: 2, Duration: 200 * time.Millisecond, Warmup: 50 * time.Millisecond},
	}
	c, err := b.placerCreates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.full.Rounds) != 2 || c.full.PerSecond.Min == 0 || c.full.CPU.Min == 0 {
		t.Errorf("%+v", c.full)
	}
	if half := c.half.PerSecond.Median; half == 0 || half > 0.75*c.full.PerSecond.Median {
		t.Errorf("half of %v/s is %v/s", c.full.PerSecond, c.half.PerSecond)
	}
	if len(b.report.Notes) == 0 || !strings.Contains(b.report.Notes[0], "syncing") {
		t.Errorf("the report says nothing of the disk: %v", b.report.Notes)
	}
}

// testWriter is a test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
