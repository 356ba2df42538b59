package tunnel

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// silentSink takes everything and keeps nothing.
type silentSink struct{ *notes }

func (silentSink) ToSession(uint32, uint64, []byte, bool)               {}
func (silentSink) ToUser(wire.StateID, wire.Epoch, []byte, []byte)      {}
func (silentSink) ToAll(wire.StateID, wire.Epoch, uint32, []byte, bool) {}
func (silentSink) Acked(uint32, uint64)                                 {}

// stream is a connection whose reads repeat the same frames and whose writes
// vanish, so that a benchmark measures the tunnel alone.
type stream struct {
	net.Conn
	frames []byte
	at     int
	left   int // bytes to bring in all
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, s.frames[s.at:])
	s.at = (s.at + n) % len(s.frames)
	s.left -= n
	return n, nil
}

func (s *stream) Write(p []byte) (int, error)      { return len(p), nil }
func (s *stream) Close() error                     { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// nowhere is a Carrier that always has room.
type nowhere struct{}

func (nowhere) Send([]byte) error { return nil }
func (nowhere) Pending() int      { return 0 }

// quietNear is silentSink for a Near.
type quietNear struct{ silentSink }

// forwarders are the ways of a frame; each returns the work for n frames.
func forwarders() map[string]func() func(n int) {
	payload := make([]byte, 64)
	session := &Session{Channel: 1, State: 5, Epoch: 9, User: "alice"}
	open := func(kind Kind, frames []byte) (*stream, *conn) {
		nc := &stream{frames: frames}
		return nc, newConn(kind, nc, pipe.NewReader(nc, readBuffer), Default())
	}
	repeat := func(frame []byte) (all []byte) {
		for range 100 {
			all = append(all, frame...)
		}
		return all
	}
	out := func(l Line, flush func()) func(n int) {
		return func(n int) {
			for i := range n {
				if l.Admit(len(payload)) == nil {
					l.Data(session, uint64(i), payload, false)
				}
				if i%8 == 7 {
					flush()
				}
			}
		}
	}
	return map[string]func() func(n int){
		"carried/out": func() func(n int) {
			near := NewNear(nowhere{}, Default())
			near.grant = 1 << 62
			near.Line(5, 9).(nativeLine).l.credit = near.grant
			near.Line(5, 9).Open(session)
			return out(near.Line(5, 9), near.Flush)
		},
		"carried/in": func() func(n int) {
			near := NewNear(nowhere{}, Default())
			near.Line(5, 9).Open(session)
			frame := wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Channel: 1, Seq: 1, Payload: payload})
			frame = wire.AppendFrame(frame, &wire.Frame{Type: wire.Ack, Channel: 1, Seq: 1})
			batch, quiet := repeat(frame), NearSink(quietNear{silentSink{newNotes()}})
			return func(n int) {
				for ; n > 0; n -= 100 {
					_ = near.Take(batch, quiet)
					near.Flush()
				}
			}
		},
		"legacy/out": func() func(n int) {
			_, c := open(Legacy, nil)
			t := newLegacy(c)
			return out(t.Line(5, 9), t.Flush)
		},
		"native/out": func() func(n int) {
			_, c := open(Native, nil)
			t := newNative(c, wire.OurHello(), 1<<62)
			t.Line(5, 9).Open(session)
			return out(t.Line(5, 9), t.Flush)
		},
		"legacy/in": func() func(n int) {
			frame := hathora.AppendSendMessage(nil, 5, "alice", payload)
			nc, c := open(Legacy, repeat(frame))
			t := newLegacy(c)
			return func(n int) { nc.left = n * len(frame); _ = t.read(silentSink{}.orNotes()) }
		},
		"native/in": func() func(n int) {
			frame := wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Channel: 1, Seq: 1, Payload: payload})
			frame = wire.AppendFrame(frame, &wire.Frame{Type: wire.Ack, Channel: 1, Seq: 1})
			nc, c := open(Native, repeat(frame))
			t := newNative(c, wire.OurHello(), window)
			t.Line(5, 9).Open(session)
			sink := silentSink{}.orNotes()
			return func(n int) {
				nc.left = n * len(frame)
				_ = t.split(func(f *wire.Frame) error { return t.take(f, sink) }, sink.Drained)
			}
		},
	}
}

func (silentSink) orNotes() Sink { return silentSink{newNotes()} }

func BenchmarkForward(b *testing.B) {
	for name, prepare := range forwarders() {
		b.Run(name, func(b *testing.B) {
			forward := prepare()
			b.ReportAllocs()
			b.ResetTimer()
			forward(b.N)
		})
	}
}

// A forwarded frame takes no memory, in either direction and kind.
func TestForwardingTakesNoMemoryPerFrame(t *testing.T) {
	if raced {
		t.Skip("pools forget under the race detector")
	}
	for name, prepare := range forwarders() {
		forward := prepare()
		forward(10_000)
		const frames = 10_000
		if n := testing.AllocsPerRun(5, func() { forward(frames) }); n > frames/1000 {
			t.Errorf("%s: %v allocations for %d frames", name, n, frames)
		}
	}
}
