package sdk

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// link is a backend on one tunnel: it takes what the coordinator sends and gives
// it to the states. Its tunnel.Handler methods belong to the tunnel's reader.
type link struct {
	b      *Backend
	a      *tunnel.Attachment
	flush  chan struct{} // wakes the flusher
	leave  chan struct{} // the coordinator asked us to go
	late   *time.Timer   // flushes while handlers take their time
	armed  atomic.Bool   // late will fire
	inputs map[uint32]*input
	dirty  []*State // have got input since the last Drained
}

// input is the receiving side of one channel.
type input struct {
	sess   *Session
	expect uint64
	holed  bool // Expected was said for the hole at expect
}

func newLink(b *Backend, a *tunnel.Attachment) *link {
	l := &link{
		b: b, a: a, flush: make(chan struct{}, 1), leave: make(chan struct{}, 1),
		inputs: make(map[uint32]*input),
	}
	l.late = time.AfterFunc(time.Hour, func() {
		l.armed.Store(false)
		a.Flush()
	})
	return l
}

// soon sees to it that what was said is written before long, even if the
// handler that said it, or the next one, takes its time.
func (l *link) soon() {
	if !l.armed.Load() && l.armed.CompareAndSwap(false, true) {
		l.late.Reset(flushAfter)
	}
}

// serve runs the tunnel until it ends; when ctx does, it says goodbye first.
func (l *link) serve(ctx context.Context) error {
	ended := make(chan struct{})
	helped := make(chan struct{})
	go func() {
		defer close(helped)
		l.help(ctx, ended)
	}()
	err := l.a.Run(context.WithoutCancel(ctx), l)
	l.late.Stop()
	close(ended)
	<-helped
	return err
}

// help flushes for states, ends the tunnel when it is time to leave, and lets
// sessions go that did not come back.
func (l *link) help(ctx context.Context, ended <-chan struct{}) {
	rejoin := time.NewTimer(l.b.cfg.RejoinWait)
	defer rejoin.Stop()
	done := ctx.Done()
	for {
		select {
		case <-ended:
			return
		case <-done:
			done = nil
			l.a.Goodbye()
			l.a.Close("going_away")
		case <-l.leave:
			l.a.Close("going_away")
		case <-l.flush:
			// Behind whatever is runnable now: its output goes along.
			runtime.Gosched()
			l.a.Flush()
		case <-rejoin.C:
			l.sweep()
		}
	}
}

// sweep tells every state that sessions which are still missing have left.
func (l *link) sweep() {
	l.b.mu.Lock()
	all := l.b.snapshot()
	l.b.mu.Unlock()
	for _, s := range all {
		if first, _ := s.push(event{kind: evSweep, link: l}, nil); first {
			s.start()
		}
	}
}

// give queues an event; the state's handlers start when the input is drained.
func (l *link) give(s *State, e event, payload []byte) (taken bool) {
	e.link = l
	first, taken := s.push(e, payload)
	if first {
		l.dirty = append(l.dirty, s)
	}
	return taken
}

// Drained starts the handlers of every state that got something.
func (l *link) Drained() {
	for i, s := range l.dirty {
		l.dirty[i] = nil
		s.start()
	}
	l.dirty = l.dirty[:0]
}

// NewState makes a state.
func (l *link) NewState(id wire.StateID, epoch wire.Epoch, user, data []byte) {
	if s, fresh := l.b.state(l, id, epoch); fresh {
		l.give(s, event{kind: evNew, user: string(user)}, data)
	}
}

// Open brings a session, and with the first one of a state that is not here the
// state itself.
func (l *link) Open(o tunnel.Session) {
	s, fresh := l.b.state(l, o.State, o.Epoch)
	if fresh {
		l.give(s, event{kind: evLoad}, nil)
	}
	sess := s.bind(l, &o)
	l.inputs[o.Channel] = &input{sess: sess, expect: o.Next}
	if s.opened == nil {
		s.opened = make(map[uint32]struct{})
	}
	s.opened[o.Channel] = struct{}{}
	l.give(s, event{kind: evOpen, sess: sess, channel: o.Channel}, nil)
}

// Data takes exactly the number that is expected.
func (l *link) Data(channel uint32, seq uint64, payload []byte, _ bool) {
	in := l.inputs[channel]
	if in == nil {
		return
	}
	s := in.sess.state
	switch {
	case seq == in.expect:
		in.expect++
		in.holed = false
		if l.give(s, event{kind: evData, sess: in.sess, channel: channel, seq: seq}, payload) {
			return
		}
	case seq < in.expect:
		l.a.Uplink(s.id, s.epoch).Ack(channel, min(seq, in.sess.acked.Load()))
	case !in.holed:
		in.holed = true
		l.a.Uplink(s.id, s.epoch).Expected(channel, in.expect)
	}
	s.consumed(l, len(payload))
}

// Closed ends a session, after what it has sent.
func (l *link) Closed(channel uint32, _ uint64, _ wire.Code) {
	in := l.inputs[channel]
	if in == nil {
		return
	}
	s := in.sess.state
	delete(l.inputs, channel)
	delete(s.opened, channel)
	other := l.otherOf(s, in.sess)
	moved := other != 0 && s.rebind(in.sess, l, channel, other)
	if !l.give(s, event{kind: evClose, sess: in.sess, channel: channel}, nil) {
		l.a.CloseChannel(channel)
	}
	if moved {
		l.give(s, event{kind: evOpen, sess: in.sess, channel: other}, nil)
	}
}

// otherOf finds the latest other channel of a session, 0 if it has none: of a client that went to another node, the one it
// left may hear of that last, and come back here before it lets go.
func (l *link) otherOf(s *State, sess *Session) (latest uint32) {
	for channel := range s.opened {
		if in := l.inputs[channel]; in != nil && in.sess == sess {
			latest = max(latest, channel)
		}
	}
	return latest
}

// Released ends a state that we let go.
func (l *link) Released(id wire.StateID, epoch wire.Epoch) { l.lose(id, epoch) }

// NotOwner ends a state that is another's.
func (l *link) NotOwner(id wire.StateID, epoch wire.Epoch) { l.lose(id, epoch) }

func (l *link) lose(id wire.StateID, epoch wire.Epoch) {
	s := l.b.find(id, epoch)
	if s == nil {
		l.a.Uplink(id, epoch).End()
		return
	}
	for channel := range s.opened {
		delete(l.inputs, channel)
	}
	s.opened = nil
	l.b.drop(s)
	s.lose()
	l.a.Uplink(id, epoch).End()
}

// GoAway makes the link end, so that the backend attaches elsewhere. States are
// kept.
func (l *link) GoAway() {
	select {
	case l.leave <- struct{}{}:
	default:
	}
}

// sent sees to it that what a state has said is written: at once when no other
// state works, else together with the others'.
func (l *link) sent(others bool) {
	if !others {
		l.a.Flush()
		return
	}
	select {
	case l.flush <- struct{}{}:
	default:
	}
}
