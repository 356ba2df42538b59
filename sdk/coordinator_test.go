package sdk

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that has to happen.
const patience = 20 * time.Second

// journal is a list of lines that tests wait on.
type journal struct {
	mu    sync.Mutex
	lines []string
	grown chan struct{}
}

func newJournal() *journal { return &journal{grown: make(chan struct{})} }

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
	close(j.grown)
	j.grown = make(chan struct{})
}

// await waits until count lines are there and returns all.
func (j *journal) await(t testing.TB, count int) []string {
	t.Helper()
	deadline := time.After(patience)
	for {
		j.mu.Lock()
		lines, grown := append([]string(nil), j.lines...), j.grown
		j.mu.Unlock()
		if len(lines) >= count {
			return lines
		}
		select {
		case <-grown:
		case <-deadline:
			t.Fatalf("have %d of %d lines: %q", len(lines), count, lines)
		}
	}
}

// awaitLine waits until a line is there.
func (j *journal) awaitLine(t testing.TB, want string) {
	t.Helper()
	for n := 0; ; {
		lines := j.await(t, n)
		if slices.Contains(lines, want) {
			return
		}
		n = len(lines) + 1
	}
}

// awaitPrefix waits for a line that begins so.
func (j *journal) awaitPrefix(t testing.TB, want string) {
	t.Helper()
	for n := 0; ; {
		lines := j.await(t, n)
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			return
		}
		n = len(lines) + 1
	}
}

// expect waits for exactly these lines and clears the journal.
func (j *journal) expect(t testing.TB, want ...string) {
	t.Helper()
	got := j.await(t, len(want))
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("line %d: %q, want %q (all: %q)", i, got[i], want[i], got)
		}
	}
	if len(got) > len(want) {
		t.Fatalf("also %q", got[len(want):])
	}
	j.mu.Lock()
	j.lines = nil
	j.mu.Unlock()
}

// coordinator is the other end of a Backend: a listener that takes tunnels and
// writes down what comes.
type coordinator struct {
	*journal
	t       testing.TB
	ln      net.Listener
	tunnels chan *attached
	refuse  chan string // reasons to refuse the next registrations with
	quiet   bool        // no acks, loads and joins in the journal
	secure  *tls.Config // nil: plain
}

// attached is one tunnel of a backend.
type attached struct {
	tunnel.Tunnel
	reg   *tunnel.Registration
	raw   net.Conn
	ended chan struct{}
}

func newCoordinator(t testing.TB) *coordinator { return newSecureCoordinator(t, nil) }

func newSecureCoordinator(t testing.TB, secure *tls.Config) *coordinator {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &coordinator{
		journal: newJournal(), t: t, ln: ln, secure: secure, tunnels: make(chan *attached, 16), refuse: make(chan string, 16),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.accept(ctx, &wg) })
	t.Cleanup(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
	return c
}

func (c *coordinator) addr() string { return c.ln.Addr().String() }

func (c *coordinator) accept(ctx context.Context, wg *sync.WaitGroup) {
	for gen := wire.Gen(1); ; gen++ {
		nc, err := c.ln.Accept()
		if err != nil {
			return
		}
		raw := nc
		if c.secure != nil {
			nc = tls.Server(nc, c.secure)
		}
		cfg := tunnel.Default()
		cfg.Linger = 200 * time.Millisecond
		reg, tun, err := tunnel.Accept(ctx, nc, cfg)
		if err != nil {
			c.note("refused: %v", err)
			continue
		}
		a := &attached{Tunnel: tun, reg: reg, raw: raw, ended: make(chan struct{})}
		select {
		case reason := <-c.refuse:
			tun.Close(reason)
			continue
		default:
		}
		tun.Confirm(7, gen)
		wg.Go(func() {
			defer close(a.ended)
			_ = tun.Run(ctx, &sink{c})
		})
		c.tunnels <- a
	}
}

// attached waits for the next tunnel.
func (c *coordinator) attached(t testing.TB) *attached {
	t.Helper()
	select {
	case a := <-c.tunnels:
		return a
	case <-time.After(patience):
		t.Fatal("no backend attaches")
		return nil
	}
}

// cut breaks the tunnel without a goodbye.
func (a *attached) cut() {
	a.raw.(*net.TCPConn).SetLinger(0)
	a.raw.Close()
	<-a.ended
}

// sink writes down what a backend says.
type sink struct{ *coordinator }

func short(p []byte) string {
	if len(p) > 40 {
		return fmt.Sprintf("%d bytes", len(p))
	}
	return string(p)
}

func (s *sink) ToSession(ch uint32, seq uint64, p []byte, _ bool) {
	s.note("session %d %d %s", ch, seq, short(p))
}

func (s *sink) ToUser(id wire.StateID, e wire.Epoch, user, p []byte) {
	s.note("user %v %d %s %s", id, e, user, short(p))
}

func (s *sink) ToAll(id wire.StateID, e wire.Epoch, except uint32, p []byte, _ bool) {
	s.note("all %v %d but %d %s", id, e, except, short(p))
}

func (s *sink) CloseUser(wire.StateID, []byte) { s.note("close user") }

func (s *sink) CloseSession(ch uint32, code wire.Code, reason []byte) {
	s.note("close %d %d %s", ch, code, reason)
}

func (s *sink) StateAccepted(id wire.StateID, e wire.Epoch) { s.note("accepted %v %d", id, e) }

func (s *sink) StateRefused(id wire.StateID, e wire.Epoch, code wire.Code, reason []byte) {
	s.note("refused %v %d %d %s", id, e, code, reason)
}

func (s *sink) StateReleased(id wire.StateID, e wire.Epoch) { s.note("released %v %d", id, e) }

func (s *sink) SessionAccepted(ch uint32) {
	if !s.quiet {
		s.note("joined %d", ch)
	}
}

func (s *sink) Acked(ch uint32, seq uint64) {
	if !s.quiet {
		s.note("acked %d %d", ch, seq)
	}
}

func (s *sink) Expected(ch uint32, seq uint64) { s.note("expected %d %d", ch, seq) }
func (s *sink) Load(tunnel.Load)               {}
func (s *sink) Leaving()                       { s.note("leaving") }
func (s *sink) Drained()                       {}

// runBackend runs a backend until the test ends; stop ends it earlier and
// returns what Run did.
func runBackend(t testing.TB, cfg BackendConfig, h Handlers) (b *Backend, stop func() error) {
	t.Helper()
	if cfg.Secret == "" {
		cfg.Secret = "s3cr3t"
	}
	b, err := NewBackend(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	var once sync.Once
	var result error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case result = <-ended:
			case <-time.After(patience):
				t.Error("the backend does not end")
			}
		})
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return b, stop
}

func stream(n byte) wire.StreamID { return wire.StreamID{n} }
