package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Sizes of the native format. A payload longer than MaxFragment travels as several frames.
const (
	MaxFragment = 32 << 10         // bytes of payload in one frame
	MaxFrame    = 34 << 10         // bytes of one whole frame, its length field included
	MaxMessage  = 16 << 20         // bytes of a message put together from fragments; nodes and apps allow less
	MaxUser     = 1 << 10          // bytes of a user's name
	MaxReason   = 123              // bytes of a reason: what fits into a WebSocket close frame
	MaxToken    = 8 << 10          // bytes of a token
	headerSize  = 4 + bodyStart    // length, type, flags
	bodyStart   = 2                // type, flags
	heldSize    = 16               // one Held
	maxHolds    = MaxFragment / 16 // Held in one frame
)

// Errors of Decode and SplitFrame. All of them end the connection: what follows cannot be trusted.
var (
	ErrShort    = errors.New("frame is shorter than its type needs")
	ErrTrailing = errors.New("frame is longer than its type allows")
	ErrType     = errors.New("frame has an unknown type")
	ErrFlags    = errors.New("frame has flags that its type does not take")
	ErrTooBig   = errors.New("frame or one of its fields is too big")
	ErrField    = errors.New("frame has a field whose value is not allowed")
)

// Frame is any native frame. Which fields travel depends on Type (see the package doc); the others are ignored by
// AppendFrame and set to zero by Decode. After Decode, User and Payload alias the bytes decoded.
type Frame struct {
	Type    Type
	Flags   Flags
	Channel uint32  // the session on this connection; 0 is the connection itself, or a client's only session
	Seq     uint64  // the stream's number; for Broadcast and NewState it only groups fragments; for Heartbeat an echo
	State   StateID //
	Epoch   Epoch   //
	Gen     Gen     //
	Conn    ConnID  //
	Stream  StreamID
	Code    Code
	Index   uint64 // Stale, Behind: a table index; Heartbeat: sessions; Gap: first number missing
	Size    uint32 // first of several fragments: bytes of the message; Credit: bytes; Heartbeat: load in permille; Token: seconds
	User    []byte // at most MaxUser bytes
	Payload []byte // at most MaxFragment bytes; in Close, StateRefuse and GoAway a reason
}

// AppendFrame appends f's bytes to dst. It allocates only if dst must grow. A reason is clipped to MaxReason. A User,
// Payload, Flags or Type that Decode would refuse is a bug of the caller, and AppendFrame panics.
func AppendFrame(dst []byte, f *Frame) []byte {
	fields, err := fieldsOf(f.Type, f.Flags)
	if err != nil {
		panic(fmt.Sprintf("wire: frame of type %d with flags %#x: %v", f.Type, f.Flags, err))
	}
	payload := f.Payload
	if fields&fReason != 0 {
		payload = ClipReason(payload)
	}
	if len(payload) > MaxFragment || len(f.User) > MaxUser {
		panic(fmt.Sprintf("wire: %v frame with %d bytes of payload and %d of user", f.Type, len(payload), len(f.User)))
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(f.Type), byte(f.Flags))
	dst = appendFields(dst, f, fields)
	if fields&(fPayload|fReason) != 0 {
		dst = append(dst, payload...)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

func appendFields(dst []byte, f *Frame, fields field) []byte {
	be := binary.BigEndian
	if fields&fChannel != 0 {
		dst = be.AppendUint32(dst, f.Channel)
	}
	if fields&fSeq != 0 {
		dst = be.AppendUint64(dst, f.Seq)
	}
	if fields&fState != 0 {
		dst = be.AppendUint64(dst, uint64(f.State))
	}
	if fields&fEpoch != 0 {
		dst = be.AppendUint64(dst, uint64(f.Epoch))
	}
	if fields&fRoute != 0 {
		dst = be.AppendUint32(dst, uint32(f.Gen))
		dst = be.AppendUint64(dst, uint64(f.Conn.Node))
		dst = be.AppendUint64(dst, f.Conn.Seq)
		dst = append(dst, f.Stream[:]...)
	}
	if fields&fCode != 0 {
		dst = be.AppendUint16(dst, uint16(f.Code))
	}
	if fields&fIndex != 0 {
		dst = be.AppendUint64(dst, f.Index)
	}
	if fields&fSize != 0 {
		dst = be.AppendUint32(dst, f.Size)
	}
	if fields&fUser != 0 {
		dst = be.AppendUint16(dst, uint16(len(f.User)))
		dst = append(dst, f.User...)
	}
	return dst
}

// Decode reads one frame's body as SplitFrame returned it: type, flags and the fields. It allocates nothing; User and
// Payload alias body. Every error is one of this package's and ends the connection.
func (f *Frame) Decode(body []byte) error {
	if len(body) < bodyStart {
		return ErrShort
	}
	if len(body) > MaxFrame-4 {
		return ErrTooBig
	}
	t, flags := Type(body[0]), Flags(body[1])
	fields, err := fieldsOf(t, flags)
	if err != nil {
		return err
	}
	*f = Frame{Type: t, Flags: flags}
	rest := body[bodyStart:]
	if len(rest) < fields.size() {
		return ErrShort
	}
	rest = f.decodeFields(rest, fields)
	if fields&fUser != 0 {
		if rest, err = f.decodeUser(rest); err != nil {
			return err
		}
	}
	return f.decodePayload(rest, fields)
}

// decodeFields reads the fields of fixed size; the caller has checked that they are there.
func (f *Frame) decodeFields(b []byte, fields field) []byte {
	be := binary.BigEndian
	if fields&fChannel != 0 {
		f.Channel, b = be.Uint32(b), b[4:]
	}
	if fields&fSeq != 0 {
		f.Seq, b = be.Uint64(b), b[8:]
	}
	if fields&fState != 0 {
		f.State, b = StateID(be.Uint64(b)), b[8:]
	}
	if fields&fEpoch != 0 {
		f.Epoch, b = Epoch(be.Uint64(b)), b[8:]
	}
	if fields&fRoute != 0 {
		f.Gen, b = Gen(be.Uint32(b)), b[4:]
		f.Conn.Node, b = NodeSession(be.Uint64(b)), b[8:]
		f.Conn.Seq, b = be.Uint64(b), b[8:]
		f.Stream, b = StreamID(b[:16]), b[16:]
	}
	if fields&fCode != 0 {
		f.Code, b = Code(be.Uint16(b)), b[2:]
	}
	if fields&fIndex != 0 {
		f.Index, b = be.Uint64(b), b[8:]
	}
	if fields&fSize != 0 {
		f.Size, b = be.Uint32(b), b[4:]
	}
	return b
}

func (f *Frame) decodeUser(b []byte) ([]byte, error) {
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	switch {
	case n > MaxUser:
		return nil, ErrTooBig
	case n > len(b):
		return nil, ErrShort
	}
	f.User = b[:n:n]
	return b[n:], nil
}

func (f *Frame) decodePayload(b []byte, fields field) error {
	switch {
	case fields&fReason != 0:
		if len(b) > MaxReason {
			return ErrTooBig
		}
	case fields&fPayload != 0:
		if len(b) > MaxFragment {
			return ErrTooBig
		}
	case len(b) > 0:
		return ErrTrailing
	}
	if fields&fFirst != 0 && (f.Size > MaxMessage || uint64(f.Size) <= uint64(len(b))) {
		return ErrField
	}
	f.Payload = b[:len(b):len(b)]
	return nil
}

// SplitFrame finds the first frame in b. n is how many bytes of b it takes, and body what Decode reads; n == 0 means
// that more bytes are needed. A whole frame of more than max bytes (at most MaxFrame) is ErrTooBig, and one too short
// for type and flags is ErrShort, both as soon as its length is there.
func SplitFrame(b []byte, max int) (body []byte, n int, err error) {
	if len(b) < 4 {
		return nil, 0, nil
	}
	size := binary.BigEndian.Uint32(b)
	if size < bodyStart {
		return nil, 0, ErrShort
	}
	if uint64(size)+4 > uint64(min(max, MaxFrame)) {
		return nil, 0, ErrTooBig
	}
	n = int(size) + 4
	if n > len(b) {
		return nil, 0, nil
	}
	return b[4:n:n], n, nil
}

// ClipReason cuts a reason to MaxReason bytes, not within a UTF-8 character.
func ClipReason[S ~string | ~[]byte](s S) S {
	if len(s) <= MaxReason {
		return s
	}
	n := MaxReason
	for n > MaxReason-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
