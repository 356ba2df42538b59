package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// Handler takes what the coordinator sends to an instance. All calls come from
// the goroutine of Attachment.Run, in tunnel order. Slices are valid during the
// call only. A call must not block.
type Handler interface {
	// NewState asks for a state; answer with Uplink.Accept or Uplink.Refuse.
	NewState(state wire.StateID, epoch wire.Epoch, user, data []byte)
	// Open tells of a session; answer with Uplink.Join or Uplink.CloseSession.
	Open(s Session)
	// Data is one message of a session. Tell Uplink.Consumed when done with it.
	Data(channel uint32, seq uint64, payload []byte, unreliable bool)
	// Closed tells that the coordinator has closed a session, once, also when
	// this end had closed it before. Answer with Uplink.CloseSession when
	// nothing more will be sent to it.
	Closed(channel uint32, seq uint64, code wire.Code)
	// Released confirms Uplink.Release: the state is forgotten.
	Released(state wire.StateID, epoch wire.Epoch)
	// NotOwner tells that the state is another's now.
	NotOwner(state wire.StateID, epoch wire.Epoch)
	// GoAway asks to attach elsewhere.
	GoAway()
	// Drained says that no further input is known to be buffered: flush.
	Drained()
}

// Attachment is the instance's end of one native tunnel.
// All methods but Run may be called from any goroutine.
type Attachment struct {
	*mux
	instance wire.InstanceID
	gen      wire.Gen
}

// Dial connects to a coordinator's tunnel port, "host:port". A nil secure means
// plain TCP; else its ServerName is set to the host unless it has one. The
// connection cuts a coordinator that does not read for stall.
func Dial(ctx context.Context, addr string, secure *tls.Config, stall time.Duration, cfg Config) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial coordinator: %w", err)
	}
	base := pipe.NewConn(nc, cfg.PipeOptions(stall))
	if secure == nil {
		return base, nil
	}
	if secure.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			base.Close()
			return nil, fmt.Errorf("dial coordinator: %w", err)
		}
		secure = secure.Clone()
		secure.ServerName = host
	}
	c := tls.Client(base, secure)
	if err := c.HandshakeContext(ctx); err != nil {
		base.Close()
		return nil, fmt.Errorf("dial coordinator %s: %w", addr, err)
	}
	return c, nil
}

// Attach registers an instance over nc, which it takes over, and waits at most
// Config.RegisterTimeout for the answer. A refusal is an *[Error] with
// [ReasonRefused] whose cause is a *[CodeError]. load, which may be nil, is
// asked before each heartbeat, from another goroutine.
func Attach(ctx context.Context, nc net.Conn, reg *Registration, load func() Load, cfg Config) (*Attachment, error) {
	if err := cfg.Validate(); err != nil {
		nc.Close()
		return nil, err
	}
	a, err := attach(ctx, nc, reg, cfg)
	if err != nil {
		nc.Close()
		return nil, refusal(ctx, err)
	}
	a.report = load
	_ = nc.SetReadDeadline(time.Time{})
	return a, nil
}

func attach(ctx context.Context, nc net.Conn, reg *Registration, cfg Config) (*Attachment, error) {
	c := newConn(Native, nc, pipe.NewReader(nc, readBuffer), cfg)
	ours := wire.OurHello()
	if err := sayRegister(c, ours, reg); err != nil {
		return nil, err
	}
	_ = nc.SetReadDeadline(time.Now().Add(cfg.RegisterTimeout))
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := readHello(c.r)
	if err != nil {
		return nil, err
	}
	var f wire.Frame
	done, err := readFrame(c.r, &f)
	if err != nil {
		return nil, err
	}
	defer done()
	if f.Type == wire.Close {
		return nil, fail(ReasonRefused, &CodeError{Code: f.Code, Reason: string(f.Payload)})
	}
	if err := ours.Check(answer); err != nil {
		return nil, fail(ReasonVersion, err)
	}
	return registered(c, &f)
}

// sayRegister writes hello, Register and Hold frames.
func sayRegister(c *conn, hello wire.Hello, reg *Registration) error {
	body := wire.RegisterBody{
		Incarnation: reg.Incarnation, Capacity: reg.Capacity, Held: uint32(len(reg.Holds)), Credit: window,
		Secret: []byte(reg.Secret), StoreID: []byte(reg.StoreID), Region: []byte(reg.Region), Login: reg.Login,
	}
	if err := body.Check(); err != nil {
		return fail(ReasonRegistration, err)
	}
	holds := make([]wire.Held, len(reg.Holds))
	for i, h := range reg.Holds {
		holds[i] = wire.Held(h)
	}
	b := wire.AppendHello(c.w.Acquire(), hello)
	b = wire.AppendFrame(b, &wire.Frame{Type: wire.Register, Payload: body.Append(nil)})
	c.w.Release(wire.AppendHolds(b, holds))
	return c.w.Flush()
}

func registered(c *conn, f *wire.Frame) (*Attachment, error) {
	var body wire.RegisteredBody
	if f.Type != wire.Registered {
		return nil, fail(ReasonType, fmt.Errorf("%v before registered", f.Type))
	}
	if err := body.Decode(f.Payload); err != nil {
		return nil, fail(ReasonFrame, err)
	}
	if body.Credit < minWindow {
		return nil, fail(ReasonFrame, errors.New("the coordinator's window is too small"))
	}
	if beat := time.Duration(body.HeartbeatMs) * time.Millisecond; beat > 0 {
		beats := (c.cfg.Silence + c.cfg.Heartbeat - 1) / c.cfg.Heartbeat
		c.cfg.Heartbeat, c.cfg.Silence = beat, beats*beat
	}
	return &Attachment{
		mux: newMux(c, int(min(body.Credit, 64<<20))), instance: body.Instance, gen: body.Gen,
	}, nil
}

// Instance is the id that the coordinator has given this life of the instance.
func (a *Attachment) Instance() wire.InstanceID { return a.instance }

// Gen counts the attachments of the instance.
func (a *Attachment) Gen() wire.Gen { return a.gen }

// Run reads until the tunnel ends and hands everything to h. It returns an
// *[Error], always.
func (a *Attachment) Run(ctx context.Context, h Handler) error {
	return a.run(ctx, func() error {
		return a.split(func(f *wire.Frame) error { return a.take(f, h) }, h.Drained)
	}, a.keep)
}

// Done is closed when the tunnel has ended.
func (a *Attachment) Done() <-chan struct{} { return a.done }

// Goodbye says that the instance is about to end: its states move at once.
func (a *Attachment) Goodbye() {
	a.control(&wire.Frame{Type: wire.GoAway, Code: wire.CodeGoingAway})
	a.Flush()
}

// Close ends the tunnel after what is queued, within Config.Linger.
func (a *Attachment) Close(reason string) { a.end(fail(reason, nil)) }

// CloseChannel answers Handler.Closed for a session whose state is gone.
func (a *Attachment) CloseChannel(channel uint32) {
	b := a.w.Acquire()
	first := a.closeOurs(channel)
	a.w.Release(b)
	if first {
		a.control(&wire.Frame{Type: wire.Close, Channel: channel, Code: wire.CodeNormal})
	}
}

// Uplink returns a state's way to the coordinator: the same for the same state
// and epoch until its End. Another epoch replaces it.
func (a *Attachment) Uplink(state wire.StateID, epoch wire.Epoch) Uplink {
	return Uplink{a.line(state, epoch)}
}

// take handles one frame of the coordinator.
func (a *Attachment) take(f *wire.Frame, h Handler) error {
	switch f.Type {
	case wire.Data:
		return a.takeData(f, h)
	case wire.NewState:
		return a.takeNewState(f, h)
	case wire.Open:
		if f.Channel == 0 {
			return fail(ReasonFrame, errors.New("open of channel 0"))
		}
		a.open(f.Channel, a.line(f.State, f.Epoch))
		h.Open(Session{
			Channel: f.Channel, State: f.State, Epoch: f.Epoch, Gen: f.Gen, Conn: f.Conn, Stream: f.Stream,
			Next: f.Seq, User: string(f.User), Resumed: f.Flags&wire.Resumed != 0,
		})
	case wire.Close:
		if f.Channel == 0 {
			return fail(ReasonRefused, &CodeError{Code: f.Code, Reason: string(f.Payload)})
		}
		if first, _ := a.closeTheirs(f.Channel); first {
			h.Closed(f.Channel, f.Seq, f.Code)
		}
	case wire.StateReleased:
		h.Released(f.State, f.Epoch)
	case wire.NotOwner:
		h.NotOwner(f.State, f.Epoch)
	case wire.GoAway:
		h.GoAway()
	case wire.Ack, wire.Expected, wire.Gap:
		// Of what the instance sent, which it does not keep; or of what was
		// lost before this tunnel, where Open has named the number that follows.
	default:
		return a.common(f)
	}
	return nil
}

func (a *Attachment) takeData(f *wire.Frame, h Handler) error {
	l, live := a.on(f.Channel)
	if l == nil {
		a.cfg.Counters.drop(dropChannel)
		return nil
	}
	whole, err := a.assemble(l, f)
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

func (a *Attachment) takeNewState(f *wire.Frame, h Handler) error {
	l := a.line(f.State, f.Epoch)
	whole, err := a.assemble(l, f)
	if err != nil || !whole {
		return err
	}
	h.NewState(f.State, f.Epoch, f.User, f.Payload)
	l.consumed(hold(len(f.Payload)))
	return nil
}

// Uplink is one state's way to the coordinator. Calls are ordered as they are
// made; none blocks, none does I/O before Attachment.Flush, and none does
// anything once the tunnel has ended. Payloads are copied.
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
func (u Uplink) ToUser(user string, payload []byte) {
	u.l.message(&wire.Frame{
		Type: wire.Broadcast, Flags: wire.ToUser, State: u.l.state, Epoch: u.l.epoch,
		User: []byte(user), Payload: payload,
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
