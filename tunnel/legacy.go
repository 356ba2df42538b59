package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// legacy is the coordinator's end of a legacy tunnel.
type legacy struct {
	*conn

	// Guarded by the lock of w, which Acquire takes.
	lines    map[wire.StateID]*legacyLine
	appended uint64 // bytes ever given to w
	waiting  []*legacyLine
}

func newLegacy(c *conn) *legacy {
	c.keepAlive()
	return &legacy{conn: c, lines: make(map[wire.StateID]*legacyLine)}
}

func (t *legacy) Confirm(wire.InstanceID, wire.Gen) {}

func (t *legacy) GoAway() {}

func (t *legacy) Greet(appID string) {
	b := t.w.Acquire()
	t.w.Release(t.put(b, func(b []byte) []byte { return hathora.AppendConnected(b, appID) }))
	t.Flush()
}

func (t *legacy) Flush() { _ = t.w.FlushShared() }

func (t *legacy) Close(reason string) { t.end(fail(reason, nil)) }

// put appends one frame; the lock is held.
func (t *legacy) put(b []byte, add func([]byte) []byte) []byte {
	if t.dead.Load() {
		return b
	}
	before := len(b)
	b = add(b)
	t.appended += uint64(len(b) - before)
	t.cfg.Counters.out(Legacy)
	return b
}

func (t *legacy) Run(ctx context.Context, sink Sink) error {
	return t.run(ctx, func() error { return t.read(sink) }, t.keep)
}

// read hands every frame to the sink. The idle limit begins with the first PING.
func (t *legacy) read(sink Sink) error {
	need, pinged, first := 1, false, true
	armed := time.Duration(0)
	for {
		b, err := t.fill(need)
		if err != nil {
			return err
		}
		used, frames := 0, 0
		for {
			body, n, err := hathora.SplitFrame(b[used:], hathora.MaxFrame)
			if err != nil {
				if first && oldLength(b[used:]) {
					return fail(ReasonOldFraming, err)
				}
				return fail(ReasonLength, err)
			}
			if n == 0 {
				break
			}
			ping, err := t.deliver(body, sink)
			if err != nil {
				return legacyFault(first, err)
			}
			pinged = pinged || ping
			first = false
			used += n
			frames++
		}
		need = 1
		if rest := b[used:]; len(rest) > 0 {
			need = max(len(rest)+1, frameNeed(rest))
		}
		t.r.Discard(used)
		t.cfg.Counters.in(Legacy, frames)
		sink.Drained()
		t.Flush()
		if now := t.since(); pinged && (armed == 0 || now-armed > time.Second) {
			armed = now
			t.arm(t.cfg.LegacyIdle)
		}
	}
}

// frameNeed is how many bytes the frame that begins with b takes, at most what
// a reader may hold for it; its length has been checked.
func frameNeed(b []byte) int {
	n, err := hathora.FrameSize(b)
	if err != nil {
		return 0
	}
	return n
}

func legacyFault(first bool, err error) *Error {
	switch {
	case first:
		return fail(ReasonOldFraming, err)
	case errors.Is(err, hathora.ErrType):
		return fail(ReasonType, err)
	}
	return fail(ReasonFrame, err)
}

// deliver hands up one frame; ping says that it was a PING, which gets no reply.
func (t *legacy) deliver(body []byte, sink Sink) (ping bool, err error) {
	f, err := hathora.DecodeFromStore(body)
	if err != nil {
		return false, err
	}
	switch f.Type {
	case hathora.SendMessage:
		sink.ToUser(f.State, 0, f.User, f.Data)
	case hathora.CloseConnection:
		sink.CloseUser(f.State, f.User)
	default:
		return true, nil
	}
	return false, nil
}

// keep wakes those whom Admit made wait once their share has drained. A
// connection tells nobody that it drains, so keep looks, while someone waits.
func (t *legacy) keep() {
	drain := time.NewTimer(time.Hour)
	defer drain.Stop()
	for {
		select {
		case <-t.done:
			b := t.w.Acquire()
			for _, l := range t.waiting {
				l.wake()
			}
			t.waiting = nil
			t.w.Release(b)
			return
		case <-t.kick:
			drain.Reset(drainPoll)
		case <-drain.C:
			if t.wakeDrained() {
				drain.Reset(drainPoll)
			}
		}
	}
}

// wakeDrained wakes who may go on and says whether others still wait.
func (t *legacy) wakeDrained() bool {
	b := t.w.Acquire()
	defer func() { t.w.Release(b) }()
	queued := len(b) + t.pending()
	drained := t.appended - min(t.appended, uint64(queued))
	left := t.waiting[:0]
	for _, l := range t.waiting {
		if queued <= t.cfg.TunnelMark/2 && l.share(drained) <= t.cfg.StateMark/2 {
			l.wake()
		} else {
			left = append(left, l)
		}
	}
	clear(t.waiting[len(left):])
	t.waiting = left
	return len(left) > 0
}

// RTT is TCP's own estimate.
func (t *legacy) RTT() time.Duration {
	if info, ok := t.tcpInfo(); ok {
		return info.rtt
	}
	return t.conn.RTT()
}

// Probe waits for a TCP acknowledgement or any input after the call began.
func (t *legacy) Probe(ctx context.Context) error {
	return t.probeTCP(ctx)
}
