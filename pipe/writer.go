package pipe

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync"
	"time"
)

// Writer gathers what many goroutines have for one connection and writes it
// with few calls: whoever calls Flush while nobody writes, writes for all. It
// stands on a connection whose Write does not block: a Conn, or TLS over one.
// An empty Writer holds no buffer.
type Writer struct {
	c    io.WriteCloser
	base *Conn // nil when there is none below c

	mu     sync.Mutex
	flying bool // someone is in Write
	inAir  int  // bytes that it writes
	lonely int  // FlushShared: how many flushes to skip when giving way brings nothing
	skip   int  // how many are still to be skipped
	buf    []byte
	err    error
	last   time.Duration // above zero: close when nobody writes any more, and linger
}

// NewWriter returns a Writer on c, whose Write gets all that was gathered
// between two calls of it, whole.
func NewWriter(c io.WriteCloser) *Writer {
	w := &Writer{c: c}
	if nc, ok := c.(net.Conn); ok {
		w.base = Base(nc)
	}
	return w
}

// Acquire locks the Writer and returns the bytes gathered so far, to append
// to. Release must follow, from the same goroutine, without I/O in between.
// Use Grow before appending more than some hundred bytes.
func (w *Writer) Acquire() []byte {
	w.mu.Lock()
	if w.buf == nil {
		w.buf = TakeBuffer(class1K)
	} else if cap(w.buf)-len(w.buf) < cap(w.buf)/4 {
		w.buf = Grow(w.buf, cap(w.buf)/2)
	}
	return w.buf
}

// Release takes the buffer of Acquire back, with what was appended, and
// unlocks. Once the connection has failed, it is thrown away.
func (w *Writer) Release(b []byte) {
	if w.err != nil || len(b) == 0 {
		ReturnBuffer(b)
		b = nil
	}
	w.buf = b
	w.mu.Unlock()
}

// Flush writes everything gathered, or leaves it to the goroutine that is
// writing just now. The error is the connection's first.
func (w *Writer) Flush() error {
	w.mu.Lock()
	if w.flying || len(w.buf) == 0 {
		err := w.err
		w.mu.Unlock()
		return err
	}
	w.flying = true
	return w.write()
}

// FlushShared is Flush for a Writer that many goroutines write to: whoever finds nobody writing first lets those that are
// ready to run add theirs, and then writes for all, so that on a loaded machine a single system call takes the messages
// of many readers along. Where giving way has brought nothing it is not tried again for a while, each time longer.
func (w *Writer) FlushShared() error {
	w.mu.Lock()
	if w.flying || len(w.buf) == 0 {
		err := w.err
		w.mu.Unlock()
		return err
	}
	w.flying = true
	if own := len(w.buf); own < enough && w.skip == 0 {
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
		w.lonely = min(2*w.lonely+1, mostSkips)
		if len(w.buf) > own {
			w.lonely = 0
		}
		w.skip = w.lonely
	} else if w.skip > 0 {
		w.skip--
	}
	return w.write()
}

// write writes until nothing is left. The caller holds the lock, which is let go, and has set flying.
func (w *Writer) write() error {
	for len(w.buf) > 0 && w.err == nil {
		out := w.buf
		w.buf, w.inAir = nil, len(out)
		w.mu.Unlock()
		_, err := w.c.Write(out)
		ReturnBuffer(out)
		w.mu.Lock()
		w.inAir = 0
		if err != nil && w.err == nil {
			w.err = err
		}
	}
	w.flying = false
	err, last := w.err, w.last
	w.last = 0
	w.mu.Unlock()
	if last > 0 {
		w.finish(last)
	}
	return err
}

// enough is what is written without waiting for more: a larger batch saves nothing.
const enough = 32 << 10

// mostSkips is how many shared flushes at most do not give way because the last one was alone.
const mostSkips = 63

// Queued returns how many bytes wait here and, unencrypted or not, in the Conn below.
func (w *Writer) Queued() int {
	w.mu.Lock()
	n := len(w.buf) + w.inAir
	w.mu.Unlock()
	if w.base != nil {
		n += w.base.Pending()
	}
	return n
}

// CloseAfterFlush flushes, ends TLS if there is any, and lets the Conn below
// close after its own flush, see Conn.CloseAfterFlush. Where another goroutine
// is writing just now, that one does all this when it has written everything.
func (w *Writer) CloseAfterFlush(linger time.Duration) {
	w.mu.Lock()
	w.last = max(linger, 1)
	if w.flying {
		w.mu.Unlock()
		return
	}
	w.flying = true
	_ = w.write()
}

// finish closes; everything has been written.
func (w *Writer) finish(linger time.Duration) {
	if t, ok := w.c.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	if w.base == nil {
		_ = w.c.Close()
		return
	}
	w.base.CloseAfterFlush(linger)
}
