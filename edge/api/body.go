package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	bodyStart = 10 * time.Second // how long the first byte may take, or any pause
	bodyRate  = 1 << 10          // bytes a second after that
	bodyPiece = 16 << 10         // memory taken before anything has arrived
)

// budget bounds the bytes that all bodies take together, and lets one app have
// half of them at most.
type budget struct {
	max int64

	mu   sync.Mutex
	used int64
	of   map[wire.AppID]int64 // no entry is zero
}

func newBudget(max int64) *budget { return &budget{max: max, of: make(map[wire.AppID]int64)} }

func (b *budget) take(app wire.AppID, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+int64(n) > b.max || b.of[app]+int64(n) > b.max/2 {
		return false
	}
	b.used += int64(n)
	b.of[app] += int64(n)
	return true
}

func (b *budget) give(app wire.AppID, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= int64(n)
	if b.of[app] -= int64(n); b.of[app] == 0 {
		delete(b.of, app)
	}
}

// inUse returns how many bytes are taken.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// readBody reads a body of at most max bytes. A longer one is refused before it
// is read where its length is known, and its connection closed. Memory grows with
// what has arrived, within the budget of the node and the app; release gives it
// back and must be called when the error is nil.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, app wire.AppID, max int) (body []byte, release func(), err error) {
	if r.ContentLength > int64(max) {
		w.Header().Set("Connection", "close")
		return nil, nil, problemTooLarge
	}
	size := 0
	grow := func(to int) bool {
		if !a.bodies.take(app, to-size) {
			return false
		}
		body, size = append(make([]byte, 0, to), body...), to
		return true
	}
	give := func() { a.bodies.give(app, size) }
	paced := newPaced(w, r)
	defer paced.done()
	for {
		if len(body) == cap(body) && !grow(nextSize(size, int(r.ContentLength), max)) {
			give()
			return nil, nil, problemBusy
		}
		n, err := paced.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > max {
			w.Header().Set("Connection", "close")
			give()
			return nil, nil, problemTooLarge
		}
		if errors.Is(err, io.EOF) {
			return body, give, nil
		}
		if err != nil {
			give()
			return nil, nil, bodyProblem(err)
		}
	}
}

// nextSize doubles, from one piece up to what is announced or allowed. One byte
// more than that tells the end of a body from one that is too long.
func nextSize(size, announced, max int) int {
	limit := max + 1
	if announced >= 0 {
		limit = announced + 1
	}
	return min(limit, 2*size+bodyPiece)
}

func bodyProblem(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problemSlow
	}
	return problemBody
}

// paced reads a body under a deadline that moves with what has arrived, but never
// further than bodyStart from now: who sent most of it fast may not take its time
// with the rest. Deadlines are those of the connection, so they use its clock and
// not ours.
type paced struct {
	body     io.Reader
	control  *http.ResponseController
	deadline time.Time
}

func newPaced(w http.ResponseWriter, r *http.Request) *paced {
	p := &paced{body: r.Body, control: http.NewResponseController(w), deadline: time.Now().Add(bodyStart)}
	_ = p.control.SetReadDeadline(p.deadline) // tests have no connection
	return p
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	if n > 0 {
		p.deadline = p.deadline.Add(time.Duration(n) * time.Second / bodyRate)
		if most := time.Now().Add(bodyStart); p.deadline.After(most) {
			p.deadline = most
		}
		_ = p.control.SetReadDeadline(p.deadline)
	}
	return n, err
}

// done takes the deadline away: the server watches the connection while the
// request is worked on, and a deadline that passes then would end it.
func (p *paced) done() { _ = p.control.SetReadDeadline(time.Time{}) }

func isCanceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
