package tunnel

import (
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

// part is the message of a state that is being put together. A state sends one
// message at a time, so one is enough.
type part struct {
	typ     wire.Type
	flags   wire.Flags // of the first fragment, without More
	channel uint32
	seq     uint64
	size    int
	user    string
	buf     []byte
}

// hold is how much of a message's payload stays uncredited until the message is
// consumed. What is above it is credited as fragments arrive, since a message
// may be larger than the window.
func hold(size int) int { return min(size, window/2) }

// assemble takes one frame with a payload. It returns true when f is, or has
// become, a whole message: its Payload is all of it and valid until the next
// frame. Fragments that belong to nothing are counted and dropped; only a frame
// that no honest sender makes is an error.
func (m *mux) assemble(l *line, f *wire.Frame) (whole bool, err error) {
	if f.Flags&(wire.More|wire.Cont) == 0 {
		return true, nil
	}
	p := &l.part
	if f.Flags&wire.Cont == 0 {
		m.dropPart(l)
		return false, m.beginPart(l, f)
	}
	if p.buf == nil || p.typ != f.Type || p.channel != f.Channel || p.seq != f.Seq {
		m.cfg.Counters.drop(dropAssembly)
		l.consumed(len(f.Payload))
		return false, nil
	}
	have := len(p.buf) + len(f.Payload)
	last := f.Flags&wire.More == 0
	if have > p.size || last != (have == p.size) {
		return false, fail(ReasonFrame, fmt.Errorf("a message of %d bytes has fragments of %d", p.size, have))
	}
	if !m.growPart(p, len(f.Payload)) {
		m.giveUp(l, dropBudget)
		l.consumed(len(f.Payload))
		return false, nil
	}
	if p.buf = append(p.buf, f.Payload...); have > hold(p.size) {
		l.consumed(min(len(f.Payload), have-hold(p.size)))
	}
	if !last {
		return false, nil
	}
	f.Flags, f.Payload, f.User = p.flags, p.buf, []byte(p.user)
	m.endPart(l)
	return true, nil
}

// beginPart keeps the first fragment, or refuses the message for its size.
func (m *mux) beginPart(l *line, f *wire.Frame) error {
	size := int(f.Size)
	first := min(size, 2*wire.MaxFragment)
	switch {
	case size > m.cfg.MaxMessage:
		m.cfg.Counters.drop(dropTooBig)
	case !m.hasRoom(size):
		m.cfg.Counters.drop(dropBudget)
	default:
		l.part = part{
			typ: f.Type, flags: f.Flags &^ wire.More, channel: f.Channel, seq: f.Seq, size: size,
			user: string(f.User), buf: append(make([]byte, 0, first), f.Payload...),
		}
		m.parts += cap(l.part.buf)
		m.partial = append(m.partial, l)
		return nil
	}
	l.consumed(len(f.Payload))
	return nil
}

// hasRoom says whether unfinished messages may take n more bytes, after those of states that have left were given up.
func (m *mux) hasRoom(n int) bool {
	if m.parts+n > m.cfg.MaxAssembly {
		m.sweepParts()
	}
	return m.parts+n <= m.cfg.MaxAssembly
}

// growPart makes room for n more bytes, doubling, never beyond the message; false when unfinished messages leave none.
// Each had room for all of it when it began, but many that began may grow at the same time.
func (m *mux) growPart(p *part, n int) bool {
	need := len(p.buf) + n
	if need <= cap(p.buf) {
		return true
	}
	old := cap(p.buf)
	to := min(max(2*old, need), p.size)
	if !m.hasRoom(to - old) {
		return false
	}
	p.buf = append(make([]byte, 0, to), p.buf...)
	m.parts += cap(p.buf) - old
	return true
}

// dropPart gives up an unfinished message, if there is one, for the next.
func (m *mux) dropPart(l *line) {
	if l.part.buf != nil {
		m.giveUp(l, dropAssembly)
	}
}

// giveUp drops an unfinished message and credits what it held.
func (m *mux) giveUp(l *line, why drop) {
	m.cfg.Counters.drop(why)
	l.consumed(min(len(l.part.buf), hold(l.part.size)))
	m.endPart(l)
}

// endPart forgets the message that was being put together.
func (m *mux) endPart(l *line) {
	m.parts -= cap(l.part.buf)
	l.part = part{}
	for i, other := range m.partial {
		if other == l {
			last := len(m.partial) - 1
			m.partial[i], m.partial[last] = m.partial[last], nil
			m.partial = m.partial[:last]
			return
		}
	}
}

// sweepParts gives up the unfinished messages of states that have left.
func (m *mux) sweepParts() {
	for i := len(m.partial) - 1; i >= 0; i-- {
		if l := m.partial[i]; l.ended.Load() {
			m.cfg.Counters.drop(dropAssembly)
			m.endPart(l)
		}
	}
}
