package placement

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// MaxRequests is how many requests of a node session are remembered. Who has more on their way at once may find one
	// of them Stale without knowing whether it was applied.
	MaxRequests = 128

	// maxAnswers bounds the bytes of the results remembered for one session: of fewer requests, if they are large.
	maxAnswers = 128 << 10
)

// Request makes the commands that follow it in the entry, up to the next Request or the end, happen at most once. The
// table remembers their results while the session is open, for its last MaxRequests counters: asked again, it answers
// with the same results and applies nothing. That is for who proposed and lost the answer.
//
// It has a result of its own. Refused: a counter of 0. Done: what follows was applied, or, with Known, was before. Stale:
// the session is over or the counter so low that it may have been forgotten; what follows is then Stale too, and was
// perhaps applied before.
//
// The counter alone says what is the same. A repeat with other commands gets the results of the first in their order,
// Stale for those beyond. Who proposes anew because of an outcome (Again, say) takes a new counter.
type Request struct {
	Session wire.NodeSession
	Counter uint64 // from 1; each new request has a new one, as a rule one higher
}

// Kind returns KindRequest.
func (*Request) Kind() Kind { return KindRequest }

func (q *Request) append(dst []byte) []byte { return appendU64(appendU64(dst, q.Session), q.Counter) }

func (q *Request) decode(r *reader) { q.Session, q.Counter = r.node(), r.u64() }

// group is what becomes of the commands that follow a Request.
type group struct {
	mode    groupMode
	request Request
	epoch   wire.Epoch // what commands of the request's index give
	left    []byte     // answered: the answers still to be given
}

type groupMode uint8

const (
	ungrouped groupMode = iota
	applied             // commands are applied and their results remembered
	answered            // commands are answered from memory, or Stale
)

// step applies one command of an entry, or answers it as the request it belongs to has it.
func (c *content) step(cmd Command, index uint64) Result {
	switch {
	case cmd.Kind() == KindRequest:
		c.endGroup()
		return cmd.apply(c, index)
	case c.group.mode == answered:
		return c.group.next()
	}
	r := Result{Outcome: Refused}
	if c.cluster.Generation != 0 || cmd.Kind() == KindForm {
		r = cmd.apply(c, index)
	}
	if c.group.mode == applied {
		c.answers = appendAnswer(c.answers, r)
	}
	return r
}

// apply begins a group.
func (q *Request) apply(c *content, index uint64) Result {
	c.group = group{mode: answered, request: *q}
	switch {
	case q.Counter == 0:
		return Result{Outcome: Refused}
	case c.sessionIndex(q.Session) < 0:
		return Result{Outcome: Stale}
	}
	if known := c.requests[q.Session]; known != nil {
		at, found := known.find(q.Counter)
		switch {
		case found:
			c.group.epoch, c.group.left = known.list[at].epoch, known.list[at].answers
			return Result{Outcome: Done, Known: true}
		case q.Counter <= known.forgotten, at == 0 && len(known.list) >= MaxRequests:
			return Result{Outcome: Stale}
		}
	}
	c.group.mode, c.group.epoch = applied, wire.MakeEpoch(c.cluster.Generation, index)
	c.answers = c.answers[:0]
	return Result{Outcome: Done}
}

// endGroup remembers the results of the group that ends here.
func (c *content) endGroup() {
	g := c.group
	c.group = group{}
	if g.mode != applied || c.sessionIndex(g.request.Session) < 0 { // it may have ended its own session
		return
	}
	known := c.requests[g.request.Session]
	if known == nil {
		known = &requests{}
		c.requests[g.request.Session] = known
	}
	known.add(remembered{counter: g.request.Counter, epoch: g.epoch, answers: slices.Clone(c.answers)})
}

// next takes the result of the next command off the answers.
func (g *group) next() Result {
	r := reader{b: g.left}
	if len(r.b) == 0 {
		return Result{Outcome: Stale}
	}
	result := r.answer(g.epoch)
	g.left = r.b
	return result
}

// requests are the remembered requests of one session.
type requests struct {
	list      []remembered // by counter
	bytes     int          // of their answers
	forgotten uint64       // the highest counter that was, 0 = none
}

// remembered is one of them. Nothing of it is ever changed.
type remembered struct {
	counter uint64
	epoch   wire.Epoch
	answers []byte
}

func (q *requests) find(counter uint64) (int, bool) {
	return slices.BinarySearchFunc(q.list, counter, func(m remembered, c uint64) int { return cmp.Compare(m.counter, c) })
}

// add remembers one more, and forgets the lowest while there are too many.
func (q *requests) add(m remembered) {
	at, _ := q.find(m.counter)
	q.list = slices.Insert(q.list, at, m)
	q.bytes += len(m.answers)
	over := 0
	for len(q.list)-over > MaxRequests || q.bytes > maxAnswers {
		q.bytes -= len(q.list[over].answers)
		q.forgotten = q.list[over].counter
		over++
	}
	q.list = slices.Delete(q.list, 0, over)
}

// An answer is a result in as few bytes as it takes: u8 outcome and marks | u64 instance | u32 gen | u64 node, those that
// the marks name. The epoch is the request's.
const (
	answerOutcome  = 0x0f
	answerEpoch    = 0x10
	answerInstance = 0x20 // and gen
	answerNode     = 0x40
	answerKnown    = 0x80
)

func appendAnswer(dst []byte, r Result) []byte {
	at := len(dst)
	dst = append(dst, byte(r.Outcome))
	if r.Epoch != 0 {
		dst[at] |= answerEpoch
	}
	if r.Instance != 0 || r.Gen != 0 {
		dst[at] |= answerInstance
		dst = binary.BigEndian.AppendUint32(appendU64(dst, r.Instance), uint32(r.Gen))
	}
	if r.Node != 0 {
		dst[at] |= answerNode
		dst = appendU64(dst, r.Node)
	}
	if r.Known {
		dst[at] |= answerKnown
	}
	return dst
}

func (r *reader) answer(epoch wire.Epoch) Result {
	marks := r.u8()
	out := Result{Outcome: Outcome(marks & answerOutcome), Known: marks&answerKnown != 0}
	if out.Outcome < Done || out.Outcome > Denied {
		r.fail()
		return Result{}
	}
	if marks&answerEpoch != 0 {
		out.Epoch = epoch
	}
	if marks&answerInstance != 0 {
		out.Instance, out.Gen = r.inst(), wire.Gen(r.u32())
	}
	if marks&answerNode != 0 {
		out.Node = r.node()
	}
	return out
}
