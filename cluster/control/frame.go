package control

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

type status uint8

const (
	done     status = 0
	failed   status = 1
	alive    status = 2
	greeting status = 3
)

const (
	requestHead = 8 + 1 + 4 // what a length counts beside the body
	answerHead  = 8 + 1
	version     = 1
)

var errFrame = errors.New("a malformed frame")

// request is one frame to a server.
type request struct {
	id       uint64
	verb     Verb
	patience uint32 // ms
	body     []byte
}

func appendRequestHead(b []byte, r request) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(requestHead+len(r.body)))
	b = binary.BigEndian.AppendUint64(b, r.id)
	b = append(b, byte(r.verb))
	return binary.BigEndian.AppendUint32(b, r.patience)
}

// readLength reads a frame's head and says how long its body is. It has taken no memory for it.
func readLength(r *bufio.Reader, head []byte, limit int) (int, error) {
	n := len(head) - 4
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return 0, err
	}
	length := binary.BigEndian.Uint32(head)
	if int64(length) < int64(n) || int64(length) > int64(n)+int64(limit) {
		return 0, fmt.Errorf("%w: a length of %d, with bodies up to %d", errFrame, length, limit)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return 0, torn(err)
	}
	return int(length) - n, nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readRequest reads all of a request but its body, whose length it returns.
func readRequest(r *bufio.Reader, limit int) (request, int, error) {
	var head [4 + requestHead]byte
	n, err := readLength(r, head[:], limit)
	if err != nil {
		return request{}, 0, err
	}
	req := request{
		id: binary.BigEndian.Uint64(head[4:]), verb: Verb(head[12]), patience: binary.BigEndian.Uint32(head[13:]),
	}
	if (req.verb == beat || req.verb == cancel) && n > 0 {
		return request{}, 0, fmt.Errorf("%w: a beat or cancel with a body", errFrame)
	}
	return req, n, nil
}

func readBody(r *bufio.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, torn(err)
	}
	return body, nil
}

// answer is one frame from a server.
type answer struct {
	id     uint64
	status status
	body   []byte
}

func appendAnswerHead(b []byte, a answer) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(answerHead+len(a.body)))
	b = binary.BigEndian.AppendUint64(b, a.id)
	return append(b, byte(a.status))
}

func readAnswer(r *bufio.Reader, limit int) (answer, error) {
	var head [4 + answerHead]byte
	n, err := readLength(r, head[:], limit)
	if err != nil {
		return answer{}, err
	}
	a := answer{id: binary.BigEndian.Uint64(head[4:]), status: status(head[12])}
	if a.status > greeting {
		return answer{}, fmt.Errorf("%w: status %d", errFrame, a.status)
	}
	a.body, err = readBody(r, n)
	return a, err
}

// terms are what a greeting allows.
type terms struct {
	maxBody uint32
	calls   uint16
}

func (t terms) encode() []byte {
	b := binary.BigEndian.AppendUint32([]byte{version}, t.maxBody)
	return binary.BigEndian.AppendUint16(b, t.calls)
}

// longestGreeting leaves later versions room to say more, which this one does not read.
const longestGreeting = 256

func decodeTerms(a answer) (terms, error) {
	if a.status != greeting || a.id != 0 || len(a.body) < 7 {
		return terms{}, fmt.Errorf("%w: no greeting", errFrame)
	}
	if v := a.body[0]; v != version {
		return terms{}, fmt.Errorf("the other node speaks version %d of control, this one %d", v, version)
	}
	t := terms{binary.BigEndian.Uint32(a.body[1:]), binary.BigEndian.Uint16(a.body[5:])}
	if t.calls == 0 {
		return terms{}, fmt.Errorf("%w: a greeting that allows nothing", errFrame)
	}
	return t, nil
}

// milliseconds of a time that remains: at least one, since none would mean that it was not said.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 1), math.MaxUint32))
}
