package link

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// Why a stream has ended, as Read and Write answer it. io.EOF: the other end has closed it, or its node session is over.
var (
	// ErrOverflow: more was written than the ring holds while the other end acknowledged nothing.
	ErrOverflow = errors.New("link: the other node has not taken what was sent")
	// ErrLost: the other end does not know the stream any more; what it had received of it last is unknown.
	ErrLost = errors.New("link: the other node has lost the stream")
	// ErrElsewhere: another node session answered than the one the stream goes to.
	ErrElsewhere = errors.New("link: another session of the node answered")
)

// errEnd is read where the other end has closed the stream.
var errEnd = errors.New("the other end has closed the stream")

// Stream is one end of a lane. Write never blocks. Read is for one goroutine, which has to read for as long as the stream
// lives, since acknowledgements come that way too; where it pauses, the other end is held back.
type Stream struct {
	links *Links
	id    StreamID
	lane  int
	peer  wire.NodeSession
	mine  bool          // this end opened it
	wake  chan struct{} // the writer's; holds one
	turn  chan struct{} // holds one: whoever takes a connection for the stream
	over  chan struct{} // closed when the stream has ended

	received atomic.Uint64 // bytes handed out by Read
	told     atomic.Uint64 // bytes of that the other end has been told of
	ackTimer *time.Timer

	mu       sync.Mutex
	out      ring
	sent     uint64 // position up to which the connection has had it
	conn     *carrier
	changed  chan struct{} // closed when conn changes
	reading  *carrier      // the one that Read is in, nil between
	idle     chan struct{} // closed when Read leaves reading; nil unless somebody waits
	err      error
	deadline time.Time
	since    time.Time // when there was last a connection
	ever     bool      // a handshake has been completed
	closing  bool      // Close was called
}

// carrier is one connection of a stream.
type carrier struct {
	nc   net.Conn
	r    *bufio.Reader
	left int // bytes of the data record under way; the reader's
	// renewed is when the read deadline was set; the reader's.
	renewed time.Time
	dead    chan struct{} // closed when the stream has given it up
}

func (l *Links) newStream(id StreamID, lane int, peer wire.NodeSession) *Stream {
	s := &Stream{
		links: l, id: id, lane: lane, peer: peer, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), over: make(chan struct{}),
		changed: make(chan struct{}), since: l.now(),
	}
	s.ackTimer = time.AfterFunc(time.Hour, s.poke)
	s.ackTimer.Stop()
	return s
}

func (s *Stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Write queues p, which it copies. It never blocks.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	if s.err != nil || s.closing {
		err := cmp.Or(s.err, net.ErrClosed)
		s.mu.Unlock()
		return 0, err
	}
	if s.out.len()+len(p) > s.links.cfg.Ring {
		s.mu.Unlock()
		s.links.overflows.Add(1)
		s.fail(ErrOverflow)
		return 0, ErrOverflow
	}
	s.out.write(p)
	s.mu.Unlock()
	s.poke()
	return len(p), nil
}

// Pending returns how many bytes should be fewer before more is written: those that no connection has had yet, or those
// unacknowledged that are more than half of the ring. A writer that keeps it low never meets ErrOverflow.
func (s *Stream) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(int(s.out.end-max(s.sent, s.out.acked)), s.out.len()-s.links.cfg.Ring/2)
}

// Read reads from whatever connection the stream has, and waits for one where it has none.
func (s *Stream) Read(p []byte) (int, error) {
	for {
		c, err := s.enter()
		if err != nil {
			return 0, err
		}
		n, err := s.readFrom(c, p)
		if n > 0 {
			s.took(n) // before leave: who waits for it tells the other end how much was received
		}
		s.leave(c)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
		case errors.Is(err, errEnd):
			s.fail(io.EOF)
			return 0, io.EOF
		case errors.Is(err, os.ErrDeadlineExceeded) && s.expired():
			return 0, os.ErrDeadlineExceeded
		default:
			s.drop(c, err)
		}
	}
}

// enter waits for a connection and notes that Read is in it.
func (s *Stream) enter() (*carrier, error) {
	for {
		s.mu.Lock()
		c, changed, err, deadline := s.conn, s.changed, s.err, s.deadline
		if err == nil && c != nil {
			s.reading = c
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case c != nil:
			return c, nil
		}
		var expired <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return nil, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-changed:
		case <-s.over:
		case <-expired:
		}
	}
}

func (s *Stream) leave(c *carrier) {
	s.mu.Lock()
	if s.reading == c {
		s.reading = nil
	}
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	if idle != nil {
		close(idle)
	}
}

// readFrom reads records until one has bytes of the stream.
func (s *Stream) readFrom(c *carrier, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.left == 0 {
		s.renew(c)
		head, err := c.r.Peek(recordHead)
		if err != nil {
			return 0, err
		}
		kind, n, err := recordLength(head)
		if err != nil {
			s.links.refused.Add(1)
			return 0, err
		}
		_, _ = c.r.Discard(recordHead)
		switch kind {
		case kindData:
			c.left = n
		case kindAck:
			b, err := c.r.Peek(8)
			if err != nil {
				return 0, err
			}
			if err := s.acked(binary.BigEndian.Uint64(b)); err != nil {
				s.links.refused.Add(1)
				return 0, err
			}
			_, _ = c.r.Discard(8)
		case kindEnd:
			return 0, errEnd
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// renew sets the time by which the connection must have shown life, once a second at most.
func (s *Stream) renew(c *carrier) {
	if c.r.Buffered() > 0 {
		return
	}
	now := time.Now()
	s.mu.Lock()
	deadline := s.deadline
	s.mu.Unlock()
	if now.Sub(c.renewed) < time.Second && deadline.IsZero() {
		return
	}
	c.renewed = now
	until := now.Add(s.links.cfg.Silence)
	if !deadline.IsZero() && deadline.Before(until) {
		until = deadline
	}
	_ = c.nc.SetReadDeadline(until)
}

// took notes that n bytes were handed out, and when to tell the other end.
func (s *Stream) took(n int) {
	received := s.received.Add(uint64(n))
	owed := received - s.told.Load()
	switch {
	case owed >= uint64(s.links.cfg.AckBytes):
		s.poke()
	case owed == uint64(n): // the first since it was told
		s.ackTimer.Reset(s.links.cfg.AckDelay)
	}
}

// acked takes an acknowledgement.
func (s *Stream) acked(to uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to < s.out.acked || to > s.sent {
		return fmt.Errorf("acknowledgement of byte %d between %d and %d: %w", to, s.out.acked, s.sent, errRecord)
	}
	s.out.ack(to)
	return nil
}

func (s *Stream) expired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.deadline.IsZero() && !time.Now().Before(s.deadline)
}

// attach makes nc the connection of the stream: what the other end has not received follows on it.
func (s *Stream) attach(nc net.Conn, r *bufio.Reader, theirs uint64) error {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return s.err
	}
	if theirs < s.out.acked || theirs > s.out.end {
		s.mu.Unlock()
		return fmt.Errorf("the other end is at byte %d, which is not between %d and %d: %w", theirs, s.out.acked, s.out.end, ErrLost)
	}
	s.out.ack(theirs)
	s.sent = theirs
	s.conn = &carrier{nc: nc, r: r, dead: make(chan struct{})}
	s.ever = true
	s.told.Store(s.received.Load()) // by hello or answer
	changed := s.changed
	s.changed = make(chan struct{})
	s.mu.Unlock()
	close(changed)
	s.poke()
	return nil
}

// drop gives a connection up; the stream waits for the next one.
func (s *Stream) drop(c *carrier, why error) {
	s.mu.Lock()
	current := s.conn == c
	if current {
		s.conn, s.since = nil, s.links.now()
		close(c.dead)
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	c.nc.Close()
	if current {
		s.links.breaks.Add(1)
		s.links.log.Debug("a connection of a link broke", "peer", uint64(s.peer), "lane", s.lane, "err", why)
	}
}

// clear gives up the connection there is, and returns when nobody reads from it any more: the number of bytes received is
// then the last word.
func (s *Stream) clear(ctx context.Context) error {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		s.drop(c, errors.New("a newer connection takes its place"))
	}
	for {
		s.mu.Lock()
		if s.reading == nil {
			s.mu.Unlock()
			return nil
		}
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail ends the stream. Only the first reason counts.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	c := s.conn
	s.mu.Unlock()
	close(s.over)
	s.ackTimer.Stop()
	if c != nil {
		s.drop(c, err)
	}
	s.links.forget(s)
}

// Close ends the stream and does not wait: what was written and not yet sent is sent, if there is a connection, and the
// other end reads io.EOF behind it.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.poke()
	return nil
}

// Connected says whether the stream has a connection, and since when it has none.
func (s *Stream) Connected() (connected bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil, s.since
}

// Over is closed when the stream has ended; Err then says why.
func (s *Stream) Over() <-chan struct{} { return s.over }

// Err returns why the stream has ended, or nil.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// LocalAddr names this end.
func (s *Stream) LocalAddr() net.Addr { return address(s.links.self) }

// RemoteAddr names the other end.
func (s *Stream) RemoteAddr() net.Addr { return address(s.peer) }

// SetDeadline sets the read deadline; writing never waits.
func (s *Stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline sets until when Read waits.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.deadline = t
	c := s.conn
	if c == nil { // whoever waits for a connection looks again
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	if c != nil {
		until := time.Now().Add(s.links.cfg.Silence)
		if !t.IsZero() && t.Before(until) {
			until = t
		}
		_ = c.nc.SetReadDeadline(until)
	}
	return nil
}

// SetWriteDeadline does nothing: writing never waits.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

// address names a node session.
type address wire.NodeSession

// Network returns "link".
func (address) Network() string { return "link" }

// String returns the session's number.
func (a address) String() string { return fmt.Sprintf("node session %d", uint64(a)) }
