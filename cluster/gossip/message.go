package gossip

import (
	"encoding/binary"
	"errors"

	"github.com/trunkline-edge/trunkline/wire"
)

// Load is how loaded an instance is, as it said to the node that holds its tunnel.
type Load struct {
	Instance wire.InstanceID
	Permille uint32 // 1000 when it is full
	Sessions uint64
}

// A message goes from one node to another, beside what memberlist says for itself. Its bytes:
//
//	u8 1, the version
//	u8 kind
//	u8 n, [n] name of the node that sends it
//	kind 1, loads: to the end of the message, each uvarint instance, uvarint permille, uvarint sessions
//	kind 2, leaving: nothing
//
// A message of a later version or of an unknown kind is dropped and counted.
type message struct {
	kind  byte
	name  string
	loads []Load
}

const (
	messageVersion = 1
	kindLoads      = 1
	kindLeaving    = 2

	// maxMessage keeps a message within one packet on any path.
	maxMessage = 1200
	maxName    = 128
	minLoad    = 3
	maxLoad    = 10 + 5 + 10
)

var errMessage = errors.New("message is not valid")

func appendHead(dst []byte, kind byte, name string) []byte {
	return appendText(append(dst, messageVersion, kind), name, maxName)
}

// appendLoads writes as many loads as fit into one message and returns the rest.
func appendLoads(dst []byte, name string, loads []Load) ([]byte, []Load) {
	dst = appendHead(dst, kindLoads, name)
	for len(loads) > 0 && len(dst)+maxLoad <= maxMessage {
		l := loads[0]
		dst = binary.AppendUvarint(dst, uint64(l.Instance))
		dst = binary.AppendUvarint(dst, uint64(l.Permille))
		dst = binary.AppendUvarint(dst, l.Sessions)
		loads = loads[1:]
	}
	return dst, loads
}

// parseMessage reads a message. Nothing of what it returns aliases b.
func parseMessage(b []byte) (message, error) {
	if len(b) < 3 || len(b) > maxMessage || b[0] != messageVersion {
		return message{}, errMessage
	}
	m := message{kind: b[1]}
	name, rest, ok := cutText(b[2:])
	if !ok || name == "" || len(name) > maxName {
		return message{}, errMessage
	}
	m.name = name
	switch m.kind {
	case kindLeaving:
		if len(rest) > 0 {
			return message{}, errMessage
		}
	case kindLoads:
		m.loads = make([]Load, 0, len(rest)/minLoad)
		for len(rest) > 0 {
			var l Load
			if l, rest, ok = cutLoad(rest); !ok {
				return message{}, errMessage
			}
			m.loads = append(m.loads, l)
		}
	default:
		return message{}, errMessage
	}
	return m, nil
}

func cutLoad(b []byte) (l Load, rest []byte, ok bool) {
	var values [3]uint64
	for i := range values {
		v, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 { // a shorter form says the same
			return Load{}, nil, false
		}
		values[i], b = v, b[n:]
	}
	if values[1] > 1<<32-1 {
		return Load{}, nil, false
	}
	return Load{wire.InstanceID(values[0]), uint32(values[1]), values[2]}, b, true
}
