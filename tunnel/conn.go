package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
)

const (
	// readBuffer is what a reader takes from the pool while bytes are there.
	readBuffer = 64 << 10
	// drainPoll is how often the keeper looks whether a congested connection
	// has drained; it does so only while something waits for that.
	drainPoll = time.Millisecond
	// highWater is what may be under way in the connection before states queue
	// and take turns.
	highWater = 128 << 10
)

// PipeOptions returns what the connection below a tunnel should be made with:
// room for the tunnel's mark and one largest message, and the given stall time,
// or that of package pipe for 0.
func (c *Config) PipeOptions(stall time.Duration) pipe.Options {
	return pipe.Options{MaxPending: 2*c.TunnelMark + c.MaxMessage + legacyHead, Stall: stall}
}

// core is what every end has, with or without a connection of its own: what it
// writes to, and why it has ended.
type core struct {
	kind Kind
	cfg  Config
	w    *pipe.Writer
	done chan struct{} // closed when it has ended
	dead atomic.Bool   // set with done

	mu    sync.Mutex
	cause *Error
}

func newCore(kind Kind, w *pipe.Writer, cfg Config) core {
	return core{kind: kind, cfg: cfg, w: w, done: make(chan struct{})}
}

func (c *core) Kind() Kind  { return c.kind }
func (c *core) Queued() int { return c.w.Queued() }

// finish makes err the cause unless there is one; false when there is.
func (c *core) finish(err *Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	c.cause = err
	c.dead.Store(true)
	close(c.done)
	return true
}

// conn is what the ends of both kinds have that own a connection: it with its
// reader and writer, and its signs of life.
type conn struct {
	core
	nc   net.Conn
	base *pipe.Conn // nil when there is none below nc
	r    *pipe.Reader

	start    time.Time
	lastRead atomic.Int64 // nanoseconds since start
	rtt      atomic.Int64
	kick     chan struct{} // wakes the keeper: something waits for the drain

	// farewell, when set, appends to w what the other end shall read last.
	farewell func(*Error)
}

func newConn(kind Kind, nc net.Conn, r *pipe.Reader, cfg Config) *conn {
	return &conn{
		core: newCore(kind, pipe.NewWriter(nc), cfg), nc: nc, base: pipe.Base(nc), r: r,
		start: cfg.Now(), kick: make(chan struct{}, 1),
	}
}

// RTT is the last round trip that was measured.
func (c *conn) RTT() time.Duration { return time.Duration(c.rtt.Load()) }

// since is the time since start on the injected clock.
func (c *conn) since() time.Duration { return c.cfg.Now().Sub(c.start) }

// pending is what the connection below has not yet given to the kernel.
func (c *conn) pending() int {
	if c.base == nil {
		return 0
	}
	return c.base.Pending()
}

// crowded wakes the keeper, which flushes when the connection has drained.
func (c *conn) crowded() bool {
	c.wake()
	return true
}

// wake tells the keeper that something waits for the connection to drain.
func (c *conn) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// end makes err the cause unless there is one, closes the connection after what
// is queued, and makes the reader return. It may be called at any time.
func (c *conn) end(err *Error) {
	if !c.finish(err) {
		return
	}
	if c.farewell != nil {
		c.farewell(err)
	}
	c.w.CloseAfterFlush(c.cfg.Linger)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// arm sets the read deadline, or none for 0, unless the tunnel has ended.
func (c *conn) arm(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	_ = c.nc.SetReadDeadline(t)
}

// failure makes an Error of what reading returned.
func (c *conn) failure(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case c.base != nil && errors.Is(c.base.Err(), pipe.ErrSlow):
		return fail(ReasonStalled, pipe.ErrSlow)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(ReasonIdle, nil)
	case errors.Is(err, io.EOF):
		return fail(ReasonPeer, io.EOF)
	}
	return fail(ReasonPeer, err)
}

// run calls read until it returns, with keep beside it, and ends the tunnel.
// It returns the cause when all goroutines have ended.
func (c *conn) run(ctx context.Context, read func() error, keep func()) error {
	stop := context.AfterFunc(ctx, func() { c.end(fail(ReasonContext, context.Cause(ctx))) })
	var wg sync.WaitGroup
	wg.Go(keep)
	err := c.failure(c.guard(read))
	c.end(err)
	stop()
	wg.Wait()
	c.r.Close()
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	switch cause.Reason {
	case ReasonPeer, ReasonIdle, ReasonStalled:
		c.nc.Close() // the other end is gone, or will not read what is left
	}
	c.cfg.Counters.end(c.kind, cause.Reason)
	return cause
}

// guard turns a panic of a handler into an error: only this tunnel dies.
func (c *conn) guard(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Log.Error("tunnel handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fail(ReasonPanic, fmt.Errorf("%v", p))
		}
	}()
	return read()
}

// fill waits for at least n unread bytes and notes the sign of life.
func (c *conn) fill(n int) ([]byte, error) {
	b, err := c.r.Fill(n)
	if err != nil {
		return nil, err
	}
	c.lastRead.Store(int64(c.since()))
	if c.dead.Load() {
		return nil, fail(ReasonPeer, net.ErrClosed)
	}
	return b, nil
}
