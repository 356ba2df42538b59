package pipe

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"testing"
)

// calls is a connection that counts the Writes to it.
type calls struct {
	net.Conn
	mu    sync.Mutex
	n     int
	wrote bytes.Buffer
}

func (c *calls) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.wrote.Write(p)
}

func TestSharedFlushTakesAlongWhatReadyGoroutinesHave(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the others run only when the first gives way
	c := &calls{}
	w := NewWriter(c)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			w.Release(append(w.Acquire(), "x"...))
			if err := w.FlushShared(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c.wrote.Len() != 50 || c.n > 5 {
		t.Errorf("%d bytes in %d writes, want 50 in a few", c.wrote.Len(), c.n)
	}
}

func TestSharedFlushOfOneIsWrittenAtOnce(t *testing.T) {
	c := &calls{}
	w := NewWriter(c)
	w.Release(append(w.Acquire(), "x"...))
	if err := w.FlushShared(); err != nil || c.n != 1 {
		t.Errorf("%d writes, %v", c.n, err)
	}
	if err := w.FlushShared(); err != nil || c.n != 1 {
		t.Errorf("an empty flush wrote: %d writes, %v", c.n, err)
	}
}
