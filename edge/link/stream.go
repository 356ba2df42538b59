package link

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// Why a lane has ended, as Receiver.Ended and Send say it. io.EOF: the other node has ended it, since it is about to stop.
var (
	// ErrOverflow: more was written than the ring holds while the other end acknowledged nothing.
	ErrOverflow = errors.New("link: the other node has not taken what was sent")
	// ErrLost: the other end does not know the stream any more; what it had received of it last is unknown.
	ErrLost = errors.New("link: the other node has lost the stream")
	// ErrElsewhere: another node session answered than the one the stream goes to.
	ErrElsewhere = errors.New("link: another session of the node answered")
	// ErrOver: the other node's session is over.
	ErrOver = errors.New("link: the session of the other node is over")
)

// errEnd is read where the other end has closed the stream.
var errEnd = errors.New("the other end has closed the stream")

// stream is one end of a lane's bytes. put never blocks. Read is for one goroutine, which has to read for as long as the
// stream lives, since acknowledgements come that way too; where it pauses, the other end is held back.
type stream struct {
	links *Links
	id    streamID
	place int // the number of the lane
	lane  *lane
	peer  wire.NodeSession
	mine  bool          // this end opened it
	wake  chan struct{} // the writer's; holds one
	turn  chan struct{} // holds one: whoever takes a connection for the stream
	over  chan struct{} // closed when the stream has ended

	received atomic.Uint64 // bytes handed out by Read
	told     atomic.Uint64 // bytes of that the other end has been told of
	pending  atomic.Int64  // what pendingNow was at the last change
	up       atomic.Bool   // there is a connection
	counts   *counts
	ackTimer *time.Timer

	mu      sync.Mutex
	out     ring
	sent    uint64 // position up to which the connection has had it
	conn    *carrier
	changed chan struct{} // closed when conn changes
	reading *carrier      // the one that Read is in, nil between
	idle    chan struct{} // closed when Read leaves reading; nil unless somebody waits
	err     error
	waiting []*Route  // for room, the longest first
	since   time.Time // when there was last a connection
	ever    bool      // a handshake has been completed
}

// carrier is one connection of a stream.
type carrier struct {
	nc   net.Conn
	r    *bufio.Reader
	left int // bytes of the data record under way; the reader's
	// renewed is when the read deadline was set; the reader's.
	renewed time.Time
	heard   atomic.Bool   // a record has come on it
	dead    chan struct{} // closed when the stream has given it up
}

func (l *Links) newStream(id streamID, place int, peer wire.NodeSession) *stream {
	s := &stream{
		links: l, id: id, place: place, peer: peer, counts: l.countsOf(peer), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), over: make(chan struct{}),
		changed: make(chan struct{}), since: l.now(),
	}
	s.lane = newLane(s)
	s.ackTimer = time.AfterFunc(time.Hour, s.poke)
	s.ackTimer.Stop()
	return s
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// put queues a head and what belongs to it, and copies both.
func (s *stream) put(head, p []byte) error {
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		return err
	}
	if s.out.len()+len(head)+len(p) > s.links.cfg.Ring {
		s.mu.Unlock()
		s.links.overflows.Add(1)
		s.fail(ErrOverflow)
		return ErrOverflow
	}
	s.out.write(head)
	s.out.write(p)
	s.pending.Store(int64(s.pendingNow()))
	s.mu.Unlock()
	s.poke()
	return nil
}

// pendingNow is how many bytes should be fewer before more is put: those that no connection has had yet, or those
// unacknowledged that are more than half of the ring. Who keeps it low never meets ErrOverflow. The lock is held.
func (s *stream) pendingNow() int {
	return max(int(s.out.end-max(s.sent, s.out.acked)), s.out.len()-s.links.cfg.Ring/2)
}

// Read reads from whatever connection the stream has, and waits for one where it has none.
func (s *stream) Read(p []byte) (int, error) {
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
		default:
			s.drop(c, err)
		}
	}
}

// enter waits for a connection and notes that Read is in it.
func (s *stream) enter() (*carrier, error) {
	for {
		s.mu.Lock()
		c, changed, err := s.conn, s.changed, s.err
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
		select {
		case <-changed:
		case <-s.over:
		}
	}
}

func (s *stream) leave(c *carrier) {
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
func (s *stream) readFrom(c *carrier, p []byte) (int, error) {
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
		c.heard.Store(true)
		s.counts.bytesIn.Add(recordHead)
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
			s.counts.bytesIn.Add(8)
		case kindEnd:
			return 0, errEnd
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	s.counts.bytesIn.Add(uint64(n))
	return n, err
}

// renew sets the time by which the connection must have shown life, once a second at most.
func (s *stream) renew(c *carrier) {
	if c.r.Buffered() > 0 {
		return
	}
	if now := time.Now(); now.Sub(c.renewed) >= min(time.Second, s.links.cfg.Beat) {
		c.renewed = now
		_ = c.nc.SetReadDeadline(now.Add(s.links.cfg.Silence))
	}
}

// took notes that n bytes were handed out, and when to tell the other end.
func (s *stream) took(n int) {
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
func (s *stream) acked(to uint64) error {
	s.mu.Lock()
	if to < s.out.acked || to > s.sent {
		s.mu.Unlock()
		return fmt.Errorf("acknowledgement of byte %d between %d and %d: %w", to, s.out.acked, s.sent, errRecord)
	}
	s.out.ack(to)
	s.pending.Store(int64(s.pendingNow()))
	s.mu.Unlock()
	s.room()
	return nil
}

// attach makes nc the connection of the stream: what the other end has not received follows on it.
func (s *stream) attach(nc net.Conn, r *bufio.Reader, theirs uint64) error {
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
	s.pending.Store(int64(s.pendingNow()))
	s.conn = &carrier{nc: nc, r: r, dead: make(chan struct{})}
	s.ever = true
	s.up.Store(true)
	s.told.Store(s.received.Load()) // by hello or answer
	changed := s.changed
	s.changed = make(chan struct{})
	s.mu.Unlock()
	close(changed)
	s.poke()
	s.lane.resumed()
	return nil
}

// drop gives a connection up; the stream waits for the next one.
func (s *stream) drop(c *carrier, why error) {
	s.mu.Lock()
	current := s.conn == c
	if current {
		s.conn, s.since = nil, s.links.now()
		s.up.Store(false)
		close(c.dead)
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	c.nc.Close()
	if current {
		s.counts.breaks.Add(1)
		s.links.log.Debug("a connection of a link broke", "peer", uint64(s.peer), "lane", s.place, "err", why)
	}
}

// clear gives up the connection there is, and returns when nobody reads from it any more: the number of bytes received is
// then the last word.
func (s *stream) clear(ctx context.Context) error {
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

// fail ends the stream. Only the first reason counts. It leaves its place before anybody can see that it has ended.
func (s *stream) fail(err error) {
	s.links.forget(s)
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
}

// connected says whether the stream has a connection, and since when it has none.
func (s *stream) connected() (connected bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil, s.since
}

// ended says why the stream has ended, or nil.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
