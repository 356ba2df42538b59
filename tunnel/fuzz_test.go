package tunnel

import (
	"context"
	"io"
	"testing"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// script is a connection that brings what it was given and then ends.
type script struct {
	stream
	said []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.said) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.said)
	s.said = s.said[n:]
	return n, nil
}

// quietSink checks that what it is handed stays within the limits.
type quietSink struct {
	*notes
	t   *testing.T
	max int
}

func (q quietSink) note(p []byte) {
	if len(p) > q.max {
		q.t.Fatalf("%d bytes were handed up", len(p))
	}
}

func (q quietSink) ToSession(_ uint32, _ uint64, p []byte, _ bool)                 { q.note(p) }
func (q quietSink) ToUser(_ wire.StateID, _ wire.Epoch, _, p []byte)               { q.note(p) }
func (q quietSink) ToAll(_ wire.StateID, _ wire.Epoch, _ uint32, p []byte, _ bool) { q.note(p) }

// FuzzNativeReader feeds whatever bytes to a native tunnel after a registration.
func FuzzNativeReader(f *testing.F) {
	frames := func(all ...wire.Frame) (b []byte) {
		for i := range all {
			b = wire.AppendFrame(b, &all[i])
		}
		return b
	}
	f.Add(frames(wire.Frame{Type: wire.Data, Channel: 1, Seq: 1, Payload: []byte("hi")},
		wire.Frame{Type: wire.Ack, Channel: 1, Seq: 1}, wire.Frame{Type: wire.Accept, Channel: 1},
		wire.Frame{Type: wire.Close, Channel: 1}, wire.Frame{Type: wire.Data, Channel: 1, Seq: 2}))
	f.Add(frames(wire.Frame{Type: wire.Data, Flags: wire.More, Channel: 1, Seq: 1, Size: 6, Payload: []byte("abc")},
		wire.Frame{Type: wire.Data, Flags: wire.Cont, Channel: 1, Seq: 1, Payload: []byte("def")}))
	f.Add(frames(wire.Frame{Type: wire.Broadcast, Flags: wire.More, State: 5, Epoch: 9, Seq: 1, Size: 1 << 20, Payload: []byte("a")},
		wire.Frame{Type: wire.NewState, State: 5}, wire.Frame{Type: wire.Credit, State: 5, Size: 1 << 31}))
	f.Add(frames(wire.Frame{Type: wire.Heartbeat, Seq: 1}, wire.Frame{Type: wire.HeartbeatAck, Seq: 1 << 63},
		wire.Frame{Type: wire.GoAway}, wire.Frame{Type: wire.StateRelease, State: 5, Epoch: 9}))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		cfg := Default()
		cfg.MaxMessage, cfg.MaxAssembly = 1<<20, 1<<20
		nc := &script{said: said}
		c := newConn(Native, nc, pipe.NewReader(nc, 4096), cfg)
		tun := newNative(c, wire.OurHello(), window)
		tun.Line(5, 9).Open(&Session{Channel: 1, State: 5, Epoch: 9, User: "u"})
		err := tun.Run(context.Background(), quietSink{newNotes(), t, cfg.MaxMessage})
		if reason := ReasonOf(err); reason == ReasonPanic {
			t.Fatal(err)
		}
		if tun.parts > 2*len(said)+64<<10 {
			t.Fatalf("%d bytes are held for %d that came", tun.parts, len(said))
		}
	})
}
