package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// ask is one change that a caller wants, in the form in which whoever leads can be told of it: the choice of an instance
// is made there, where the table is newest and others' creates are seen.
type ask struct {
	kind askKind

	// Of askCreate and askPlace. The asker draws the id of a new state, so that the ask may be repeated.
	app    wire.AppID
	state  wire.StateID
	region string
	avoid  wire.InstanceID

	// Of askCommands: commands as placement.AppendCommand has them, how many, and whether an index takes only one such.
	body  []byte
	count int
	solo  bool
	// request makes them happen at most once; a counter of 0 means that they may be repeated as they are.
	request placement.Request
	// term is the term of this node's leadership that the ask must be committed in; 0 = any leader's. It is never forwarded.
	term uint64
}

type askKind uint8

const (
	askCreate askKind = iota + 1
	askPlace
	askCommands
)

// commands makes an ask of commands.
func commands(cmds ...placement.Command) *ask {
	a := &ask{kind: askCommands, count: len(cmds)}
	for _, cmd := range cmds {
		a.body = placement.AppendCommand(a.body, cmd)
		a.solo = a.solo || isSolo(cmd)
	}
	return a
}

// isSolo says that an index takes one such command at most.
func isSolo(cmd placement.Command) bool {
	return cmd.Kind() == placement.KindRegister || cmd.Kind() == placement.KindOpenSession
}

// maxBody is how long the commands of one ask may be, beside the request before them.
const maxBody = placement.MaxEntry - 64

// answer is what became of an ask.
type answer struct {
	fate askFate
	// Of askCreate and askPlace with fate done; askPlace's asker reads its own table.
	instance wire.InstanceID
	epoch    wire.Epoch
	// Of askCommands: a result for each, without that of the request.
	results []placement.Result
	// index is what the asker's table must have before the answer is true there.
	index uint64
}

type askFate uint8

const (
	fateDone       askFate = iota + 1
	fateAgain              // somebody else was faster: ask once more
	fateNoInstance         // placement.ErrNoInstance
	fateFull               // placement.ErrTooManyStates
	fateForgotten          // the request's session is over, or its counter too old to be known
	lastFate       = fateForgotten
)

// Asks travel in a body of
//
//	asks   = u16 count | (u8 kind | rest)...
//	create, place rest = 32 bytes app | u64 state | u64 avoid | u8 length | region
//	commands      rest = u64 session | u64 counter | u16 count | u32 length | commands
//
//	answers = u64 index | u16 count | (u8 fate | u64 instance | u64 epoch | u16 count | result...)...
//	result  = u8 outcome | u8 known | u64 epoch | u64 instance | u32 gen | u64 node
//
// with integers in big endian.
const (
	maxAsks    = 1024 // of one body
	resultSize = 30
	answerHead = 19
)

var errAsks = errors.New("asks not understood")

func appendAsks(dst []byte, asks []*ask) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(asks)))
	for _, a := range asks {
		dst = a.append(dst)
	}
	return dst
}

func (a *ask) append(dst []byte) []byte {
	dst = append(dst, byte(a.kind))
	if a.kind != askCommands {
		dst = append(dst, a.app[:]...)
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.state))
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.avoid))
		return append(append(dst, byte(len(a.region))), a.region...)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.request.Session))
	dst = binary.BigEndian.AppendUint64(dst, a.request.Counter)
	dst = binary.BigEndian.AppendUint16(dst, uint16(a.count))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(a.body)))
	return append(dst, a.body...)
}

// size is about how many bytes the ask takes on its way.
func (a *ask) size() int { return 64 + len(a.region) + len(a.body) }

// decodeAsks reads asks of another node. Their commands have been looked at: every one is understood, and is one that a
// node may ask for.
func decodeAsks(b []byte) ([]*ask, error) {
	r := fields{b: b}
	n := int(r.u16())
	if n == 0 || n > maxAsks {
		return nil, fmt.Errorf("%w: %d of them", errAsks, n)
	}
	asks := make([]*ask, 0, min(n, len(b)/20+1))
	for range n {
		a := &ask{}
		if err := a.decode(&r); err != nil {
			return nil, err
		}
		asks = append(asks, a)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: length", errAsks)
	}
	return asks, nil
}

func (a *ask) decode(r *fields) error {
	a.kind = askKind(r.u8())
	switch a.kind {
	case askCreate, askPlace:
		copy(a.app[:], r.take(32))
		a.state, a.avoid = wire.StateID(r.u64()), wire.InstanceID(r.u64())
		a.region = string(r.take(int(r.u8())))
		if len(a.region) > placement.MaxRegion {
			return fmt.Errorf("%w: region of %d bytes", errAsks, len(a.region))
		}
	case askCommands:
		a.request.Session, a.request.Counter = wire.NodeSession(r.u64()), r.u64()
		a.count = int(r.u16())
		a.body = r.take(int(r.u32()))
	default:
		return fmt.Errorf("%w: kind %d", errAsks, a.kind)
	}
	if r.bad {
		return fmt.Errorf("%w: cut off", errAsks)
	}
	if a.kind == askCommands {
		return a.check()
	}
	return nil
}

// check looks at the commands that came from elsewhere: an entry that the table does not understand would stop every
// node.
func (a *ask) check() error {
	if len(a.body) > maxBody {
		return fmt.Errorf("%w: commands of %d bytes, at most %d", errAsks, len(a.body), maxBody)
	}
	cmds, err := placement.DecodeEntry(append(placement.AppendEntry(nil), a.body...))
	if err != nil {
		return err
	}
	if len(cmds) != a.count || len(cmds) == 0 {
		return fmt.Errorf("%w: %d commands, said to be %d", errAsks, len(cmds), a.count)
	}
	for _, cmd := range cmds {
		switch cmd.Kind() {
		case placement.KindForm, placement.KindRecover, placement.KindRequest:
			return fmt.Errorf("%w: nobody may ask for command kind %d", errAsks, cmd.Kind())
		}
		a.solo = a.solo || isSolo(cmd)
	}
	return nil
}

// opens says whether the ask opens a session for a node, and for which, with which key.
func (a *ask) opens() (sessions []*placement.OpenSession) {
	if a.kind != askCommands || !a.solo {
		return nil
	}
	cmds, err := placement.DecodeEntry(append(placement.AppendEntry(nil), a.body...))
	if err != nil {
		return nil // checked before
	}
	for _, cmd := range cmds {
		if o, ok := cmd.(*placement.OpenSession); ok {
			sessions = append(sessions, o)
		}
	}
	return sessions
}

func appendAnswers(dst []byte, index uint64, answers []answer) []byte {
	dst = binary.BigEndian.AppendUint64(dst, index)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(answers)))
	for i := range answers {
		a := &answers[i]
		dst = append(dst, byte(a.fate))
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.instance))
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.epoch))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.results)))
		for j := range a.results {
			dst = appendResult(dst, &a.results[j])
		}
	}
	return dst
}

func appendResult(dst []byte, r *placement.Result) []byte {
	known := byte(0)
	if r.Known {
		known = 1
	}
	dst = append(dst, byte(r.Outcome), known)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Instance))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Gen))
	return binary.BigEndian.AppendUint64(dst, uint64(r.Node))
}

// decodeAnswers reads the answers to want asks.
func decodeAnswers(b []byte, want int) ([]answer, error) {
	r := fields{b: b}
	index := r.u64()
	if n := int(r.u16()); n != want {
		return nil, fmt.Errorf("%w: %d answers to %d asks", errAsks, n, want)
	}
	answers := make([]answer, want)
	for i := range answers {
		a := &answers[i]
		a.index, a.fate = index, askFate(r.u8())
		a.instance, a.epoch = wire.InstanceID(r.u64()), wire.Epoch(r.u64())
		n := int(r.u16())
		if a.fate < fateDone || a.fate > lastFate || n*resultSize > len(r.b) {
			return nil, fmt.Errorf("%w: answer", errAsks)
		}
		for range n {
			a.results = append(a.results, r.result())
		}
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: length of answers", errAsks)
	}
	return answers, nil
}

func (r *fields) result() placement.Result {
	return placement.Result{
		Outcome: placement.Outcome(r.u8()), Known: r.u8() == 1, Epoch: wire.Epoch(r.u64()),
		Instance: wire.InstanceID(r.u64()), Gen: wire.Gen(r.u32()), Node: wire.NodeSession(r.u64()),
	}
}
