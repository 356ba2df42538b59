package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/trunkline-edge/trunkline/wire"
)

// The kinds of records.
const (
	kindData byte = iota + 1
	kindAck
	kindPing
	kindEnd
)

const (
	version    = 1
	helloSize  = 48
	answerSize = 9
	recordHead = 4
	maxRecord  = 256 << 10 // bytes of a data record
	fresh      = 1         // flag of a hello: the dialer has never been answered
)

// Statuses of an answer.
const (
	statusFine byte = iota
	statusUnknown
	statusElsewhere
)

var errRecord = errors.New("record that is not allowed")

// streamID is the random name of a stream.
type streamID [16]byte

// hello is what the dialer begins with.
type hello struct {
	fresh    bool
	lane     uint8
	id       streamID
	from, to wire.NodeSession
	received uint64
}

func (h *hello) bytes() []byte {
	b := append(make([]byte, 0, helloSize), "TRKL"...)
	flags := byte(0)
	if h.fresh {
		flags = fresh
	}
	b = append(b, version, flags, h.lane, 0)
	b = append(b, h.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.from))
	b = binary.BigEndian.AppendUint64(b, uint64(h.to))
	return binary.BigEndian.AppendUint64(b, h.received)
}

func readHello(r io.Reader) (h hello, err error) {
	var b [helloSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, err
	}
	if string(b[:4]) != "TRKL" || b[4] != version || b[5]&^fresh != 0 || b[7] != 0 {
		return h, fmt.Errorf("hello of a link: %w", errRecord)
	}
	h.fresh, h.lane = b[5] == fresh, b[6]
	copy(h.id[:], b[8:])
	h.from = wire.NodeSession(binary.BigEndian.Uint64(b[24:]))
	h.to = wire.NodeSession(binary.BigEndian.Uint64(b[32:]))
	h.received = binary.BigEndian.Uint64(b[40:])
	return h, nil
}

func answer(status byte, received uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{status}, received)
}

func appendHead(b []byte, kind byte, n int) []byte {
	return append(b, kind, byte(n>>16), byte(n>>8), byte(n))
}

func appendAck(b []byte, received uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHead(b, kindAck, 8), received)
}

// recordLength checks the head of a record and returns the length of its payload.
func recordLength(b []byte) (kind byte, n int, err error) {
	kind, n = b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])
	switch {
	case kind == kindData && n > 0 && n <= maxRecord, kind == kindAck && n == 8, (kind == kindPing || kind == kindEnd) && n == 0:
		return kind, n, nil
	}
	return 0, 0, fmt.Errorf("kind %d with %d bytes: %w", kind, n, errRecord)
}
