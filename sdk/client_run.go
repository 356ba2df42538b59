package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// clientBeat is how often a client makes a silent coordinator answer, and
	// clientSilence how long it may be silent nevertheless.
	clientBeat    = 15 * time.Second
	clientSilence = 40 * time.Second
)

// errGoAway says that the coordinator asked us to connect elsewhere.
var errGoAway = &CloseError{Code: wire.CodeGoingAway, Reason: "asked to go elsewhere"}

// Run connects, and connects again whenever the connection ends, until ctx ends
// (nil) or the coordinator says that there is no use (a *CloseError). Call it
// once.
func (c *Client) Run(ctx context.Context) error {
	defer func() {
		c.mu.Lock()
		c.over = true
		c.kept, c.bytes, c.next = nil, 0, 0
		c.mu.Unlock()
	}()
	retry := newBackoff(c.addrs, c.cfg.InOrder)
	for {
		addr, wait := retry.next()
		if !sleep(ctx, wait) {
			return nil
		}
		began := time.Now()
		worked, err := c.connect(ctx, addr)
		if ctx.Err() != nil {
			return nil
		}
		if worked && c.cfg.OnDisconnected != nil {
			c.cfg.OnDisconnected(err)
		}
		c.cfg.Log.Info("disconnected", "addr", addr, "error", err)
		var closed *CloseError
		if errors.As(err, &closed) && !c.again(closed.Code) {
			return closed
		}
		if worked && (time.Since(began) > backoffMost || errors.Is(err, errGoAway)) {
			retry.reset()
		}
	}
}

// again says whether to connect again after code.
func (c *Client) again(code wire.Code) bool {
	if code == wire.CodeTokenExpired {
		return c.cfg.TokenSource != nil
	}
	return code.Reconnect()
}

// connect makes one connection and serves it until it ends; worked says that
// the coordinator accepted it.
func (c *Client) connect(ctx context.Context, addr string) (worked bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	token := c.cfg.Token
	if c.cfg.TokenSource != nil {
		if token, err = c.cfg.TokenSource(dialCtx); err != nil {
			return false, fmt.Errorf("get a token: %w", err)
		}
	}
	t, err := dialClient(dialCtx, addr, c.cfg.App, c.secure)
	if err != nil {
		return false, err
	}
	defer t.close()
	in := &frames{t: t}
	stop := context.AfterFunc(dialCtx, t.close)
	body, err := c.handshake(t, in, token)
	if !stop() && err == nil {
		err = dialCtx.Err()
	}
	if err != nil {
		return false, err
	}
	return true, c.serve(ctx, t, in, addr, body)
}

// handshake says hello and Connect, and reads the answer.
func (c *Client) handshake(t transport, in *frames, token string) (*wire.ConnectedBody, error) {
	body := wire.ConnectBody{
		App: c.app, Stream: c.stream, Next: c.first(), Seen: c.seen, State: []byte(c.cfg.State), Token: []byte(token),
	}
	if err := body.Check(); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	f := wire.Frame{Type: wire.Connect, Payload: body.Append(nil)}
	if c.connected {
		f.Flags = wire.Resumed
	}
	ours := wire.OurHello()
	if err := t.write(wire.AppendFrame(wire.AppendHello(nil, ours), &f)); err != nil {
		return nil, err
	}
	answer, err := in.hello()
	if err != nil {
		return nil, err
	}
	if err := in.next(&f); err != nil {
		return nil, err
	}
	switch f.Type {
	case wire.Close:
		return nil, &CloseError{Code: f.Code, Reason: string(f.Payload)}
	case wire.Connected:
		if err := ours.Check(answer); err != nil {
			return nil, err
		}
		var said wire.ConnectedBody
		return &said, said.Decode(f.Payload)
	}
	return nil, fmt.Errorf("%v before connected", f.Type)
}

// serve runs one connection: this goroutine reads, another writes.
func (c *Client) serve(ctx context.Context, t transport, in *frames, addr string, said *wire.ConnectedBody) error {
	resumed := c.connected
	c.connected = true
	out := &outbox{c: c, t: t, ready: make(chan struct{}, 1)}
	c.mu.Lock()
	c.out = out
	gap := Gap{Lost: c.lost}
	c.lost = 0
	c.mu.Unlock()
	c.begin(said.Next)
	if resumed && said.Down > c.seen+1 {
		gap.From, gap.To, gap.Certain = c.seen+1, said.Down-1, true
	}
	c.seen = max(said.Down, 1) - 1
	c.cfg.Log.Info("connected", "addr", addr, "state", said.State.String())
	if c.cfg.OnConnected != nil {
		c.cfg.OnConnected(Connected{Addr: addr, State: said.State, Resumed: resumed})
	}
	if gap != (Gap{}) {
		c.gap(gap)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { out.run(ctx, ended) })
	err := c.read(ctx, in, out, &wg)
	close(ended)
	t.close()
	wg.Wait()
	c.disconnected()
	return err
}

func (c *Client) gap(g Gap) {
	if c.cfg.OnGap != nil {
		c.cfg.OnGap(g)
	}
}

// read hands up what comes until the connection ends.
func (c *Client) read(ctx context.Context, in *frames, out *outbox, wg *sync.WaitGroup) error {
	var f wire.Frame
	var whole message
	for {
		if err := in.next(&f); err != nil {
			return err
		}
		switch f.Type {
		case wire.Data:
			if err := c.data(&f, &whole); err != nil {
				return err
			}
		case wire.Ack:
			c.mu.Lock()
			c.acks = true
			c.mu.Unlock()
			c.acked(f.Seq)
		case wire.Expected:
			c.rewind(f.Seq)
		case wire.Gap:
			g := Gap{}
			if f.Index < f.Seq {
				g = Gap{From: f.Index, To: f.Seq - 1, Certain: true}
			}
			c.seen = max(f.Seq, 1) - 1
			c.gap(g)
		case wire.Heartbeat:
			out.control(&wire.Frame{Type: wire.HeartbeatAck, Seq: f.Seq})
		case wire.HeartbeatAck:
		case wire.Token:
			if c.cfg.TokenSource != nil {
				wg.Go(func() { out.renew(ctx) })
			}
		case wire.GoAway:
			return errGoAway
		case wire.Close:
			return &CloseError{Code: f.Code, Reason: string(f.Payload)}
		default:
			return fmt.Errorf("coordinator sent %v to a client", f.Type)
		}
	}
}

// message is one that is being put together.
type message struct {
	seq  uint64
	size int
	buf  []byte
}

// data takes one Data frame. Numbers only grow: what was had is dropped, what
// was jumped over is a gap.
func (c *Client) data(f *wire.Frame, m *message) error {
	payload := f.Payload
	if f.Flags&(wire.More|wire.Cont) != 0 {
		var err error
		if payload, err = m.add(f, c.cfg.MaxMessage); err != nil || payload == nil {
			return err
		}
	}
	if f.Seq <= c.seen {
		return nil
	}
	if f.Seq > c.seen+1 {
		c.gap(Gap{From: c.seen + 1, To: f.Seq - 1, Certain: true})
	}
	c.seen = f.Seq
	if c.cfg.OnMessage != nil {
		c.cfg.OnMessage(payload)
	}
	return nil
}

// add takes one fragment and returns the whole message with the last.
func (m *message) add(f *wire.Frame, most int) ([]byte, error) {
	if f.Flags&wire.Cont == 0 {
		if int(f.Size) > most {
			return nil, fmt.Errorf("message of %d bytes: %w", f.Size, ErrTooBig)
		}
		*m = message{seq: f.Seq, size: int(f.Size), buf: append([]byte(nil), f.Payload...)}
		return nil, nil
	}
	have, last := len(m.buf)+len(f.Payload), f.Flags&wire.More == 0
	if m.size == 0 || f.Seq != m.seq || have > m.size || last != (have == m.size) {
		return nil, errors.New("a fragment belongs to no message")
	}
	m.buf = append(m.buf, f.Payload...)
	if !last {
		return nil, nil
	}
	whole := m.buf
	*m = message{}
	return whole, nil
}
