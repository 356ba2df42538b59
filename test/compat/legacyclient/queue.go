package legacyclient

import (
	"context"
	"fmt"
	"sync"
)

// Message is what arrived from a server.
type Message struct {
	Text bool // a WebSocket text message; never on TCP
	Data []byte
}

// Closed is the end of a connection as the peer gave it. Code is 0 when the connection ended without one.
type Closed struct {
	Code   int
	Reason string
	Err    error // how reading ended, when it was not by a close frame
}

func (c *Closed) Error() string {
	return fmt.Sprintf("closed: code %d reason %q: %v", c.Code, c.Reason, c.Err)
}

// queue holds what has been read and not yet asked for. It is unbounded: tests are the readers.
type queue struct {
	mu      sync.Mutex
	items   []Message
	end     *Closed
	changed chan struct{} // closed and replaced when the fields above change
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

func (q *queue) put(m Message) { q.change(func() { q.items = append(q.items, m) }) }

func (q *queue) finish(c *Closed) {
	q.change(func() {
		if q.end == nil {
			q.end = c
		}
	})
}

func (q *queue) change(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	close(q.changed)
	q.changed = make(chan struct{})
}

// next takes the oldest message; once all are taken and the connection has ended, the error is its *Closed.
func (q *queue) next(ctx context.Context) (Message, error) {
	for {
		q.mu.Lock()
		changed, end := q.changed, q.end
		if len(q.items) > 0 {
			m := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return m, nil
		}
		q.mu.Unlock()
		if end != nil {
			return Message{}, end
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("wait for a message: %w", context.Cause(ctx))
		}
	}
}

// waiting is how many messages nobody has taken yet.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
