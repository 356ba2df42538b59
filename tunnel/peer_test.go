package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that has to happen.
const patience = 20 * time.Second

// sockets returns the two ends of a TCP connection on loopback; both are closed
// when the test ends.
func sockets(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

func testConfig() Config {
	cfg := Default()
	cfg.Counters = new(Counters)
	cfg.Linger = 500 * time.Millisecond
	return cfg
}

// wrap puts a pipe under a tunnel.
func wrap(nc net.Conn, cfg Config) *pipe.Conn {
	return pipe.NewConn(nc, cfg.PipeOptions(5*time.Second))
}

// notes is a Sink and a Handler that writes down what it is told.
type notes struct {
	mu     sync.Mutex
	lines  []string
	grown  chan struct{} // closed and replaced whenever lines grow
	onData func(channel uint32, payload []byte)
	onAll  func(payload []byte)
}

func newNotes() *notes { return &notes{grown: make(chan struct{})} }

func (n *notes) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
	close(n.grown)
	n.grown = make(chan struct{})
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}

// await waits until count lines are there and returns them.
func (n *notes) await(t testing.TB, count int) []string {
	t.Helper()
	deadline := time.After(patience)
	for {
		n.mu.Lock()
		lines, grown := n.lines, n.grown
		n.mu.Unlock()
		if len(lines) >= count {
			return append([]string(nil), lines...)
		}
		select {
		case <-grown:
		case <-deadline:
			t.Fatalf("have %d of %d: %q", len(lines), count, lines)
		}
	}
}

func short(b []byte) string {
	if len(b) > 32 {
		return fmt.Sprintf("%d bytes", len(b))
	}
	return string(b)
}

func (n *notes) ToSession(ch uint32, seq uint64, p []byte, unreliable bool) {
	n.note("session %d %d %s %v", ch, seq, short(p), unreliable)
}

func (n *notes) ToUser(s wire.StateID, e wire.Epoch, user, p []byte) {
	n.note("user %v %d %s %s", s, e, user, short(p))
}

func (n *notes) ToAll(s wire.StateID, e wire.Epoch, except uint32, p []byte, unreliable bool) {
	if n.onAll != nil {
		n.onAll(p)
		return
	}
	n.note("all %v %d but %d %s %v", s, e, except, short(p), unreliable)
}

func (n *notes) CloseUser(s wire.StateID, user []byte) { n.note("close user %v %s", s, user) }

func (n *notes) CloseSession(ch uint32, code wire.Code, reason []byte) {
	n.note("close session %d %d %s", ch, code, reason)
}

func (n *notes) StateAccepted(s wire.StateID, e wire.Epoch) { n.note("accepted %v %d", s, e) }

func (n *notes) StateRefused(s wire.StateID, e wire.Epoch, c wire.Code, r []byte) {
	n.note("refused %v %d %d %s", s, e, c, r)
}

func (n *notes) StateReleased(s wire.StateID, e wire.Epoch) { n.note("released %v %d", s, e) }
func (n *notes) SessionAccepted(ch uint32)                  { n.note("joined %d", ch) }
func (n *notes) Acked(ch uint32, seq uint64)                { n.note("acked %d %d", ch, seq) }
func (n *notes) Load(l Load)                                { n.note("load %d %d", l.Permille, l.Sessions) }
func (n *notes) Leaving()                                   { n.note("leaving") }
func (n *notes) Drained()                                   {}
func (n *notes) Expected(ch uint32, seq uint64)             { n.note("expected %d %d", ch, seq) }

func (n *notes) NewState(s wire.StateID, e wire.Epoch, user, data []byte) {
	n.note("new %v %d %s %s", s, e, user, short(data))
}

func (n *notes) Open(s Session) {
	n.note("open %d %v %d %s next %d resumed %v", s.Channel, s.State, s.Epoch, s.User, s.Next, s.Resumed)
}

func (n *notes) Data(ch uint32, seq uint64, p []byte, unreliable bool) {
	if n.onData != nil {
		n.onData(ch, p)
		return
	}
	n.note("data %d %d %s %v", ch, seq, short(p), unreliable)
}

func (n *notes) Closed(ch uint32, seq uint64, c wire.Code) { n.note("closed %d %d %d", ch, seq, c) }
func (n *notes) Released(s wire.StateID, e wire.Epoch)     { n.note("released %v %d", s, e) }
func (n *notes) NotOwner(s wire.StateID, e wire.Epoch)     { n.note("not owner %v %d", s, e) }
func (n *notes) GoAway()                                   { n.note("go away") }

// running is a tunnel whose Run goes on.
type running struct {
	cancel context.CancelFunc
	err    chan error
}

// start runs one end until the test ends.
func start(t testing.TB, run func(ctx context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, err: make(chan error, 1)}
	go func() { r.err <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-r.err:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	return r
}

// ended waits for Run and returns its reason.
func (r *running) ended(t testing.TB) string {
	t.Helper()
	select {
	case err := <-r.err:
		r.err <- err
		return ReasonOf(err)
	case <-time.After(patience):
		t.Fatal("Run does not end")
		return ""
	}
}

// farEnd is the instance's end, whatever carries it.
type farEnd interface {
	Uplink(state wire.StateID, epoch wire.Epoch) Uplink
	CloseChannel(channel uint32)
	Flush()
	Done() <-chan struct{}
}

// pair is a native tunnel with both ends running. near and far are the ends of any; the others are nil where the tunnel
// has no connection of its own.
type pair struct {
	near                End
	far                 farEnd
	nearMux             *mux
	coordinator         Tunnel
	instance            *Attachment
	sink, handler       *notes
	coordRun, instRun   *running
	registration        *Registration
	rawCoord, rawInstan *net.TCPConn
}

func nativePair(t testing.TB, cfg Config, reg Registration) *pair {
	t.Helper()
	p := &pair{sink: newNotes(), handler: newNotes()}
	p.rawCoord, p.rawInstan = sockets(t)
	if reg.Secret == "" {
		reg.Secret, reg.StoreID = "s3cr3t", "store-1"
	}
	attached := make(chan error, 1)
	go func() {
		var err error
		p.instance, err = Attach(context.Background(), wrap(p.rawInstan, cfg), &reg,
			func() Load { return Load{Permille: 250, Sessions: 7} }, cfg)
		attached <- err
	}()
	var err error
	p.registration, p.coordinator, err = Accept(context.Background(), wrap(p.rawCoord, cfg), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.coordinator.Confirm(11, 3)
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	p.near, p.far, p.nearMux = p.coordinator, p.instance, p.coordinator.(*native).mux
	p.coordRun = start(t, func(ctx context.Context) error { return p.coordinator.Run(ctx, p.sink) })
	p.instRun = start(t, func(ctx context.Context) error { return p.instance.Run(ctx, p.handler) })
	return p
}

// legacyTunnel registers a legacy instance by hand and runs the coordinator's end.
func legacyTunnel(t testing.TB, cfg Config) (Tunnel, *net.TCPConn, *notes, *running) {
	t.Helper()
	ours, theirs := sockets(t)
	io.WriteString(theirs, `{"appSecret":"s3cr3t","storeId":"store-1"}`)
	_, tun, err := Accept(context.Background(), wrap(ours, cfg), cfg)
	if err != nil {
		t.Fatal(err)
	}
	sink := newNotes()
	return tun, theirs, sink, start(t, func(ctx context.Context) error { return tun.Run(ctx, sink) })
}

func readExactly(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("read: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %x\nwant %x", got, want)
	}
}
