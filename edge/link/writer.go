package link

import (
	"context"
	"net"
	"time"
)

const (
	maxWrite    = 256 << 10 // bytes of the stream in one write
	leastBuffer = 4 << 10   // what an idle stream keeps to write with
)

// write is the writer's goroutine: it sends what is queued, acknowledgements and signs of life on whatever connection the
// stream has, until the stream ends.
func (s *stream) write(ctx context.Context) {
	beat := time.NewTicker(s.links.cfg.Beat)
	defer beat.Stop()
	buf := make([]byte, 0, leastBuffer)
	quiet := true // nothing was written since the last beat
	for {
		alive := false
		select {
		case <-s.wake:
		case <-beat.C:
			if alive, quiet = quiet, true; alive { // an idle stream holds little
				s.rest()
				if cap(buf) > leastBuffer {
					buf = make([]byte, 0, leastBuffer)
				}
			}
			s.orphaned()
		case <-s.over:
			return
		case <-ctx.Done():
			s.farewell()
			return
		}
		for {
			c, b := s.batch(buf[:0], alive)
			alive = false
			if len(b) == 0 {
				break
			}
			quiet = false
			buf = b
			s.send(c, b)
			s.room()
		}
	}
}

// send writes records to a connection, which it gives up where that fails or takes too long.
func (s *stream) send(c *carrier, b []byte) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(s.links.cfg.Silence))
	if _, err := c.nc.Write(b); err != nil {
		s.drop(c, err)
		return
	}
	s.counts.bytesOut.Add(uint64(len(b)))
}

// batch takes what is to be written: an acknowledgement that is owed and as much of the ring as one write takes.
func (s *stream) batch(b []byte, alive bool) (*carrier, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	if c == nil || s.err != nil {
		return nil, nil
	}
	if received := s.received.Load(); received != s.told.Load() {
		s.told.Store(received)
		b = appendAck(b, received)
	}
	if n := int(min(s.out.end-s.sent, maxWrite)); n > 0 {
		b = appendHead(b, kindData, n)
		at := len(b)
		if cap(b)-at < n {
			b = append(make([]byte, 0, min(max(2*cap(b), at+n), maxWrite+leastBuffer)), b...)
		}
		b = b[:at+n]
		s.out.read(b[at:], s.sent)
		s.sent += uint64(n)
		s.pending.Store(int64(s.pendingNow()))
	}
	if len(b) == 0 && alive {
		b = appendHead(b, kindPing, 0)
	}
	return c, b
}

func (s *stream) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.rest()
}

// farewell sends what is left and the end of the stream, if there is a connection.
func (s *stream) farewell() {
	for {
		c, b := s.batch(nil, false)
		if len(b) == 0 {
			break
		}
		s.send(c, b)
	}
	if c := s.carrierNow(); c != nil {
		s.send(c, appendHead(nil, kindEnd, 0))
	}
	s.fail(net.ErrClosed)
}

// orphaned ends a stream that the other end opened and has not connected for long: nobody will.
func (s *stream) orphaned() {
	connected, since := s.connected()
	if !s.mine && !connected && s.links.now().Sub(since) > s.links.cfg.Orphan {
		s.fail(ErrLost)
	}
}

// dial is the goroutine of a stream that this end opened: it keeps it connected. A connection on which nothing came is
// a failed attempt, so that a node which takes and closes them is not dialled without a pause.
func (s *stream) dial(ctx context.Context) {
	pause := s.links.cfg.Redial
	for {
		if c := s.carrierNow(); c != nil {
			select {
			case <-c.dead:
			case <-s.over:
				return
			case <-ctx.Done():
				return
			}
			if c.heard.Load() {
				pause = s.links.cfg.Redial
				continue
			}
		} else if err := s.connect(ctx); err == nil {
			continue
		} else if isEnd(err) {
			s.fail(err)
			return
		} else {
			s.links.dialFailed.Add(1)
		}
		timer := time.NewTimer(pause/2 + s.links.jitter(pause/2))
		pause = min(2*pause, s.links.cfg.RedialMost)
		select {
		case <-timer.C:
		case <-s.over:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil || s.ended() != nil {
			return
		}
	}
}

func (s *stream) carrierNow() *carrier {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// connect dials and shakes hands.
func (s *stream) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.links.cfg.Handshake)
	defer cancel()
	if err := s.clear(ctx); err != nil { // the last connection may still be read from
		return err
	}
	nc, err := s.links.deps.Dial(ctx, s.peer)
	if err != nil {
		return err
	}
	if err := s.greet(nc); err != nil {
		nc.Close()
		return err
	}
	return nil
}

// greet says which stream the connection is for, and attaches it when the other end agrees.
func (s *stream) greet(nc net.Conn) error {
	if err := nc.SetDeadline(time.Now().Add(s.links.cfg.Handshake)); err != nil {
		return err
	}
	s.mu.Lock()
	ever := s.ever
	s.mu.Unlock()
	h := hello{fresh: !ever, lane: uint8(s.place), id: s.id, from: s.links.self, to: s.peer, received: s.received.Load()}
	if _, err := nc.Write(h.bytes()); err != nil {
		return err
	}
	r, status, theirs, err := readAnswer(nc)
	switch {
	case err != nil:
		return err
	case status == statusUnknown:
		return ErrLost
	case status == statusElsewhere:
		return ErrElsewhere
	case status != statusFine:
		return errRecord
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return s.attach(nc, r, theirs)
}
