package tunnel

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// wired is a mux on a connection of its own: it reads it, keeps it alive with
// heartbeats, and notices when it is dead.
type wired struct {
	*mux
	c      *conn
	answer atomic.Int64 // number of the last heartbeat that was answered
	report func() Load  // nil at the coordinator's end
}

func newWired(c *conn, grant int) *wired {
	c.keepAlive()
	return &wired{mux: newMux(&c.core, c, grant), c: c}
}

// RTT is the last round trip of a heartbeat.
func (m *wired) RTT() time.Duration { return m.c.RTT() }

// keep sends heartbeats, ends a tunnel that is silent, and goes on flushing
// while a congested connection drains.
func (m *wired) keep() {
	beat := time.NewTicker(m.cfg.Heartbeat)
	defer beat.Stop()
	drain := time.NewTimer(time.Hour)
	defer drain.Stop()
	silent, heard := time.Duration(0), m.c.lastRead.Load()
	for {
		select {
		case <-m.done:
			m.wakeAll()
			return
		case <-m.c.kick:
			drain.Reset(drainPoll)
		case <-drain.C:
			m.Flush()
		case <-beat.C:
			// Beats are counted, not time: a process that was stopped for a
			// while must not take its own silence for the other end's.
			silent += m.cfg.Heartbeat
			if now := m.c.lastRead.Load(); now != heard {
				silent, heard = 0, now
			}
			if silent >= m.cfg.Silence {
				m.c.end(fail(ReasonIdle, nil))
				continue
			}
			m.heartbeat()
			m.Flush()
		}
	}
}

// heartbeat writes one; its number is the time, which comes back in the answer.
func (m *wired) heartbeat() {
	f := wire.Frame{Type: wire.Heartbeat, Seq: uint64(m.c.since())}
	if m.report != nil {
		load := m.report()
		f.Size, f.Index = load.Permille, load.Sessions
	}
	m.control(&f)
}

// answered notes the round trip of a heartbeat.
func (m *wired) answered(seq uint64) {
	sent := time.Duration(seq)
	if now := m.c.since(); sent >= 0 && sent <= now {
		m.c.rtt.Store(int64(max(now-sent, 1)))
		m.answer.Store(int64(sent))
	}
}

// Probe sends a heartbeat and waits for the answer to it or to a later one.
func (m *wired) Probe(ctx context.Context) error {
	asked := int64(m.c.since())
	m.heartbeat()
	m.Flush()
	tick := time.NewTicker(probePoll / 5)
	defer tick.Stop()
	for m.answer.Load() < asked {
		select {
		case <-m.done:
			return net.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// split hands every whole frame of what is unread to take, then calls drained,
// until reading fails or take does.
func (m *wired) split(take func(f *wire.Frame) error, drained func()) error {
	var f wire.Frame
	for need := 1; ; {
		b, err := m.c.fill(need)
		if err != nil {
			return err
		}
		used, frames := 0, 0
		for {
			body, n, err := wire.SplitFrame(b[used:], wire.MaxFrame)
			if err != nil {
				return frameFault(err)
			}
			if n == 0 {
				break
			}
			if err := f.Decode(body); err != nil {
				return frameFault(err)
			}
			if err := take(&f); err != nil {
				return err
			}
			used += n
			frames++
		}
		need = len(b) - used + 1
		m.c.r.Discard(used)
		m.cfg.Counters.in(Native, frames)
		drained()
		m.Flush()
	}
}

// alive handles heartbeats; false when f is none.
func (m *wired) alive(f *wire.Frame) bool {
	switch f.Type {
	case wire.Heartbeat:
		m.control(&wire.Frame{Type: wire.HeartbeatAck, Seq: f.Seq})
	case wire.HeartbeatAck:
		m.answered(f.Seq)
	default:
		return false
	}
	return true
}
