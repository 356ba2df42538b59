package hathora

import (
	"encoding/binary"
	"errors"
	"math"
)

// MaxUVarint is the largest value that bin-serde can write.
const MaxUVarint = 1<<42 - 1

// maxUVarintBytes allows forms that are longer than they need be, as the original reader does, but not endless ones.
const maxUVarintBytes = 8

// Errors of every decoder in this package.
var (
	ErrShort    = errors.New("frame ends within a field")
	ErrTrailing = errors.New("frame goes on after its last field")
	ErrType     = errors.New("frame has an unknown type")
	ErrTooBig   = errors.New("frame or one of its fields is too big")
)

// AppendUVarint appends v, at most MaxUVarint: beyond it panics, as the original throws.
func AppendUVarint(dst []byte, v uint64) []byte {
	if v > MaxUVarint {
		panic("hathora: UVarint beyond 42 bits")
	}
	for shift := 35; shift > 0; shift -= 7 {
		if v>>shift != 0 {
			dst = append(dst, byte(v>>shift)|0x80)
		}
	}
	return append(dst, byte(v)&0x7f)
}

// UVarint reads a UVarint from the beginning of b. n is its size, 0 when more bytes are needed.
func UVarint(b []byte) (v uint64, n int, err error) {
	for i, c := range b {
		if i == maxUVarintBytes || v > MaxUVarint>>7 {
			return 0, 0, ErrTooBig
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1, nil
		}
	}
	return 0, 0, nil
}

// AppendVarint appends v zigzag-encoded: 0, -1, 1, -2 become 0, 1, 2, 3.
func AppendVarint(dst []byte, v int64) []byte {
	return AppendUVarint(dst, uint64(v)<<1^uint64(v>>63))
}

// Varint reads a zigzag-encoded number from the beginning of b. n is its size, 0 when more bytes are needed.
func Varint(b []byte) (v int64, n int, err error) {
	u, n, err := UVarint(b)
	return int64(u>>1) ^ -int64(u&1), n, err
}

// AppendFloat appends the only little-endian item of bin-serde.
func AppendFloat(dst []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
}

// Float reads a Float from the beginning of b. n is 4, or 0 when more bytes are needed.
func Float(b []byte) (v float32, n int) {
	if len(b) < 4 {
		return 0, 0
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b)), 4
}

// AppendString appends s with its length.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	return append(AppendUVarint(dst, uint64(len(s))), s...)
}

// String reads a String of at most max bytes from the beginning of b; s aliases b. n is the size of length and bytes,
// 0 when more bytes are needed. A length above max is ErrTooBig as soon as it is there.
func String(b []byte, max int) (s []byte, n int, err error) {
	size, k, err := UVarint(b)
	if k == 0 {
		return nil, 0, err
	}
	if size > uint64(max) {
		return nil, 0, ErrTooBig
	}
	n = k + int(size)
	if n > len(b) {
		return nil, 0, nil
	}
	return b[k:n:n], n, nil
}
