package clustertest

import (
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	window  = 256 << 10 // bytes of a direction that may wait for their reader
	segment = 64 << 10  // bytes that arrive together
)

// stream is a connection between two hosts: two ends, and what is on its way between them.
type stream struct {
	net      *Network
	from, to *Host
	ends     [2]*conn // of from, of to
}

// piece is some bytes of a stream on their way, or its end.
type piece struct {
	data []byte
	fin  bool
	at   time.Time
	held bool // a cut is in the way, so at means nothing
}

// conn is one end of a stream. All of it is guarded by the network's lock.
type conn struct {
	stream        *stream
	host, there   *Host
	peer          *conn
	local, remote *net.TCPAddr

	in      []piece // on its way to this end, in order
	size    int     // bytes of in
	last    time.Time
	held    time.Time // since when pieces of in are held; zero: none
	closed  bool
	fin     bool // the end was sent
	err     error
	changed signal
	read    time.Time
	write   time.Time
}

func newStream(n *Network, from, to *Host, local, remote *net.TCPAddr) *stream {
	s := &stream{net: n, from: from, to: to}
	a := &conn{stream: s, host: from, there: to, local: local, remote: remote}
	b := &conn{stream: s, host: to, there: from, local: remote, remote: local, peer: a}
	a.peer = b
	s.ends = [2]*conn{a, b}
	n.conns[s] = struct{}{}
	return s
}

// hold keeps back what is on its way in a direction that has just been cut.
func (s *stream) hold(from, to string) {
	for _, c := range s.ends {
		if c.there.name != from || c.host.name != to {
			continue
		}
		now := time.Now()
		for i := range c.in {
			if c.in[i].at.After(now) {
				c.in[i].held = true
				c.stall(now)
			}
		}
	}
}

// stall notes that bytes do not get here; the end that wrote them waits no longer than the network's patience.
func (c *conn) stall(now time.Time) {
	if c.held.IsZero() {
		c.held = now
		c.peer.changed.fire()
	}
}

// unsend drops what is held: who wrote it repeats it no more.
func (c *conn) unsend() {
	c.held = time.Time{}
	c.in = slices.DeleteFunc(c.in, func(p piece) bool { return p.held })
	c.size = 0
	for _, p := range c.in {
		c.size += len(p.data)
	}
}

// release lets held pieces go where the way is free again. Who has forgotten the stream answers them with a reset.
func (s *stream) release() {
	for _, c := range s.ends {
		if c.held.IsZero() || !s.net.reaches(c.there, c.host) {
			continue
		}
		c.held = time.Time{}
		if c.gone() {
			if s.net.reaches(c.host, c.there) {
				c.peer.fail(errReset)
			}
			continue
		}
		at := s.net.arrival(s.net.path(c.there.name, c.host.name))
		for i := range c.in {
			if c.in[i].held {
				c.in[i].held, c.in[i].at = false, at
			}
		}
		c.last = at
		c.changed.fire()
	}
}

// reset ends both ends with an error.
func (s *stream) reset(err error) {
	for _, c := range s.ends {
		c.fail(err)
	}
}

// lose takes the end of a host that died; a kernel tells the other end, as far as it reaches it.
func (s *stream) lose(h *Host, kernel bool) {
	for _, c := range s.ends {
		if c.host != h || c.closed {
			continue
		}
		c.closed, c.in, c.size = true, nil, 0
		c.fail(errDown)
		if kernel && s.net.reaches(c.host, c.there) {
			c.peer.fail(errReset)
		}
	}
	s.forget()
}

// forget drops the stream when no end is open.
func (s *stream) forget() {
	if s.ends[0].closed && s.ends[1].closed {
		delete(s.net.conns, s)
	}
}

// gone says whether nobody reads at this end any more.
func (c *conn) gone() bool { return c.closed || c.err != nil }

func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.changed.fire()
}

// send puts a piece on its way to this end. The lock is held.
func (c *conn) send(p piece) {
	n := c.stream.net
	way := n.path(c.there.name, c.host.name)
	p.at = n.arrival(way)
	if n.lost(way) {
		p.at = p.at.Add(retransmit + 2*way.Delay)
	}
	if p.at.Before(c.last) {
		p.at = c.last
	}
	c.last = p.at
	if p.held = !n.reaches(c.there, c.host); p.held {
		c.stall(time.Now())
	}
	way.traffic.Streamed += uint64(len(p.data))
	c.in = append(c.in, p)
	c.size += len(p.data)
	c.changed.fire()
}

// spent says whether what this end wrote has failed to arrive for longer than the network waits, and until when it waits.
func (c *conn) spent(now time.Time) (time.Time, bool) {
	if c.peer.held.IsZero() || c.stream.net.Patience <= 0 {
		return time.Time{}, false
	}
	until := c.peer.held.Add(c.stream.net.Patience)
	return until, !now.Before(until)
}

// step is one attempt at reading or writing under the lock: what is wrong with the end, or until when to wait at most.
func (c *conn) step(deadline time.Time) (until time.Time, err error) {
	now := time.Now()
	until, spent := c.spent(now)
	switch {
	case c.closed && (c.err == nil || c.err == errReset):
		return until, net.ErrClosed
	case c.err != nil:
		return until, c.err
	case !deadline.IsZero() && !now.Before(deadline):
		return until, os.ErrDeadlineExceeded
	case spent:
		c.err = errTimeout
		c.peer.unsend()
		return until, c.err
	}
	return earliest(until, deadline), nil
}

// Read takes what has arrived.
func (c *conn) Read(b []byte) (int, error) {
	n := c.stream.net
	for {
		n.mu.Lock()
		if !c.closed && len(c.in) > 0 && c.in[0].here() && (c.read.IsZero() || time.Now().Before(c.read)) {
			got, err := c.take(b)
			n.mu.Unlock()
			return got, err
		}
		until, err := c.step(c.read)
		if err == nil && len(b) == 0 {
			n.mu.Unlock()
			return 0, nil
		}
		if len(c.in) > 0 && !c.in[0].held {
			until = earliest(until, c.in[0].at)
		}
		changed := c.changed.wait()
		n.mu.Unlock()
		if err != nil {
			return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
		}
		await(changed, until)
	}
}

func (p piece) here() bool { return !p.held && !p.at.After(time.Now()) }

// take reads from the pieces that are here. The lock is held, and the first one is.
func (c *conn) take(b []byte) (int, error) {
	got := 0
	for got < len(b) && len(c.in) > 0 && c.in[0].here() {
		p := &c.in[0]
		if p.fin {
			break
		}
		k := copy(b[got:], p.data)
		got, c.size, p.data = got+k, c.size-k, p.data[k:]
		if len(p.data) == 0 {
			c.in = c.in[1:]
		}
	}
	if got == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	c.peer.changed.fire()
	return got, nil
}

// Write sends b, and waits while more than the window is unread.
func (c *conn) Write(b []byte) (int, error) {
	n := c.stream.net
	written := 0
	for {
		n.mu.Lock()
		until, err := c.step(c.write)
		if err == nil && c.fin {
			err = syscall.EPIPE
		}
		for err == nil && written < len(b) && c.peer.size < window {
			k := min(len(b)-written, segment, window-c.peer.size)
			c.push(b[written : written+k])
			written += k
		}
		changed := c.changed.wait()
		n.mu.Unlock()
		if err != nil {
			return written, &net.OpError{Op: "write", Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
		}
		if written == len(b) {
			return written, nil
		}
		await(changed, until)
	}
}

// push sends some bytes. An end that is gone answers with a reset, if it can be reached.
func (c *conn) push(b []byte) {
	n := c.stream.net
	if !c.peer.gone() {
		c.peer.send(piece{data: append([]byte(nil), b...)})
		return
	}
	if n.reaches(c.host, c.there) {
		if n.reaches(c.there, c.host) {
			c.fail(errReset)
		}
		return
	}
	c.peer.stall(time.Now())
}

// CloseWrite sends the end of the stream; reading goes on.
func (c *conn) CloseWrite() error {
	c.stream.net.mu.Lock()
	defer c.stream.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.finish()
	return nil
}

func (c *conn) finish() {
	if c.fin || c.err != nil {
		return
	}
	c.fin = true
	if !c.peer.gone() {
		c.peer.send(piece{fin: true})
	}
}

// Close gives up this end. What was written still arrives.
func (c *conn) Close() error {
	c.stream.net.mu.Lock()
	defer c.stream.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.finish()
	c.closed, c.in, c.size = true, nil, 0
	c.changed.fire()
	c.peer.changed.fire()
	c.stream.forget()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error      { return c.deadlines(t, true, true) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.deadlines(t, true, false) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.deadlines(t, false, true) }

func (c *conn) deadlines(t time.Time, read, write bool) error {
	c.stream.net.mu.Lock()
	defer c.stream.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if read {
		c.read = t
	}
	if write {
		c.write = t
	}
	c.changed.fire()
	return nil
}
