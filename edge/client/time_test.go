package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// withClock lets a test turn the wheel.
func withClock(clock *manualClock) option {
	return func(c *Config, d *Deps, _ *fakeRouter) {
		d.Clock = clock
		c.Ping = 16 * time.Second // one slot of the wheel is one second
	}
}

// round turns the wheel once, so that every session is examined.
func (w *world) round(clock *manualClock) {
	w.t.Helper()
	for range wheelSlots {
		hand := w.hand()
		// The sweep arms its timer after it has examined a slot.
		eventually(w.t, "the wheel turns", func() bool {
			clock.advance(0)
			clock.mu.Lock()
			armed := len(clock.timers) > 0
			clock.mu.Unlock()
			return armed
		})
		clock.advance(time.Second)
		eventually(w.t, "the wheel has turned", func() bool { return w.hand() != hand })
	}
	eventually(w.t, "the wheel rests", func() bool {
		clock.mu.Lock()
		defer clock.mu.Unlock()
		return len(clock.timers) > 0
	})
}

func (w *world) hand() int {
	w.srv.wheel.mu.Lock()
	defer w.srv.wheel.mu.Unlock()
	return w.srv.wheel.hand
}

func TestSilentClientIsPingedTwiceAndCut(t *testing.T) {
	clock := newManualClock()
	w := newWorld(t, withClock(clock))
	c, s := w.joinD(origin)
	eventually(t, "it waits", func() bool { return s.out.(*session).life.Load() == lifeHeard })
	w.round(clock) // it was heard of
	w.round(clock)
	c.expect(0x89, "")
	c.send(0x8a, "") // it answers
	eventually(t, "the pong is noted", func() bool { return s.out.(*session).life.Load() == lifeHeard })
	w.round(clock)
	w.round(clock)
	c.expect(0x89, "")
	w.round(clock)
	c.expect(0x89, "")
	w.round(clock)
	c.expectClose(wire.CodeGoingAway)
	s.left(t)
	eventually(t, "it is counted", func() bool { return w.metric("client_closed_total", "reason", "idle") == 1 })
}

func TestRevisionDWithoutOriginIsNotPinged(t *testing.T) {
	clock := newManualClock()
	w := newWorld(t, withClock(clock))
	c, s := w.joinD()
	for range 6 {
		w.round(clock)
	}
	s.out.Deliver([]byte("x"), false)
	s.out.Flush()
	c.expect(0x82, "x") // and no ping before
}

func TestClocksStandStillWhileTheReaderIsHeldBack(t *testing.T) {
	clock := newManualClock()
	hold := make(chan struct{})
	w := newWorld(t, withClock(clock), func(_ *Config, _ *Deps, r *fakeRouter) {
		r.down = func(s *seat, p []byte) error {
			s.got <- string(p)
			<-hold
			return nil
		}
	})
	c, s := w.joinD(origin)
	c.send(0x82, "x")
	s.next(t)
	for range 6 {
		w.round(clock)
	}
	close(hold)
	eventually(t, "it reads again", func() bool { return s.out.(*session).life.Load() == lifeHeard })
	s.out.Deliver([]byte("alive"), false)
	s.out.Flush()
	c.expect(0x82, "alive")
}

func TestSilentSessionGetsAFreshStack(t *testing.T) {
	clock := newManualClock()
	w := newWorld(t, withClock(clock))
	c, s := w.joinD()
	for range 3 {
		c.send(0x82, "x")
		s.next(t)
		eventually(t, "it waits", func() bool { return s.out.(*session).life.Load() == lifeHeard })
		w.round(clock)
		w.round(clock)
		eventually(t, "the reader is renewed", func() bool { return !s.out.(*session).grown.Load() })
	}
	c.send(0x82, "y")
	if m := s.next(t); m != "y" {
		t.Errorf("down came %q", m)
	}
}

func TestNativeTokenExpires(t *testing.T) {
	clock := newManualClock()
	auth := &fakeAuth{expires: clock.Now().Add(10 * time.Minute)}
	w := newWorld(t, withClock(clock), func(c *Config, d *Deps, _ *fakeRouter) {
		c.PlainFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		d.Auth = auth
	})
	join := func() (*nativeClient, net.Conn, *seat) {
		c := w.raw(w.tcp)
		_, _ = c.Write(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte(goodToken)}))
		n := &nativeClient{t: t, r: c}
		n.hello()
		n.frame()
		return n, c, w.seat()
	}
	n, c, s := join()
	next := func() wire.Frame {
		for {
			f := n.frame()
			if f.Type != wire.Heartbeat {
				return f
			}
			_, _ = c.Write(wire.AppendFrame(nil, &wire.Frame{Type: wire.HeartbeatAck, Seq: f.Seq}))
		}
	}
	clock.advance(9*time.Minute + 10*time.Second)
	w.round(clock)
	if f := next(); f.Type != wire.Token || f.Size == 0 || f.Size > 60 {
		t.Fatalf("warned by %v of %d s", f.Type, f.Size)
	}
	auth.expires = clock.Now().Add(time.Minute)
	_, _ = c.Write(wire.AppendFrame(nil, &wire.Frame{Type: wire.Token, Payload: []byte(goodToken)}))
	eventually(t, "it is prolonged", func() bool {
		return s.out.(*session).native.expires.Load() == auth.expires.UnixMilli()
	})
	clock.advance(time.Minute)
	w.round(clock)
	for {
		f := next()
		if f.Type == wire.Token {
			continue
		}
		if f.Type != wire.Close || f.Code != wire.CodeTokenExpired {
			t.Errorf("got %v %d", f.Type, f.Code)
		}
		break
	}
	s.left(t)

	n, c, s = join()
	_, _ = c.Write(wire.AppendFrame(nil, &wire.Frame{Type: wire.Token, Payload: []byte("good.mallory.x")}))
	if f := next(); f.Type != wire.Close || f.Code != wire.CodeBadToken {
		t.Errorf("a token of another user: %v %d", f.Type, f.Code)
	}
	s.left(t)
}

func TestDrain(t *testing.T) {
	w := newWorld(t)
	c, s := w.joinD()
	tcp := w.raw(w.tcp)
	_, _ = tcp.Write(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte(goodToken)}))
	n := &nativeClient{t: t, r: tcp}
	n.hello()
	n.frame()
	ns := w.seat()
	eventually(t, "both are seated", func() bool { return w.srv.wheel.len() == 2 })
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.srv.Drain(ctx, 20*time.Millisecond) }()
	if f := n.frame(); f.Type != wire.GoAway {
		t.Errorf("first came %v", f.Type)
	}
	if f := n.frame(); f.Type != wire.Close || f.Code != wire.CodeGoingAway {
		t.Errorf("then %v %d", f.Type, f.Code)
	}
	c.expectClose(wire.CodeGoingAway)
	_, _ = c.Close(), tcp.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.left(t)
	ns.left(t)
}

func TestStopEndsEveryKindOfConnection(t *testing.T) {
	hold := make(chan struct{})
	w := newWorld(t, func(_ *Config, d *Deps, _ *fakeRouter) {
		d.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(hold); <-r.Context().Done() })
	})
	w.joinD()
	w.raw(w.http)
	w.raw(w.tcp)
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-hold
	// The cleanup of the world stops it and looks for what is left.
}

func TestTLSAndPlainOnOnePort(t *testing.T) {
	cert, pool := testCertificate(t)
	w := newWorld(t, withTLS(cert))
	client := &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}}
	dial := func(addr net.Addr) *tls.Conn {
		tc := tls.Client(w.raw(addr), client)
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc
	}
	tc := dial(w.http)
	if p := tc.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("protocol %q", p)
	}
	c, status := w.request(tc, "/connect/"+testApp.String())
	if !strings.Contains(status, "101") {
		t.Fatal(status)
	}
	c.send(0x82, `{"stateId":"abc","token":"`+goodToken+`"}`)
	c.expect(0x82, "")
	s := w.seat()
	for _, n := range []int{0, 5, 100_000} {
		want := strings.Repeat("m", n)
		c.send(0x82, want)
		if m := s.next(t); m != want {
			t.Errorf("%d bytes came as %d", n, len(m))
		}
		s.out.Deliver([]byte(want), false)
		s.out.Flush()
		c.expect(0x82, want)
	}
	s.out.Close(wire.CodeStateNotFound, "")
	c.expectClose(4000)
	s.left(t)

	web := &http.Client{Transport: &http.Transport{TLSClientConfig: client}}
	resp, err := web.Post("https://localhost:"+strings.Split(w.http.String(), ":")[1], "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	web.CloseIdleConnections()

	w.joinD() // in the clear, on the same port

	tn := dial(w.tcp)
	_, _ = tn.Write(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte(goodToken)}))
	n := &nativeClient{t: t, r: tn}
	n.hello()
	if f := n.frame(); f.Type != wire.Connected {
		t.Errorf("native in TLS: %v", f.Type)
	}
	w.seat()
}

func TestPlainIsRefusedWhereTLSIsAsked(t *testing.T) {
	cert, _ := testCertificate(t)
	w := newWorld(t, withTLS(cert), func(c *Config, _ *Deps, _ *fakeRouter) { c.PlainHTTP, c.PlainFrom = false, nil })
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 400") || !strings.Contains(string(b), "TLS") {
		t.Errorf("answered %q", b)
	}
	c = w.raw(w.tcp)
	_, _ = c.Write(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte(goodToken)}))
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("answered %q", b)
	}
	c = w.raw(w.http)
	_, _ = c.Write([]byte{0x16, 3, 1, 0, 4, 99, 0, 0, 0})
	_, _ = io.ReadAll(c)
	eventually(t, "bad TLS is counted", func() bool { return w.metric("client_handshake_failed_total", "reason", "tls") == 1 })
}

func TestNewRefusesHalfOfAServer(t *testing.T) {
	cfg := Default()
	if _, err := New(cfg, Deps{}); err == nil {
		t.Error("nothing at all is taken")
	}
	cfg.Ping = 0
	if _, err := New(cfg, Deps{}); err == nil {
		t.Error("no ping interval is taken")
	}
	cfg = Default()
	cfg.MaxQueue = -1
	if cfg.Validate() == nil {
		t.Error("a negative queue is taken")
	}
	cfg = Default()
	cfg.ConnsPerIP = -1
	if cfg.Validate() == nil {
		t.Error("a negative limit is taken")
	}
}

func testCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
