package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestTimesOfProfilesAreSafe(t *testing.T) {
	for _, profile := range []uint8{placement.OneRegion, placement.MultiRegion} {
		if err := TimesOf(profile).Validate(); err != nil {
			t.Errorf("profile %d: %v", profile, err)
		}
	}
}

func TestUnsafeTimesAreRefused(t *testing.T) {
	good := TimesOf(placement.OneRegion)
	for name, change := range map[string]func(*Times){
		"nothing":                    func(t *Times) { *t = Times{} },
		"lease outlives session":     func(t *Times) { t.Dead = t.Lease + time.Second },
		"fail-over ends leases":      func(t *Times) { t.FailOver = t.Lease - t.Renew },
		"three losses end a lease":   func(t *Times) { t.Renew = t.Lease/4 + 1; t.FailOver = 0 },
		"a slow network ends leases": func(t *Times) { t.Reach = time.Second },
	} {
		times := good
		change(&times)
		if err := times.Validate(); err == nil {
			t.Errorf("%s: %+v is taken", name, times)
		}
	}
}

func sessions(ids ...wire.NodeSession) (out []placement.Session) {
	for _, id := range ids {
		out = append(out, placement.Session{ID: id})
	}
	return out
}

// TestHolderIsOverBeforeGranter: whatever is lost or late between them, a session is not ended while its node holds a
// lease, also when their clocks differ in rate.
func TestHolderIsOverBeforeGranter(t *testing.T) {
	times := TimesOf(placement.OneRegion)
	start := time.Unix(0, 0)
	for _, late := range []time.Duration{0, 300 * time.Millisecond, 5 * time.Second} {
		var h holder
		var g granter
		g.lead(sessions(1), start)
		sent := start.Add(10 * time.Second)
		received := sent.Add(late)
		r := g.receive(1, received)
		if r == nil {
			t.Fatal("a leader takes no renewal")
		}
		tell(g.collect(), true)
		if !<-r.done {
			t.Fatal("not granted")
		}
		h.granted(sent, times.Lease)
		until, held := h.lease(received)
		if held != (late < times.Lease) {
			t.Fatalf("%v late: held %v", late, held)
		}
		// The granter's clock is 1 % fast, the holder's 1 % slow.
		end := sent.Add(until.Sub(sent) * 102 / 100)
		if over := g.due(sessions(1), end, times.Dead); len(over) > 0 {
			t.Errorf("%v late: ended while the lease is held", late)
		}
		if over := g.due(sessions(1), received.Add(times.Dead), times.Dead); len(over) != 1 {
			t.Errorf("%v late: a dead session is not ended", late)
		}
	}
}

// TestLateAnswerDoesNotShortenALease: answers overtake each other.
func TestLateAnswerDoesNotShortenALease(t *testing.T) {
	var h holder
	start := time.Unix(0, 0)
	h.granted(start.Add(time.Second), time.Minute)
	h.granted(start, time.Minute)
	if until, _ := h.lease(start); !until.Equal(start.Add(61 * time.Second)) {
		t.Errorf("until %v", until)
	}
}

// TestNewLeaderExpiresNobodyAtOnce: it does not know when others were heard of.
func TestNewLeaderExpiresNobodyAtOnce(t *testing.T) {
	var g granter
	start := time.Unix(0, 0)
	if g.receive(1, start) != nil {
		t.Error("a renewal was taken before leading")
	}
	g.lead(sessions(1, 2), start)
	g.receive(1, start.Add(5*time.Second))
	if over := g.due(sessions(1, 2), start.Add(7*time.Second), 7500*time.Millisecond); len(over) != 0 {
		t.Errorf("ended %v", over)
	}
	if over := g.due(sessions(1, 2), start.Add(7500*time.Millisecond), 7500*time.Millisecond); !slices.Equal(over, []wire.NodeSession{2}) {
		t.Errorf("ended %v, not the one that is silent", over)
	}
	g.follow()
	if over := g.due(sessions(1, 2), start.Add(time.Hour), 7500*time.Millisecond); len(over) != 0 {
		t.Errorf("ended %v without leading", over)
	}
	g.lead(sessions(1, 2), start.Add(time.Hour))
	if over := g.due(sessions(1, 2), start.Add(time.Hour+time.Second), 7500*time.Millisecond); len(over) != 0 {
		t.Errorf("ended %v at the begin of another leadership", over)
	}
}

// TestSessionOpenedWhileLeading counts from when the leader first sees it.
func TestSessionOpenedWhileLeading(t *testing.T) {
	var g granter
	start := time.Unix(0, 0)
	g.lead(nil, start)
	later := start.Add(time.Hour)
	if over := g.due(sessions(3), later, time.Second); len(over) != 0 {
		t.Errorf("ended %v at first sight", over)
	}
	if over := g.due(sessions(3), later.Add(time.Second), time.Second); len(over) != 1 {
		t.Error("never ended")
	}
}

// TestRenewalsOfALostLeadershipAreNotGranted, nor those received after a tick was proposed.
func TestRenewalsOfALostLeadershipAreNotGranted(t *testing.T) {
	var g granter
	start := time.Unix(0, 0)
	g.lead(nil, start)
	early := g.receive(1, start)
	covered := g.collect() // the tick is proposed
	late := g.receive(2, start)
	tell(covered, true)
	if !<-early.done {
		t.Error("not granted")
	}
	select {
	case <-late.done:
		t.Error("granted by a tick that was proposed before it came")
	default:
	}
	g.follow()
	if <-late.done {
		t.Error("granted by who does not lead any more")
	}
}

// A renewal that came in just before its session was ended must not be granted by the tick behind that.
func TestARenewalIsNotGrantedOnceItsSessionIsOver(t *testing.T) {
	n := start(t, Config{NodeID: "a"})
	for range 20 {
		opened, err := n.one(t.Context(), &placement.OpenSession{NodeID: "b"})
		if err != nil || opened.Outcome != placement.Done {
			t.Fatal(opened, err)
		}
		renewed := n.granter.receive(opened.Node, n.cfg.Now())
		if _, err := n.one(t.Context(), &placement.EndSession{Session: opened.Node, At: 1}); err != nil {
			t.Fatal(err)
		}
		n.granter.mu.Lock()
		before := slices.Contains(n.granter.waiting, renewed) // ended before the tick was proposed
		n.granter.mu.Unlock()
		err = n.await(t.Context(), renewed, opened.Node)
		if !before {
			continue
		}
		if !isCode(err, codeSessionOver) {
			t.Fatalf("answered %v", err)
		}
		return
	}
	t.Fatal("the tick was always faster")
}
