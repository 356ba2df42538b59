package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testApp   = wire.AppIDOf("s3cr3t")
	otherApp  = wire.AppIDOf("other")
	wait      = 5 * time.Second
	goodToken = "good.alice.0123456789012345canary-token45678901234567890"
)

// fakeAuth knows tokens "good.USER.…" of testApp and "other.USER.…" of otherApp.
type fakeAuth struct{ expires time.Time }

func (a fakeAuth) Verify(token []byte) (Verified, error) {
	parts := strings.Split(string(token), ".")
	switch {
	case len(parts) == 3 && parts[0] == "good":
		return Verified{App: testApp, User: parts[1], Expires: a.expires}, nil
	case len(parts) == 3 && parts[0] == "other":
		return Verified{App: otherApp, User: parts[1]}, nil
	}
	return Verified{}, errors.New("bad token")
}

// seat is what fakeRouter gives; it reports what the connection does.
type seat struct {
	r    JoinRequest
	out  Out
	rt   *fakeRouter
	got  chan string
	gone chan struct{}
	once sync.Once
}

func (s *seat) Down(payload []byte, _ bool) error {
	if f := s.rt.down; f != nil {
		return f(s, payload)
	}
	s.got <- string(payload)
	return nil
}

func (s *seat) Drained() { s.rt.drained.add(1) }

func (s *seat) Leave() {
	left := true
	s.once.Do(func() { close(s.gone); left = false })
	if left {
		panic("Leave was called twice")
	}
}

type count struct {
	mu sync.Mutex
	n  int
}

func (c *count) add(n int) {
	c.mu.Lock()
	c.n += n
	c.mu.Unlock()
}

func (c *count) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// fakeRouter seats everyone. Its functions may be replaced before the server runs.
type fakeRouter struct {
	seats   chan *seat
	refuse  *Refusal
	down    func(*seat, []byte) error
	onJoin  func(JoinRequest)
	created chan CreateRequest
	drained count
}

func newFakeRouter() *fakeRouter {
	return &fakeRouter{seats: make(chan *seat, 1000), created: make(chan CreateRequest, 10)}
}

func (f *fakeRouter) Join(_ context.Context, r JoinRequest) (Seat, *Refusal) {
	if f.onJoin != nil {
		f.onJoin(r)
	}
	if f.refuse != nil {
		return nil, f.refuse
	}
	s := &seat{r: r, out: r.Out, rt: f, got: make(chan string, 10_000), gone: make(chan struct{})}
	r.Out.Registered()
	f.seats <- s
	return s, nil
}

func (f *fakeRouter) Create(_ context.Context, r CreateRequest) (wire.StateID, *Refusal) {
	r.Data = bytes.Clone(r.Data)
	f.created <- r
	return 46655, nil // "zzz"
}

// manualClock moves when it is told.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]struct{}
	armed  chan struct{}
}

type manualTimer struct {
	at time.Time
	f  func()
}

func newManualClock() *manualClock {
	return &manualClock{now: time.Unix(1_700_000_000, 0), timers: map[*manualTimer]struct{}{}, armed: make(chan struct{}, 1)}
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &manualTimer{c.now.Add(d), f}
	c.timers[t] = struct{}{}
	select {
	case c.armed <- struct{}{}:
	default:
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.timers[t]
		delete(c.timers, t)
		return there
	}
}

// advance runs the timers that become due, in the caller's goroutine.
func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for t := range c.timers {
		if !t.at.After(c.now) {
			due = append(due, t.f)
			delete(c.timers, t)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// world is a running Server on loopback.
type world struct {
	t       *testing.T
	srv     *Server
	router  *fakeRouter
	http    net.Addr
	tcp     net.Addr
	log     *logBuffer
	stop    context.CancelFunc
	stopped chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type option func(*Config, *Deps, *fakeRouter)

func newWorld(t *testing.T, options ...option) *world {
	t.Helper()
	w := &world{t: t, router: newFakeRouter(), log: &logBuffer{}, stopped: make(chan error, 3)}
	cfg := Default()
	cfg.PlainHTTP, cfg.PlainFrom = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Linger, cfg.FirstWait = 500*time.Millisecond, 50*time.Millisecond
	d := Deps{
		Router: w.router, Auth: fakeAuth{},
		Policy: func(app wire.AppID) (bool, int) { return app != wire.AppID{}, 1 << 20 },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}),
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(w.log, os.Stderr), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, o := range options {
		o(&cfg, &d, w.router)
	}
	var err error
	if w.srv, err = New(cfg, d); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	lnHTTP, lnTCP := listen(), listen()
	w.http, w.tcp = lnHTTP.Addr(), lnTCP.Addr()
	go func() { w.stopped <- w.srv.Run(ctx) }()
	go func() { w.stopped <- w.srv.ServeHTTP(ctx, lnHTTP) }()
	go func() { w.stopped <- w.srv.ServeTCP(ctx, lnTCP) }()
	t.Cleanup(w.end)
	return w
}

// end stops the server and checks that everything was given back.
func (w *world) end() {
	w.stop()
	for range 3 {
		select {
		case err := <-w.stopped:
			if err != nil {
				w.t.Errorf("server ended with %v", err)
			}
		case <-time.After(wait):
			w.t.Error("server does not end")
			return
		}
	}
	w.srv.mu.Lock()
	defer w.srv.mu.Unlock()
	if w.srv.open != 0 || len(w.srv.half) != 0 || len(w.srv.visits) != 0 || w.srv.wheel.len() != 0 {
		w.t.Errorf("left behind: %d open, %d half-open, %d visits, %d sessions",
			w.srv.open, len(w.srv.half), len(w.srv.visits), w.srv.wheel.len())
	}
	if len(w.srv.limits.ips) != 0 || len(w.srv.limits.apps) != 0 {
		w.t.Errorf("limits left behind: %v %v", w.srv.limits.ips, w.srv.limits.apps)
	}
	for _, secret := range []string{goodToken, "0123456789012345"} {
		if strings.Contains(w.log.String(), secret) {
			w.t.Errorf("the log has a token: %s", w.log)
		}
	}
}

func (w *world) seat() *seat {
	w.t.Helper()
	select {
	case s := <-w.router.seats:
		return s
	case <-time.After(wait):
		w.t.Fatal("nobody was seated")
		return nil
	}
}

func (w *world) metric(name string, labels ...string) float64 {
	var sum float64
	w.srv.Collect(func(n string, v float64, l ...string) {
		if n == name && (len(labels) == 0 || strings.Join(l, "=") == strings.Join(labels, "=")) {
			sum += v
		}
	})
	return sum
}

// eventually waits until a condition holds that no channel tells of.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func (s *seat) next(t *testing.T) string {
	t.Helper()
	select {
	case m := <-s.got:
		return m
	case <-time.After(wait):
		t.Fatal("no message came")
		return ""
	}
}

func (s *seat) left(t *testing.T) {
	t.Helper()
	select {
	case <-s.gone:
	case <-time.After(wait):
		t.Fatal("the seat was not left")
	}
}

// wsConn is a WebSocket client of the tests: it writes what it is told and reads frames as they come.
type wsConn struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
}

func (w *world) raw(addr net.Addr) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * wait))
	return c
}

// request writes an upgrade and returns the status line of the answer.
func (w *world) request(c net.Conn, path string, headers ...string) (*wsConn, string) {
	w.t.Helper()
	ws := &wsConn{w.t, c, bufio.NewReader(c)}
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, strings.Join(headers, ""))
	return ws, ws.head()
}

func (c *wsConn) head() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			c.t.Fatalf("no answer to the upgrade: %v, after %q", err, lines)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, line)
	}
}

func (w *world) dial(path string, headers ...string) *wsConn {
	w.t.Helper()
	c, status := w.request(w.raw(w.http), path, headers...)
	if !strings.HasPrefix(status, "HTTP/1.1 101") {
		w.t.Fatalf("%s: %s", path, status)
	}
	return c
}

// appendMasked appends a client's frame.
func appendMasked(dst []byte, first byte, payload []byte) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	dst = append(dst, mask[:]...)
	for i, b := range payload {
		dst = append(dst, b^mask[i%4])
	}
	return dst
}

func (c *wsConn) send(first byte, payload string) {
	c.t.Helper()
	if _, err := c.Write(appendMasked(nil, first, []byte(payload))); err != nil {
		c.t.Fatal(err)
	}
}

// frame reads one frame.
func (c *wsConn) frame() (first byte, payload string) {
	c.t.Helper()
	first, payload, err := c.tryFrame()
	if err != nil {
		c.t.Fatalf("no frame came: %v", err)
	}
	return first, payload
}

func (c *wsConn) tryFrame() (first byte, payload string, err error) {
	var h [2]byte
	if _, err = io.ReadFull(c.br, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.br, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.br, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil || n > 32<<20 {
		return 0, "", fmt.Errorf("length %d: %w", n, err)
	}
	p := make([]byte, n)
	_, err = io.ReadFull(c.br, p)
	return h[0], string(p), err
}

func (c *wsConn) expect(first byte, payload string) {
	c.t.Helper()
	f, p := c.frame()
	if f != first || p != payload {
		c.t.Fatalf("got frame %#x %q, want %#x %q", f, p, first, payload)
	}
}

// expectClose reads the close frame, which has a reason, and the end of the stream.
func (c *wsConn) expectClose(code wire.Code) (reason string) {
	c.t.Helper()
	first, p := c.frame()
	if first != 0x88 || len(p) < 3 {
		c.t.Fatalf("got frame %#x %q, want a close with a reason", first, p)
	}
	if got := wire.Code(binary.BigEndian.Uint16([]byte(p))); got != code {
		c.t.Fatalf("closed with %d %q, want %d", got, p[2:], code)
	}
	if _, _, err := c.tryFrame(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after the close frame came %v, want the end of the stream", err)
	}
	return p[2:]
}

// joinD joins the state "abc" with revision D.
func (w *world) joinD(headers ...string) (*wsConn, *seat) {
	w.t.Helper()
	c := w.dial("/connect/"+testApp.String(), headers...)
	c.send(0x82, `{"stateId":"abc","token":"`+goodToken+`"}`)
	c.expect(0x82, "")
	return c, w.seat()
}

func withTLS(cert tls.Certificate) option {
	return func(_ *Config, d *Deps, _ *fakeRouter) {
		d.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
}
