package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/gobwas/ws"
)

// Buffers of one generator connection. An idle one keeps what the handshake needed only.
const (
	idleBuffer = 128
	maxBuffer  = 64 << 10
)

// conn is one client WebSocket connection of the generator. It belongs to one reading goroutine; write may be called
// by another.
type conn struct {
	nc      net.Conn
	buf     []byte
	r, w    int
	max     int    // largest message
	partial []byte // of a message that came in several frames
}

// closedError is a close frame from the server.
type closedError struct {
	code   ws.StatusCode
	reason string
}

// Error names the code and the reason.
func (e closedError) Error() string {
	return fmt.Sprintf("closed by the server: %d %s", e.code, e.reason)
}

// endpoint is where and how connections of one kind are made.
type endpoint struct {
	address string      // host:port to dial
	host    string      // for the request head
	path    string      // of the upgrade
	tls     *tls.Config // nil: plain
	sources *sources
	// greeting is connection i's first message, which the server answers with one empty binary message; nil: neither.
	greeting func(i int) []byte
	max      int
}

// handshakeLimit bounds one connection's whole set-up.
const handshakeLimit = 20 * time.Second

// dialRaw makes the TCP (and TLS) connection.
func (e *endpoint) dialRaw(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{LocalAddr: e.sources.next(), KeepAlive: -1}
	nc, err := d.DialContext(ctx, "tcp", e.address)
	if err != nil {
		return nil, limitError(err)
	}
	// Reset on close: thousands of connections in TIME_WAIT would use up the ports of the next round.
	nc.(*net.TCPConn).SetLinger(0)
	if e.tls == nil {
		return nc, nil
	}
	tc := tls.Client(nc, e.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return tc, nil
}

// open makes connection i and brings it to where application messages flow.
func (e *endpoint) open(ctx context.Context, i int) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	nc, err := e.dialRaw(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	c := &conn{nc: nc, buf: make([]byte, idleBuffer), max: e.max}
	if err := c.upgrade(e, i); err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

func (c *conn) upgrade(e *endpoint, i int) error {
	d := ws.Dialer{ReadBufferSize: 1024, WriteBufferSize: 1024}
	br, _, err := d.Upgrade(c.nc, &url.URL{Scheme: "ws", Host: e.host, Path: e.path})
	if err != nil {
		return fmt.Errorf("websocket upgrade: %w", err)
	}
	if br != nil {
		early, err := br.Peek(br.Buffered())
		if err != nil {
			return fmt.Errorf("websocket upgrade: %w", err)
		}
		c.reserve(len(early))
		c.w = copy(c.buf, early)
		ws.PutReader(br)
	}
	if e.greeting == nil {
		return nil
	}
	if _, err := c.nc.Write(appendClientFrame(nil, ws.OpBinary, e.greeting(i))); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return c.awaitAck()
}

// awaitAck waits for the empty binary message that says the session is registered. What came with it stays buffered.
func (c *conn) awaitAck() error {
	for {
		f, n, err := splitFrame(c.buf[c.r:c.w], c.max)
		if err != nil {
			return fmt.Errorf("join: %w", err)
		}
		if n == 0 {
			if err := c.fill(); err != nil {
				return fmt.Errorf("join: %w", err)
			}
			continue
		}
		c.r += n
		switch {
		case f.op.IsControl():
			if err := c.control(f); err != nil {
				return fmt.Errorf("join: %w", err)
			}
		case len(f.payload) == 0:
			return nil
		default:
			return errors.New("join: the first message is not the empty acknowledgement")
		}
	}
}

// reserve makes the buffer at least n bytes; what is unread stays.
func (c *conn) reserve(n int) {
	if n = min(n, c.max+maxHeader); n > len(c.buf) {
		grown := make([]byte, n)
		c.w = copy(grown, c.buf[c.r:c.w])
		c.r, c.buf = 0, grown
	}
}

// fill reads once, making room first.
func (c *conn) fill() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	case c.w == len(c.buf):
		c.reserve(2 * len(c.buf))
		if c.w == len(c.buf) {
			return errFrameTooBig
		}
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the server ended the connection without a close frame")
	}
	return err
}

// read waits for at least one read's worth of bytes and hands every whole message in it to each. The payload is valid
// during the call only.
func (c *conn) read(each func(payload []byte) error) error {
	if err := c.fill(); err != nil {
		return err
	}
	return c.buffered(each)
}

// buffered hands every whole message that is already read to each.
func (c *conn) buffered(each func(payload []byte) error) error {
	for {
		f, n, err := splitFrame(c.buf[c.r:c.w], c.max)
		if err != nil || n == 0 {
			return err
		}
		c.r += n
		payload := f.payload
		switch {
		case f.op.IsControl():
			if err := c.control(f); err != nil {
				return err
			}
			continue
		case !f.fin || f.op == ws.OpContinuation:
			if len(c.partial)+len(payload) > c.max {
				return errFrameTooBig
			}
			c.partial = append(c.partial, payload...)
			if !f.fin {
				continue
			}
			payload, c.partial = c.partial, nil
		}
		if err := each(payload); err != nil {
			return err
		}
	}
}

func (c *conn) control(f frame) error {
	switch f.op {
	case ws.OpPing:
		_, err := c.nc.Write(appendClientFrame(nil, ws.OpPong, f.payload))
		return err
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(f.payload)
		return closedError{code, reason}
	default:
		return nil
	}
}

func (c *conn) close() { c.nc.Close() }
