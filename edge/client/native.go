package client

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// maxNativeMessage is the largest WebSocket message of a native client: some whole frames.
const maxNativeMessage = 8 * wire.MaxFrame

// stream is what a native session has on top of others: numbers, fragments, and a token that may expire.
type stream struct {
	answer  wire.Hello
	id      wire.StreamID
	user    string
	resumed bool
	early   []byte // native frames that came with the Connect frame

	// The reader's.
	expect uint64 // the number of the client's next message
	size   uint32 // of the message that is being put together, 0 when there is none
	part   []byte // its bytes so far; pooled

	// Guarded by the session's Writer, between Acquire and Release.
	greeted bool
	sent    uint64 // the last number towards the client

	acked   atomic.Uint64
	expires atomic.Int64 // Unix milliseconds, 0 for never
	warned  int64        // the expiry that the client was warned of; the sweep's
}

// append appends one frame, on a WebSocket as a message; before the first one goes our hello.
func (st *stream) append(b []byte, proto protocol, f *wire.Frame) []byte {
	b = pipe.Grow(b, 128+len(f.Payload))
	start := len(b)
	if proto == protoWSNative {
		b = append(b, 0, 0, 0, 0)
	}
	if !st.greeted {
		st.greeted = true
		b = wire.AppendHello(b, st.answer)
	}
	b = wire.AppendFrame(b, f)
	if proto != protoWSNative {
		return b
	}
	// The head of a WebSocket frame takes two or four bytes, which is known only now.
	size := len(b) - start - 4
	b[start] = 0x80 | byte(ws.OpBinary)
	if size < 126 {
		b[start+1] = byte(size)
		copy(b[start+2:], b[start+4:])
		return b[:len(b)-2]
	}
	b[start+1] = 126
	binary.BigEndian.PutUint16(b[start+2:], uint16(size))
	return b
}

// appendConnected answers the client's Connect frame.
func (st *stream) appendConnected(b []byte, s *session) []byte {
	var space [64]byte
	body := wire.ConnectedBody{State: s.state, Next: st.expect, Down: st.sent + 1}
	b = st.append(b, s.proto, &wire.Frame{Type: wire.Connected, Payload: body.Append(space[:0])})
	if st.resumed {
		// This node has kept nothing of the stream: something before the next number may be lost.
		b = st.append(b, s.proto, &wire.Frame{Type: wire.Gap, Seq: st.sent + 1, Index: st.sent + 1})
	}
	return b
}

// appendData appends one message as one or more Data frames.
func (st *stream) appendData(b []byte, proto protocol, payload []byte, unreliable bool) []byte {
	st.sent++
	f := wire.Frame{Type: wire.Data, Seq: st.sent}
	if len(payload) <= wire.MaxFragment {
		f.Payload = payload
		if unreliable {
			f.Flags = wire.Unreliable
		}
		return st.append(b, proto, &f)
	}
	f.Flags, f.Size = wire.More, uint32(len(payload))
	for len(payload) > 0 {
		n := min(len(payload), wire.MaxFragment)
		f.Payload, payload = payload[:n], payload[n:]
		if len(payload) == 0 {
			f.Flags &^= wire.More
		}
		b = st.append(b, proto, &f)
		f.Flags |= wire.Cont
	}
	return b
}

func (st *stream) release() {
	pipe.ReturnBuffer(st.part)
	st.part = nil
}

// early handles what came in one message with the Connect frame.
func (s *session) early() (ok bool) {
	b := s.native.early
	if len(b) == 0 {
		return true
	}
	s.native.early = nil
	used, _, ok := s.nativeFrames(b)
	if ok && used < len(b) {
		s.Close(wire.CodeProtocol, "A message ends within a frame")
		ok = false
	}
	s.settle()
	return ok
}

// consumeNative handles the frames that are there, on a connection without WebSocket.
func (s *session) consumeNative() (used, need int, ok bool) {
	return s.nativeFrames(s.rd.Buffered())
}

// nativeFrames handles the whole frames in b.
func (s *session) nativeFrames(b []byte) (used, need int, ok bool) {
	var f wire.Frame
	for {
		body, n, err := wire.SplitFrame(b[used:], wire.MaxFrame)
		if err == nil && n == 0 {
			need = 4
			if rest := b[used:]; len(rest) >= 4 {
				need += int(binary.BigEndian.Uint32(rest))
			}
			return used, need, true
		}
		if err == nil {
			err = f.Decode(body)
		}
		if err != nil {
			s.Close(wire.CodeProtocol, err.Error())
			return used, 0, false
		}
		used += n
		if !s.nativeFrame(&f) {
			return used, 0, false
		}
	}
}

// nativeFrame handles one frame; false ends the session.
func (s *session) nativeFrame(f *wire.Frame) bool {
	if f.Channel != 0 {
		s.Close(wire.CodeProtocol, "A client has no channels")
		return false
	}
	switch f.Type {
	case wire.Data:
		return s.nativeData(f)
	case wire.Heartbeat:
		s.control(&wire.Frame{Type: wire.HeartbeatAck, Seq: f.Seq})
		s.reply = true
	case wire.HeartbeatAck, wire.Ack, wire.Expected, wire.GoAway:
		// Life is noted with every byte. Nothing is kept that could be sent again.
	case wire.Token:
		return s.newToken(f.Payload)
	case wire.Close:
		s.end(wire.CodeNormal, "", whyClient)
		return false
	default:
		s.Close(wire.CodeProtocol, "A client does not send "+f.Type.String())
		return false
	}
	return true
}

// nativeData takes exactly the number that is expected.
func (s *session) nativeData(f *wire.Frame) bool {
	st := s.native
	switch {
	case f.Seq < st.expect:
		s.control(&wire.Frame{Type: wire.Ack, Seq: st.acked.Load()})
		s.reply = true
		return true
	case f.Seq > st.expect:
		s.control(&wire.Frame{Type: wire.Expected, Seq: st.expect})
		s.reply = true
		return true
	}
	payload, code := st.assemble(f, s.max)
	if code != 0 {
		s.Close(code, "")
		return false
	}
	if payload == nil {
		return true
	}
	st.expect++
	ok := s.down(payload, f.Flags&wire.Unreliable != 0)
	st.release()
	return ok
}

// assemble returns the message that f completes, or nil. The size is checked against max before memory is taken.
func (st *stream) assemble(f *wire.Frame, max int) ([]byte, wire.Code) {
	first, last := f.Flags&wire.Cont == 0, f.Flags&wire.More == 0
	if first != (st.size == 0) {
		return nil, wire.CodeProtocol
	}
	if first {
		if int(f.Size) > max || len(f.Payload) > max {
			return nil, wire.CodeTooBig
		}
		if last {
			return f.Payload, 0
		}
		st.size = f.Size
		st.part = pipe.TakeBuffer(len(f.Payload))
	}
	whole := len(st.part) + len(f.Payload)
	if whole > int(st.size) || last != (whole == int(st.size)) || len(f.Payload) == 0 {
		return nil, wire.CodeProtocol
	}
	st.part = append(pipe.Grow(st.part, len(f.Payload)), f.Payload...)
	if !last {
		return nil, 0
	}
	st.size = 0
	return st.part, 0
}

// newToken prolongs a session: the token must be for the same user of the same app.
func (s *session) newToken(token []byte) bool {
	who, err := s.srv.d.Auth.Verify(token)
	if err != nil || who.App != s.app || who.User != s.native.user {
		s.Close(wire.CodeBadToken, "")
		return false
	}
	s.native.expiresAt(who.Expires)
	return true
}

func (st *stream) expiresAt(t time.Time) {
	if t.IsZero() {
		st.expires.Store(0)
		return
	}
	st.expires.Store(t.UnixMilli())
}

// checkExpiry warns a client whose token ends within a minute, and closes it when it has ended.
func (s *session) checkExpiry(now time.Time) {
	expires := s.native.expires.Load()
	if expires == 0 {
		return
	}
	left := expires - now.UnixMilli()
	switch {
	case left <= 0:
		s.Close(wire.CodeTokenExpired, "")
	case left < time.Minute.Milliseconds() && s.native.warned != expires:
		s.native.warned = expires
		s.control(&wire.Frame{Type: wire.Token, Size: uint32((left + 999) / 1000)})
		s.Flush()
	}
}
