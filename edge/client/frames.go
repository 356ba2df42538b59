package client

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	maxFragments = 1024 // frames of one WebSocket message
	maxControl   = 125  // bytes of a control frame
	maxWSHeader  = 10   // bytes before the payload of a frame that we write
)

// frames is the incoming half of a WebSocket: it takes frames apart in place, checks them, and puts messages together.
// The zero value with max set is ready.
type frames struct {
	max   int       // bytes of a message
	op    ws.OpCode // of the message that is being put together
	count uint16    // its frames so far, 0 when there is none
	part  []byte    // its bytes so far; pooled
}

// frame is one message (opText, opBinary) or control frame. Payload aliases the input, or memory of frames, and is
// valid until the next call.
type frame struct {
	op      ws.OpCode
	payload []byte
}

// opNothing is the op of a frame that is used up but completes nothing.
const opNothing = ws.OpContinuation

// next takes the first frame off b and unmasks it where it stands. n is how many bytes it took. n == 0 with need > 0
// asks for at least need bytes in all. A code other than 0 ends the connection; it is returned before memory is taken
// for what is refused.
func (f *frames) next(b []byte) (in frame, n, need int, code wire.Code) {
	if f.count == 0 && f.part != nil {
		f.release()
	}
	if len(b) < 2 {
		return in, 0, 2, 0
	}
	op, fin := ws.OpCode(b[0]&0x0f), b[0]&0x80 != 0
	size, headSize := int(b[1]&0x7f), 6
	if b[0]&0x70 != 0 || b[1]&0x80 == 0 || !f.opAllowed(op, fin, size) {
		return in, 0, 0, wire.CodeProtocol
	}
	switch size {
	case 126:
		headSize = 8
	case 127:
		headSize = 14
	}
	if len(b) < headSize {
		return in, 0, headSize, 0
	}
	switch size {
	case 126:
		size = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		long := binary.BigEndian.Uint64(b[2:])
		if long > uint64(f.max) {
			return in, 0, 0, wire.CodeTooBig
		}
		size = int(long)
	}
	if !op.IsControl() && (len(f.part)+size > f.max || f.count == maxFragments) {
		return in, 0, 0, wire.CodeTooBig
	}
	n = headSize + size
	if len(b) < n {
		return in, 0, n, 0
	}
	payload := b[headSize:n:n]
	ws.Cipher(payload, [4]byte(b[headSize-4:headSize]), 0)
	in, code = f.take(op, fin, payload)
	return in, n, 0, code
}

// opAllowed checks an opcode against its own rules and against the message that is being put together.
func (f *frames) opAllowed(op ws.OpCode, fin bool, size int) bool {
	switch op {
	case ws.OpText, ws.OpBinary:
		return f.count == 0
	case ws.OpContinuation:
		return f.count > 0
	case ws.OpPing, ws.OpPong, ws.OpClose:
		return fin && size <= maxControl
	}
	return false
}

// take adds an unmasked payload to what is there.
func (f *frames) take(op ws.OpCode, fin bool, payload []byte) (frame, wire.Code) {
	switch {
	case op.IsControl():
		return frame{op, payload}, 0
	case !fin || op == ws.OpContinuation:
		if f.count == 0 {
			f.op = op
			f.part = pipe.TakeBuffer(len(payload))
		}
		f.count++
		f.part = append(pipe.Grow(f.part, len(payload)), payload...)
		if !fin {
			return frame{op: opNothing}, 0
		}
		f.count, op, payload = 0, f.op, f.part
	}
	if op == ws.OpText && !utf8.Valid(payload) {
		return frame{}, wire.CodeBadData
	}
	return frame{op, payload}, 0
}

// release lets go of a message's memory.
func (f *frames) release() {
	pipe.ReturnBuffer(f.part)
	f.part, f.count = nil, 0
}

// parseClose reads the payload of a close frame. The code to answer with is the client's, 1000 when it gave none, or
// what is wrong with it.
func parseClose(payload []byte) wire.Code {
	switch {
	case len(payload) == 0:
		return wire.CodeNormal
	case len(payload) == 1:
		return wire.CodeProtocol
	}
	code := wire.Code(binary.BigEndian.Uint16(payload))
	switch {
	case !code.Sendable():
		return wire.CodeProtocol
	case !utf8.Valid(payload[2:]):
		return wire.CodeBadData
	}
	return code
}

// appendFrameHead appends the head of an unfragmented, unmasked frame.
func appendFrameHead(dst []byte, op ws.OpCode, size int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case size < 126:
		return append(dst, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
}

// appendMessage appends a whole frame, moving to a larger pooled buffer if it has to.
func appendMessage[P ~string | ~[]byte](dst []byte, op ws.OpCode, payload P) []byte {
	dst = pipe.Grow(dst, maxWSHeader+len(payload))
	return append(appendFrameHead(dst, op, len(payload)), payload...)
}

// appendClose appends a close frame; the reason is clipped to what fits.
func appendClose(dst []byte, code wire.Code, reason string) []byte {
	reason = wire.ClipReason(reason)
	dst = pipe.Grow(dst, maxWSHeader+2+len(reason))
	dst = appendFrameHead(dst, ws.OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}
