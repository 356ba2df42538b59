package sdk

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	subprotocol = "trunkline.v1"
	// readChunk is what one read of a connection takes at most.
	readChunk = 16 << 10
	// writeBatch is when a batch is written although more waits; a message may
	// make it longer.
	writeBatch = 64 << 10
	// wsMessage is how many bytes of whole frames one WebSocket message holds.
	wsMessage = 4 * wire.MaxFrame
	// wsMost is the largest WebSocket message that is taken.
	wsMost = 1 << 20
)

// transport carries the bytes of native frames.
type transport interface {
	// read appends what comes next to b, waiting for it at most clientSilence.
	read(b []byte) ([]byte, error)
	// write writes whole frames. One goroutine at a time calls it.
	write(b []byte) error
	close()
}

// dialClient connects to one of ClientConfig.Addrs.
func dialClient(ctx context.Context, addr, app string, secure *tls.Config) (transport, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if secure.ServerName == "" {
		secure = secure.Clone()
		secure.ServerName = u.Hostname()
	}
	switch u.Scheme {
	case "tcp":
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", addr, err)
		}
		return &plainTransport{nc}, nil
	case "tls":
		nc, err := (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", addr, err)
		}
		return &plainTransport{nc}, nil
	}
	return dialWebSocket(ctx, u, app, secure)
}

// plainTransport is TCP, or TLS over it.
type plainTransport struct{ nc net.Conn }

func (t *plainTransport) read(b []byte) ([]byte, error) { return readSome(t.nc, t.nc, b) }

func readSome(r io.Reader, nc net.Conn, b []byte) ([]byte, error) {
	if err := nc.SetReadDeadline(time.Now().Add(clientSilence)); err != nil {
		return b, err
	}
	if cap(b)-len(b) < readChunk {
		b = append(make([]byte, 0, 2*cap(b)+2*readChunk), b...)
	}
	n, err := r.Read(b[len(b):cap(b)])
	if n > 0 {
		err = nil
	}
	return b[:len(b)+n], err
}

func (t *plainTransport) write(b []byte) error { return writeAll(t.nc, b) }

func writeAll(nc net.Conn, b []byte) error {
	if err := nc.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	_, err := nc.Write(b)
	return err
}

func (t *plainTransport) close() { t.nc.Close() }

// wsTransport is a WebSocket with the native subprotocol.
type wsTransport struct {
	nc   net.Conn
	r    io.Reader
	left int64 // of the payload of the frame that is being read

	mu  sync.Mutex // guards writes: messages and pongs
	out []byte
}

func dialWebSocket(ctx context.Context, u *url.URL, app string, secure *tls.Config) (transport, error) {
	d := ws.Dialer{Protocols: []string{subprotocol}, TLSConfig: secure}
	target := *u
	target.Path, target.RawQuery = "/connect/"+app, ""
	nc, early, hs, err := d.Dial(ctx, target.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u, err)
	}
	if hs.Protocol != subprotocol {
		nc.Close()
		return nil, fmt.Errorf("connect to %s: the server does not speak %s", u, subprotocol)
	}
	t := &wsTransport{nc: nc, r: bufio.NewReaderSize(nc, readChunk)}
	if early != nil {
		b, _ := early.Peek(early.Buffered())
		t.r = bufio.NewReaderSize(io.MultiReader(&sliceReader{append([]byte(nil), b...)}, nc), readChunk)
		ws.PutReader(early)
	}
	return t, nil
}

// sliceReader reads bytes once.
type sliceReader struct{ b []byte }

func (s *sliceReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// read appends payload of binary messages, whose bounds mean nothing here, and
// answers control frames.
func (t *wsTransport) read(b []byte) ([]byte, error) {
	for t.left == 0 {
		if err := t.nc.SetReadDeadline(time.Now().Add(clientSilence)); err != nil {
			return b, err
		}
		h, err := ws.ReadHeader(t.r)
		if err != nil {
			return b, err
		}
		switch {
		case h.Masked || h.Rsv != 0:
			return b, errors.New("malformed WebSocket frame")
		case h.OpCode.IsControl():
			if err := t.control(h); err != nil {
				return b, err
			}
		case h.OpCode == ws.OpText:
			return b, errors.New("text from a native WebSocket")
		case h.Length > wsMost:
			return b, fmt.Errorf("WebSocket frame of %d bytes", h.Length)
		default:
			t.left = h.Length
		}
	}
	before := len(b)
	b, err := readSome(io.LimitReader(t.r, t.left), t.nc, b)
	t.left -= int64(len(b) - before)
	return b, err
}

// control handles a ping or the end.
func (t *wsTransport) control(h ws.Header) error {
	if h.Length > ws.MaxControlFramePayloadSize {
		return errors.New("malformed WebSocket control frame")
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(t.r, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		return t.frame(ws.OpPong, payload)
	case ws.OpClose:
		_ = t.frame(ws.OpClose, payload[:min(len(payload), 2)])
		if len(payload) < 2 {
			return io.EOF
		}
		return &CloseError{Code: wire.Code(binary.BigEndian.Uint16(payload)), Reason: string(payload[2:])}
	}
	return nil
}

// write cuts b into messages of whole frames.
func (t *wsTransport) write(b []byte) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) {
			size := 4 + int(binary.BigEndian.Uint32(b[n:]))
			if string(b[n:min(n+len(wire.Magic), len(b))]) == wire.Magic {
				size = wire.HelloSize
			}
			if n > 0 && n+size > wsMessage {
				break
			}
			n += size
		}
		if err := t.frame(ws.OpBinary, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// frame writes one masked frame.
func (t *wsTransport) frame(op ws.OpCode, payload []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var mask [4]byte
	rand.Read(mask[:])
	b := append(t.out[:0], 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	head := len(b)
	b = append(b, payload...)
	ws.Cipher(b[head:], mask, 0)
	t.out = b[:0]
	return writeAll(t.nc, b)
}

func (t *wsTransport) close() { t.nc.Close() }
