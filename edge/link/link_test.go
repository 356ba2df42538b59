package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a number of nodes that reach each other over sockets which a test may break.
type world struct {
	t     testing.TB
	mu    sync.Mutex
	ports map[wire.NodeSession]string
	conns []net.Conn // the dialing ends
	cut   bool
}

// node is one node's Links, and the streams that others opened to it.
type node struct {
	*Links
	taken chan *stream
	stop  func()
}

func newWorld(t testing.TB) *world {
	return &world{t: t, ports: make(map[wire.NodeSession]string)}
}

// node starts a node whose streams are read by the test; a second one of the same session takes its place, as a restart
// would that kept the number.
func (w *world) node(self wire.NodeSession, change func(*Config)) *node {
	w.t.Helper()
	n := w.make(self, change, Deps{Accept: func(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver { return nil }})
	n.begin = func(s *stream) bool {
		if !s.mine {
			n.taken <- s
		}
		return true
	}
	w.start(self, n)
	return n
}

func (w *world) make(self wire.NodeSession, change func(*Config), deps Deps) *node {
	w.t.Helper()
	cfg := Default()
	cfg.Redial, cfg.RedialMost = time.Millisecond, 20*time.Millisecond
	if change != nil {
		change(&cfg)
	}
	n := &node{taken: make(chan *stream, 16)}
	deps.Self = self
	deps.Dial = func(ctx context.Context, to wire.NodeSession) (net.Conn, error) { return w.dial(ctx, self, to) }
	var err error
	if n.Links, err = New(cfg, deps); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// start lets a node listen and run.
func (w *world) start(self wire.NodeSession, n *node) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.ports[self] = ln.Addr().String()
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = n.Run(ctx) })
	all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.serve(ctx, n, nc) })
		}
	})
	n.stop = sync.OnceFunc(func() {
		ln.Close()
		cancel()
		all.Wait()
	})
	w.t.Cleanup(n.stop)
}

// dial connects and says who dials, which the node port does by certificates.
func (w *world) dial(ctx context.Context, self, to wire.NodeSession) (net.Conn, error) {
	w.mu.Lock()
	port, cut := w.ports[to], w.cut
	w.mu.Unlock()
	if cut {
		return nil, errors.New("cut")
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", port)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(binary.BigEndian.AppendUint64(nil, uint64(self))); err != nil {
		nc.Close()
		return nil, err
	}
	w.mu.Lock()
	w.conns = append(w.conns, nc)
	w.mu.Unlock()
	return nc, nil
}

func (w *world) serve(ctx context.Context, n *node, nc net.Conn) {
	var who [8]byte
	if _, err := io.ReadFull(nc, who[:]); err != nil {
		nc.Close()
		return
	}
	_ = n.Serve(ctx, nc, wire.NodeSession(binary.BigEndian.Uint64(who[:]))) // what it refuses it has counted and closed
}

// breakAll resets every connection there is.
func (w *world) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.conns {
		if tc, ok := nc.(*net.TCPConn); ok {
			_ = tc.SetLinger(0)
		}
		nc.Close()
	}
	w.conns = nil
}

func (w *world) sever(cut bool) {
	w.mu.Lock()
	w.cut = cut
	w.mu.Unlock()
	w.breakAll()
}

// last is the number of the record that ends a load.
const last = 1<<64 - 1

// send writes numbered records of random length until enough is closed and least are sent, then one that says so. What is
// on its way is bounded by the window.
func send(s *stream, dice *rand.Rand, least int, enough <-chan struct{}, window chan<- struct{}) error {
	for i := uint64(0); ; i++ {
		window <- struct{}{}
		b := make([]byte, 12+dice.IntN(2000))
		number := i
		select {
		case <-enough:
			if i >= uint64(least) {
				b, number = b[:12], last
			}
		default:
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)))
		binary.BigEndian.PutUint64(b[4:], number)
		for k := 12; k < len(b); k++ {
			b[k] = byte(int(i) + k)
		}
		if err := s.put(nil, b); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
		if number == last {
			return nil
		}
	}
}

// receive reads until the last record and compares every byte.
func receive(s *stream, window <-chan struct{}) (n uint64, err error) {
	var head [12]byte
	for ; ; n++ {
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return n, fmt.Errorf("read %d: %w", n, err)
		}
		<-window
		size, number := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint64(head[4:])
		if number == last {
			return n, nil
		}
		if number != n || size < 12 || size > 3000 {
			return n, fmt.Errorf("record %d of %d bytes came, want number %d", number, size, n)
		}
		b := make([]byte, size-12)
		if _, err := io.ReadFull(s, b); err != nil {
			return n, fmt.Errorf("read %d: %w", n, err)
		}
		for k := range b {
			if b[k] != byte(int(n)+k+12) {
				return n, fmt.Errorf("record %d has another byte at %d", n, k)
			}
		}
	}
}

// Two lanes under load in both directions, broken 200 times: nothing is lost, nothing comes twice, the order is kept.
func TestBrokenConnectionsLoseNothing(t *testing.T) {
	const breaks, least = 200, 3000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorld(t)
	a, b := w.node(1, nil), w.node(2, nil)
	var all sync.WaitGroup
	broken := make(chan struct{})
	run := func(name string, from, to *stream, n uint64) {
		window := make(chan struct{}, 500)
		all.Go(func() {
			defer close(window)
			if err := send(from, rand.New(rand.NewPCG(seed, n)), least, broken, window); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		all.Go(func() {
			records, err := receive(to, window)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				from.fail(err)
				for range window { // so that the sender ends
				}
			}
			t.Logf("%s: %d records", name, records)
		})
	}
	for lane := range 2 {
		out := a.open(2, lane)
		in := <-b.taken
		run(fmt.Sprintf("lane %d there", lane), out, in, uint64(2*lane))
		run(fmt.Sprintf("lane %d back", lane), in, out, uint64(2*lane+1))
	}
	dice := rand.New(rand.NewPCG(seed, 99))
	for range breaks {
		time.Sleep(time.Duration(1+dice.IntN(8)) * time.Millisecond) // the moment of the break is random; nothing is waited for
		w.breakAll()
	}
	close(broken)
	all.Wait()
	if n := a.Peers()[0].Breaks + b.Peers()[0].Breaks; n < breaks {
		t.Errorf("only %d connections broke: the test shows little", n)
	}
	t.Logf("%d connections broke, %d times a stream went on", a.Peers()[0].Breaks+b.Peers()[0].Breaks, b.Peers()[0].Resumed)
}

// pair is a lane between two nodes, both ends.
func pair(t testing.TB, w *world, change func(*Config)) (a, b *node, out, in *stream) {
	a, b = w.node(1, change), w.node(2, change)
	out = a.open(2, 0)
	return a, b, out, <-b.taken
}

func say(t *testing.T, s *stream, text string) {
	t.Helper()
	if err := s.put(nil, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, s *stream, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(s, b); err != nil || string(b) != want {
		t.Fatalf("heard %q, %v; want %q", b, err, want)
	}
}

// A node that stops sends what is left, and that this was all.
func TestNodeThatStopsSendsWhatIsLeft(t *testing.T) {
	_, b, out, in := pair(t, newWorld(t), nil)
	say(t, out, "hello")
	hear(t, in, "hello")
	say(t, in, "good")
	say(t, in, "bye")
	b.stop()
	if err := in.put(nil, []byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("put after the end: %v", err)
	}
	hear(t, out, "goodbye")
	if _, err := out.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the goodbye: %v", err)
	}
	if <-out.over; out.ended() != io.EOF {
		t.Errorf("it ended with %v", out.ended())
	}
}

// While no connection can be had what is written waits, and readers wait; both go on when there is one.
func TestWhatIsWrittenWaitsForAConnection(t *testing.T) {
	w := newWorld(t)
	a, _, out, in := pair(t, w, nil)
	say(t, out, "1")
	hear(t, in, "1")
	w.sever(true)
	heard := make(chan string)
	go func() {
		b := make([]byte, 3)
		_, err := io.ReadFull(in, b)
		heard <- fmt.Sprint(string(b), err)
	}()
	c := out.carrierNow()
	go func() { _, _ = out.Read(make([]byte, 1)) }() // notices the break; ends with the node
	if c != nil {
		<-c.dead
	}
	if n := a.Unreachable(0); len(n) != 1 || n[0] != 2 {
		t.Errorf("not reached are %v, want session 2", n)
	}
	say(t, out, "abc")
	if n := out.pending.Load(); n != 3 {
		t.Errorf("%d bytes wait, want 3", n)
	}
	w.sever(false)
	if got := <-heard; got != "abc<nil>" {
		t.Errorf("heard %s", got)
	}
}

// A node that has restarted does not know the stream, also when it kept its number: the stream ends, a new one is opened.
func TestLostStreamEndsAndANewOneBegins(t *testing.T) {
	w := newWorld(t)
	a, b, out, in := pair(t, w, nil)
	say(t, out, "1")
	hear(t, in, "1")
	b.stop()
	again := w.node(2, nil)
	w.breakAll()
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, ErrLost) && err != io.EOF { // told by the answer, or by the goodbye
		t.Fatalf("a stream that the other node has lost: %v", err)
	}
	out = a.open(2, 0)
	say(t, out, "2")
	hear(t, <-again.taken, "2")
}

func TestAnotherSessionEndsTheStream(t *testing.T) {
	w := newWorld(t)
	a := w.node(1, nil)
	w.node(3, nil)
	w.mu.Lock()
	w.ports[2] = w.ports[3]
	w.mu.Unlock()
	out := a.open(2, 0)
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, ErrElsewhere) {
		t.Errorf("the port of session 2 is that of session 3: %v", err)
	}
}

func TestSessionThatIsOverEndsItsStreams(t *testing.T) {
	a, b, out, in := pair(t, newWorld(t), nil)
	a.End(2)
	b.End(1)
	for name, s := range map[string]*stream{"out": out, "in": in} {
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrOver) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What nobody takes is bounded: the stream ends, and nothing else does.
func TestMoreThanTheRingEndsTheStream(t *testing.T) {
	w := newWorld(t)
	a, b, out, _ := pair(t, w, func(c *Config) { c.Ring = maxRecord })
	var err error
	for range 10_000 {
		if err = out.put(nil, make([]byte, 4<<10)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrOverflow) || a.overflows.Load() != 1 {
		t.Fatalf("40 MB that nobody reads: %v, %d overflows counted", err, a.overflows.Load())
	}
	other := a.open(2, 1)
	say(t, other, "fine")
	hear(t, <-b.taken, "fine")
}

// A connection that shows no life is replaced, though nothing says that it is dead.
func TestSilentConnectionIsReplaced(t *testing.T) {
	w := newWorld(t)
	a := w.node(1, func(c *Config) { c.Beat, c.Silence = 20*time.Millisecond, 60*time.Millisecond })
	// Session 2 answers the first hello and then says nothing.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	w.mu.Lock()
	w.ports[2] = ln.Addr().String()
	w.mu.Unlock()
	out := a.open(2, 0)
	go func() { _, _ = out.Read(make([]byte, 1)) }() // ends with the node
	for i := range 2 {
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		if _, err := io.CopyN(io.Discard, nc, 8); err != nil {
			t.Fatal(err)
		}
		h, err := readHello(nc)
		if err != nil || h.fresh != (i == 0) || h.from != 1 || h.to != 2 || h.received != 0 {
			t.Fatalf("hello %d: %+v, %v", i, h, err)
		}
		if _, err := nc.Write(answer(statusFine, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever a node that lost its mind sends ends that connection only, and no memory is taken for a length.
func TestBadRecordsEndTheConnectionOnly(t *testing.T) {
	w := newWorld(t)
	a, b, out, in := pair(t, w, nil)
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the stream
	for name, bad := range map[string][]byte{
		"unknown kind": {9, 0, 0, 0}, "16 MiB of data": {kindData, 255, 255, 255}, "data of no length": {kindData, 0, 0, 0},
		"a long ack": {kindAck, 0, 0, 9}, "an ack of what was never sent": appendAck(nil, 1<<40),
	} {
		before := a.refused.Load()
		c := in.carrierNow()
		if c == nil {
			t.Fatalf("%s: no connection", name)
		}
		if _, err := c.nc.Write(bad); err != nil {
			t.Fatal(err)
		}
		select {
		case <-readUntilDead(in, c):
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the connection lives", name)
		}
		if a.refused.Load() != before+1 {
			t.Errorf("%s: not counted", name)
		}
		say(t, out, "x")
		hear(t, in, "x")
	}
	_ = b
}

// readUntilDead reads the stream's connection until it is given up; what is read goes back.
func readUntilDead(s *stream, c *carrier) <-chan struct{} {
	go func() {
		_ = c.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.r.Peek(1) // the break
		s.drop(c, io.EOF)
	}()
	return c.dead
}

func TestBadHellosAreRefused(t *testing.T) {
	w := newWorld(t)
	b := w.node(2, nil)
	good := hello{fresh: true, from: 1, to: 2}
	change := func(f func(h *hello)) []byte {
		h := good
		f(&h)
		return h.bytes()
	}
	bytesOf := func(at int, v byte) []byte {
		raw := good.bytes()
		raw[at] = v
		return raw
	}
	for name, raw := range map[string][]byte{
		"another magic": bytesOf(0, 'X'), "version 9": bytesOf(4, 9), "unknown flags": bytesOf(5, 0x80), "a reserved byte": bytesOf(7, 1),
		"lane 200": change(func(h *hello) { h.lane = 200 }), "another's session": change(func(h *hello) { h.from = 7 }),
		"for another session": change(func(h *hello) { h.to = 9 }), "an unknown stream": change(func(h *hello) { h.fresh = false }),
		"cut off": good.bytes()[:20],
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(raw)
			if name == "cut off" {
				theirs.Close()
			}
			_, _ = io.Copy(io.Discard, theirs)
		}()
		if err := b.Serve(t.Context(), ours, 1); err == nil {
			t.Errorf("%s was taken", name)
		}
		theirs.Close()
	}
	if n := b.refused.Load(); n != 9 {
		t.Errorf("%d refusals were counted, want 9", n)
	}
}

// A stream that its opener has left without a word is kept for a while and no longer.
func TestOrphanedStreamsEnd(t *testing.T) {
	w := newWorld(t)
	_, _, _, in := pair(t, w, func(c *Config) { c.Beat, c.Silence, c.Orphan = 5*time.Millisecond, time.Second, 20*time.Millisecond })
	w.mu.Lock()
	w.cut = true
	w.mu.Unlock()
	c := in.carrierNow()
	in.drop(c, io.EOF)
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, ErrLost) {
		t.Errorf("it ended with %v", err)
	}
}

// BenchmarkStream moves messages in batches of 16, as a tunnel does under load.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			w := newWorld(b)
			_, _, out, in := pair(b, w, nil)
			go func() { _, _ = io.Copy(io.Discard, out) }() // takes the acknowledgements; ends with the stream
			const batch = 16
			msgs := make([]byte, batch*size)
			window := make(chan struct{}, (4<<20)/len(msgs))
			done := make(chan error, 1)
			total := int64(b.N) * int64(len(msgs))
			b.SetBytes(int64(len(msgs)))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				buf := make([]byte, 64<<10)
				got, freed := int64(0), int64(0)
				for got < total {
					n, err := in.Read(buf)
					if err != nil {
						done <- err
						return
					}
					for got += int64(n); freed+int64(len(msgs)) <= got; freed += int64(len(msgs)) {
						<-window
					}
				}
				done <- nil
			}()
			for range b.N {
				window <- struct{}{}
				for out.pending.Load() > 1<<20 {
					runtime.Gosched()
				}
				if err := out.put(nil, msgs); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(float64(out.counts.bytesOut.Load())/float64(total), "wire/payload")
		})
	}
}
