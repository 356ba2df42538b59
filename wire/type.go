package wire

import "fmt"

// Type is what a frame means.
type Type uint8

// The frame types. 0 is none, so that a run of zero bytes is no frame.
const (
	Open Type = 1 + iota
	Data
	Close
	Ack
	Expected
	Stale
	Behind
	Accept
	Credit
	Broadcast
	NewState
	StateAccept
	StateRefuse
	StateRelease
	StateReleased
	NotOwner
	Heartbeat
	HeartbeatAck
	GoAway
	Register
	Registered
	Hold
	Connect
	Connected
	Gap
	Token
	typeEnd
)

// Flags qualify a frame. A flag that its type does not take is refused.
type Flags uint8

// The flags. Except and ToUser exclude each other; a Broadcast with neither goes to everyone in the state.
const (
	More       Flags = 1 << iota // further fragments of this message follow
	Cont                         // this fragment continues a message
	Unreliable                   // may be dropped rather than delay others; never fragmented
	Resumed                      // Open, Connect: the stream existed before
	Except                       // Broadcast: everyone but the session on Channel
	ToUser                       // Broadcast: the sessions of User only
)

// field is one column of a frame's layout; the fields of a frame stand in this order.
type field uint16

const (
	fChannel field = 1 << iota // u32
	fSeq                       // u64
	fState                     // u64
	fEpoch                     // u64
	fRoute                     // gen u32, conn 2 x u64, stream 16 bytes
	fCode                      // u16
	fIndex                     // u64
	fSize                      // u32
	fUser                      // u16 length, bytes
	fPayload                   // the rest
	fReason                    // the rest, at most MaxReason
	fFirst                     // no bytes: Size is there since this is the first of several fragments
)

type layout struct {
	name   string
	fields field
	flags  Flags
}

var layouts = [typeEnd]layout{
	Open:          {"open", fChannel | fSeq | fState | fEpoch | fRoute | fUser, Resumed},
	Data:          {"data", fChannel | fSeq | fPayload, More | Cont | Unreliable},
	Close:         {"close", fChannel | fSeq | fCode | fReason, 0},
	Ack:           {"ack", fChannel | fSeq, 0},
	Expected:      {"expected", fChannel | fSeq, 0},
	Stale:         {"stale", fChannel | fIndex, 0},
	Behind:        {"behind", fChannel | fIndex, 0},
	Accept:        {"accept", fChannel, 0},
	Credit:        {"credit", fState | fSize, 0},
	Broadcast:     {"broadcast", fSeq | fState | fEpoch | fPayload, More | Cont | Unreliable | Except | ToUser},
	NewState:      {"new_state", fSeq | fState | fEpoch | fUser | fPayload, More | Cont},
	StateAccept:   {"state_accept", fState | fEpoch, 0},
	StateRefuse:   {"state_refuse", fState | fEpoch | fCode | fReason, 0},
	StateRelease:  {"state_release", fState | fEpoch, 0},
	StateReleased: {"state_released", fState | fEpoch, 0},
	NotOwner:      {"not_owner", fState | fEpoch, 0},
	Heartbeat:     {"heartbeat", fSeq | fIndex | fSize, 0},
	HeartbeatAck:  {"heartbeat_ack", fSeq, 0},
	GoAway:        {"go_away", fCode | fReason, 0},
	Register:      {"register", fPayload, 0},
	Registered:    {"registered", fPayload, 0},
	Hold:          {"hold", fPayload, 0},
	Connect:       {"connect", fPayload, Resumed},
	Connected:     {"connected", fPayload, 0},
	Gap:           {"gap", fChannel | fSeq | fIndex, 0},
	Token:         {"token", fSize | fPayload, 0},
}

// fieldsOf is what a frame of this type with these flags carries.
func fieldsOf(t Type, flags Flags) (field, error) {
	if t == 0 || t >= typeEnd {
		return 0, ErrType
	}
	l := &layouts[t]
	fields := l.fields
	if flags == 0 {
		return fields, nil
	}
	if flags&^l.flags != 0 || flags&(Except|ToUser) == Except|ToUser ||
		flags&Unreliable != 0 && flags&(More|Cont) != 0 {
		return 0, ErrFlags
	}
	switch {
	case flags&Except != 0:
		fields |= fChannel
	case flags&ToUser != 0:
		fields |= fUser
	}
	if flags&(More|Cont) == More {
		fields |= fSize | fFirst
	}
	return fields, nil
}

// fixedSize is the size of each field; 2 of a user is its length.
var fixedSize = [...]uint8{4, 8, 8, 8, 36, 2, 8, 4, 2, 0, 0, 0}

// size is how many bytes the fields take at least.
func (f field) size() int {
	n := 0
	for i := range fixedSize {
		if f&(1<<i) != 0 {
			n += int(fixedSize[i])
		}
	}
	return n
}

// String is the type's name in lower case, for metrics and logs.
func (t Type) String() string {
	if t == 0 || t >= typeEnd {
		return fmt.Sprintf("type_%d", uint8(t))
	}
	return layouts[t].name
}
