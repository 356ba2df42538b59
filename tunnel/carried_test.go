package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// memory is a Carrier in one process. What it has is handed over by run, and it asks for more when it has room.
type memory struct {
	mu    sync.Mutex
	have  []byte
	full  bool // somebody was told that there is no room
	err   error
	wake  chan struct{}
	sends int
}

func newMemory() *memory { return &memory{wake: make(chan struct{}, 1)} }

func (m *memory) Send(batch []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.have = append(m.have, batch...)
	m.sends++
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

func (m *memory) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = m.full || len(m.have) >= 64<<10
	return len(m.have)
}

// next takes up to n bytes of whole frames; room says that somebody waits for their place.
func (m *memory) next(n int) (batch []byte, room bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := 0
	for used < n {
		_, size, err := wire.SplitFrame(m.have[used:], wire.MaxFrame)
		if err != nil || size == 0 {
			break
		}
		used += size
	}
	batch, m.have = m.have[:used:used], m.have[used:]
	if m.full && len(m.have) < 64<<10 {
		m.full = false
		return batch, true
	}
	return batch, false
}

// run hands over until ctx ends.
func (m *memory) run(ctx context.Context, take func(batch []byte) error, drained, room func()) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wake:
		}
		for {
			batch, free := m.next(16 << 10)
			if len(batch) > 0 {
				if err := take(batch); err != nil {
					return err
				}
				drained()
			}
			if free {
				room()
			}
			if len(batch) == 0 {
				break
			}
		}
	}
}

// nearNotes is a NearSink that writes down what it is told.
type nearNotes struct{ *notes }

func carriedPair(t testing.TB, cfg Config) *pair {
	p := &pair{sink: newNotes(), handler: newNotes()}
	down, up := newMemory(), newMemory()
	near, far := NewNear(down, cfg), NewFar(up, cfg)
	p.near, p.far, p.nearMux = near, far, near.mux
	p.instRun = start(t, func(ctx context.Context) error {
		err := down.run(ctx, func(b []byte) error { return far.Take(b, p.handler) }, far.Flush, near.Flush)
		far.Over(err)
		return err
	})
	p.coordRun = start(t, func(ctx context.Context) error {
		err := up.run(ctx, func(b []byte) error { return near.Take(b, nearNotes{p.sink}) }, near.Flush, far.Flush)
		near.Over(err)
		return err
	})
	return p
}

func TestCarriedStateThatIsNotHereIsSaidSo(t *testing.T) {
	p := carriedPair(t, testConfig())
	l := p.near.Line(5, 9)
	l.Open(&Session{Channel: 1, State: 5, Epoch: 9, User: "u"})
	p.near.Flush()
	expectLines(t, p.handler, "open 1 5 9 u next 0 resumed false")
	far := p.far.(*Far)
	far.Uplink(5, 9).ToAll(0, []byte("before"), false)
	far.NotOwner(5, 9)
	far.Uplink(5, 8).ToSession(1, 1, []byte("late"), false)
	far.Flush()
	expectLines(t, p.sink, "all 5 9 but 0 before false", "not owner 5 9")
	if n := len(far.chans.m); n != 0 {
		t.Errorf("%d channels of it are left", n)
	}
	l.End()
	p.near.Line(5, 10).Open(&Session{Channel: 2, State: 5, Epoch: 10, User: "u"})
	p.near.Flush()
	expectLines(t, p.handler, "open 1 5 9 u next 0 resumed false", "open 2 5 10 u next 0 resumed false")
}

// What only a connection may say, and what no honest end says, is an error of Take, and nothing is handed up.
func TestCarriedFramesThatAreRefused(t *testing.T) {
	frame := func(f wire.Frame) string { return string(wire.AppendFrame(nil, &f)) }
	for _, c := range []struct{ name, said, reason string }{
		{"a heartbeat", frame(wire.Frame{Type: wire.Heartbeat}), ReasonType},
		{"an answer to none", frame(wire.Frame{Type: wire.HeartbeatAck}), ReasonType},
		{"register", frame(wire.Frame{Type: wire.Register}), ReasonType},
		{"go away", frame(wire.Frame{Type: wire.GoAway}), ReasonType},
		{"4 GiB length", "\xff\xff\xff\xff", ReasonLength},
		{"unknown type", "\x00\x00\x00\x02\xee\x00", ReasonType},
		{"half a frame", frame(wire.Frame{Type: wire.Ack, Channel: 1})[:7], ReasonFrame},
	} {
		sink, handler := newNotes(), newNotes()
		err := NewNear(newMemory(), testConfig()).Take([]byte(c.said), nearNotes{sink})
		if ReasonOf(err) != c.reason {
			t.Errorf("near, %s: %v", c.name, err)
		}
		if err := NewFar(newMemory(), testConfig()).Take([]byte(c.said), handler); ReasonOf(err) != c.reason {
			t.Errorf("far, %s: %v", c.name, err)
		}
		if said := append(sink.all(), handler.all()...); len(said) > 0 {
			t.Errorf("%s: %q", c.name, said)
		}
	}
	if err := NewFar(newMemory(), testConfig()).Take([]byte(frame(wire.Frame{Type: wire.NotOwner, State: 1})), newNotes()); err != nil {
		t.Errorf("not owner is for both ends: %v", err)
	}
}

func TestCarriedEndThatIsClosedTellsTheOther(t *testing.T) {
	p := carriedPair(t, testConfig())
	p.near.Close("taken_over")
	if reason := p.instRun.ended(t); reason != ReasonRefused {
		t.Error(reason)
	}
	select {
	case <-p.far.Done():
	case <-time.After(patience):
		t.Error("the other end is not over")
	}
}

// Once it is over nobody waits, nothing is sent, and nothing is handed up.
func TestCarriedEndThatIsOver(t *testing.T) {
	down := newMemory()
	near := NewNear(down, testConfig())
	l := near.Line(5, 9)
	s := &Session{Channel: 1, State: 5, Epoch: 9}
	l.Open(s)
	var wait <-chan struct{}
	for wait = l.Admit(30 << 10); wait == nil; wait = l.Admit(30 << 10) {
		l.Data(s, 1, make([]byte, 30<<10), false)
		near.Flush()
	}
	near.Over(io.ErrUnexpectedEOF)
	near.Over(errors.New("again"))
	select {
	case <-wait:
	case <-time.After(patience):
		t.Fatal("a caller of Admit waits for ever")
	}
	sends := down.sends
	l.Data(s, 2, []byte("more"), false)
	near.Flush()
	if down.sends != sends || l.Admit(1<<20) != nil {
		t.Error("something is sent, or somebody made to wait, after the end")
	}
	err := near.Take(wire.AppendFrame(nil, &wire.Frame{Type: wire.Credit, State: 5, Size: 1}), nearNotes{newNotes()})
	if !errors.Is(err, io.ErrUnexpectedEOF) || ReasonOf(err) != ReasonPeer {
		t.Errorf("taken after the end: %v", err)
	}
}

// Where the carrier does not keep up, a small message of one state overtakes a large one of another.
func TestCarriedStatesTakeTurns(t *testing.T) {
	down := newMemory()
	near := NewNear(down, testConfig())
	near.grant = 16 << 20
	big, small := near.Line(1, 1), near.Line(2, 1)
	a, b := &Session{Channel: 1, State: 1, Epoch: 1}, &Session{Channel: 2, State: 2, Epoch: 1}
	big.Open(a)
	small.Open(b)
	big.Data(a, 1, make([]byte, 4<<20), false)
	near.Flush()
	small.Data(b, 1, []byte("small"), false)
	near.control(&wire.Frame{Type: wire.Ack, Channel: 9, Seq: 1})
	near.Flush()
	if n := len(down.have); n > highWater+2*wire.MaxFrame {
		t.Fatalf("%d bytes are in a carrier that does not move", n)
	}
	ahead, ack := 0, -1
	for {
		batch, room := down.next(16 << 10)
		if len(batch) == 0 {
			t.Fatal("the small message never comes")
		}
		for len(batch) > 0 {
			var f wire.Frame
			body, n, err := wire.SplitFrame(batch, wire.MaxFrame)
			if err == nil {
				err = f.Decode(body)
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case f.Type == wire.Ack:
				ack = ahead
			case f.Channel == 1:
				ahead += len(f.Payload)
			case f.Type == wire.Data:
				if ahead > 512<<10 || ack < 0 {
					t.Fatalf("the small message came after %d bytes, the acknowledgement after %d", ahead, ack)
				}
				return
			}
			batch = batch[n:]
		}
		if room {
			near.Flush()
		}
	}
}

// FuzzCarried feeds whatever bytes to both ends, as one batch.
func FuzzCarried(f *testing.F) {
	var b bytes.Buffer
	for _, frame := range []wire.Frame{
		{Type: wire.Open, Channel: 1, State: 5, Epoch: 9, User: []byte("u")},
		{Type: wire.Data, Channel: 1, Seq: 1, Payload: []byte("hi")},
		{Type: wire.NotOwner, State: 5, Epoch: 9},
		{Type: wire.Broadcast, State: 5, Epoch: 9, Payload: []byte("all")},
		{Type: wire.Close, Channel: 1},
		{Type: wire.Credit, State: 5, Size: 9},
	} {
		b.Write(wire.AppendFrame(nil, &frame))
	}
	f.Add(b.Bytes())
	f.Add([]byte(strings.Repeat("\x00", 40)))
	f.Fuzz(func(t *testing.T, said []byte) {
		cfg := Default()
		cfg.MaxMessage, cfg.MaxAssembly = 1<<20, 1<<20
		near, far := NewNear(newMemory(), cfg), NewFar(newMemory(), cfg)
		near.Line(5, 9).Open(&Session{Channel: 1, State: 5, Epoch: 9, User: "u"})
		_ = near.Take(said, nearNotes{newNotes()})
		_ = far.Take(said, newNotes())
		if n := near.parts + far.parts; n > 4*len(said)+128<<10 {
			t.Fatalf("%d bytes are held for %d that came", n, len(said))
		}
		near.Flush()
		far.Flush()
	})
}

func TestAcknowledgementsAloneWaitForSomethingToGoWith(t *testing.T) {
	m := newMemory()
	f := NewFar(m, Default())
	if f.FlushUrgent() {
		t.Error("nothing waits, and it is to be flushed later")
	}
	up := f.Uplink(1, 9)
	up.AckSoon(3, 7)
	if !f.FlushUrgent() || m.Pending() != 0 {
		t.Errorf("an acknowledgement has left alone: %d bytes", m.Pending())
	}
	f.Flush()
	if b, _ := m.next(1 << 10); len(b) == 0 || f.FlushUrgent() {
		t.Errorf("after Flush %d bytes are out, and more waits", len(b))
	}
	for name, say := range map[string]func(){
		"an answer":    func() { up.ToAll(0, []byte("x"), false) },
		"what is next": func() { up.Expected(3, 8) },
		"credit":       func() { up.Consumed(window) },
		"an Ack":       func() { up.Ack(3, 8) },
	} {
		up.AckSoon(3, 7)
		say()
		if f.FlushUrgent() {
			t.Errorf("%s waits", name)
		}
		if b, _ := m.next(1 << 10); len(b) == 0 {
			t.Errorf("%s and an acknowledgement have not left", name)
		}
		if f.FlushUrgent() {
			t.Errorf("something waits after %s", name)
		}
	}
}
