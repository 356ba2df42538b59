package bench

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// backendConfig is what a backend process is started with.
type backendConfig struct {
	tunnel    string // host:port
	secret    string
	storeID   string
	broadcast bool // everything to everyone in the room instead of back to its sender
	native    bool
}

const (
	backendBuffer = 256 << 10
	backendFlush  = 256 << 10
	// The coordinator reads at all times, so answers that it does not take are a fault.
	backendPending = 64 << 20
	backendStall   = 30 * time.Second
)

// legacyBackend speaks the protocol of server-sdk 0.5.1, written for speed: it answers all of one read with one write,
// and reads and writes as the coordinator does, so that little of what is measured is its own.
type legacyBackend struct {
	broadcast bool
	nc        net.Conn
	out       []byte
	rooms     map[wire.StateID]map[string]struct{}
}

// runLegacyBackend registers, calls ready, and serves until ctx ends or the tunnel breaks, which is an error.
func runLegacyBackend(ctx context.Context, cfg backendConfig, ready func()) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", cfg.tunnel)
	if err != nil {
		return fmt.Errorf("backend: dial the tunnel: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer nc.Close()
	r := hathora.Registration{AppSecret: cfg.secret, StoreID: cfg.storeID, AuthInfo: []byte(`{"anonymous":{"separator":"-"}}`)}
	hello, err := r.Append(nil)
	if err != nil {
		return err
	}
	if _, err := nc.Write(hello); err != nil {
		return fmt.Errorf("backend: register: %w", err)
	}
	ready()
	conn := pipe.NewConn(nc, pipe.Options{MaxPending: backendPending, Stall: backendStall})
	b := &legacyBackend{broadcast: cfg.broadcast, nc: conn, rooms: make(map[wire.StateID]map[string]struct{})}
	err = b.loop()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("backend: the tunnel broke: %w", err)
}

func (b *legacyBackend) loop() error {
	r := pipe.NewReader(b.nc, backendBuffer)
	defer r.Close()
	for {
		buf, err := r.Fill(len(r.Buffered()) + 1)
		if err != nil {
			return err
		}
		used := 0
		for {
			body, n, err := hathora.SplitFrame(buf[used:], hathora.MaxFrame)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			if err := b.frame(buf[used:used+n], body); err != nil {
				return err
			}
			used += n
		}
		if err := b.flush(); err != nil {
			return err
		}
		r.Discard(used)
	}
}

func (b *legacyBackend) frame(whole, body []byte) error {
	if len(body) > 0 && body[0] == hathora.Message && !b.broadcast {
		// An echo is the same frame but for its type: length, state, user and data stay.
		at := len(b.out)
		b.out = append(b.out, whole...)
		b.out[at+len(whole)-len(body)] = hathora.SendMessage
		return b.flushAbove(backendFlush)
	}
	f, err := hathora.DecodeToStore(body)
	if err != nil {
		return err
	}
	switch f.Type {
	case hathora.Subscribe:
		if b.rooms[f.State] == nil {
			b.rooms[f.State] = make(map[string]struct{})
		}
		b.rooms[f.State][string(f.User)] = struct{}{}
	case hathora.Unsubscribe:
		delete(b.rooms[f.State], string(f.User))
		if len(b.rooms[f.State]) == 0 {
			delete(b.rooms, f.State)
		}
	case hathora.Message:
		for user := range b.rooms[f.State] {
			b.out = hathora.AppendSendMessage(b.out, f.State, user, f.Data)
			if err := b.flushAbove(backendFlush); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *legacyBackend) flushAbove(mark int) error {
	if len(b.out) < mark {
		return nil
	}
	return b.flush()
}

func (b *legacyBackend) flush() error {
	if len(b.out) == 0 {
		return nil
	}
	_, err := b.nc.Write(b.out)
	b.out = b.out[:0]
	return err
}
