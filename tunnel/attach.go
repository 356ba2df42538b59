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
	*wired
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
		wired: newWired(c, int(min(body.Credit, 64<<20))), instance: body.Instance, gen: body.Gen,
	}, nil
}

// Instance is the id that the coordinator has given this life of the instance.
func (a *Attachment) Instance() wire.InstanceID { return a.instance }

// Gen counts the attachments of the instance.
func (a *Attachment) Gen() wire.Gen { return a.gen }

// Run reads until the tunnel ends and hands everything to h. It returns an
// *[Error], always.
func (a *Attachment) Run(ctx context.Context, h Handler) error {
	return a.c.run(ctx, func() error {
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
func (a *Attachment) Close(reason string) { a.c.end(fail(reason, nil)) }

// CloseChannel answers Handler.Closed for a session whose state is gone.
func (a *Attachment) CloseChannel(channel uint32) { a.hangUp(channel) }

// Uplink returns a state's way to the coordinator: the same for the same state
// and epoch until its End. Another epoch replaces it.
func (a *Attachment) Uplink(state wire.StateID, epoch wire.Epoch) Uplink {
	return Uplink{a.line(state, epoch)}
}

// take handles one frame of the coordinator.
func (a *Attachment) take(f *wire.Frame, h Handler) error {
	switch f.Type {
	case wire.GoAway:
		h.GoAway()
	case wire.Heartbeat, wire.HeartbeatAck:
		a.alive(f)
	default:
		return a.takeDown(f, h)
	}
	return nil
}
