package pipe

import (
	"crypto/tls"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrSlow says that the peer did not take what was written to it: more than
// MaxPending bytes were waiting, or none was taken for Stall.
var ErrSlow = errors.New("pipe: peer is too slow")

// Options bound what a Conn keeps for a peer that does not read.
type Options struct {
	// MaxPending is how many bytes may wait for the kernel to take them, from
	// one to 2 GiB. A single Write of more than that is fine while the kernel takes it.
	MaxPending int
	// Stall is how long the peer may take nothing while bytes wait; above zero.
	Stall time.Duration
}

// DefaultOptions returns 1 MiB and 10 s.
func DefaultOptions() Options { return Options{MaxPending: 1 << 20, Stall: 10 * time.Second} }

// Conn is a net.Conn whose Write never blocks. Reading is that of the
// connection below it. All methods are safe for concurrent use; concurrent
// Writes are each kept whole, in some order.
type Conn struct {
	net.Conn
	raw syscall.RawConn // nil when the connection below has no descriptor
	try func(fd uintptr) bool

	// The argument and the result of try; owned by who has set writing.
	out    []byte
	outErr syscall.Errno

	queued atomic.Int64

	mu      sync.Mutex // guards the rest, except where another owner is named
	pending []byte
	err     error
	linger  *time.Timer
	most    int32 // MaxPending
	stall   int32 // Stall in milliseconds; never changes

	// rawFD, when not negative, makes Read a single non-blocking system call; short says that the last such call took
	// all there was. Both belong to the Reader, inside its RawConn callback.
	rawFD     int32
	ahead     int16 // the byte that PeekByte took from a connection without descriptor, or -1; the reader's
	short     bool
	outWaits  bool // try may wait until the socket is writable; owned like out
	writing   bool // someone is in try or the drain goroutine runs
	finishing bool
}

// NewConn wraps nc. Zero fields of opt take the values of DefaultOptions.
// Over a connection with a file descriptor a Write tries the socket itself;
// over any other (net.Pipe) every byte goes through the drain goroutine.
func NewConn(nc net.Conn, opt Options) *Conn {
	def := DefaultOptions()
	if opt.MaxPending <= 0 {
		opt.MaxPending = def.MaxPending
	}
	if opt.Stall <= 0 {
		opt.Stall = def.Stall
	}
	c := &Conn{Conn: nc, rawFD: -1, ahead: -1}
	c.most = int32(min(opt.MaxPending, math.MaxInt32))
	c.stall = int32(min(max(opt.Stall, time.Millisecond).Milliseconds(), math.MaxInt32))
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.try = raw, c.trySocket
		}
	}
	return c
}

// Base returns the Conn that c is, or that c as a *tls.Conn stands on, or nil.
func Base(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	b, _ := c.(*Conn)
	return b
}

// Write hands p to the kernel as far as it takes it and keeps the rest. It
// does not block and does not keep p. The error is why the Conn has ended:
// ErrSlow, a socket error, or net.ErrClosed.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, c.err
	}
	if c.finishing {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	if c.writing || c.raw == nil {
		return c.keep(p, len(p))
	}
	c.writing = true
	c.mu.Unlock()

	rest, err := c.tryWrite(p)
	if err != nil {
		c.fail(err)
		return len(p) - len(rest), err
	}
	c.mu.Lock()
	c.writing = false
	if len(rest) == 0 && len(c.pending) == 0 && !c.finishing {
		err := c.err
		c.mu.Unlock()
		return len(p), err
	}
	return c.keep(rest, len(p))
}

// keep queues p in front of nothing and starts the drain; c.mu is held and is
// released. whole is what Write reports as taken.
func (c *Conn) keep(p []byte, whole int) (int, error) {
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, c.err
	}
	if c.queued.Load()+int64(len(p)) > int64(c.most) {
		c.mu.Unlock()
		c.fail(ErrSlow)
		return 0, ErrSlow
	}
	c.queued.Add(int64(len(p)))
	if c.writing {
		c.pending = append(Grow(c.pending, len(p)), p...)
		c.mu.Unlock()
		return whole, nil
	}
	// What others added while we were in the socket comes after our rest.
	if len(p) > 0 {
		mine := append(TakeBuffer(len(p)+len(c.pending)), p...)
		mine = append(mine, c.pending...)
		ReturnBuffer(c.pending)
		c.pending = mine
	}
	c.writing = true
	c.mu.Unlock()
	go c.drain()
	return whole, nil
}

// tryWrite makes one attempt that does not wait and returns what is left.
func (c *Conn) tryWrite(p []byte) ([]byte, error) {
	c.out, c.outErr, c.outWaits = p, 0, false
	err := c.raw.Write(c.try)
	rest := c.out
	c.out = nil
	if err == nil && c.outErr != 0 {
		err = os.NewSyscallError("write", c.outErr)
	}
	return rest, err
}

// drain writes pending bytes until there are none. It is the only writer
// while it runs.
func (c *Conn) drain() {
	for {
		c.mu.Lock()
		if c.err != nil || len(c.pending) == 0 {
			c.writing = false
			finish := c.err == nil && c.finishing
			c.mu.Unlock()
			if finish {
				c.shut()
			}
			return
		}
		out := c.pending
		c.pending = nil
		c.mu.Unlock()
		err := c.drainOut(out)
		ReturnBuffer(out)
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// drainOut writes all of p, waiting for the peer at most Stall for each step.
func (c *Conn) drainOut(p []byte) error {
	defer func() { _ = c.Conn.SetWriteDeadline(time.Time{}) }()
	for len(p) > 0 {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(time.Duration(c.stall) * time.Millisecond)); err != nil {
			return err
		}
		var n int
		var err error
		if c.raw != nil {
			c.out, c.outErr, c.outWaits = p, 0, true
			err = c.raw.Write(c.try)
			n = len(p) - len(c.out)
			c.out = nil
			if err == nil && c.outErr != 0 {
				err = os.NewSyscallError("write", c.outErr)
			}
		} else {
			n, err = c.Conn.Write(p)
		}
		p = p[n:]
		c.queued.Add(-int64(n))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if n > 0 {
				continue
			}
			return ErrSlow
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Pending returns how many written bytes the kernel has not taken yet.
func (c *Conn) Pending() int { return int(c.queued.Load()) }

// Err returns why the Conn ended, ErrSlow among others, or nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// KeepAlive lets the kernel ask a silent peer whether it is there: after every, then every that, count times without an
// answer. It does nothing on a connection that is not TCP.
func (c *Conn) KeepAlive(every time.Duration, count int) {
	if tc, ok := c.Conn.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: every, Interval: every, Count: count})
	}
}

// AllowPending raises MaxPending to n bytes, once it is known how large the peer's messages may be. It never lowers it.
func (c *Conn) AllowPending(n int) {
	c.mu.Lock()
	c.most = max(c.most, int32(min(n, math.MaxInt32)))
	c.mu.Unlock()
}

// SetWriteDeadline does nothing: a Write does not wait, and Options.Stall is
// the limit for what it leaves behind.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the read deadline only, see SetWriteDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// Close closes the connection at once; what is pending is lost.
func (c *Conn) Close() error { return c.fail(net.ErrClosed) }

func (c *Conn) fail(why error) error {
	c.mu.Lock()
	if c.err == nil {
		c.err = why
	}
	linger := c.linger
	c.linger = nil
	c.queued.Add(-int64(len(c.pending)))
	ReturnBuffer(c.pending)
	c.pending = nil
	c.mu.Unlock()
	if linger != nil {
		linger.Stop()
	}
	return c.Conn.Close()
}

// CloseAfterFlush refuses further Writes, sends what is pending, then the end
// of the stream, and leaves the reading side open so that the peer can close
// first; the owner's reader should go on until it sees an error and then call
// Close. After linger the Conn closes itself, whatever happened.
func (c *Conn) CloseAfterFlush(linger time.Duration) {
	c.mu.Lock()
	if c.err != nil || c.finishing {
		c.mu.Unlock()
		return
	}
	c.finishing = true
	c.linger = time.AfterFunc(linger, func() { _ = c.Close() })
	busy := c.writing
	c.mu.Unlock()
	if !busy {
		c.shut()
	}
}

// shut sends the end of the stream if the connection below can.
func (c *Conn) shut() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}
