package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/sdk"
)

// client is one SDK client of one room.
type client struct {
	sdk    *sdk.Client
	w      *world
	number int
	room   int
	home   int // index of the node that it tries first
	// leaving is closed when the demo itself ends the connection.
	leaving <-chan struct{}
}

// newClients makes the clients; runClients connects them.
func (w *world) newClients(tokens []string) error {
	w.ledger = newLedger(len(tokens), w.rooms)
	w.moves = make(chan move, 2*len(w.rooms)) // one per room and death
	w.failed = make(chan error, len(tokens))
	w.clients = make([]*client, len(tokens))
	for i, token := range tokens {
		c := &client{w: w, number: i, room: i % len(w.rooms)}
		c.home = (c.room + i/len(w.rooms)) % len(w.nodes) // those of one room are at different nodes
		var err error
		c.sdk, err = sdk.NewClient(sdk.ClientConfig{
			Addrs: w.addresses(c.home, i%2 == 1, (*node).url), InOrder: true,
			App: w.app, State: w.rooms[c.room], Token: token,
			OnConnected:    func(s sdk.Connected) { w.ledger.connected(i, w.names[s.Addr], w.now()) },
			OnDisconnected: c.disconnected,
			OnGap:          func(sdk.Gap) { w.ledger.gap(i) },
			OnMessage:      c.take,
		})
		if err != nil {
			return err
		}
		w.clients[i] = c
	}
	return nil
}

// runClients keeps all clients connected, and sending until stopSending is closed. It returns when ctx has ended and
// they have.
func (w *world) runClients(ctx context.Context, stopSending <-chan struct{}) {
	var all sync.WaitGroup
	for _, c := range w.clients {
		c.leaving = ctx.Done()
	}
	for _, c := range w.clients {
		all.Go(func() {
			if err := c.sdk.Run(ctx); err != nil && ctx.Err() == nil {
				w.failed <- fmt.Errorf("client %d: %w", c.number, err)
			}
		})
		all.Go(func() { c.chat(stopSending) })
	}
	all.Wait()
}

// chat sends messages at the demo's rate. Clients begin one after the other.
func (c *client) chat(stop <-chan struct{}) {
	every := time.Duration(float64(time.Second) / c.w.o.Rate)
	t := time.NewTimer(every * time.Duration(c.number) / time.Duration(len(c.w.clients)))
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		t.Reset(every)
		m := message{room: c.room, client: c.number, number: c.w.ledger.send(c.number, c.w.now())}
		if err := c.sdk.Send(m.append(nil)); err != nil {
			c.w.failed <- fmt.Errorf("client %d: send: %w", c.number, err)
			return
		}
	}
}

// take enters an answer; one that belongs to another client or room counts as strange.
func (c *client) take(data []byte) {
	m, err := parseMessage(data)
	if err != nil || m.room != c.room {
		m.client = -1
	}
	m.node = c.w.names[m.node]
	if m, moved := c.w.ledger.answer(c.number, m, c.w.now()); moved {
		c.w.moves <- m
	}
}

func (c *client) disconnected(err error) {
	select {
	case <-c.leaving:
	default:
		if c.w.ledger.disconnected(c.number) {
			return // its node was killed
		}
		c.w.say("client %-8d DISCONNECTED: %v", c.number, err)
	}
}
