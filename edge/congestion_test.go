package edge

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
)

// A node that takes nothing while a backend goes on costs the owner a bounded amount of memory, and hears of what it missed
// by being opened anew: a legacy backend then answers with all that there is.
func TestNodeThatTakesNothingLosesItsRouteAndComesBack(t *testing.T) {
	inNodes(t, 2, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		c.cut(1, 0, true)
		payload := bytes.Repeat([]byte("x"), 1<<20)
		for range 60 {
			w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), payload) })
		}
		if n := w[0].r.stats.overrun.Load(); n != 1 {
			t.Errorf("%d routes were cut, want 1", n)
		}
		b.take()
		c.cut(1, 0, false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if heard := b.take(); !strings.HasSuffix(heard, "open 7 ann") {
			t.Errorf("the backend heard %q, want the user once more", heard)
		}
		ann.take()
		w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("all there is")) })
		want(t, "client", ann.take(), "all there is")
		ann.leaves()
		want(t, "backend", b.take(), "close 7 ann")
	})
}

// The last messages of a client that leaves a state under back-pressure arrive, and only then is the state left.
func TestLeavingUnderBackPressureLosesNothing(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		b.take()
		full := make(chan struct{})
		b.mu.Lock()
		b.full = full
		b.mu.Unlock()
		for range 18 { // more than a window
			ann.sends(strings.Repeat("x", 64<<10))
		}
		ann.leaves()
		time.Sleep(2 * time.Second)
		b.mu.Lock()
		b.full = nil
		b.mu.Unlock()
		close(full)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		heard := b.take()
		if n := strings.Count(heard, "data 7 ann"); n != 18 || !strings.HasSuffix(heard, "close 7 ann") {
			t.Errorf("%d of 18 messages arrived, then %q", n, heard[max(0, len(heard)-20):])
		}
		if n := w[0].r.stats.guests.Load(); n != 0 {
			t.Errorf("%d guests are left", n)
		}
	})
}
