package node

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/wire"
)

// Whoever connects to ids at random is turned away by the backend or held back by buckets, and leaves no row behind: none
// at once where the backend says that it does not have the state, none after a minute where it says nothing.
func TestConnectionsToRandomIDsLeaveNoRows(t *testing.T) {
	t.Parallel()
	// serve, because dev spares loopback addresses.
	c := startServe(t, "--apps", "open")
	silent := newApp("silent")
	silent.startBackend(t, c, backendRole{Kind: legacy, Store: "store-1", Silent: true})
	left := silent.leaveBehind(t, c, 100)

	for _, kind := range kinds {
		const addresses, each = 5, 300
		a := newApp(kind)
		a.startBackend(t, c, backendRole{Kind: kind, Store: "store-1", Refuses: true})
		limited := c.metric(t, "trunkline_edge_unknown_states_limited_total")
		began := time.Now()
		codes := a.wander(t, c, addresses, each)
		t.Logf("%s: %d connects to random ids from %d addresses in %v ended with %v", kind, addresses*each, addresses, time.Since(began).Round(time.Millisecond), codes)
		refused, later := codes[int(wire.CodeStateNotFound)], codes[int(wire.CodeTryLater)]
		if refused == 0 || later == 0 || refused+later != addresses*each {
			t.Errorf("%s: the connections ended with %v, want only %d and %d", kind, codes, wire.CodeStateNotFound, wire.CodeTryLater)
		}
		if n := c.metric(t, "trunkline_edge_unknown_states_limited_total") - limited; n != float64(later) {
			t.Errorf("%s: %v connections were counted as held back, %d were", kind, n, later)
		}
		until(t, "the rows of "+kind+" to go", func() bool { return len(c.states(t, a)) == 0 })
		t.Logf("%s: no row %v after the first connect", kind, time.Since(began).Round(time.Millisecond))
	}
	if testing.Short() {
		return
	}
	left.gone(t, c, silent)
}

// wander connects one user of each address to ids at random, some at a time, and returns how often each close code was met.
func (a app) wander(t *testing.T, c *coordinator, addresses, each int) map[int]int {
	t.Helper()
	const atOnce = 6
	var mu sync.Mutex
	codes := map[int]int{}
	var g errgroup.Group
	for i := range addresses {
		source, token := newSource(), a.token(t, c, userName(i))
		for range atOnce {
			g.Go(func() error {
				for range each / atOnce {
					code, err := a.wanderOnce(c, source, token)
					if err != nil {
						return err
					}
					mu.Lock()
					codes[code]++
					mu.Unlock()
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return codes
}

// wanderOnce connects to an id at random and returns the code with which that ended.
func (a app) wanderOnce(c *coordinator, source, token string) (code int, err error) {
	v, err := a.visit(c, source, token, randomID())
	if err != nil {
		return 0, err
	}
	defer v.hangUp()
	return v.closed()
}

// leftBehind are rows of states that somebody connected to and left, and whose instance has said nothing.
type leftBehind struct {
	rows int
	at   time.Time // when the last of them was left
}

func (a app) leaveBehind(t *testing.T, c *coordinator, n int) leftBehind {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		source, token := newSource(), a.token(t, c, userName(i))
		g.Go(func() error {
			v, err := a.visit(c, source, token, randomID())
			if err != nil {
				return err
			}
			defer v.hangUp()
			if err := v.acknowledged(); err != nil {
				return err
			}
			return v.leave()
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	left := leftBehind{len(c.states(t, a)), time.Now()}
	if left.rows != n {
		t.Errorf("%d states were connected to, %d rows are there", n, left.rows)
	}
	return left
}

// gone waits until the minute is over in which who left might have come back.
func (l leftBehind) gone(t *testing.T, c *coordinator, a app) {
	t.Helper()
	const stays = time.Minute
	timer := time.NewTimer(time.Until(l.at.Add(stays)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
	until(t, "the rows that were left behind to go", func() bool { return len(c.states(t, a)) == 0 })
	took := time.Since(l.at)
	t.Logf("%d rows of states whose instance said nothing were gone %v after the last connection had left", l.rows, took.Round(time.Millisecond))
	if took > stays+2*slack {
		t.Errorf("rows were there for %v", took)
	}
}

// randomID is a state id that nobody has made.
func randomID() string { return strconv.FormatUint(rand.Uint64()|1, 36) }
