package cluster

import (
	"context"
	"slices"
	"sync"
)

// maxOutstanding is how far a request's counter may be above the lowest that is still under way: below
// placement.MaxRequests, so that the table remembers each of them when it is asked for again.
const maxOutstanding = 100

// window gives requests their counters.
type window struct {
	mu    sync.Mutex
	last  uint64
	out   []uint64      // under way, ascending
	moved chan struct{} // closed when one has ended; nil while nobody waits
}

// begin returns a counter, once it is near enough to those under way.
func (w *window) begin(ctx context.Context) (uint64, error) {
	for {
		w.mu.Lock()
		if len(w.out) == 0 || w.last+1-w.out[0] < maxOutstanding {
			w.last++
			counter := w.last
			w.out = append(w.out, counter)
			w.mu.Unlock()
			return counter, nil
		}
		if w.moved == nil {
			w.moved = make(chan struct{})
		}
		moved := w.moved
		w.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// end gives a counter back.
func (w *window) end(counter uint64) {
	w.mu.Lock()
	if i, ok := slices.BinarySearch(w.out, counter); ok {
		w.out = slices.Delete(w.out, i, i+1)
	}
	moved := w.moved
	w.moved = nil
	w.mu.Unlock()
	if moved != nil {
		close(moved)
	}
}
