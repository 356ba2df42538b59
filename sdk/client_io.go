package sdk

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// outbox is the writing side of one connection.
type outbox struct {
	c     *Client
	t     transport
	ready chan struct{}

	mu      sync.Mutex
	waiting []byte // control frames
}

func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// control queues a frame that goes before messages.
func (o *outbox) control(f *wire.Frame) {
	o.mu.Lock()
	o.waiting = wire.AppendFrame(o.waiting, f)
	o.mu.Unlock()
	o.wake()
}

// renew sends a new token on the open connection.
func (o *outbox) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	token, err := o.c.cfg.TokenSource(ctx)
	if err != nil {
		o.c.cfg.Log.Warn("cannot renew the token", "error", err)
		return
	}
	if len(token) <= wire.MaxToken {
		o.control(&wire.Frame{Type: wire.Token, Payload: []byte(token)})
	}
}

// run writes what waits until the connection has ended; when ctx ends it says
// so and closes. A write that fails ends the reader.
func (o *outbox) run(ctx context.Context, ended <-chan struct{}) {
	beat := time.NewTicker(clientBeat)
	defer beat.Stop()
	var b []byte
	for {
		b = o.take(b[:0])
		if len(b) > 0 {
			if o.t.write(b) != nil {
				o.t.close()
				<-ended
				return
			}
			continue
		}
		select {
		case <-o.ready:
		case <-beat.C:
			o.control(&wire.Frame{Type: wire.Heartbeat})
		case <-ctx.Done():
			_ = o.t.write(wire.AppendFrame(nil, &wire.Frame{Type: wire.Close, Code: wire.CodeNormal}))
			o.t.close()
			<-ended
			return
		case <-ended:
			return
		}
	}
}

// take appends what is to be sent next: control frames, then messages, at most
// about one batch, whole messages only.
func (o *outbox) take(b []byte) []byte {
	o.mu.Lock()
	b = append(b, o.waiting...)
	o.waiting = o.waiting[:0]
	o.mu.Unlock()
	c := o.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.next < len(c.kept) && len(b) < writeBatch {
		b = appendMessage(b, &c.kept[c.next])
		c.next++
	}
	return b
}

// appendMessage appends a message as one or more Data frames.
func appendMessage(b []byte, m *keptMessage) []byte {
	f := wire.Frame{Type: wire.Data, Seq: m.seq, Payload: m.data}
	if len(m.data) <= wire.MaxFragment {
		return wire.AppendFrame(b, &f)
	}
	f.Flags, f.Size = wire.More, uint32(len(m.data))
	rest := m.data
	for len(rest) > wire.MaxFragment {
		f.Payload, rest = rest[:wire.MaxFragment], rest[wire.MaxFragment:]
		b = wire.AppendFrame(b, &f)
		f.Flags |= wire.Cont
	}
	f.Flags &^= wire.More
	f.Payload = rest
	return wire.AppendFrame(b, &f)
}

// frames cuts what a transport brings into frames.
type frames struct {
	t    transport
	buf  []byte
	used int
}

// fill makes at least one more byte available.
func (in *frames) fill() error {
	in.buf = append(in.buf[:0], in.buf[in.used:]...)
	in.used = 0
	b, err := in.t.read(in.buf)
	if err != nil {
		if errors.Is(err, io.EOF) && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	in.buf = b
	return nil
}

func (in *frames) hello() (wire.Hello, error) {
	for {
		h, n, err := wire.ParseHello(in.buf[in.used:])
		if err != nil {
			return h, err
		}
		if in.used += n; n > 0 {
			return h, nil
		}
		if err := in.fill(); err != nil {
			return h, err
		}
	}
}

// next decodes the next frame; it aliases the buffer until the next call.
func (in *frames) next(f *wire.Frame) error {
	for {
		body, n, err := wire.SplitFrame(in.buf[in.used:], wire.MaxFrame)
		if err != nil {
			return err
		}
		if in.used += n; n > 0 {
			return f.Decode(body)
		}
		if err := in.fill(); err != nil {
			return err
		}
	}
}
