package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// Server takes clients from listeners and seats them.
type Server struct {
	cfg     Config
	d       Deps
	httpTLS *tls.Config // nil: none
	tcpTLS  *tls.Config
	web     *http.Server
	handoff *handoff
	wheel   wheel
	limits  limits
	count   counters

	mu     sync.Mutex
	visits map[*visit]struct{} // connections that are not sessions and not the HTTP server's
	half   map[*visit]struct{} // those of them that have not said what they want
	open   int                 // all connections
	ending bool
	ended  chan struct{} // closed when ending and none is open

	running sync.WaitGroup // the goroutines of visits; Add only under mu and before ending
}

// New checks cfg and d; it starts nothing.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	switch {
	case d.Router == nil || d.Auth == nil || d.Policy == nil || d.Handler == nil || d.Log == nil:
		return nil, errors.New("client server needs a router, an authenticator, a policy, a handler and a log")
	case d.TLS == nil && !cfg.PlainHTTP:
		return nil, errors.New("client server has no TLS and must not do without")
	}
	if d.Clock == nil {
		d.Clock = systemClock{}
	}
	s := &Server{cfg: cfg, d: d, visits: make(map[*visit]struct{}), half: make(map[*visit]struct{}), ended: make(chan struct{})}
	s.limits.init(cfg)
	if d.TLS != nil {
		// Small records at the beginning of a connection would make many system calls of one flush.
		s.tcpTLS = d.TLS.Clone()
		s.tcpTLS.DynamicRecordSizingDisabled = true
		s.httpTLS = s.tcpTLS.Clone()
		s.httpTLS.NextProtos = []string{"http/1.1"}
	}
	s.handoff = newHandoff()
	s.web = s.newWeb()
	return s, nil
}

// Run owns pings, expiry and the HTTP server. When ctx ends it closes every connection and returns when all have ended.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.web.Serve(s.handoff) }()
	err := s.sweep(ctx, served)
	s.shut()
	_ = s.web.Close()
	<-s.ended
	s.running.Wait()
	if err == nil {
		<-served
	}
	return err
}

// sweep turns the wheel until ctx ends or the HTTP server fails.
func (s *Server) sweep(ctx context.Context, served <-chan error) error {
	tick := make(chan struct{}, 1)
	for {
		stop := s.d.Clock.AfterFunc(s.cfg.Ping/wheelSlots, func() { tick <- struct{}{} })
		select {
		case <-ctx.Done():
			stop()
			return nil
		case err := <-served:
			stop()
			return fmt.Errorf("serve HTTP: %w", err)
		case <-tick:
			now := s.d.Clock.Now()
			s.wheel.turn(func(c *session) { s.examine(c, now) })
		}
	}
}

// shut refuses further connections and ends those that are there.
func (s *Server) shut() {
	s.mu.Lock()
	s.ending = true
	if s.open == 0 {
		close(s.ended)
	}
	for v := range s.visits {
		_ = v.pc.Close()
	}
	s.mu.Unlock()
	for _, c := range s.wheel.all() {
		c.Close(wire.CodeGoingAway, "")
	}
}

// Drain tells every client to go elsewhere: native ones at once, so that they can prepare, and all by closing them,
// spread evenly over the given time. It returns when all sessions have ended or ctx has.
func (s *Server) Drain(ctx context.Context, spread time.Duration) error {
	all := s.wheel.all()
	for _, c := range all {
		if c.native != nil {
			c.control(&wire.Frame{Type: wire.GoAway, Code: wire.CodeGoingAway, Payload: []byte(wire.CodeGoingAway.Reason())})
			c.Flush()
		}
	}
	tick := make(chan struct{}, 1)
	pause := func(d time.Duration) bool {
		stop := s.d.Clock.AfterFunc(d, func() { tick <- struct{}{} })
		defer stop()
		select {
		case <-tick:
			return true
		case <-ctx.Done():
			return false
		}
	}
	const steps = 20
	for i := range steps {
		for _, c := range all[len(all)*i/steps : len(all)*(i+1)/steps] {
			c.Close(wire.CodeGoingAway, "")
		}
		if len(all) > 0 && spread > 0 && !pause(spread/steps) {
			return ctx.Err()
		}
	}
	for s.wheel.len() > 0 {
		if !pause(10 * time.Millisecond) {
			return ctx.Err()
		}
		for _, c := range s.wheel.all() {
			c.Close(wire.CodeGoingAway, "")
		}
	}
	return nil
}

// ServeHTTP accepts HTTP and WebSocket clients from ln until ctx ends, and closes ln. Their connections last until
// Run's context ends.
func (s *Server) ServeHTTP(ctx context.Context, ln net.Listener) error {
	return s.accept(ctx, ln, (*visit).http)
}

// ServeTCP accepts TCP clients, legacy and native, from ln until ctx ends, and closes ln.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener) error {
	return s.accept(ctx, ln, (*visit).tcp)
}

func (s *Server) accept(ctx context.Context, ln net.Listener, serve func(*visit, context.Context)) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer func() { _ = ln.Close() }()
	for wait := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept clients: %w", err)
		case err != nil:
			// Out of descriptors, most likely: those that are open go on, and so does this, slower.
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.d.Log.Warn("cannot accept a client", "err", err, "retry", wait)
			s.sleep(ctx, wait)
			continue
		}
		wait = 0
		if v := s.admit(nc); v != nil {
			go v.run(ctx, serve)
		}
	}
}

func (s *Server) sleep(ctx context.Context, d time.Duration) {
	tick := make(chan struct{}, 1)
	stop := s.d.Clock.AfterFunc(d, func() { tick <- struct{}{} })
	defer stop()
	select {
	case <-tick:
	case <-ctx.Done():
	}
}

// admit counts a new connection, or closes it if there are too many from its address. Where there are as many as there
// may be that have not said what they want, any one of them makes room: who holds them open keeps nobody else out.
func (s *Server) admit(nc net.Conn) *visit {
	var addr netip.Addr
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		addr = ap.Addr().Unmap()
	}
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		addr = tcp.AddrPort().Addr().Unmap()
	}
	if !s.limits.enterIP(addr) {
		s.count.refused.add("per_ip")
		refuse(nc, s.cfg.PlainHTTP)
		return nil
	}
	v := &visit{srv: s, addr: addr}
	v.pc = pipe.NewConn(nc, pipe.Options{MaxPending: s.cfg.MaxQueue, Stall: s.cfg.Stall})
	v.nc = v.pc
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		s.limits.leaveIP(addr)
		_ = nc.Close()
		return nil
	}
	evicted := s.evictLocked()
	s.running.Add(1)
	s.half[v] = struct{}{}
	s.open++
	s.visits[v] = struct{}{}
	s.mu.Unlock()
	if evicted != nil {
		_ = evicted.pc.Close()
		s.count.refused.add("half_open")
	}
	return v
}

// evictLocked picks a connection to make room for another where that is needed; the caller closes it.
func (s *Server) evictLocked() *visit {
	if len(s.half) < s.cfg.MaxHalfOpen {
		return nil
	}
	for v := range s.half { // no order: whoever has most of them loses most
		delete(s.half, v)
		return v
	}
	return nil
}

// refuse answers 429 where HTTP in the clear is possible, which a fresh socket takes without waiting, and closes.
func refuse(nc net.Conn, plain bool) {
	if plain {
		_, _ = nc.Write([]byte("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	}
	_ = nc.Close()
}

// departed takes back what admit gave; the connection is closed.
func (s *Server) departed(addr netip.Addr) {
	s.limits.leaveIP(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.ending && s.open == 0 {
		close(s.ended)
	}
}

// panicked counts a panic that ends one connection only.
func (s *Server) panicked(r any) {
	s.count.panics.Add(1)
	s.d.Log.Error("a client connection panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// systemClock is the machine's clock.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
