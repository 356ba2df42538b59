package wire

import (
	"encoding/binary"
	"errors"
)

// Magic begins every native connection.
const Magic = "TRK1"

// HelloSize is the number of bytes of a Hello.
const HelloSize = len(Magic) + 6

// Versions of the native protocol that this package speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Features are optional parts of the protocol; a connection uses those that both ends name. None exists yet.
type Features uint32

// Hello is the prefix of a native connection in each direction: which versions and features its sender can speak. In
// the answer Min and Max are the version chosen, and Features those in use.
type Hello struct {
	Min, Max uint8
	Features Features
}

var (
	// ErrMagic says that the peer does not speak the native protocol.
	ErrMagic = errors.New("connection does not begin with TRK1")
	// ErrVersion says that two version ranges do not meet, or that one is empty.
	ErrVersion = errors.New("no common protocol version")
)

// OurHello is what this package can speak.
func OurHello() Hello { return Hello{Min: MinVersion, Max: MaxVersion} }

// AppendHello appends h's HelloSize bytes to dst.
func AppendHello(dst []byte, h Hello) []byte {
	dst = append(dst, Magic...)
	dst = append(dst, h.Min, h.Max)
	return binary.BigEndian.AppendUint32(dst, uint32(h.Features))
}

// ParseHello reads a Hello from the beginning of b. n is HelloSize, or 0 when more bytes are needed. ErrMagic is
// returned at the first byte that differs, ErrVersion for a range that is empty or begins at 0.
func ParseHello(b []byte) (h Hello, n int, err error) {
	k := min(len(b), len(Magic))
	if string(b[:k]) != Magic[:k] {
		return Hello{}, 0, ErrMagic
	}
	if len(b) < HelloSize {
		return Hello{}, 0, nil
	}
	h = Hello{Min: b[4], Max: b[5], Features: Features(binary.BigEndian.Uint32(b[6:]))}
	if h.Min == 0 || h.Min > h.Max {
		return Hello{}, 0, ErrVersion
	}
	return h, HelloSize, nil
}

// Answer chooses the highest version and the features that both sides know. The result has Min == Max; it is what the
// accepting side sends back, and what both sides then speak. Ranges that do not meet are ErrVersion.
func (h Hello) Answer(theirs Hello) (Hello, error) {
	v := min(h.Max, theirs.Max)
	if v < h.Min || v < theirs.Min {
		return Hello{}, ErrVersion
	}
	return Hello{Min: v, Max: v, Features: h.Features & theirs.Features}, nil
}

// Check is for the side that spoke first: it says whether answer chose one version and features that h offered.
func (h Hello) Check(answer Hello) error {
	if answer.Min != answer.Max || answer.Min < h.Min || answer.Min > h.Max || answer.Features&^h.Features != 0 {
		return ErrVersion
	}
	return nil
}
