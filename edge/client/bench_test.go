package client

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// blackHole is a seat that counts.
type blackHole struct{ messages int }

func (b *blackHole) Down([]byte, bool) error { b.messages++; return nil }
func (b *blackHole) Drained()                {}
func (b *blackHole) Leave()                  {}

// pair is a connected session without a reader goroutine, and its client.
func pair(b testing.TB, proto protocol) (*session, *blackHole, net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	cfg := Default()
	cfg.PlainHTTP = true
	srv, err := New(cfg, Deps{
		Router: newFakeRouter(), Auth: fakeAuth{}, Policy: func(wire.AppID) (bool, int) { return true, 1 << 20 },
		Handler: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	v := &visit{srv: srv, pc: pipe.NewConn(nc, pipe.Options{})}
	v.nc = v.pc
	v.rd = pipe.NewReader(v.nc, headBuffer)
	s := v.session(proto)
	hole := &blackHole{}
	s.seat, s.max, s.in.max = hole, 1<<20, 1<<20
	if proto == protoWSNative || proto == protoTCPNative {
		s.native = &stream{answer: wire.OurHello(), expect: 1, greeted: true}
	}
	b.Cleanup(func() { _, _ = c.Close(), s.pc.Close() })
	return s, hole, c
}

// batch is eight messages of 64 bytes as a client writes them.
func batch(proto protocol, seq uint64) []byte {
	var b []byte
	payload := make([]byte, 64)
	for i := range uint64(8) {
		switch proto {
		case protoWS:
			b = appendMasked(b, 0x82, payload)
		case protoTCP:
			b = hathora.AppendClientData(b, payload)
		default:
			f := wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Seq: seq + i, Payload: payload})
			if proto == protoWSNative {
				f = appendMasked(nil, 0x82, f)
			}
			b = append(b, f...)
		}
	}
	return b
}

// BenchmarkDown is the way of eight messages from the socket to the seat; it must not allocate.
func BenchmarkDown(b *testing.B) {
	for p := range protocols {
		b.Run(protocolNames[p], func(b *testing.B) {
			s, hole, c := pair(b, p)
			in := batch(p, 1)
			b.ReportAllocs()
			for range b.N {
				if s.native != nil {
					s.native.expect = 1
				}
				if _, err := c.Write(in); err != nil {
					b.Fatal(err)
				}
				for want := hole.messages + 8; hole.messages < want; {
					if _, err := s.rd.Fill(1); err != nil {
						b.Fatal(err)
					}
					if _, ok := s.consume(); !ok {
						b.Fatal("session ended")
					}
				}
			}
		})
	}
}

// BenchmarkUp is the way of eight messages from Deliver to the socket; it must not allocate.
func BenchmarkUp(b *testing.B) {
	for p := range protocols {
		b.Run(protocolNames[p], func(b *testing.B) {
			s, _, c := pair(b, p)
			payload, in := make([]byte, 64), make([]byte, 64<<10)
			size := len(upBatch(s, payload))
			b.ReportAllocs()
			for range b.N {
				for range 8 {
					s.Deliver(payload, false)
				}
				s.Flush()
				if _, err := io.ReadFull(c, in[:size]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// upBatch is what eight messages look like on the wire.
func upBatch(s *session, payload []byte) []byte {
	for range 8 {
		s.Deliver(payload, false)
	}
	b := append([]byte(nil), s.w.Acquire()...)
	s.w.Release(nil)
	return b
}

func TestFramesDoNotAllocate(t *testing.T) {
	for p := range protocols {
		s, hole, c := pair(t, p)
		in, payload, echo := batch(p, 1), make([]byte, 64), make([]byte, 64<<10)
		size := len(upBatch(s, payload))
		once := func() {
			if s.native != nil {
				s.native.expect = 1
			}
			_, _ = c.Write(in)
			for want := hole.messages + 8; hole.messages < want; {
				if _, err := s.rd.Fill(1); err != nil {
					t.Fatal(err)
				}
				s.consume()
			}
			for range 8 {
				s.Deliver(payload, false)
			}
			s.Flush()
			_, _ = io.ReadFull(c, echo[:size])
		}
		once()
		if n := testing.AllocsPerRun(200, once); n >= 1 && !raceEnabled {
			t.Errorf("%s: %v allocations for eight messages each way", protocolNames[p], n)
		}
		if s.w.Queued() != 0 || !s.rd.Drained() {
			t.Errorf("%s: something is left", protocolNames[p])
		}
	}
}
