package tunnel

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// line is one state on a native tunnel, at either end: what it has queued, its
// credit, and the message that is being put together for it.
type line struct {
	m     *mux
	state wire.StateID
	epoch wire.Epoch

	// Guarded by the lock of m.w.
	queue  []byte // records: cost u32, then one frame; queue[head:] is unsent
	head   int
	credit int
	seq    uint64 // groups the fragments of messages without a channel
	next   *line  // in the ring of ready lines
	wait   chan struct{}
	ended  atomic.Bool // written under the lock

	chans map[uint32]struct{} // guarded by m.chans
	owed  atomic.Int32        // consumed, and not yet credited to the other end
	part  part                // the reader's own
}

// recordHead is the cost that stands before each queued frame: its payload,
// which takes credit when it is sent.
const recordHead = 4

// say sends a frame of the state that needs no credit, in the state's order.
func (l *line) say(f *wire.Frame) {
	b := l.m.w.Acquire()
	if l.open() {
		b = l.put(b, f, 0)
	}
	l.m.w.Release(b)
}

// close sends CLOSE of a channel, once, after all that was said on it.
func (l *line) close(f *wire.Frame) {
	b := l.m.w.Acquire()
	if l.m.closeOurs(f.Channel) && l.open() {
		b = l.put(b, f, 0)
	}
	l.m.w.Release(b)
}

// open says whether anything may still be sent; the lock is held.
func (l *line) open() bool { return !l.ended.Load() && !l.m.dead.Load() }

// put appends one frame to the batch when nothing of the state is queued, there
// is credit, and the connection keeps up; else to the queue. The lock is held.
func (l *line) put(b []byte, f *wire.Frame, cost int) []byte {
	size := frameHead + len(f.User) + len(f.Payload)
	l.m.cfg.Counters.out(Native)
	if l.head == len(l.queue) && cost <= l.credit && l.m.room(len(b)) {
		l.credit -= cost
		l.m.hasten()
		return wire.AppendFrame(pipe.Grow(b, size), f)
	}
	l.reserve(recordHead + size)
	before := len(l.queue)
	l.queue = binary.BigEndian.AppendUint32(l.queue, uint32(cost))
	l.queue = wire.AppendFrame(l.queue, f)
	l.m.queued += len(l.queue) - before
	l.enlist()
	return b
}

// reserve makes room for n bytes at the end of the queue. It moves what is
// unsent only when that is at most half of the memory, or to twice as much.
func (l *line) reserve(n int) {
	switch unsent := l.queue[l.head:]; {
	case l.queue == nil:
		l.queue = pipe.TakeBuffer(n)
	case cap(l.queue)-len(l.queue) >= n:
	case len(unsent)+n <= cap(l.queue)/2:
		l.queue = l.queue[:copy(l.queue, unsent)]
		l.head = 0
	default:
		moved := append(pipe.TakeBuffer(2*(len(unsent)+n)), unsent...)
		pipe.ReturnBuffer(l.queue)
		l.queue, l.head = moved, 0
	}
}

// message sends a payload of any size allowed, cut into fragments. f.Payload is
// the whole of it.
func (l *line) message(f *wire.Frame) {
	whole := f.Payload
	b := l.m.w.Acquire()
	defer func() { l.m.w.Release(b) }()
	if !l.open() {
		return
	}
	if f.Type == wire.Data && !l.m.live(f.Channel) {
		l.m.cfg.Counters.drop(dropChannel)
		return
	}
	if len(whole) > l.m.cfg.MaxMessage || len(f.User) > wire.MaxUser {
		l.m.cfg.Counters.drop(dropTooBig)
		return
	}
	if len(l.queue)-l.head > l.m.cfg.TunnelMark+l.m.cfg.MaxMessage {
		l.m.cfg.Counters.drop(dropOverrun)
		return
	}
	if f.Type != wire.Data {
		l.seq++
		f.Seq = l.seq
	}
	if len(whole) <= wire.MaxFragment {
		b = l.put(b, f, len(whole))
		return
	}
	f.Flags &^= wire.Unreliable // which is never fragmented
	f.Flags |= wire.More
	f.Size = uint32(len(whole))
	for len(whole) > wire.MaxFragment {
		f.Payload, whole = whole[:wire.MaxFragment], whole[wire.MaxFragment:]
		b = l.put(b, f, len(f.Payload))
		f.Flags |= wire.Cont
	}
	f.Flags &^= wire.More
	f.Payload = whole
	b = l.put(b, f, len(whole))
}

// sendable says whether the first queued frame has its credit.
func (l *line) sendable() bool {
	return l.head < len(l.queue) && int(binary.BigEndian.Uint32(l.queue[l.head:])) <= l.credit
}

// enlist puts the line at the end of the ring if it can send and is not there.
func (l *line) enlist() {
	if l.next != nil || !l.sendable() {
		return
	}
	if last := l.m.ready; last != nil {
		l.next, last.next = last.next, l
	} else {
		l.next = l
	}
	l.m.ready = l
	l.m.mixed.Store(true)
}

// turn moves at most one fragment's worth of frames to the batch, at least one.
func (l *line) turn(b []byte) []byte {
	for moved := 0; l.sendable(); {
		cost := int(binary.BigEndian.Uint32(l.queue[l.head:]))
		frame := l.queue[l.head+recordHead:]
		frame = frame[:4+int(binary.BigEndian.Uint32(frame))]
		if moved > 0 && moved+len(frame) > wire.MaxFragment {
			break
		}
		b = append(pipe.Grow(b, len(frame)), frame...)
		moved += len(frame)
		l.credit -= cost
		l.head += recordHead + len(frame)
		l.m.queued -= recordHead + len(frame)
	}
	if l.head == len(l.queue) {
		l.dropQueue()
	}
	return b
}

func (l *line) dropQueue() {
	l.m.queued -= len(l.queue) - l.head
	pipe.ReturnBuffer(l.queue)
	l.queue, l.head = nil, 0
}

// clear drops the queue and lets nothing follow; the lock is held. A line that
// stays in the ring finds nothing to send at its turn.
func (l *line) clear() {
	l.ended.Store(true)
	l.dropQueue()
	if l.wait != nil {
		close(l.wait)
		l.wait = nil
		for i, w := range l.m.waiting {
			if w == l {
				l.m.waiting = append(l.m.waiting[:i], l.m.waiting[i+1:]...)
				break
			}
		}
	}
}

// end forgets the line and its channels.
func (l *line) end() {
	b := l.m.w.Acquire()
	l.leave()
	l.m.w.Release(b)
	l.m.forgetAll(l)
}

// endIdle forgets the line if nothing is queued on it. Its channels stay until
// both ends have closed them.
func (l *line) endIdle() {
	b := l.m.w.Acquire()
	if l.head == len(l.queue) {
		l.leave()
	}
	l.m.w.Release(b)
}

// leave takes the line off the tunnel; the lock is held.
func (l *line) leave() {
	l.clear()
	if l.m.lines[l.state] == l {
		delete(l.m.lines, l.state)
	}
}

// over says whether the line or the tunnel has more queued than the marks.
func (l *line) over(state, tunnel int) bool {
	return len(l.queue)-l.head > state || l.m.queued > tunnel
}

// admit is Line.Admit.
func (l *line) admit(n int) <-chan struct{} {
	b := l.m.w.Acquire()
	defer func() { l.m.w.Release(b) }()
	// However large, a message is welcome once half the mark is free.
	state, tunnel := l.m.cfg.StateMark, l.m.cfg.TunnelMark
	if !l.open() || !l.over(state-min(n, state/2), tunnel-min(n, tunnel/2)) {
		return nil
	}
	if l.wait == nil {
		l.wait = make(chan struct{})
		l.m.waiting = append(l.m.waiting, l)
		l.m.mixed.Store(true)
	}
	return l.wait
}

// consumed notes that n bytes of payload of the state are done with, and
// returns credit when it is worth a frame. Any goroutine may call it.
func (l *line) consumed(n int) {
	if n > 0 && l.owed.Add(int32(n)) >= window/4 {
		l.repay()
	}
}

func (l *line) repay() {
	if n := l.owed.Swap(0); n > 0 {
		l.m.control(&wire.Frame{Type: wire.Credit, State: l.state, Size: uint32(n)})
	}
}
