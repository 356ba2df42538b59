package api

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	maxIdempotencyKey = 64
	keepAttempts      = 10 * time.Minute
	maxAttempts       = 100_000
)

// created is what a create made.
type created struct {
	state wire.StateID
	at    time.Time
}

// attempt is one create that named an Idempotency-Key.
type attempt struct {
	key     [sha256.Size]byte
	request [sha256.Size]byte // what was asked for
	at      time.Time
	done    chan struct{} // closed when the fields below are set
	made    created
	err     error
}

// attempts remembers creates by app, user and Idempotency-Key for ten minutes
// from their start, a bounded number: the oldest finished ones make room. Only a
// create that worked is remembered; one that fails may be tried again.
type attempts struct {
	max int

	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element
	order *list.List // of *attempt, oldest first
}

func newAttempts(max int) *attempts {
	return &attempts{max: max, byKey: make(map[[sha256.Size]byte]*list.Element), order: list.New()}
}

// digest hashes parts so that no two lists of parts give the same text.
func digest(parts ...[]byte) [sha256.Size]byte {
	h := sha256.New()
	var n [8]byte
	for _, part := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(part)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// do calls run once per key: who comes with the same key and request while it
// runs waits for it, and who comes later gets what it made.
func (t *attempts) do(ctx context.Context, key, request [sha256.Size]byte, now time.Time, run func() (created, error)) (made created, replayed bool, err error) {
	a, first, err := t.begin(key, request, now)
	if err != nil {
		return created{}, false, err
	}
	if !first {
		select {
		case <-a.done:
			return a.made, true, a.err
		case <-ctx.Done():
			return created{}, true, ctx.Err()
		}
	}
	defer func() {
		a.made, a.err = made, err
		if v := recover(); v != nil {
			a.err = problemInternal
			t.forget(a)
			close(a.done)
			panic(v)
		}
		if err != nil {
			t.forget(a)
		}
		close(a.done)
	}()
	made, err = run()
	return made, false, err
}

// begin finds the attempt of that key or starts one.
func (t *attempts) begin(key, request [sha256.Size]byte, now time.Time) (a *attempt, first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	if e, ok := t.byKey[key]; ok {
		a = e.Value.(*attempt)
		if a.request != request {
			return nil, false, problemKeyReused
		}
		return a, false, nil
	}
	if t.order.Len() >= t.max {
		oldest := t.order.Front()
		if !finished(oldest.Value.(*attempt)) {
			return nil, false, problemBusy
		}
		t.remove(oldest)
	}
	a = &attempt{key: key, request: request, at: now, done: make(chan struct{})}
	t.byKey[key] = t.order.PushBack(a)
	return a, true, nil
}

// expire forgets finished attempts that are old.
func (t *attempts) expire(now time.Time) {
	for e := t.order.Front(); e != nil; e = t.order.Front() {
		if a := e.Value.(*attempt); now.Sub(a.at) < keepAttempts || !finished(a) {
			return
		}
		t.remove(e)
	}
}

func (t *attempts) remove(e *list.Element) {
	delete(t.byKey, e.Value.(*attempt).key)
	t.order.Remove(e)
}

func (t *attempts) forget(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byKey[a.key]; ok && e.Value.(*attempt) == a {
		t.remove(e)
	}
}

func (t *attempts) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order.Len()
}

func finished(a *attempt) bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}
