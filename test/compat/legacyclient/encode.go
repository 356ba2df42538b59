package legacyclient

import "encoding/binary"

// appendUVarint writes n in groups of seven bits, the most significant first, high bit set on all but the last.
func appendUVarint(b []byte, n uint64) []byte {
	var groups [10]byte
	i := len(groups) - 1
	groups[i] = byte(n & 0x7f)
	for n >>= 7; n > 0; n >>= 7 {
		i--
		groups[i] = byte(n&0x7f) | 0x80
	}
	return append(b, groups[i:]...)
}

// appendString writes the length of s in bytes, then s.
func appendString(b []byte, s string) []byte {
	return append(appendUVarint(b, uint64(len(s))), s...)
}

// FirstB is the first message of revision B: create is byte 0, join byte 1.
func FirstB(token string, create bool, state uint64) []byte {
	if create {
		return appendString([]byte{0}, token)
	}
	return binary.BigEndian.AppendUint64(appendString([]byte{1}, token), state)
}

// FirstC is the first message of revision C.
func FirstC(token string, state uint64) []byte {
	return binary.BigEndian.AppendUint64(appendString([]byte{0}, token), state)
}

// Handshake is what a client writes first on port 7148.
func Handshake(token, app string, state uint64) []byte {
	return binary.BigEndian.AppendUint64(appendString(appendString(nil, token), app), state)
}
