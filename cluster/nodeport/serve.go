package nodeport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Pauses after a failed accept: the first, and the longest.
const (
	acceptPause = 5 * time.Millisecond
	acceptMost  = time.Second
)

// passing are failures of accept that pass: a connection that was gone already, and what the machine is short of.
var passing = []error{
	syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR,
}

func passes(err error) bool {
	for _, known := range passing {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// accept takes connections and gives each a goroutine of the group.
func (p *Port) accept(ctx context.Context, g *errgroup.Group) error {
	pause := acceptPause
	for number := uint64(1); ; number++ {
		raw, err := p.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = raw.Close()
			}
			return nil
		case err != nil && passes(err):
			p.log.Warn("node port: accept failed", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, acceptMost)
			continue
		case err != nil:
			return fmt.Errorf("node port: accept: %w", err)
		}
		pause = acceptPause
		p.accepted.Add(1)
		c := &Conn{raw: raw, port: p, in: true, number: number, origin: originOf(raw.RemoteAddr())}
		if !p.track(c) {
			_ = raw.Close()
			return nil
		}
		if out := p.hello.add(c); out != nil {
			out.kill(Crowded)
		}
		g.Go(func() error {
			p.serve(ctx, c)
			return nil
		})
	}
}

// serve leads one connection through its handshake to whoever serves its kind.
func (p *Port) serve(ctx context.Context, c *Conn) {
	kept := false
	defer func() {
		if !kept {
			p.forget(c)
			_ = c.raw.Close()
		}
	}()
	kind, err := p.welcome(ctx, c)
	if err != nil {
		if ctx.Err() == nil {
			why := failed(c, err)
			p.complain.add(why.reason, c.raw.RemoteAddr(), why.err)
		}
		return
	}
	if h := p.cfg.Serve[kind]; h != nil {
		p.served.Add(1)
		p.handle(ctx, c, h)
		return
	}
	switch p.enqueue(kind, c) {
	case queued:
		kept = true
	case queueFull:
		p.complain.add(NobodyAccepts, c.raw.RemoteAddr(), nil)
	case noQueue:
		p.complain.add(UnknownKind, c.raw.RemoteAddr(), fmt.Errorf("%s", kind))
	}
}

// welcome shakes hands, finds out whose connection it is, and reads what it is for.
func (p *Port) welcome(ctx context.Context, c *Conn) (Kind, error) {
	cuts := p.cuts.Load()
	if err := c.raw.SetDeadline(p.now().Add(p.cfg.Handshake)); err != nil {
		return 0, err
	}
	g := &guard{Conn: c.raw, first: true}
	secure := tls.Server(g, p.cfg.ServerTLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		return 0, err
	}
	var kind [1]byte
	if _, err := io.ReadFull(secure, kind[:]); err != nil {
		return 0, err
	}
	g.open = true
	state := secure.ConnectionState()
	var peer Peer
	if len(state.PeerCertificates) > 0 {
		var err error
		if peer, err = p.cfg.Peer(state); err == nil && peer.NodeID == "" {
			err = errors.New("a certificate without the name of a node")
		}
		if err != nil {
			return 0, &refusal{BadPeer, err}
		}
	}
	peer.Remote, peer.TLS = c.raw.RemoteAddr(), &state
	c.Conn, c.peer = secure, peer
	switch k := Kind(kind[0]); {
	case !peer.Anonymous():
		if err := p.know(c, cuts); err != nil {
			return 0, err
		}
	case k != Control:
		return 0, &refusal{NoCertificate, nil}
	default:
		if out := p.anonymous.add(c); out != nil {
			out.kill(Crowded)
		}
	}
	p.hello.remove(c)
	return Kind(kind[0]), c.raw.SetDeadline(time.Time{})
}

func (p *Port) handle(ctx context.Context, c *Conn, h Handler) {
	defer func() {
		if v := recover(); v != nil && p.complain.add(Panicked, c.raw.RemoteAddr(), nil) {
			p.log.Error("node port: a handler panicked", "peer", c.peer.NodeID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
		_ = c.Close()
		if r := c.reason.Load(); c.peer.Anonymous() && r != 0 {
			p.complain.add(Reason(r-1), c.raw.RemoteAddr(), nil)
		}
	}()
	if c.peer.Anonymous() {
		life := time.AfterFunc(p.cfg.AnonymousLife, func() { c.kill(Overstayed) })
		defer life.Stop()
	}
	h(ctx, c, c.peer)
}

// waiting is how many connections of a kind may wait for their listener.
const waiting = 64

type outcome uint8

const (
	queued outcome = iota
	queueFull
	noQueue
)

// listener hands out the connections of a kind.
type listener struct {
	port   *Port
	kind   Kind
	queue  chan *Conn
	closed chan struct{}
}

// Listener takes the connections of a kind that has no handler, from now on; a second one for the kind takes the place of
// the first. Closing it leaves the port open, and the connections that it has handed out.
func (p *Port) Listener(kind Kind) net.Listener {
	l := &listener{port: p, kind: kind, queue: make(chan *Conn, waiting), closed: make(chan struct{})}
	p.mu.Lock()
	old := p.listeners[kind]
	ended := p.closed
	p.listeners[kind] = l
	p.mu.Unlock()
	if old != nil {
		old.end()
	}
	if ended {
		_ = l.Close()
	}
	return l
}

func (p *Port) enqueue(kind Kind, c *Conn) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[kind]
	if l == nil || c.peer.Anonymous() {
		return noQueue
	}
	if len(l.queue) == cap(l.queue) {
		return queueFull
	}
	p.served.Add(1)
	l.queue <- c // there is room: only this function puts something in, and the lock is held
	return queued
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.port.mu.Lock()
	current := l.port.listeners[l.kind] == l
	if current {
		delete(l.port.listeners, l.kind)
	}
	l.port.mu.Unlock()
	if current {
		l.end()
	}
	return nil
}

// end is called once, when nothing is put into the queue any more.
func (l *listener) end() {
	close(l.closed)
	for {
		select {
		case c := <-l.queue:
			_ = c.Close()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return l.port.Addr() }
