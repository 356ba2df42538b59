package edge_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// The way of a frame between two nodes, put together: a Near on a route, a lane over TLS on loopback, a Far.

const routePatience = 20 * time.Second

// counted is a connection whose bytes are counted, TLS and all.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// routed is a Near and a Far with everything between them. What the tests want is in the hooks, which may be nil.
type routed struct {
	near, far atomic.Pointer[carriedEnd]
	route     *link.Route
	links     [2]*link.Links // of the node with clients, of the node with the tunnel
	bytes     [2]atomic.Int64
	ready     chan struct{} // closed when far is there

	onData    func(channel uint32, payload []byte)
	onAll     func(payload []byte)
	onSession func(channel uint32, seq uint64)
	onOpen    func(s tunnel.Session)

	mu    sync.Mutex
	conns []net.Conn
}

// carriedEnd is either end as a link.Receiver.
type carriedEnd struct {
	near    *tunnel.Near
	far     *tunnel.Far
	sink    tunnel.NearSink
	handler tunnel.Handler
	ended   chan error
}

func (e *carriedEnd) Take(batch []byte) error {
	if e.near != nil {
		return e.near.Take(batch, e.sink)
	}
	return e.far.Take(batch, e.handler)
}

func (e *carriedEnd) Drained() { e.Room() }

func (e *carriedEnd) Room() {
	if e.near != nil {
		e.near.Flush()
		return
	}
	e.far.Flush()
}

func (e *carriedEnd) Resumed() {}

func (e *carriedEnd) Ended(err error) { e.ended <- err }

// late is the receiver of the near end, which exists once its route does.
type late struct{ r *routed }

func (l late) Take(batch []byte) error { return l.r.near.Load().Take(batch) }
func (l late) Drained()                { l.r.near.Load().Drained() }
func (l late) Ended(err error)         { l.r.near.Load().Ended(err) }
func (l late) Resumed()                {}

func (l late) Room() {
	if e := l.r.near.Load(); e != nil {
		e.Room()
	}
}

type sinkOf struct {
	tunnel.NearSink
	r *routed
}

func (s sinkOf) ToAll(_ wire.StateID, _ wire.Epoch, _ uint32, p []byte, _ bool) { s.r.onAll(p) }
func (s sinkOf) ToSession(ch uint32, seq uint64, _ []byte, _ bool)              { s.r.onSession(ch, seq) }

type handlerOf struct {
	tunnel.Handler
	r *routed
}

func (h handlerOf) Open(s tunnel.Session)                      { h.r.onOpen(s) }
func (h handlerOf) Data(ch uint32, _ uint64, p []byte, _ bool) { h.r.onData(ch, p) }
func (h handlerOf) Closed(_ uint32, _ uint64, _ wire.Code)     {}

func certificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// newRouted puts it together; it ends with the test.
func newRouted(t testing.TB, hooks func(r *routed)) *routed {
	r := &routed{ready: make(chan struct{})}
	hooks(r)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13}
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	cfg := link.Default()
	cfg.Redial, cfg.RedialMost = time.Millisecond, 20*time.Millisecond
	r.links[0], err = link.New(cfg, link.Deps{
		Self: 1, Accept: func(wire.NodeSession, wire.InstanceID, wire.Gen, *link.Route) link.Receiver { return nil },
		Dial: func(ctx context.Context, _ wire.NodeSession) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return nil, err
			}
			r.mu.Lock()
			r.conns = append(r.conns, nc)
			r.mu.Unlock()
			return tls.Client(counted{nc, &r.bytes[0]}, client), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.links[1], err = link.New(cfg, link.Deps{
		Self: 2, Dial: func(context.Context, wire.NodeSession) (net.Conn, error) { return nil, net.ErrClosed },
		Accept: func(_ wire.NodeSession, _ wire.InstanceID, _ wire.Gen, rt *link.Route) link.Receiver {
			e := &carriedEnd{far: tunnel.NewFar(rt, tunnel.Default()), handler: handlerOf{r: r}, ended: make(chan error, 1)}
			r.far.Store(e)
			close(r.ready)
			return e
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.links {
		all.Go(func() { _ = l.Run(ctx) })
	}
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _ = r.links[1].Serve(ctx, tls.Server(counted{nc, &r.bytes[1]}, server), 1) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		all.Wait()
	})
	r.route = r.links[0].Route(2, 7, 1, late{r})
	r.near.Store(&carriedEnd{near: tunnel.NewNear(r.route, tunnel.Default()), sink: sinkOf{r: r}, ended: make(chan error, 1)})
	select {
	case <-r.ready:
	case <-time.After(routePatience):
		t.Fatal("the route does not come through")
	}
	return r
}

func (r *routed) breakAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, nc := range r.conns {
		nc.Close()
	}
	r.conns = nil
}

// sessions opens n sessions, each in a state of its own or all in one, and waits until the far end has them.
func (r *routed) sessions(t testing.TB, n int, opened <-chan struct{}) []*tunnel.Session {
	var out []*tunnel.Session
	near := r.near.Load().near
	for i := range n {
		s := &tunnel.Session{Channel: uint32(i + 1), State: wire.StateID(i + 1), Epoch: 9, User: fmt.Sprint("u", i)}
		near.Line(s.State, 9).Open(s)
		out = append(out, s)
	}
	near.Flush()
	for range n {
		select {
		case <-opened:
		case <-time.After(routePatience):
			t.Fatal("a session does not come through")
		}
	}
	return out
}

// One broadcast of 1 KiB crosses once, with less than a fifth of its size on top, TLS and acknowledgements included.
func TestBroadcastOfOneKiBTakesLittleMoreOnTheLink(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("", func(t *testing.T) {
		got := make(chan int, 10)
		opened := make(chan struct{}, 1000)
		r := newRouted(t, func(r *routed) {
			r.onAll = func(p []byte) { got <- len(p) }
			r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
		})
		r.sessions(t, 1000, opened)
		up := r.far.Load().far
		before, wires := r.links[1].Peers()[0].BytesOut, r.bytes[1].Load()
		const times = 50
		for range times {
			up.Uplink(1, 9).ToAll(0, bytes.Repeat([]byte("x"), 1024), false)
			up.Flush()
			<-got
		}
		said, wire := (r.links[1].Peers()[0].BytesOut-before)/times, (r.bytes[1].Load()-wires)/times
		t.Logf("%d bytes on the link for each, %d with TLS", said, wire)
		if said > 1229 || wire > 1229 {
			t.Errorf("more than 1.2 KiB")
		}
	})
}

// Sessions in many states send through a lane whose connections break; each state's messages arrive in order, once.
func TestMessagesCrossTheLinkInOrderWhateverBreaks(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("", func(t *testing.T) {
		const states, each = 8, 400
		next := make([]uint64, states+1)
		opened, done := make(chan struct{}, states), make(chan struct{})
		total := 0
		r := newRouted(t, func(r *routed) {
			r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
			r.onData = func(ch uint32, p []byte) {
				var seq uint64
				fmt.Sscan(string(p[:20]), &seq)
				if next[ch]++; next[ch] != seq {
					t.Errorf("channel %d: message %d instead of %d", ch, seq, next[ch])
				}
				r.far.Load().far.Uplink(wire.StateID(ch), 9).Consumed(len(p))
				if total++; total == states*each {
					close(done)
				}
			}
		})
		near := r.near.Load().near
		var senders sync.WaitGroup
		for i, s := range r.sessions(t, states, opened) {
			senders.Go(func() {
				l := near.Line(s.State, 9)
				for seq := 1; seq <= each; seq++ {
					b := make([]byte, 20+(seq*(i+1)*997)%60_000)
					copy(b, fmt.Sprint(seq, " "))
					for wait := l.Admit(len(b)); wait != nil; wait = l.Admit(len(b)) {
						near.Flush()
						<-wait
					}
					l.Data(s, uint64(seq), b, false)
					if seq%3 == 0 {
						near.Flush()
					}
					if seq%40 == 0 {
						r.breakAll()
					}
				}
				near.Flush()
			})
		}
		senders.Wait()
		select {
		case <-done:
		case <-time.After(routePatience):
			t.Fatalf("not all arrive: %v", next)
		}
		if n := r.links[0].Peers()[0].Breaks; n < 10 {
			t.Errorf("only %d connections broke", n)
		}
	})
}

// A frame takes no memory on its way from one node to the other.
func TestFramesOnTheLinkTakeNoMemory(t *testing.T) {
	if raced {
		t.Skip("pools forget under the race detector")
	}
	opened, done := make(chan struct{}, 1), make(chan struct{}, 1)
	const frames = 20_000
	count := 0
	r := newRouted(t, func(r *routed) {
		r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
		r.onData = func(ch uint32, p []byte) {
			r.far.Load().far.Uplink(wire.StateID(ch), 9).Consumed(len(p))
			if count++; count%frames == 0 {
				done <- struct{}{}
			}
		}
	})
	near, s, payload := r.near.Load().near, r.sessions(t, 1, opened)[0], make([]byte, 64)
	send := func() {
		l := near.Line(s.State, 9)
		for i := range frames {
			for wait := l.Admit(len(payload)); wait != nil; wait = l.Admit(len(payload)) {
				near.Flush()
				<-wait
			}
			l.Data(s, uint64(i), payload, false)
			if i%16 == 15 {
				near.Flush()
			}
		}
		near.Flush()
		<-done
	}
	for range 5 {
		send()
	}
	if n := testing.AllocsPerRun(5, send); n > frames/10 { // TLS takes a little for each of its records
		t.Errorf("%v allocations for %d frames", n, frames)
	} else {
		t.Logf("%v allocations for %d frames", n, frames)
	}
}

// BenchmarkRoute sends messages of 64 bytes in batches, as sessions under load do, through Near, lane, TLS and Far.
func BenchmarkRoute(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			opened, done := make(chan struct{}, 8), make(chan struct{})
			count := 0
			r := newRouted(b, func(r *routed) {
				r.onOpen = func(tunnel.Session) { opened <- struct{}{} }
				r.onData = func(ch uint32, p []byte) {
					r.far.Load().far.Uplink(wire.StateID(ch), 9).Consumed(len(p))
					if count++; count == b.N {
						close(done)
					}
				}
			})
			all := r.sessions(b, 8, opened)
			near := r.near.Load().near
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s := all[i%len(all)]
				l := near.Line(s.State, 9)
				for wait := l.Admit(size); wait != nil; wait = l.Admit(size) {
					near.Flush()
					<-wait
				}
				l.Data(s, uint64(i), payload, false)
				if i%16 == 15 {
					near.Flush()
				}
			}
			near.Flush()
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
