package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/gobwas/ws"
)

// maxHeader is the longest WebSocket frame header: 2 bytes, 8 of length, 4 of mask.
const maxHeader = 14

var errFrameTooBig = errors.New("websocket frame larger than the buffer allows")

// frame is one WebSocket frame in a read buffer, which it aliases.
type frame struct {
	op      ws.OpCode
	fin     bool
	masked  bool
	mask    [4]byte
	payload []byte
}

// splitFrame takes the first frame off b. n is its whole length, 0 when more bytes are needed; maxPayload bounds the
// payload. gobwas reads headers from an io.Reader only, which would cost two copies per message here.
func splitFrame(b []byte, maxPayload int) (f frame, n int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	f.fin = b[0]&0x80 != 0
	f.op = ws.OpCode(b[0] & 0x0f)
	f.masked = b[1]&0x80 != 0
	size, at := uint64(b[1]&0x7f), 2
	switch size {
	case 126:
		if len(b) < 4 {
			return f, 0, nil
		}
		size, at = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if len(b) < 10 {
			return f, 0, nil
		}
		size, at = binary.BigEndian.Uint64(b[2:]), 10
	}
	if size > uint64(maxPayload) {
		return f, 0, fmt.Errorf("%w: %d bytes", errFrameTooBig, size)
	}
	if f.masked {
		if len(b) < at+4 {
			return f, 0, nil
		}
		copy(f.mask[:], b[at:])
		at += 4
	}
	end := at + int(size)
	if len(b) < end {
		return f, 0, nil
	}
	f.payload = b[at:end:end]
	return f, end, nil
}

// appendServerFrame appends an unmasked, final frame.
func appendServerFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	return append(appendHeader(dst, op, len(payload), 0), payload...)
}

// appendClientFrame appends a final frame under a fresh mask.
func appendClientFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	dst = appendHeader(dst, op, len(payload), 0x80)
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	dst = append(dst, mask[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[start:], mask, 0)
	return dst
}

func appendHeader(dst []byte, op ws.OpCode, size int, maskBit byte) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case size < 126:
		return append(dst, maskBit|byte(size))
	case size < 1<<16:
		return append(dst, maskBit|126, byte(size>>8), byte(size))
	default:
		return binary.BigEndian.AppendUint64(append(dst, maskBit|127), uint64(size))
	}
}

// clientFrames is what one connection repeats: count frames of one payload, each under a mask of its own, in one
// buffer, so that any number of them up to count is one write.
type clientFrames struct {
	bytes []byte
	each  int
}

func newClientFrames(payload []byte, count int) clientFrames {
	var c clientFrames
	for range count {
		c.bytes = appendClientFrame(c.bytes, ws.OpBinary, payload)
	}
	c.each = len(c.bytes) / count
	return c
}

// first returns the bytes of n frames.
func (c clientFrames) first(n int) []byte { return c.bytes[:n*c.each] }
