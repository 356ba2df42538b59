package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// Handler does what a verb asks for. The body is its to keep, and the answer is given away. ctx ends with the caller's
// patience, when he cancels, and with the connection.
type Handler func(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error)

// ServerCounters are what a server has seen.
type ServerCounters struct {
	// Calls were given to handlers; Failed ones had an error as answer, Cancelled ones were cancelled by their caller.
	Calls, Failed, Cancelled uint64
	Panics                   uint64
	// Refused calls had a verb that is unknown, or not for a peer without certificate.
	Refused uint64
	// Broken connections had a malformed frame or too many calls; Stalled ones showed no life or did not take answers.
	Broken, Stalled uint64
	// Open connections and calls there are now.
	Connections, Running int64
}

// Server answers calls.
type Server struct {
	cfg      Config
	handlers map[Verb]Handler

	calls, failed, cancelled, panics, refused, broken, stalled atomic.Uint64
	connections, running                                       atomic.Int64

	began                 time.Time
	brokenSaid, panicSaid atomic.Int64 // when there was a line last, in nanoseconds since began; 0: never
}

// quiet is the time between two lines that a peer can cause.
const quiet = 10 * time.Second

// say puts a line into the log, unless there was one of its sort a short time ago.
func (s *Server) say(last *atomic.Int64, level slog.Level, text string, attrs ...any) {
	now, before := int64(s.cfg.Now().Sub(s.began))+1, last.Load()
	if (before == 0 || now-before >= int64(quiet)) && last.CompareAndSwap(before, now) {
		s.cfg.Log.Log(context.Background(), level, text, attrs...)
	}
}

// anonymousCalls is how many calls a peer without certificate may have on their way.
const anonymousCalls = 4

// NewServer returns a server with a handler for each verb that it knows.
func NewServer(cfg Config, handlers map[Verb]Handler) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	for v, h := range handlers {
		if v == 0 || v >= beat || h == nil {
			return nil, fmt.Errorf("control: no handler for %s is possible", v)
		}
	}
	return &Server{cfg: cfg, handlers: maps.Clone(handlers), began: cfg.Now()}, nil
}

// Counters says what the server has seen so far.
func (s *Server) Counters() ServerCounters {
	return ServerCounters{
		Calls: s.calls.Load(), Failed: s.failed.Load(), Cancelled: s.cancelled.Load(), Panics: s.panics.Load(),
		Refused: s.refused.Load(), Broken: s.broken.Load(), Stalled: s.stalled.Load(),
		Connections: s.connections.Load(), Running: s.running.Load(),
	}
}

// served is a connection that is being served.
type served struct {
	server *Server
	peer   nodeport.Peer
	conn   *timed
	terms  terms
	budget *semaphore.Weighted
	// answers has room for all calls that may be on their way, so no handler waits for its peer.
	answers chan answer

	mu    sync.Mutex
	calls map[uint64]*calling
}

// calling is a call that has no answer yet, as far as its peer knows.
type calling struct {
	cancel    context.CancelFunc
	cancelled bool
}

// Serve answers the calls of one connection until it ends or ctx does. It is a nodeport.Handler.
func (s *Server) Serve(ctx context.Context, conn net.Conn, peer nodeport.Peer) {
	s.connections.Add(1)
	defer s.connections.Add(-1)
	ctx, stop := context.WithCancel(ctx)
	allowed := terms{uint32(s.cfg.MaxBody), uint16(s.cfg.MaxCalls)}
	if peer.Anonymous() {
		allowed = terms{uint32(s.cfg.MaxAnonymous), uint16(min(anonymousCalls, s.cfg.MaxCalls))}
	}
	c := &served{
		server: s, peer: peer, conn: &timed{Conn: conn, cfg: &s.cfg}, terms: allowed,
		budget: semaphore.NewWeighted(int64(s.cfg.Budget)), answers: make(chan answer, allowed.calls),
		calls: make(map[uint64]*calling),
	}
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		_ = conn.Close() // reader and writer learn of it
		close(closed)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		c.note(ctx, c.write(ctx))
	})
	c.note(ctx, c.read(ctx, &wg))
	stop()
	wg.Wait()
	<-closed
}

// note counts why a connection ends.
func (c *served) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil || err == nil:
	case errors.Is(err, errFrame):
		c.server.broken.Add(1)
		c.server.say(&c.server.brokenSaid, slog.LevelWarn, "control: a node broke the protocol", "peer", c.peer.NodeID, "from", c.peer.Remote, "error", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.server.stalled.Add(1)
	}
}

func (c *served) read(ctx context.Context, wg *sync.WaitGroup) error {
	r := bufio.NewReader(c.conn)
	for {
		if err := c.conn.await(r); err != nil {
			return err
		}
		req, n, err := readRequest(r, int(c.terms.maxBody))
		if err != nil {
			return err
		}
		switch req.verb {
		case beat:
			continue
		case cancel:
			c.cancel(req.id)
			continue
		}
		if err := c.budget.Acquire(ctx, int64(n)); err != nil {
			return err
		}
		c.conn.began = c.server.cfg.Now() // it may have waited for the budget
		if req.body, err = readBody(r, n); err != nil {
			return err
		}
		callCtx, stop, err := c.begin(ctx, req)
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer stop()
			c.handle(callCtx, req)
			c.budget.Release(int64(n))
		})
	}
}

// begin makes the context of a call, and room for its answer.
func (c *served) begin(ctx context.Context, req request) (context.Context, context.CancelFunc, error) {
	limit := c.server.cfg.MaxTime
	if said := time.Duration(req.patience) * time.Millisecond; said > 0 {
		limit = min(limit, said)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[req.id] != nil {
		return nil, nil, fmt.Errorf("%w: call %d is on its way already", errFrame, req.id)
	}
	if len(c.calls) >= int(c.terms.calls) {
		return nil, nil, fmt.Errorf("%w: more than %d calls at a time", errFrame, c.terms.calls)
	}
	ctx, stop := context.WithTimeout(ctx, limit)
	c.calls[req.id] = &calling{cancel: stop}
	return ctx, stop, nil
}

func (c *served) cancel(id uint64) {
	c.mu.Lock()
	call := c.calls[id]
	first := call != nil && !call.cancelled
	if first {
		call.cancelled = true
	}
	c.mu.Unlock()
	if first { // else it was answered meanwhile
		c.server.cancelled.Add(1)
		call.cancel()
	}
}

// handle runs a call and puts its answer where the writer finds it.
func (c *served) handle(ctx context.Context, req request) {
	c.server.running.Add(1)
	a := answer{id: req.id}
	body, err := c.call(ctx, req)
	if err == nil && len(body) > c.server.cfg.MaxBody {
		err = fmt.Errorf("the answer of %s has %d bytes: %w", req.verb, len(body), ErrTooLarge)
	}
	if a.body = body; err != nil {
		c.server.failed.Add(1)
		a.status, a.body = failed, encodeError(err)
	}
	c.server.running.Add(-1)
	c.answers <- a
}

func (c *served) call(ctx context.Context, req request) (_ []byte, err error) {
	s := c.server
	h := s.handlers[req.verb]
	switch {
	case c.peer.Anonymous() && !req.verb.anonymous():
		s.refused.Add(1)
		return nil, ErrRefused
	case h == nil:
		s.refused.Add(1)
		return nil, fmt.Errorf("%s: %w", req.verb, ErrUnknownVerb)
	}
	defer func() {
		if v := recover(); v != nil {
			s.panics.Add(1)
			s.say(&s.panicSaid, slog.LevelError, "control: a handler panicked",
				"peer", c.peer.NodeID, "verb", req.verb.String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = ErrPanicked
		}
	}()
	s.calls.Add(1)
	return h(ctx, c.peer, req.body)
}

// write greets, and then writes answers and beats until ctx ends or the peer does not take them.
func (c *served) write(ctx context.Context) error {
	w := bufio.NewWriter(c.conn)
	var head [4 + answerHead]byte
	put := func(a answer) error {
		if _, err := w.Write(appendAnswerHead(head[:0], a)); err != nil {
			return err
		}
		_, err := w.Write(a.body)
		return err
	}
	if err := errors.Join(put(answer{status: greeting, body: c.terms.encode()}), w.Flush()); err != nil {
		return err
	}
	ticker := time.NewTicker(c.server.cfg.Beat)
	defer ticker.Stop()
	for {
		a := answer{status: alive}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case a = <-c.answers:
			c.forget(a.id)
		}
		err := put(a)
		for more := true; more && err == nil; {
			select {
			case a = <-c.answers:
				c.forget(a.id)
				err = put(a)
			default:
				more = false
			}
		}
		if err == nil {
			err = w.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// forget makes room for another call: before its peer can see the answer, so that he is never right and refused.
func (c *served) forget(id uint64) {
	c.mu.Lock()
	delete(c.calls, id)
	c.mu.Unlock()
}
