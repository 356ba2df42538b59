package tunnel

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// frameHead is more than the head of any frame that a state sends, its user
// included where there is none; frames with a user add its length.
const frameHead = 128

// mux is what the ends of the native framing do alike, whatever carries it:
// sending with control frames first and states in turn, credit both ways,
// putting messages together.
type mux struct {
	*core
	below below

	// Guarded by the lock of w, which Acquire takes.
	lines   map[wire.StateID]*line
	grant   int   // credit of a new line: what the other end takes
	ready   *line // the last of a ring of lines that can send a fragment
	queued  int   // bytes in the queues of all lines
	waiting []*line

	mixed  atomic.Bool // some line is ready or someone waits
	urgent atomic.Bool // the batch may have more than what can wait

	chans struct {
		sync.Mutex
		m    map[uint32]*channel
		half int // of m, those that only we have closed
	}

	// The reader's own.
	parts   int     // bytes in unfinished messages
	partial []*line // that have one
}

// below is what a mux writes to, seen as a queue.
type below interface {
	// pending is how many bytes are under way in it.
	pending() int
	// crowded is told that states wait for room. It says whether it will see to
	// a Flush when there is some; else there is some already.
	crowded() bool
}

// channel is one open session of the tunnel.
type channel struct {
	l            *line
	ours, theirs bool // who has closed it; both: it is gone
}

// maxHalf bounds the channels that the other end leaves half open.
const maxHalf = 1 << 16

func newMux(c *core, b below, grant int) *mux {
	m := &mux{core: c, below: b, lines: make(map[wire.StateID]*line), grant: grant}
	m.chans.m = make(map[uint32]*channel)
	return m
}

// line returns the state's line, made when there is none or an older epoch's.
// For an epoch older than that of the line there is, it returns one that has
// ended: it disturbs nothing, and can only tell the other end so.
func (m *mux) line(state wire.StateID, epoch wire.Epoch) *line {
	b := m.w.Acquire()
	defer func() { m.w.Release(b) }()
	old := m.lines[state]
	if old != nil && old.epoch == epoch {
		return old
	}
	l := &line{m: m, state: state, epoch: epoch, credit: m.grant}
	if old != nil && old.epoch > epoch {
		l.ended.Store(true)
		return l
	}
	if old != nil {
		old.clear()
	}
	m.lines[state] = l
	return l
}

// find returns the state's line or nil.
func (m *mux) find(state wire.StateID) *line {
	b := m.w.Acquire()
	l := m.lines[state]
	m.w.Release(b)
	return l
}

// control writes a frame that goes before what states have queued.
func (m *mux) control(f *wire.Frame) { m.write(f, true) }

// write is control, of a frame that FlushUrgent may leave for later.
func (m *mux) write(f *wire.Frame, urgent bool) {
	b := m.w.Acquire()
	if !m.dead.Load() {
		b = wire.AppendFrame(pipe.Grow(b, frameHead+len(f.Payload)), f)
		m.cfg.Counters.out(Native)
		if urgent {
			m.hasten()
		}
	}
	m.w.Release(b)
}

// hasten notes that the batch has more than what can wait. The lock is held: a Flush after this takes the frame along.
func (m *mux) hasten() {
	if !m.urgent.Load() {
		m.urgent.Store(true)
	}
}

// room says whether what is below keeps up, n bytes of this batch included.
func (m *mux) room(n int) bool { return n+m.below.pending() < highWater }

// Flush writes the batch, and as much of what states have queued as there is
// room for below.
func (m *mux) Flush() {
	m.urgent.Store(false)
	for m.mixed.Load() {
		b := m.w.Acquire()
		before := len(b)
		b = m.schedule(b)
		progress, ready := len(b) > before, m.ready != nil
		m.mixed.Store(ready || len(m.waiting) > 0)
		m.w.Release(b)
		if m.w.Flush() != nil {
			return
		}
		if !progress && (!ready || m.below.crowded()) {
			return
		}
	}
	_ = m.w.FlushShared()
}

// schedule lets ready lines take turns while there is room; the lock is held.
func (m *mux) schedule(b []byte) []byte {
	for m.ready != nil && m.room(len(b)) {
		l := m.ready.next
		if l == m.ready {
			m.ready = nil
		} else {
			m.ready.next = l.next
		}
		l.next = nil
		b = l.turn(b)
		l.enlist()
	}
	left := m.waiting[:0]
	for _, l := range m.waiting {
		if l.over(m.cfg.StateMark/2, m.cfg.TunnelMark/2) {
			left = append(left, l)
			continue
		}
		close(l.wait)
		l.wait = nil
	}
	clear(m.waiting[len(left):])
	m.waiting = left
	return b
}

// takeCredit handles the frame that means the same at both ends; any other is
// not for this one.
func (m *mux) takeCredit(f *wire.Frame) error {
	if f.Type != wire.Credit {
		return fail(ReasonType, fmt.Errorf("%v is not for this end", f.Type))
	}
	m.credited(f.State, f.Size)
	return nil
}

// wakeAll lets everyone go whom Admit made wait: the tunnel has ended.
func (m *mux) wakeAll() {
	b := m.w.Acquire()
	defer func() { m.w.Release(b) }()
	for _, l := range m.waiting {
		close(l.wait)
		l.wait = nil
	}
	m.waiting = nil
	for _, l := range m.lines {
		l.clear()
	}
}

// credited gives a state back what the other end has consumed.
func (m *mux) credited(state wire.StateID, n uint32) {
	b := m.w.Acquire()
	defer func() { m.w.Release(b) }()
	if l := m.lines[state]; l != nil {
		l.credit = min(l.credit+int(min(n, 1<<30)), m.grant)
		l.enlist()
	}
}

// open makes a channel known; the other end may name it from now on.
func (m *mux) open(id uint32, l *line) {
	m.chans.Lock()
	defer m.chans.Unlock()
	m.chans.m[id] = &channel{l: l}
	if l.chans == nil {
		l.chans = make(map[uint32]struct{})
	}
	l.chans[id] = struct{}{}
}

// on returns the line of a channel, also one that we have closed and the other
// end has not (its credit still counts); live is false for that.
func (m *mux) on(id uint32) (l *line, live bool) {
	m.chans.Lock()
	defer m.chans.Unlock()
	ch := m.chans.m[id]
	if ch == nil {
		return nil, false
	}
	return ch.l, !ch.ours
}

// live says whether this end may send on a channel. The lock of w is held, as it
// is for closeOurs, so that nothing follows the CLOSE of a channel.
func (m *mux) live(id uint32) bool {
	_, live := m.on(id)
	return live
}

// closeOurs notes that this end closes a channel. first is false when it had
// already, or the channel is not known: then there is nothing to say.
func (m *mux) closeOurs(id uint32) (first bool) {
	m.chans.Lock()
	defer m.chans.Unlock()
	ch := m.chans.m[id]
	if ch == nil || ch.ours {
		return false
	}
	ch.ours = true
	if ch.theirs || m.chans.half >= maxHalf {
		m.forget(id, ch)
	} else {
		m.chans.half++
	}
	return true
}

// closeTheirs notes that the other end has closed a channel. first is false
// when it had already, or the channel is not known; answer says that this end
// had closed it before, so that it is gone now.
func (m *mux) closeTheirs(id uint32) (first, answer bool) {
	m.chans.Lock()
	defer m.chans.Unlock()
	ch := m.chans.m[id]
	if ch == nil || ch.theirs {
		return false, false
	}
	ch.theirs = true
	if ch.ours {
		m.chans.half--
		m.forget(id, ch)
		return true, true
	}
	return true, false
}

func (m *mux) forget(id uint32, ch *channel) {
	delete(m.chans.m, id)
	delete(ch.l.chans, id)
}

// forgetAll drops every channel of a line: its state has left this tunnel.
func (m *mux) forgetAll(l *line) {
	m.chans.Lock()
	defer m.chans.Unlock()
	for id := range l.chans {
		if ch := m.chans.m[id]; ch != nil && ch.l == l {
			if ch.ours {
				m.chans.half--
			}
			delete(m.chans.m, id)
		}
	}
	l.chans = nil
}
