package hathora

import (
	"encoding/binary"
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// MaxFrame is the size of the largest frame, its length field included: the length begins with 0x00.
	MaxFrame = 4 + 1<<24 - 1
	// MaxPayload is the largest message that is certain to fit into a frame with any user (at most wire.MaxUser bytes).
	MaxPayload = 15 << 20
)

// Types of the frames that the coordinator writes to a store.
const (
	NewState    byte = 0
	Subscribe   byte = 1
	Unsubscribe byte = 2
	Message     byte = 3
	Connected   byte = 4
)

// Types of the frames that a store writes to the coordinator.
const (
	SendMessage     byte = 0
	CloseConnection byte = 1
	Ping            byte = 2
)

// StoreFrame is one frame of port 7147 in either direction. User and Data alias the bytes decoded.
type StoreFrame struct {
	Type  byte
	State wire.StateID
	User  []byte // for Connected the app's id
	Data  []byte
}

// AppendNewState appends NEW_STATE with the body of the create request as it came.
func AppendNewState(dst []byte, state wire.StateID, user string, data []byte) []byte {
	return appendStore(dst, NewState, state, user, data)
}

// AppendSubscribe appends SUBSCRIBE_USER.
func AppendSubscribe(dst []byte, state wire.StateID, user string) []byte {
	return appendStore(dst, Subscribe, state, user, nil)
}

// AppendUnsubscribe appends UNSUBSCRIBE_USER.
func AppendUnsubscribe(dst []byte, state wire.StateID, user string) []byte {
	return appendStore(dst, Unsubscribe, state, user, nil)
}

// AppendMessage appends MESSAGE: one message of a client, which may be empty.
func AppendMessage(dst []byte, state wire.StateID, user string, data []byte) []byte {
	return appendStore(dst, Message, state, user, data)
}

// AppendConnected appends CONNECTED. Only server-sdk 0.5.0 understands it; older ones crash.
func AppendConnected(dst []byte, appID string) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, Connected)
	return seal(AppendString(dst, appID), start)
}

// AppendSendMessage appends SEND_MESSAGE, as a store does.
func AppendSendMessage(dst []byte, state wire.StateID, user string, data []byte) []byte {
	return appendStore(dst, SendMessage, state, user, data)
}

// AppendCloseConnection appends CLOSE_CONNECTION, as a store does.
func AppendCloseConnection(dst []byte, state wire.StateID, user string) []byte {
	return appendStore(dst, CloseConnection, state, user, nil)
}

// AppendPing appends PING, as a store does every 10 s.
func AppendPing(dst []byte) []byte { return append(dst, 0, 0, 0, 1, Ping) }

func appendStore(dst []byte, kind byte, state wire.StateID, user string, data []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, kind)
	dst = binary.BigEndian.AppendUint64(dst, uint64(state))
	dst = AppendString(dst, user)
	return seal(append(dst, data...), start)
}

// seal writes the length of the frame that began at start. A frame beyond MaxFrame is a bug of the caller.
func seal(dst []byte, start int) []byte {
	if len(dst)-start > MaxFrame {
		panic(fmt.Sprintf("hathora: frame of %d bytes", len(dst)-start))
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// FrameSize is the size of the whole frame that begins with b, its length field included; 0 when b has fewer than 4
// bytes. With it frames can be skipped without holding them. At or above 16 MiB it is ErrTooBig.
func FrameSize(b []byte) (int, error) {
	if len(b) < 4 {
		if len(b) > 0 && b[0] != 0 {
			return 0, ErrTooBig
		}
		return 0, nil
	}
	n := uint64(binary.BigEndian.Uint32(b)) + 4
	if n > MaxFrame {
		return 0, ErrTooBig
	}
	return int(n), nil
}

// SplitFrame finds the first frame in b, for ports 7147 and 7148 in both directions. n is how many bytes of b it takes
// and body what follows its length, which may be empty; n == 0 means that more bytes are needed (FrameSize tells how
// many in all). A frame of more than max bytes in all is ErrTooBig as soon as its length is there.
func SplitFrame(b []byte, max int) (body []byte, n int, err error) {
	n, err = FrameSize(b)
	if err != nil {
		return nil, 0, err
	}
	if n > max {
		return nil, 0, ErrTooBig
	}
	if n == 0 || n > len(b) {
		return nil, 0, nil
	}
	return b[4:n:n], n, nil
}

// DecodeFromStore reads the body of a frame that a store wrote.
func DecodeFromStore(body []byte) (StoreFrame, error) {
	switch {
	case len(body) == 0:
		return StoreFrame{}, ErrShort
	case body[0] == SendMessage:
		return decodeStore(body, true)
	case body[0] == CloseConnection:
		return decodeStore(body, false)
	case body[0] != Ping:
		return StoreFrame{}, ErrType
	case len(body) > 1:
		return StoreFrame{}, ErrTrailing
	}
	return StoreFrame{Type: Ping}, nil
}

// DecodeToStore reads the body of a frame that the coordinator wrote.
func DecodeToStore(body []byte) (StoreFrame, error) {
	if len(body) == 0 {
		return StoreFrame{}, ErrShort
	}
	switch body[0] {
	case NewState, Message:
		return decodeStore(body, true)
	case Subscribe, Unsubscribe:
		return decodeStore(body, false)
	case Connected:
		f := StoreFrame{Type: Connected}
		rest, err := f.decodeUser(body[1:])
		if err == nil && len(rest) > 0 {
			err = ErrTrailing
		}
		return f, err
	}
	return StoreFrame{}, ErrType
}

func decodeStore(body []byte, hasData bool) (StoreFrame, error) {
	if len(body) < 9 {
		return StoreFrame{}, ErrShort
	}
	f := StoreFrame{Type: body[0], State: wire.StateID(binary.BigEndian.Uint64(body[1:]))}
	rest, err := f.decodeUser(body[9:])
	if err != nil {
		return StoreFrame{}, err
	}
	if hasData {
		f.Data = rest
	} else if len(rest) > 0 {
		return StoreFrame{}, ErrTrailing
	}
	return f, nil
}

func (f *StoreFrame) decodeUser(b []byte) (rest []byte, err error) {
	user, n, err := String(b, len(b))
	if err != nil {
		return nil, ErrShort // a length that the frame does not have
	}
	if n == 0 {
		return nil, ErrShort
	}
	f.User = user
	return b[n:len(b):len(b)], nil
}
