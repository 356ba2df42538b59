package hathora

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// MinToken is the size of the shortest token taken on port 7148, where a shorter first length means another protocol.
	MinToken = 32
	// MaxToken is the size of the largest token in bytes.
	MaxToken = wire.MaxToken
	// MaxConnect is the size of the largest first message of a WebSocket client in bytes.
	MaxConnect = 2 * MaxToken
	// MaxTCPHandshake is the size of the largest handshake on port 7148 in bytes.
	MaxTCPHandshake = 2*maxUVarintBytes + MaxToken + maxAppText + 8

	maxAppText = 128
)

// ErrFirst says that a client's first message is of no known revision or malformed.
var ErrFirst = errors.New("malformed first message")

// First is the first message of a WebSocket client on /{appID}: revisions A, B and C.
type First struct {
	Revision byte   // 'A', 'B' or 'C'
	Token    []byte // aliases the message
	Create   bool   // B: create a state and join it. In A the second message decides.
	State    wire.StateID
}

// ParseFirst reads the first message on /{appID}. Text is revision A; binary 01 and the rest as below is B, join; 00
// is C when eight bytes follow the token, and B, create, when none do.
func ParseFirst(text bool, b []byte) (First, error) {
	if text {
		if len(b) > MaxToken {
			return First{}, ErrTooBig
		}
		return First{Revision: 'A', Token: b}, nil
	}
	if len(b) == 0 || b[0] > 1 {
		return First{}, ErrFirst
	}
	token, n, err := String(b[1:], MaxToken)
	if err != nil {
		return First{}, err
	}
	rest := b[1+n:]
	switch {
	case n > 0 && len(rest) == 8:
		f := First{Revision: 'C', Token: token, State: wire.StateID(binary.BigEndian.Uint64(rest))}
		if b[0] == 1 {
			f.Revision = 'B'
		}
		return f, nil
	case n > 0 && len(rest) == 0 && b[0] == 0:
		return First{Revision: 'B', Token: token, Create: true}, nil
	}
	return First{}, ErrFirst
}

// Append appends the message as a client writes it.
func (f *First) Append(dst []byte) []byte {
	switch {
	case f.Revision == 'A':
		return append(dst, f.Token...)
	case f.Create:
		return AppendString(append(dst, 0), f.Token)
	case f.Revision == 'B':
		dst = append(dst, 1)
	default:
		dst = append(dst, 0)
	}
	return binary.BigEndian.AppendUint64(AppendString(dst, f.Token), uint64(f.State))
}

// Connect is the first message of a WebSocket client on /connect/{appID}: revision D.
type Connect struct {
	State string `json:"stateId"` // as the client gave it, not yet parsed
	Token string `json:"token"`
}

// ParseConnect reads the first message of revision D, text or binary: keys in any order, unknown ones ignored. A
// missing stateId or token is the empty text.
func ParseConnect(b []byte) (Connect, error) {
	if len(b) > MaxConnect {
		return Connect{}, ErrTooBig
	}
	if !utf8.Valid(b) || tooDeep(b) {
		return Connect{}, fmt.Errorf("%w: not UTF-8 or nested too deeply", ErrFirst)
	}
	var c Connect
	if err := json.Unmarshal(b, &c); err != nil {
		return Connect{}, fmt.Errorf("%w: %s", ErrFirst, jsonFault(err))
	}
	if len(c.Token) > MaxToken {
		return Connect{}, ErrTooBig
	}
	return c, nil
}

// Append appends the message as the TypeScript client writes it.
func (c Connect) Append(dst []byte) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return dst, fmt.Errorf("encode first message: %w", err)
	}
	return append(dst, b...), nil
}

// TCPHandshake is what a client of port 7148 writes first. Token and App alias the bytes parsed.
type TCPHandshake struct {
	Token []byte
	App   []byte // the app id's text, not yet parsed
	State wire.StateID
}

// ParseTCPHandshake reads a handshake from the beginning of b. n is its size, so that b[n:] is the first frame; 0 when
// more bytes are needed, of which there are never more than MaxTCPHandshake. A length beyond its limit is ErrTooBig as
// soon as it is there. The caller refuses tokens shorter than MinToken.
func ParseTCPHandshake(b []byte) (h TCPHandshake, n int, err error) {
	token, k, err := String(b, MaxToken)
	if k == 0 {
		return TCPHandshake{}, 0, err
	}
	app, m, err := String(b[k:], maxAppText)
	if m == 0 {
		return TCPHandshake{}, 0, err
	}
	n = k + m + 8
	if n > len(b) {
		return TCPHandshake{}, 0, nil
	}
	return TCPHandshake{Token: token, App: app, State: wire.StateID(binary.BigEndian.Uint64(b[k+m:]))}, n, nil
}

// Append appends the handshake as a client writes it.
func (h *TCPHandshake) Append(dst []byte) []byte {
	dst = AppendString(dst, h.Token)
	dst = AppendString(dst, h.App)
	return binary.BigEndian.AppendUint64(dst, uint64(h.State))
}

// Kinds of the frames that a client writes on port 7148.
const (
	ClientData byte = 0
	ClientPong byte = 1
)

// AppendClientData appends one message as a client writes it.
func AppendClientData(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, ClientData)
	return seal(append(dst, payload...), start)
}

// AppendClientPong appends a pong as a client writes it.
func AppendClientPong(dst []byte) []byte { return append(dst, 0, 0, 0, 1, ClientPong) }

// DecodeClientFrame reads the body, as SplitFrame returned it, of a frame that a client wrote. payload aliases body.
func DecodeClientFrame(body []byte) (kind byte, payload []byte, err error) {
	switch {
	case len(body) == 0:
		return 0, nil, ErrShort
	case body[0] > ClientPong:
		return 0, nil, ErrType
	case body[0] == ClientPong && len(body) > 1:
		return 0, nil, ErrTrailing
	}
	return body[0], body[1:], nil
}

// AppendServerFrame appends one message to a client of port 7148: its length and its bytes, no kind. The body that
// SplitFrame returns on the other side is the message.
func AppendServerFrame(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	return seal(append(dst, payload...), start)
}

// FirstChunk is what the server must write before any frame on port 7148, in a segment of its own: the original SDK
// looks at the first byte of the first chunk, wants 0x00, and hands the whole chunk to the application without framing
// it. A first message that begins with 0x00 goes raw and is then delivered (sent is true); for any other, or when none
// came in time (nil), it is a single 0x00, and the message follows as a frame.
func FirstChunk(message []byte) (chunk []byte, sent bool) {
	if len(message) > 0 && message[0] == 0 {
		return message, true
	}
	return []byte{0}, false
}
