package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// The floor is what a coordinator is compared with: a WebSocket server that does the least a Go server can do, with
// no proxy, no token and no room between. It parses all of one read and writes once, as Trunkline does.
const (
	floorBuffer  = 4 << 10
	floorMessage = 16 << 20
)

// floor serves WebSocket connections: an echo, or as a hub everything to everyone.
type floor struct {
	hub bool

	// mu also makes the hub's writes to one connection follow each other.
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newFloor(hub bool) *floor {
	return &floor{hub: hub, conns: make(map[net.Conn]struct{})}
}

// serve accepts until ctx ends, then closes every connection and waits for its goroutine.
func (f *floor) serve(ctx context.Context, ln net.Listener) error {
	var all sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		for c := range f.conns {
			c.Close()
		}
	})
	defer stop()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil {
				return fmt.Errorf("floor: accept: %w", err)
			}
			all.Wait()
			return nil
		}
		all.Go(func() { f.connection(ctx, nc) })
	}
}

func (f *floor) connection(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(handshakeLimit))
	if _, err := ws.Upgrade(nc); err != nil {
		return
	}
	nc.SetDeadline(time.Time{})
	f.mu.Lock()
	f.conns[nc] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.conns, nc)
		f.mu.Unlock()
	}()
	if ctx.Err() == nil {
		f.loop(nc)
	}
}

// loop answers until the connection ends. It has one read buffer, which grows to the size of the traffic.
func (f *floor) loop(nc net.Conn) {
	buf := make([]byte, floorBuffer)
	var out []byte
	unread := 0
	for {
		n, err := nc.Read(buf[unread:])
		if err != nil {
			return
		}
		unread += n
		used := 0
		if out, used, err = floorAnswers(out[:0], buf[:unread]); err != nil {
			return
		}
		if len(out) > 0 && f.deliver(nc, out) != nil {
			return
		}
		full := unread == len(buf)
		unread = copy(buf, buf[used:unread])
		if full && (used == 0 || len(buf) < maxBuffer) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// floorAnswers appends the answer to every whole frame in b and says how much of b it used.
func floorAnswers(out, b []byte) ([]byte, int, error) {
	used := 0
	for {
		f, n, err := splitFrame(b[used:], floorMessage)
		if err != nil || n == 0 {
			return out, used, err
		}
		used += n
		if f.masked {
			ws.Cipher(f.payload, f.mask, 0)
		}
		switch f.op {
		case ws.OpText, ws.OpBinary:
			out = appendServerFrame(out, ws.OpBinary, f.payload)
		case ws.OpPing:
			out = appendServerFrame(out, ws.OpPong, f.payload)
		case ws.OpClose:
			return out, used, errors.New("closed")
		}
	}
}

func (f *floor) deliver(nc net.Conn, out []byte) error {
	if !f.hub {
		_, err := nc.Write(out)
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for to := range f.conns {
		to.Write(out) // one that has gone is its own goroutine's business
	}
	return nil
}

// listenFloor binds to a loopback port of the kernel's choice, with TLS if a configuration is given.
func listenFloor(cfg *tls.Config) (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || cfg == nil {
		return ln, err
	}
	return tls.NewListener(ln, cfg), nil
}
