package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

func wrapWith(nc net.Conn, opt pipe.Options) *pipe.Conn { return pipe.NewConn(nc, opt) }

func expectLines(t *testing.T, n *notes, want ...string) {
	t.Helper()
	got := n.await(t, len(want))
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d: %q, want %q", i, got[i], want[i])
		}
	}
	if len(got) > len(want) {
		t.Errorf("also %q", got[len(want):])
	}
}

// onBoth runs a test on a tunnel over a connection and on one that is carried.
func onBoth(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Run("connection", func(t *testing.T) { test(t, nativePair(t, testConfig(), Registration{})) })
	t.Run("carried", func(t *testing.T) { test(t, carriedPair(t, testConfig())) })
}

func TestNativeConversation(t *testing.T) { onBoth(t, nativeConversation) }

func nativeConversation(t *testing.T, p *pair) {
	l := p.near.Line(5, 9)
	alice := &Session{Channel: 1, State: 5, Epoch: 9, Gen: 3, User: "alice", Next: 1}
	bob := &Session{Channel: 2, State: 5, Epoch: 9, User: "bob", Next: 8, Resumed: true}
	l.New("alice", []byte("map"))
	l.Open(alice)
	l.Data(alice, 1, []byte("hi"), false)
	l.Open(bob)
	l.Data(bob, 8, []byte("ho"), true)
	l.Close(alice, 2, wire.CodeNormal)
	p.near.Flush()
	expectLines(t, p.handler,
		"new 5 9 alice map", "open 1 5 9 alice next 1 resumed false", "data 1 1 hi false",
		"open 2 5 9 bob next 8 resumed true", "data 2 8 ho true", "closed 1 2 1000")

	up := p.far.Uplink(5, 9)
	up.Accept()
	up.Join(2)
	up.ToSession(2, 1, []byte("welcome"), false)
	up.ToUser("bob", []byte("you"))
	up.ToAll(0, []byte("all"), false)
	up.ToAll(2, []byte("others"), true)
	up.Ack(2, 8)
	up.Expected(2, 9)
	up.CloseSession(1, 1, wire.CodeNormal, "")
	up.CloseSession(2, 2, 4000, "kicked")
	up.ToSession(2, 3, []byte("after the end"), false)
	up.Release()
	p.far.Flush()
	expectLines(t, p.sink, "accepted 5 9", "joined 2", "session 2 1 welcome false", "user 5 9 bob you",
		"all 5 9 but 0 all false", "all 5 9 but 2 others true", "acked 2 8", "expected 2 9",
		"close session 2 4000 kicked", "released 5 9")

	l.Close(bob, 9, 4000)
	l.Released()
	if p.coordinator != nil {
		p.coordinator.GoAway()
	}
	p.near.Flush()
	said := []string{
		"new 5 9 alice map", "open 1 5 9 alice next 1 resumed false", "data 1 1 hi false",
		"open 2 5 9 bob next 8 resumed true", "data 2 8 ho true", "closed 1 2 1000",
		"closed 2 9 4000", "released 5 9",
	}
	if p.coordinator != nil {
		said = append(said, "go away")
	}
	expectLines(t, p.handler, said...)
	m := p.nearMux
	if m.chans.half != 0 || len(m.chans.m) != 0 {
		t.Errorf("%d channels are left, %d half open", len(m.chans.m), m.chans.half)
	}
	if p.coordinator == nil {
		return
	}
	p.instance.Goodbye()
	if got := p.sink.await(t, 11); got[10] != "leaving" {
		t.Errorf("goodbye: %q", got[10])
	}
}

func TestNativeMessagesOfAnySizeArriveWholeAndInOrder(t *testing.T) {
	onBoth(t, nativeMessagesOfAnySizeArriveWholeAndInOrder)
}

func nativeMessagesOfAnySizeArriveWholeAndInOrder(t *testing.T, p *pair) {
	sizes := []int{0, 1, wire.MaxFragment, wire.MaxFragment + 1, 3 * wire.MaxFragment, 1 << 20, 5<<20 + 3, 15 << 20, 2}
	message := func(i int) []byte {
		b := bytes.Repeat([]byte{byte(i)}, sizes[i])
		if len(b) > 2 {
			b[0], b[len(b)-1] = 0xaa, 0xbb
		}
		return b
	}
	var mu sync.Mutex
	var down, up [][]byte
	all := make(chan struct{}, 2*len(sizes))
	keep := func(to *[][]byte, b []byte) {
		mu.Lock()
		*to = append(*to, bytes.Clone(b))
		mu.Unlock()
		all <- struct{}{}
	}
	l := p.near.Line(5, 9)
	s := &Session{Channel: 1, State: 5, Epoch: 9, User: "u"}
	uplink := p.far.Uplink(5, 9)
	p.handler.onData = func(_ uint32, b []byte) { keep(&down, b); uplink.Consumed(len(b)) }
	p.sink.onAll = func(b []byte) { keep(&up, b) }
	l.Open(s)
	for i := range sizes {
		l.Data(s, uint64(i+1), message(i), true)
		p.near.Flush()
		uplink.ToAll(0, message(i), false)
		p.far.Flush()
	}
	for range 2 * len(sizes) {
		select {
		case <-all:
		case <-time.After(patience):
			t.Fatalf("%d down, %d up", len(down), len(up))
		}
	}
	for i := range sizes {
		if !bytes.Equal(down[i], message(i)) || !bytes.Equal(up[i], message(i)) {
			t.Fatalf("message %d of %d bytes is damaged or out of order", i, sizes[i])
		}
	}
	if m := p.nearMux; m.parts != 0 || len(m.partial) != 0 {
		t.Errorf("%d bytes of %d messages are still being put together", m.parts, len(m.partial))
	}
}

// creditOf is what a state may send.
func (m *mux) creditOf(state wire.StateID) int {
	b := m.w.Acquire()
	defer func() { m.w.Release(b) }()
	return m.lines[state].credit
}

// One state whose handlers do not read must not stop another one.
func TestCreditHoldsOneStateOnly(t *testing.T) { onBoth(t, creditHoldsOneStateOnly) }

func creditHoldsOneStateOnly(t *testing.T, p *pair) {
	var held int
	got := make(chan int, 100)
	p.handler.onData = func(ch uint32, b []byte) {
		if ch == 1 {
			held += len(b)
			return
		}
		got <- len(b)
		p.far.Uplink(2, 9).Consumed(len(b))
	}
	stuck, other := p.near.Line(1, 9), p.near.Line(2, 9)
	a, b := &Session{Channel: 1, State: 1, Epoch: 9}, &Session{Channel: 2, State: 2, Epoch: 9}
	stuck.Open(a)
	other.Open(b)
	chunk := make([]byte, 30<<10)
	var wait <-chan struct{}
	sent := 0
	for {
		if wait = stuck.Admit(len(chunk)); wait != nil {
			if p.nearMux.creditOf(1) < len(chunk) {
				break
			}
			select { // what carries it is full; credit may run out while it drains
			case <-wait:
			case <-time.After(time.Millisecond):
			}
			continue
		}
		stuck.Data(a, 1, chunk, false)
		p.near.Flush()
		if sent += len(chunk); sent > 4*window {
			t.Fatal("a state that does not read is admitted for ever")
		}
	}
	if sent < window {
		t.Errorf("the window is %d bytes, but only %d were admitted", window, sent)
	}
	for i := range 100 {
		if other.Admit(len(chunk)) != nil {
			t.Fatalf("the other state has to wait at message %d", i)
		}
		other.Data(b, uint64(i), chunk, false)
		p.near.Flush()
		select {
		case <-got:
		case <-time.After(patience):
			t.Fatalf("message %d of the other state does not arrive", i)
		}
	}
	select {
	case <-wait:
		t.Fatal("the stuck state may go on")
	default:
	}
	p.far.Uplink(1, 9).Consumed(wire.MaxFragment) // once is not worth a frame,
	for range 40 {                                // often is
		p.far.Uplink(1, 9).Consumed(len(chunk))
	}
	p.far.Flush()
	select {
	case <-wait:
	case <-time.After(patience):
		t.Fatal("credit came back, and the state still waits")
	}
}

// On a connection that does not keep up, a small message does not wait for the
// end of another state's large one.
func TestStatesTakeTurns(t *testing.T) {
	cfg := testConfig()
	ours, theirs := sockets(t)
	_ = ours.SetWriteBuffer(16 << 10)
	_ = theirs.SetReadBuffer(16 << 10)
	c := newConn(Native, wrap(ours, cfg), nil, cfg)
	tun := newNative(c, wire.OurHello(), 16<<20)
	defer c.nc.Close()
	big, small := tun.Line(1, 1), tun.Line(2, 1)
	a, b := &Session{Channel: 1, State: 1, Epoch: 1}, &Session{Channel: 2, State: 2, Epoch: 1}
	big.Open(a)
	small.Open(b)
	tun.Flush()
	big.Data(a, 1, make([]byte, 4<<20), false)
	tun.Flush()
	tun.heartbeat()
	small.Data(b, 1, []byte("small"), false)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-c.kick:
				tun.Flush()
			case <-time.After(drainPoll):
				tun.Flush()
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	r := pipe.NewReader(theirs, 4096)
	defer r.Close()
	ahead, beat := 0, -1
	for {
		var f wire.Frame
		done, err := readFrame(r, &f)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case f.Type == wire.Data && f.Channel == 1:
			ahead += len(f.Payload)
		case f.Type == wire.Heartbeat:
			beat = ahead
		case f.Type == wire.Data:
			done()
			if ahead > 512<<10 || beat < 0 {
				t.Fatalf("the small message came after %d bytes, the heartbeat after %d", ahead, beat)
			}
			return
		}
		done()
	}
}

func TestNativeFramesThatEndTheTunnel(t *testing.T) {
	frame := func(f wire.Frame) string { return string(wire.AppendFrame(nil, &f)) }
	open := frame(wire.Frame{Type: wire.Broadcast, Flags: wire.More, Seq: 1, State: 5, Epoch: 9, Size: 100, Payload: []byte("x")})
	for _, c := range []struct{ name, said, reason string }{
		{"4 GiB length", "\xff\xff\xff\xff", ReasonLength},
		{"unknown type", "\x00\x00\x00\x02\xee\x00", ReasonType},
		{"a coordinator's frame", frame(wire.Frame{Type: wire.Open, Channel: 1}), ReasonType},
		{"register twice", frame(wire.Frame{Type: wire.Register}), ReasonType},
		{"cut body", "\x00\x00\x00\x03\x02\x00\x01", ReasonFrame},
		{"flags that no type has", "\x00\x00\x00\x0e\x04\xff" + strings.Repeat("\x00", 12), ReasonFrame},
		{"fragments above their size", open + frame(wire.Frame{
			Type: wire.Broadcast, Flags: wire.More | wire.Cont, Seq: 1, State: 5, Epoch: 9, Payload: make([]byte, 200),
		}), ReasonFrame},
		{"a last fragment too early", open + frame(wire.Frame{
			Type: wire.Broadcast, Flags: wire.Cont, Seq: 1, State: 5, Epoch: 9, Payload: make([]byte, 10),
		}), ReasonFrame},
		{"cut off", "\x00\x00", ReasonPeer},
		{"closed with a code", frame(wire.Frame{Type: wire.Close, Code: wire.CodeGoingAway}), ReasonPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := nativePair(t, testConfig(), Registration{})
			p.coordinator.Line(5, 9)
			p.rawInstan.Write([]byte(c.said))
			p.rawInstan.CloseWrite()
			if reason := p.coordRun.ended(t); reason != c.reason {
				t.Fatalf("reason %s, want %s", reason, c.reason)
			}
		})
	}
}

// What is wrong but framed is dropped and counted; the tunnel lives.
func TestNativeFramesThatAreDropped(t *testing.T) {
	cfg := testConfig()
	cfg.MaxMessage = 1 << 20
	cfg.MaxAssembly = 1 << 20
	p := nativePair(t, cfg, Registration{})
	p.coordinator.Line(5, 9)
	p.coordinator.Line(6, 9)
	var b []byte
	say := func(f wire.Frame) { b = wire.AppendFrame(b, &f) }
	say(wire.Frame{Type: wire.Data, Channel: 77, Seq: 1})
	say(wire.Frame{Type: wire.Accept, Channel: 77})
	say(wire.Frame{Type: wire.Ack, Channel: 77})
	say(wire.Frame{Type: wire.Close, Channel: 77})
	say(wire.Frame{Type: wire.Credit, State: 99, Size: 1 << 31})
	cont := wire.Frame{Type: wire.Broadcast, Flags: wire.Cont, Seq: 4, State: 5, Epoch: 9, Payload: []byte("x")}
	say(cont)
	say(wire.Frame{Type: wire.Broadcast, Flags: wire.More, Seq: 4, State: 5, Epoch: 9, Size: 2 << 20})
	say(cont)
	say(wire.Frame{Type: wire.Broadcast, Flags: wire.More, Seq: 5, State: 5, Epoch: 9, Size: 600 << 10})
	say(wire.Frame{Type: wire.Broadcast, Flags: wire.More, Seq: 5, State: 6, Epoch: 9, Size: 1 << 20})
	say(wire.Frame{Type: wire.Broadcast, Flags: wire.More, Seq: 1, State: 44, Epoch: 9, Size: 100})
	say(wire.Frame{Type: wire.Broadcast, State: 44, Epoch: 9, Payload: []byte("no line")})
	say(wire.Frame{Type: wire.Broadcast, State: 5, Epoch: 8, Payload: []byte("old epoch")})
	say(wire.Frame{Type: wire.Broadcast, State: 5, Epoch: 9, Payload: []byte("good")})
	p.rawInstan.Write(b)
	expectLines(t, p.sink, "all 18 9 but 0 no line false", "all 5 8 but 0 old epoch false", "all 5 9 but 0 good false")
	for why, want := range map[drop]uint64{dropChannel: 3, dropTooBig: 1, dropBudget: 1, dropAssembly: 3} {
		if got := cfg.Counters.dropped[why].Load(); got != want {
			t.Errorf("%s: %d dropped, want %d", dropNames[why], got, want)
		}
	}
}

func TestNativeSilenceEndsTheTunnel(t *testing.T) {
	cfg := testConfig()
	cfg.Heartbeat, cfg.Silence = 10*time.Millisecond, 50*time.Millisecond
	ours, theirs := sockets(t)
	b := wire.AppendHello(nil, wire.OurHello())
	body := wire.RegisterBody{Credit: window, Secret: []byte("s"), StoreID: []byte("i")}
	theirs.Write(wire.AppendFrame(b, &wire.Frame{Type: wire.Register, Payload: body.Append(nil)}))
	_, tun, err := Accept(context.Background(), wrap(ours, cfg), cfg)
	if err != nil {
		t.Fatal(err)
	}
	tun.Confirm(1, 1)
	run := start(t, func(ctx context.Context) error { return tun.Run(ctx, newNotes()) })
	if reason := run.ended(t); reason != ReasonIdle {
		t.Fatal(reason)
	}
}

func TestHeartbeatsKeepBothEndsAndCarryLoad(t *testing.T) {
	cfg := testConfig()
	cfg.Heartbeat, cfg.Silence = 10*time.Millisecond, 500*time.Millisecond
	p := nativePair(t, cfg, Registration{})
	for _, line := range p.sink.await(t, 3) {
		if line != "load 250 7" {
			t.Fatalf("heartbeat said %q", line)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.coordinator.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	if p.coordinator.RTT() <= 0 {
		t.Error("no round trip was measured")
	}
	p.rawInstan.Close()
	p.coordRun.ended(t)
	if p.coordinator.Probe(ctx) == nil {
		t.Error("a tunnel that has ended answers a probe")
	}
}

func TestNotOwnerDropsWhatIsQueuedAndSparesTheNextEpoch(t *testing.T) {
	onBoth(t, notOwnerDropsWhatIsQueuedAndSparesTheNextEpoch)
}

func notOwnerDropsWhatIsQueuedAndSparesTheNextEpoch(t *testing.T, p *pair) {
	old := p.near.Line(5, 8)
	s := &Session{Channel: 1, State: 5, Epoch: 8, User: "u"}
	old.Open(s)
	p.near.Flush()
	p.handler.await(t, 1)
	for range 40 {
		old.Data(s, 1, make([]byte, 32<<10), false) // beyond the window: some of it waits
	}
	old.NotOwner()
	next := p.near.Line(5, 9)
	p.near.Line(5, 8).NotOwner() // late, for what the instance still said
	n := &Session{Channel: 2, State: 5, Epoch: 9, User: "u"}
	next.Open(n)
	next.Data(n, 1, []byte("new"), false)
	p.near.Flush()
	if p.near.Line(5, 9) != next {
		t.Error("the line of the new epoch was replaced")
	}
	var lines []string
	for {
		lines = p.handler.await(t, len(lines)+1)
		if strings.HasPrefix(lines[len(lines)-1], "data 2 1 new") {
			break
		}
	}
	said := strings.Join(lines, "\n")
	if !strings.Contains(said, "not owner 5 8") || !strings.Contains(said, "open 2 5 9") || strings.Contains(said, "not owner 5 9") {
		t.Fatal(said)
	}
}

func TestCloseTellsTheInstanceWhy(t *testing.T) {
	p := nativePair(t, testConfig(), Registration{})
	p.coordinator.Close("taken_over")
	if reason := p.coordRun.ended(t); reason != "taken_over" {
		t.Error(reason)
	}
	err := <-p.instRun.err
	p.instRun.err <- err
	if ReasonOf(err) != ReasonRefused || !strings.Contains(err.Error(), "taken_over") {
		t.Fatal(err)
	}
	select {
	case <-p.instance.Done():
	default:
		t.Error("the attachment is not done")
	}
}

func TestNothingIsSaidToAnEndedTunnel(t *testing.T) {
	p := nativePair(t, testConfig(), Registration{})
	l := p.coordinator.Line(5, 9)
	s := &Session{Channel: 1, State: 5, Epoch: 9}
	l.Open(s)
	p.coordRun.cancel()
	p.coordRun.ended(t)
	for range 100 {
		l.Data(s, 1, make([]byte, 30<<10), false)
		l.New("u", make([]byte, 100<<10))
	}
	p.coordinator.Flush()
	if q := p.coordinator.Queued(); q > highWater {
		t.Fatalf("%d bytes are queued", q)
	}
	if l.Admit(1<<20) != nil {
		t.Error("it makes wait")
	}
}

// Many goroutines at once on many lines, with both ends racing to close.
func TestNativeUnderConcurrency(t *testing.T) { onBoth(t, nativeUnderConcurrency) }

func nativeUnderConcurrency(t *testing.T, p *pair) {
	const states, each = 8, 300
	var mu sync.Mutex
	next := make(map[uint32]uint64)
	done := make(chan struct{})
	total := 0
	p.handler.onData = func(ch uint32, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		var seq uint64
		fmt.Sscan(string(b[:20]), &seq)
		if next[ch]++; next[ch] != seq {
			t.Errorf("channel %d: message %d instead of %d", ch, seq, next[ch])
		}
		p.far.Uplink(wire.StateID(ch), 1).Consumed(len(b))
		if total++; total == states*each {
			close(done)
		}
	}
	var wg sync.WaitGroup
	for i := 1; i <= states; i++ {
		wg.Go(func() {
			l := p.near.Line(wire.StateID(i), 1)
			s := &Session{Channel: uint32(i), State: wire.StateID(i), Epoch: 1, User: "u"}
			l.Open(s)
			for seq := 1; seq <= each; seq++ {
				b := make([]byte, 20+(seq*i*997)%60_000)
				copy(b, fmt.Sprint(seq, " "))
				for wait := l.Admit(len(b)); wait != nil; wait = l.Admit(len(b)) {
					p.near.Flush()
					<-wait
				}
				l.Data(s, uint64(seq), b, false)
				if seq%3 == 0 {
					p.near.Flush()
				}
			}
			p.near.Flush()
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(patience):
		mu.Lock()
		defer mu.Unlock()
		t.Fatalf("%d of %d arrived: %v", total, states*each, next)
	}
}
