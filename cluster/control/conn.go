package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

var (
	// errLost is in the error of a call that was not sent because its connection, once good, was lost.
	errLost = errors.New("the connection was lost")
	errIdle = errors.New("the connection was closed, since nobody used it")
)

// conn is a client's connection: being made, good, or failed.
type conn struct {
	client *Client
	key    string
	dial   func(context.Context) (net.Conn, error)

	ctx  context.Context // ends when it has failed, or with the client
	stop context.CancelFunc
	up   chan struct{} // closed when it is good
	down chan struct{} // closed when it has failed
	// What follows, up to mu, is set before up is closed.
	conn  *timed
	peer  nodeport.Peer
	terms terms
	// slots has an element for each call that has no answer yet, so that no more are sent than the greeting allows.
	slots   chan struct{}
	out     chan *call
	cancels chan uint64

	mu    sync.Mutex
	err   error // why it has failed
	next  uint64
	calls map[uint64]*call
	used  time.Time // when the last call ended
}

// Stages of a call.
const (
	waits   = iota // to be sent
	sent           // or being sent
	dropped        // never will be
)

type call struct {
	request
	deadline time.Time // zero: none
	stage    atomic.Uint32
	// Set by whoever takes the call out of conn.calls, before over is closed.
	answer []byte
	err    error
	over   chan struct{}
}

func newConn(c *Client, key string, dial func(context.Context) (net.Conn, error)) *conn {
	cn := &conn{
		client: c, key: key, dial: dial, up: make(chan struct{}), down: make(chan struct{}), calls: make(map[uint64]*call),
		used: c.cfg.Now(),
	}
	cn.ctx, cn.stop = context.WithCancel(c.ctx)
	return cn
}

// run makes the connection and reads from it; it returns when the connection has failed and its writer has ended.
func (cn *conn) run() {
	defer cn.stop()
	raw, err := cn.dial(cn.ctx)
	if err != nil {
		cn.client.dialFailed.Add(1)
		cn.fail(err)
		return
	}
	cn.client.dialled.Add(1)
	closed := make(chan struct{})
	context.AfterFunc(cn.ctx, func() {
		_ = raw.Close() // reader and writer learn of it
		close(closed)
	})
	cn.peer, _ = nodeport.PeerOf(raw) // what another Dialer made has none
	cn.conn = &timed{Conn: raw, cfg: &cn.client.cfg}
	r := bufio.NewReader(cn.conn)
	var writer sync.WaitGroup
	if err = cn.greeted(r); err == nil {
		close(cn.up)
		writer.Go(func() {
			if err := cn.write(); err != nil {
				cn.fail(err)
			}
		})
		err = cn.read(r)
	}
	cn.fail(err)
	writer.Wait()
	<-closed
}

// greeted reads what the server allows.
func (cn *conn) greeted(r *bufio.Reader) error {
	if err := cn.conn.await(r); err != nil {
		return fmt.Errorf("wait for a greeting: %w", err)
	}
	a, err := readAnswer(r, longestGreeting)
	if err != nil {
		return fmt.Errorf("read a greeting: %w", err)
	}
	if cn.terms, err = decodeTerms(a); err != nil {
		return err
	}
	n := min(int(cn.terms.calls), cn.client.cfg.MaxCalls)
	cn.slots, cn.out, cn.cancels = make(chan struct{}, n), make(chan *call, n), make(chan uint64, n)
	return nil
}

// fail ends the connection and all its calls; the first reason stands.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return
	}
	cn.err = err
	calls := cn.calls
	cn.calls = nil
	cn.mu.Unlock()
	cn.client.drop(cn)
	close(cn.down)
	for _, cl := range calls {
		if cl.stage.CompareAndSwap(waits, dropped) {
			cl.err = cn.lost()
		} else {
			cl.err = fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		close(cl.over)
	}
	cn.stop() // last: it wakes the writer, who might take another call
}

// lost is the error of a call that was not sent because the connection has failed.
func (cn *conn) lost() error {
	cn.mu.Lock()
	err := cn.err
	cn.mu.Unlock()
	select {
	case <-cn.up:
		return fmt.Errorf("%w: %w: %w", ErrNotSent, errLost, err)
	default:
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
}

// ready waits until the connection is good.
func (cn *conn) ready(ctx context.Context) error {
	select {
	case <-cn.up:
		return nil
	case <-cn.down:
		return cn.lost()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
}

// call sends a call when there is room for it, and waits for its answer.
func (cn *conn) call(ctx context.Context, verb Verb, body []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	if err := cn.ready(ctx); err != nil {
		return nil, err
	}
	if len(body) > int(cn.terms.maxBody) {
		return nil, fmt.Errorf("a body of %d bytes: %w", len(body), ErrTooLarge)
	}
	select {
	case cn.slots <- struct{}{}:
	case <-cn.down:
		return nil, cn.lost()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
	cl := &call{request: request{verb: verb, body: body}, over: make(chan struct{})}
	cl.deadline, _ = ctx.Deadline()
	if !cn.add(cl) {
		<-cn.down // until then another attempt would meet this connection again
		return nil, cn.lost()
	}
	select { // it has room for more calls than there are slots only while dropped ones are in it
	case cn.out <- cl:
	case <-cl.over:
	case <-ctx.Done():
	}
	select {
	case <-cl.over:
	case <-ctx.Done():
		select {
		case <-cl.over: // just in time
		default:
			return nil, cn.abandon(cl, ctx.Err())
		}
	}
	return cl.answer, cl.err
}

func (cn *conn) add(cl *call) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil {
		return false
	}
	cn.next++
	cl.id = cn.next
	cn.calls[cl.id] = cl
	return true
}

// take removes a call. Who gets it ends it.
func (cn *conn) take(id uint64) *call {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cl := cn.calls[id]
	delete(cn.calls, id)
	cn.used = cn.client.cfg.Now()
	return cl
}

// end tells the caller, and gives the call's slot to another.
func (cn *conn) end(cl *call, answer []byte, err error) {
	cl.answer, cl.err = answer, err
	close(cl.over)
	<-cn.slots
}

// abandon is for a caller who waits no longer. A call that was sent keeps its slot until it is answered, since the server
// counts it until then.
func (cn *conn) abandon(cl *call, why error) error {
	if cl.stage.CompareAndSwap(waits, dropped) {
		err := fmt.Errorf("%w: %w", ErrNotSent, why)
		if taken := cn.take(cl.id); taken != nil {
			cn.end(taken, nil, err)
		}
		return err
	}
	select {
	case cn.cancels <- cl.id:
	default: // a cancel is a hint: the call's time is over there as well
	}
	return fmt.Errorf("%w: %w", ErrUnknown, why)
}

func (cn *conn) read(r *bufio.Reader) error {
	for {
		if err := cn.conn.await(r); err != nil {
			return err
		}
		a, err := readAnswer(r, cn.client.cfg.MaxBody)
		if err != nil {
			return err
		}
		switch a.status {
		case alive:
			continue
		case greeting:
			return fmt.Errorf("%w: a second greeting", errFrame)
		case failed:
			if err = decodeError(a.body); errors.Is(err, errFrame) {
				return err
			}
			a.body = nil
		}
		cl := cn.take(a.id)
		if cl == nil {
			return fmt.Errorf("%w: an answer to no call", errFrame)
		}
		cn.end(cl, a.body, err)
	}
}

// write sends calls, cancels and beats until the connection ends.
func (cn *conn) write() error {
	w := bufio.NewWriter(cn.conn)
	ticker := time.NewTicker(cn.client.cfg.Beat)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-cn.ctx.Done():
			return nil
		case <-ticker.C:
			if cn.idle() {
				return errIdle
			}
			err = put(w, request{verb: beat})
		case cl := <-cn.out:
			err = cn.send(w, cl)
		case id := <-cn.cancels:
			err = put(w, request{verb: cancel, id: id})
		}
		for more := true; more && err == nil; {
			select {
			case cl := <-cn.out:
				err = cn.send(w, cl)
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

// send writes a call, unless its caller or its time has gone.
func (cn *conn) send(w *bufio.Writer, cl *call) error {
	if !cl.deadline.IsZero() {
		remains := cl.deadline.Sub(cn.client.cfg.Now())
		if remains <= 0 {
			if cl.stage.CompareAndSwap(waits, dropped) {
				if taken := cn.take(cl.id); taken != nil {
					cn.end(taken, nil, fmt.Errorf("%w: %w", ErrNotSent, context.DeadlineExceeded))
				}
			}
			return nil
		}
		cl.patience = milliseconds(remains)
	}
	if !cl.stage.CompareAndSwap(waits, sent) {
		return nil
	}
	return put(w, cl.request)
}

func put(w *bufio.Writer, r request) error {
	var head [4 + requestHead]byte
	if _, err := w.Write(appendRequestHead(head[:0], r)); err != nil {
		return err
	}
	_, err := w.Write(r.body)
	return err
}

// idle says whether nobody has called for long.
func (cn *conn) idle() bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return len(cn.calls) == 0 && cn.client.cfg.Now().Sub(cn.used) > cn.client.cfg.Idle
}
