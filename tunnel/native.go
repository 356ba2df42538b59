package tunnel

import (
	"context"

	"github.com/trunkline-edge/trunkline/wire"
)

// native is the coordinator's end of a native tunnel.
type native struct {
	*wired
	hello     wire.Hello // the answer that is owed until confirmed
	confirmed bool       // guarded by the lock of w
}

func newNative(c *conn, hello wire.Hello, grant int) *native {
	t := &native{wired: newWired(c, grant), hello: hello}
	c.farewell = func(err *Error) {
		if err.Reason != ReasonPeer {
			t.sayClose(err.Reason)
		}
	}
	return t
}

func (t *native) Confirm(instance wire.InstanceID, gen wire.Gen) {
	body := wire.RegisteredBody{
		Instance: instance, Gen: gen, HeartbeatMs: uint32(t.cfg.Heartbeat.Milliseconds()), Credit: window,
	}
	b := t.w.Acquire()
	if !t.confirmed && !t.dead.Load() {
		b = t.answer(b)
		b = wire.AppendFrame(b, &wire.Frame{Type: wire.Registered, Payload: body.Append(nil)})
	}
	t.w.Release(b)
	t.Flush()
}

// answer appends the hello that precedes everything; the lock is held.
func (t *native) answer(b []byte) []byte {
	t.confirmed = true
	return wire.AppendHello(b, t.hello)
}

// sayClose writes the end of the tunnel as a code with the reason beside it.
func (t *native) sayClose(reason string) {
	b := t.w.Acquire()
	if !t.confirmed {
		b = t.answer(b)
	}
	b = wire.AppendFrame(b, &wire.Frame{Type: wire.Close, Code: codeOf(reason), Payload: []byte(reason)})
	t.w.Release(b)
	t.Flush()
}

// codeOf is the code that tells an instance why its tunnel was closed: the one
// that has the reason as its name, else by what the reason means.
func codeOf(reason string) wire.Code {
	for _, info := range wire.Codes() {
		if info.Name == reason {
			return info.Code
		}
	}
	switch reason {
	case ReasonLength, ReasonType, ReasonFrame:
		return wire.CodeProtocol
	case ReasonStalled:
		return wire.CodeSlow
	case ReasonPanic:
		return wire.CodeInternal
	}
	return wire.CodeGoingAway
}

func (t *native) Greet(string) {}

func (t *native) GoAway() {
	t.control(&wire.Frame{Type: wire.GoAway, Code: wire.CodeGoingAway})
	t.Flush()
}

func (t *native) Close(reason string) { t.c.end(fail(reason, nil)) }

func (t *native) Line(state wire.StateID, epoch wire.Epoch) Line {
	return nativeLine{t.line(state, epoch)}
}

func (t *native) Run(ctx context.Context, sink Sink) error {
	return t.c.run(ctx, func() error {
		return t.split(func(f *wire.Frame) error { return t.take(f, sink) }, sink.Drained)
	}, t.keep)
}

// take handles one frame of the instance.
func (t *native) take(f *wire.Frame, sink Sink) error {
	switch f.Type {
	case wire.GoAway:
		sink.Leaving()
	case wire.Heartbeat:
		sink.Load(Load{Permille: f.Size, Sessions: f.Index})
		t.alive(f)
	case wire.HeartbeatAck:
		t.alive(f)
	default:
		return t.takeUp(f, sink)
	}
	return nil
}

// takeUp handles a frame for the coordinator's end that is about sessions and
// states, or is the last.
func (m *mux) takeUp(f *wire.Frame, sink Sink) error {
	switch f.Type {
	case wire.Data:
		return m.takeUpData(f, sink)
	case wire.Broadcast:
		return m.takeBroadcast(f, sink)
	case wire.Close:
		if f.Channel == 0 {
			return fail(ReasonPeer, &CodeError{Code: f.Code, Reason: string(f.Payload)})
		}
		if first, answer := m.closeTheirs(f.Channel); first && !answer {
			sink.CloseSession(f.Channel, f.Code, f.Payload)
		}
	case wire.Accept, wire.Ack, wire.Expected:
		m.takeSession(f, sink)
	case wire.StateAccept:
		sink.StateAccepted(f.State, f.Epoch)
	case wire.StateRefuse:
		sink.StateRefused(f.State, f.Epoch, f.Code, f.Payload)
	case wire.StateRelease:
		sink.StateReleased(f.State, f.Epoch)
	default:
		return m.takeCredit(f)
	}
	return nil
}

// takeSession hands up what concerns one session, if it is still open.
func (m *mux) takeSession(f *wire.Frame, sink Sink) {
	if _, live := m.on(f.Channel); !live {
		m.cfg.Counters.drop(dropChannel)
		return
	}
	switch f.Type {
	case wire.Accept:
		sink.SessionAccepted(f.Channel)
	case wire.Ack:
		sink.Acked(f.Channel, f.Seq)
	default:
		sink.Expected(f.Channel, f.Seq)
	}
}

func (m *mux) takeUpData(f *wire.Frame, sink Sink) error {
	l, live := m.on(f.Channel)
	if l == nil {
		m.cfg.Counters.drop(dropChannel)
		return nil
	}
	whole, err := m.assemble(l, f)
	if err != nil || !whole {
		return err
	}
	if live {
		sink.ToSession(f.Channel, f.Seq, f.Payload, f.Flags&wire.Unreliable != 0)
	} else {
		m.cfg.Counters.drop(dropChannel)
	}
	l.consumed(hold(len(f.Payload)))
	return nil
}

// takeBroadcast hands up a message to a user or to all. A state that has no
// line has no session on this tunnel; the message is handed up all the same,
// and its credit goes back at once since nothing keeps account of it.
func (m *mux) takeBroadcast(f *wire.Frame, sink Sink) error {
	l := m.find(f.State)
	if l == nil || l.epoch != f.Epoch {
		if n := len(f.Payload); n > 0 {
			m.control(&wire.Frame{Type: wire.Credit, State: f.State, Size: uint32(n)})
		}
		if f.Flags&(wire.More|wire.Cont) != 0 {
			m.cfg.Counters.drop(dropAssembly)
			return nil
		}
		broadcast(f, sink)
		return nil
	}
	whole, err := m.assemble(l, f)
	if err != nil || !whole {
		return err
	}
	broadcast(f, sink)
	l.consumed(hold(len(f.Payload)))
	return nil
}

func broadcast(f *wire.Frame, sink Sink) {
	if f.Flags&wire.ToUser != 0 {
		sink.ToUser(f.State, f.Epoch, f.User, f.Payload)
		return
	}
	sink.ToAll(f.State, f.Epoch, f.Channel, f.Payload, f.Flags&wire.Unreliable != 0)
}

// nativeLine is one state's way to a native instance.
type nativeLine struct{ l *line }

func (n nativeLine) New(user string, data []byte) {
	n.l.message(&wire.Frame{
		Type: wire.NewState, State: n.l.state, Epoch: n.l.epoch, User: []byte(user), Payload: data,
	})
}

func (n nativeLine) Open(s *Session) {
	if len(s.User) > wire.MaxUser {
		n.l.m.cfg.Counters.drop(dropTooBig)
		return
	}
	n.l.m.open(s.Channel, n.l)
	f := wire.Frame{
		Type: wire.Open, Channel: s.Channel, Seq: s.Next, State: n.l.state, Epoch: n.l.epoch, Gen: s.Gen,
		Conn: s.Conn, Stream: s.Stream, User: []byte(s.User),
	}
	if s.Resumed {
		f.Flags = wire.Resumed
	}
	n.l.say(&f)
}

func (n nativeLine) Data(s *Session, seq uint64, payload []byte, unreliable bool) {
	f := wire.Frame{Type: wire.Data, Channel: s.Channel, Seq: seq, Payload: payload}
	if unreliable {
		f.Flags = wire.Unreliable
	}
	n.l.message(&f)
}

func (n nativeLine) Close(s *Session, seq uint64, code wire.Code) {
	n.l.close(&wire.Frame{Type: wire.Close, Channel: s.Channel, Seq: seq, Code: code})
}

func (n nativeLine) Admit(size int) <-chan struct{} { return n.l.admit(size) }

func (n nativeLine) Released() { n.leave(wire.StateReleased) }

func (n nativeLine) NotOwner() { n.leave(wire.NotOwner) }

// leave ends the line and tells the instance so, ahead of all queues.
func (n nativeLine) leave(t wire.Type) {
	n.l.end()
	n.l.m.control(&wire.Frame{Type: t, State: n.l.state, Epoch: n.l.epoch})
}

func (n nativeLine) End() { n.l.end() }
