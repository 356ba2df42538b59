package tunnel

import (
	"errors"

	"github.com/trunkline-edge/trunkline/wire"
)

// hangUp closes a channel from this end, outside the order of its state.
func (m *mux) hangUp(channel uint32) {
	b := m.w.Acquire()
	first := m.closeOurs(channel)
	m.w.Release(b)
	if first {
		m.control(&wire.Frame{Type: wire.Close, Channel: channel, Code: wire.CodeNormal})
	}
}

// takeDown handles a frame for the instance's end that is about sessions and
// states, or is the last.
func (m *mux) takeDown(f *wire.Frame, h Handler) error {
	switch f.Type {
	case wire.Data:
		return m.takeDownData(f, h)
	case wire.NewState:
		return m.takeNewState(f, h)
	case wire.Open:
		if f.Channel == 0 {
			return fail(ReasonFrame, errors.New("open of channel 0"))
		}
		m.open(f.Channel, m.line(f.State, f.Epoch))
		h.Open(Session{
			Channel: f.Channel, State: f.State, Epoch: f.Epoch, Gen: f.Gen, Conn: f.Conn, Stream: f.Stream,
			Next: f.Seq, User: string(f.User), Resumed: f.Flags&wire.Resumed != 0,
		})
	case wire.Close:
		if f.Channel == 0 {
			return fail(ReasonRefused, &CodeError{Code: f.Code, Reason: string(f.Payload)})
		}
		if first, _ := m.closeTheirs(f.Channel); first {
			h.Closed(f.Channel, f.Seq, f.Code)
		}
	case wire.StateReleased:
		h.Released(f.State, f.Epoch)
	case wire.NotOwner:
		h.NotOwner(f.State, f.Epoch)
	case wire.Ack, wire.Expected, wire.Gap:
		// Of what the instance sent, which it does not keep; or of what was
		// lost before this tunnel, where Open has named the number that follows.
	default:
		return m.takeCredit(f)
	}
	return nil
}

func (m *mux) takeDownData(f *wire.Frame, h Handler) error {
	l, live := m.on(f.Channel)
	if l == nil {
		m.cfg.Counters.drop(dropChannel)
		return nil
	}
	whole, err := m.assemble(l, f)
	if err != nil || !whole {
		return err
	}
	if !live {
		l.consumed(hold(len(f.Payload)))
		return nil
	}
	h.Data(f.Channel, f.Seq, f.Payload, f.Flags&wire.Unreliable != 0)
	return nil
}

func (m *mux) takeNewState(f *wire.Frame, h Handler) error {
	l := m.line(f.State, f.Epoch)
	whole, err := m.assemble(l, f)
	if err != nil || !whole {
		return err
	}
	h.NewState(f.State, f.Epoch, f.User, f.Payload)
	l.consumed(hold(len(f.Payload)))
	return nil
}

// Uplink is one state's way to the coordinator. Calls are ordered as they are
// made; none blocks, none does I/O before Flush, and none does anything once
// the tunnel has ended. Payloads are copied.
type Uplink struct{ l *line }

// Accept answers NewState: the state is there.
func (u Uplink) Accept() {
	u.l.say(&wire.Frame{Type: wire.StateAccept, State: u.l.state, Epoch: u.l.epoch})
}

// Refuse answers NewState, or the first Open of a state that cannot be had: the
// coordinator closes its sessions with the code. The state is forgotten here.
func (u Uplink) Refuse(code wire.Code, reason string) {
	u.l.say(&wire.Frame{
		Type: wire.StateRefuse, State: u.l.state, Epoch: u.l.epoch, Code: code, Payload: []byte(reason),
	})
	u.l.endIdle()
}

// Release asks that the state be forgotten; Handler.Released or NotOwner answers.
func (u Uplink) Release() {
	u.l.say(&wire.Frame{Type: wire.StateRelease, State: u.l.state, Epoch: u.l.epoch})
}

// Join answers Open: broadcasts that follow are for this session too.
func (u Uplink) Join(channel uint32) { u.l.say(&wire.Frame{Type: wire.Accept, Channel: channel}) }

// ToSession sends a message to one session.
func (u Uplink) ToSession(channel uint32, seq uint64, payload []byte, unreliable bool) {
	f := wire.Frame{Type: wire.Data, Channel: channel, Seq: seq, Payload: payload}
	if unreliable {
		f.Flags = wire.Unreliable
	}
	u.l.message(&f)
}

// ToUser sends a message to all sessions of a user.
func (u Uplink) ToUser(user string, payload []byte) { u.ToUserBytes([]byte(user), payload) }

// ToUserBytes is ToUser for who has the name as bytes.
func (u Uplink) ToUserBytes(user, payload []byte) {
	u.l.message(&wire.Frame{
		Type: wire.Broadcast, Flags: wire.ToUser, State: u.l.state, Epoch: u.l.epoch, User: user, Payload: payload,
	})
}

// ToAll sends a message to every joined session but the one on channel except;
// 0 excepts none.
func (u Uplink) ToAll(except uint32, payload []byte, unreliable bool) {
	f := wire.Frame{Type: wire.Broadcast, State: u.l.state, Epoch: u.l.epoch, Channel: except, Payload: payload}
	if except != 0 {
		f.Flags |= wire.Except
	}
	if unreliable {
		f.Flags |= wire.Unreliable
	}
	u.l.message(&f)
}

// CloseSession ends this end of a session, after all that was sent to it: a
// kick, or the answer to Handler.Closed. Only the first call does anything.
func (u Uplink) CloseSession(channel uint32, seq uint64, code wire.Code, reason string) {
	u.l.close(&wire.Frame{Type: wire.Close, Channel: channel, Seq: seq, Code: code, Payload: []byte(reason)})
}

// Ack says that every message up to seq is done with. It goes before what the
// state has queued.
func (u Uplink) Ack(channel uint32, seq uint64) {
	u.l.m.control(&wire.Frame{Type: wire.Ack, Channel: channel, Seq: seq})
}

// AckSoon is Ack that Far.FlushUrgent leaves to go with something else.
func (u Uplink) AckSoon(channel uint32, seq uint64) {
	u.l.m.write(&wire.Frame{Type: wire.Ack, Channel: channel, Seq: seq}, false)
}

// Expected says which number is waited for.
func (u Uplink) Expected(channel uint32, seq uint64) {
	u.l.m.control(&wire.Frame{Type: wire.Expected, Channel: channel, Seq: seq})
}

// Consumed returns the credit of one message of Handler.Data with n bytes.
func (u Uplink) Consumed(n int) { u.l.consumed(hold(n)) }

// Admit asks whether n more bytes are welcome: nil, go on; else the channel is
// closed when it is time to ask again, or when the tunnel ends.
func (u Uplink) Admit(n int) (wait <-chan struct{}) { return u.l.admit(n) }

// End forgets the state on this tunnel and what is queued for it.
func (u Uplink) End() { u.l.end() }
