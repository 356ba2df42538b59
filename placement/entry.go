package placement

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

// An entry is what a log carries: one version byte and then commands, each
//
//	u8 kind | u24 length | body
//
// with integers in big endian and texts behind a u16 length. An entry without a command changes nothing but the index. A
// body that is longer or shorter than its kind says, a
// text beyond its limit, a flag nobody knows: the entry is refused whole.
const entryVersion = 1

// ErrEntry is wrapped by what Apply answers for an entry that this program does not understand. Whoever replays a log
// must stop there: going on would make this table differ from others.
var ErrEntry = errors.New("entry not understood")

// Kind tells commands apart in an entry. Numbers are never reused.
type Kind uint8

// The kinds of commands.
const (
	KindForm        Kind = 1
	KindOpenSession Kind = 2
	KindEndSession  Kind = 3
	KindPutKey      Kind = 4
	KindRemoveKey   Kind = 5
	KindBindNode    Kind = 6
	KindRevoke      Kind = 7
	KindUnbind      Kind = 8
	KindRecover     Kind = 9
	KindRequest     Kind = 10
	KindRegister    Kind = 16
	KindGone        Kind = 17
	KindDrain       Kind = 18
	KindCreate      Kind = 32
	KindMove        Kind = 33
	KindFirm        Kind = 34
	KindRemove      Kind = 35
	KindRelease     Kind = 36
	KindUntaint     Kind = 37
	KindClaim       Kind = 38
	KindSetApp      Kind = 48
	KindDeleteApp   Kind = 49
)

// Command is one change that the table makes or refuses by itself, by comparing what the command expects. Nothing of
// its outcome depends on anything but the table, the command and the index.
type Command interface {
	Kind() Kind
	append(dst []byte) []byte
	decode(r *reader)
	apply(c *content, index uint64) Result
}

// newCommand returns an empty command of a kind, nil for one that is not known.
func newCommand(k Kind) Command {
	switch k {
	case KindRegister:
		return new(Register)
	case KindGone:
		return new(Gone)
	case KindDrain:
		return new(Drain)
	case KindCreate:
		return new(Create)
	case KindMove:
		return new(Move)
	case KindFirm:
		return new(Firm)
	case KindRemove:
		return new(Remove)
	case KindRelease:
		return new(Release)
	case KindUntaint:
		return new(Untaint)
	case KindClaim:
		return new(Claim)
	case KindSetApp:
		return new(SetApp)
	case KindDeleteApp:
		return new(DeleteApp)
	}
	return newNodeCommand(k)
}

// newNodeCommand is newCommand for what is about nodes.
func newNodeCommand(k Kind) Command {
	switch k {
	case KindForm:
		return new(Form)
	case KindOpenSession:
		return new(OpenSession)
	case KindEndSession:
		return new(EndSession)
	case KindPutKey:
		return new(PutKey)
	case KindRemoveKey:
		return new(RemoveKey)
	case KindBindNode:
		return new(BindNode)
	case KindRevoke:
		return new(Revoke)
	case KindUnbind:
		return new(Unbind)
	case KindRecover:
		return new(Recover)
	case KindRequest:
		return new(Request)
	}
	return nil
}

// Outcome says what became of a command.
type Outcome uint8

// The outcomes.
const (
	Done       Outcome = iota + 1
	Stale              // what the command expected is not so (any more)
	Held               // Register: a live attachment stands under the name; Result names it
	NoInstance         // the instance named is not live or not the app's
	NoApp              // no such app, or one being deleted
	Full               // a limit is reached
	Again              // this index has made such a change already: propose it once more
	Refused            // never possible with this table: not formed, a field that contradicts another
	Denied             // the node is revoked, or bound to another key
)

// Result is what a command did. Fields beside Outcome are set where they say so.
type Result struct {
	Outcome  Outcome
	Epoch    wire.Epoch       // Create, Move, Claim: the new epoch
	Instance wire.InstanceID  // Register: the instance, or the one that holds the name
	Gen      wire.Gen         // Register: likewise
	Node     wire.NodeSession // OpenSession: the session; Register held: where it is attached
	// Known says of a Register that the instance was known and this is a new attachment of it, and of a Request that it
	// was applied before and that the results after it are those of then.
	Known bool
}

// AppendEntry appends an entry of commands to dst. What a command carries beyond the limits of this package is
// refused by Apply, so check before; the whole may have at most MaxEntry bytes.
func AppendEntry(dst []byte, commands ...Command) []byte {
	dst = append(dst, entryVersion)
	for _, c := range commands {
		dst = AppendCommand(dst, c)
	}
	return dst
}

// AppendCommand appends one more command to an entry that AppendEntry began.
func AppendCommand(dst []byte, c Command) []byte {
	start := len(dst)
	dst = append(dst, byte(c.Kind()), 0, 0, 0)
	dst = c.append(dst)
	n := len(dst) - start - 4
	dst[start+1], dst[start+2], dst[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return dst
}

// DecodeEntry returns the commands of an entry. They do not alias it. The error wraps ErrEntry.
func DecodeEntry(entry []byte) ([]Command, error) {
	switch {
	case len(entry) > MaxEntry:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrEntry, len(entry), MaxEntry)
	case len(entry) == 0:
		return nil, fmt.Errorf("%w: empty", ErrEntry)
	case entry[0] != entryVersion:
		return nil, fmt.Errorf("%w: version %d, this program knows %d", ErrEntry, entry[0], entryVersion)
	}
	var commands []Command
	for b := entry[1:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: cut off after %d commands", ErrEntry, len(commands))
		}
		kind, n := Kind(b[0]), int(b[1])<<16|int(b[2])<<8|int(b[3])
		c := newCommand(kind)
		if c == nil {
			return nil, fmt.Errorf("%w: command kind %d", ErrEntry, kind)
		}
		if n > len(b)-4 {
			return nil, fmt.Errorf("%w: command kind %d cut off", ErrEntry, kind)
		}
		r := reader{b: b[4 : 4+n]}
		c.decode(&r)
		if r.bad || len(r.b) > 0 {
			return nil, fmt.Errorf("%w: body of command kind %d", ErrEntry, kind)
		}
		commands = append(commands, c)
		b = b[4+n:]
	}
	return commands, nil
}

// reader takes fields off b. After the first that is not there or not allowed everything is zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.fail()
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// upTo reads a byte that is at most limit: a flag, a choice.
func (r *reader) upTo(limit uint8) uint8 {
	v := r.u8()
	if v > limit {
		r.fail()
		return 0
	}
	return v
}

func (r *reader) bool() bool { return r.upTo(1) == 1 }

// bytes returns a copy of a field of at most limit bytes, nil when it is empty.
func (r *reader) bytes(limit int) []byte {
	n := int(r.u16())
	if n > limit {
		r.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	return append([]byte(nil), r.take(n)...)
}

func (r *reader) text(limit int) string { return string(r.bytes(limit)) }

func (r *reader) app() (id wire.AppID)   { copy(id[:], r.take(32)); return id }
func (r *reader) hash() (h [32]byte)     { copy(h[:], r.take(32)); return h }
func (r *reader) id128() (v [16]byte)    { copy(v[:], r.take(16)); return v }
func (r *reader) state() wire.StateID    { return wire.StateID(r.u64()) }
func (r *reader) epoch() wire.Epoch      { return wire.Epoch(r.u64()) }
func (r *reader) inst() wire.InstanceID  { return wire.InstanceID(r.u64()) }
func (r *reader) node() wire.NodeSession { return wire.NodeSession(r.u64()) }

func appendU16(dst []byte, v int) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendU32[T ~uint32](dst []byte, v T) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(v))
}

func appendU64[T ~uint64 | ~int64](dst []byte, v T) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v))
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendText[T ~string | ~[]byte](dst []byte, v T) []byte {
	return append(appendU16(dst, len(v)), v...)
}
