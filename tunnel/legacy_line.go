package tunnel

import (
	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// Line returns the state's line. A legacy tunnel has no epochs: another epoch
// gets another Line, and the older one goes on until its End.
func (t *legacy) Line(state wire.StateID, epoch wire.Epoch) Line {
	b := t.w.Acquire()
	defer func() { t.w.Release(b) }()
	if l := t.lines[state]; l != nil && l.epoch == epoch {
		return l
	}
	l := &legacyLine{t: t, state: state, epoch: epoch}
	t.lines[state] = l
	return l
}

// legacyLine is one state's way to a legacy instance.
type legacyLine struct {
	t     *legacy
	state wire.StateID
	epoch wire.Epoch

	// Guarded by the lock of t.w.
	total uint64 // bytes ever said on this line
	marks [shareMarks]shareMark
	next  int // of marks, a ring
	wait  chan struct{}
}

// shareMark says: when the tunnel had been given offset bytes in all, total of
// them were this line's. What the line still has queued follows from the newest
// mark that has drained, to within shareStep.
type shareMark struct{ offset, total uint64 }

const (
	shareMarks = 8
	shareStep  = 64 << 10
	// legacyFixed is more than what a legacy frame has beside user and data.
	legacyFixed = 24
)

// add appends one frame whose user and data have n bytes together.
func (l *legacyLine) add(n int, frame func([]byte) []byte) {
	b := l.t.w.Acquire()
	if last := l.marks[(l.next+shareMarks-1)%shareMarks]; l.total-last.total >= shareStep || last.offset == 0 {
		l.marks[l.next] = shareMark{offset: l.t.appended + 1, total: l.total}
		l.next = (l.next + 1) % shareMarks
	}
	before := l.t.appended
	b = l.t.put(pipe.Grow(b, n+legacyFixed), frame)
	l.total += l.t.appended - before
	l.t.w.Release(b)
}

// share is how many bytes of the line wait; drained is how many of the tunnel
// have left. The lock is held.
func (l *legacyLine) share(drained uint64) int {
	base := uint64(0)
	for _, m := range l.marks {
		if m.offset != 0 && m.offset <= drained+1 {
			base = max(base, m.total)
		}
	}
	if base == 0 && l.marks[l.next].offset != 0 {
		base = l.marks[l.next].total // the oldest that is remembered
	}
	return int(l.total - base)
}

// fits says whether a frame with user and data can be written; one that cannot
// is dropped and counted.
func (l *legacyLine) fits(user string, data []byte) bool {
	if len(user)+len(data)+legacyFixed <= hathora.MaxFrame {
		return true
	}
	l.t.cfg.Counters.drop(dropTooBig)
	return false
}

func (l *legacyLine) New(user string, data []byte) {
	if l.fits(user, data) {
		l.add(len(user)+len(data), func(b []byte) []byte {
			return hathora.AppendNewState(b, l.state, user, data)
		})
	}
}

func (l *legacyLine) Open(s *Session) {
	if l.fits(s.User, nil) {
		l.add(len(s.User), func(b []byte) []byte { return hathora.AppendSubscribe(b, l.state, s.User) })
	}
}

func (l *legacyLine) Data(s *Session, _ uint64, payload []byte, _ bool) {
	if l.fits(s.User, payload) {
		l.add(len(s.User)+len(payload), func(b []byte) []byte {
			return hathora.AppendMessage(b, l.state, s.User, payload)
		})
	}
}

func (l *legacyLine) Close(s *Session, _ uint64, _ wire.Code) {
	if l.fits(s.User, nil) {
		l.add(len(s.User), func(b []byte) []byte { return hathora.AppendUnsubscribe(b, l.state, s.User) })
	}
}

// Admit makes the caller wait when the tunnel is above its mark, or when it is
// above a state's mark and this state's share is too. Below both there is no
// accounting to do.
func (l *legacyLine) Admit(n int) <-chan struct{} {
	t := l.t
	if t.pending()+n <= t.cfg.StateMark || t.dead.Load() {
		return nil
	}
	b := t.w.Acquire()
	defer func() { t.w.Release(b) }()
	queued := len(b) + t.pending()
	drained := t.appended - min(t.appended, uint64(queued))
	if t.dead.Load() || queued+n <= t.cfg.TunnelMark && l.share(drained) < t.cfg.StateMark {
		return nil
	}
	if l.wait == nil {
		l.wait = make(chan struct{})
		t.waiting = append(t.waiting, l)
		t.conn.wake()
	}
	return l.wait
}

// wake lets those go on who wait for the line; the lock is held.
func (l *legacyLine) wake() {
	close(l.wait)
	l.wait = nil
}

func (l *legacyLine) Released() {}

func (l *legacyLine) NotOwner() {}

// End forgets the line. What it said is in the connection already.
func (l *legacyLine) End() {
	b := l.t.w.Acquire()
	if l.t.lines[l.state] == l {
		delete(l.t.lines, l.state)
	}
	l.t.w.Release(b)
}
