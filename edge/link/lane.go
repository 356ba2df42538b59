package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/trunkline-edge/trunkline/wire"
)

// The kinds of items, which are what a lane's bytes consist of.
const (
	itemOpen byte = iota + 1
	itemFrames
	itemClosed
	itemNotice
)

// Why a route is closed.
const (
	closedDone byte = iota
	closedRefused
	closedFault
)

const (
	itemHead  = 8
	openSize  = 12
	maxFrames = 48 << 10 // bytes of an item of frames
	laneBuf   = 64 << 10 // what a lane reads at a time; holds the largest item
	maxRoutes = 1 << 16  // that one node may have open on a lane
	roomMark  = 64 << 10 // Pending that makes a route wait for room
)

// lane is what runs on a stream: the routes that the end which opened it has to instances at the other.
type lane struct {
	s *stream

	mu     sync.Mutex
	routes map[uint32]*Route
	last   uint32 // of the routes opened here
	over   bool

	dirty []*Route // that Drained is owed; the reader's own
}

func newLane(s *stream) *lane { return &lane{s: s, routes: make(map[uint32]*Route)} }

func (l *lane) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.routes)
}

func putHead(b *[itemHead]byte, kind byte, n int, route uint32) {
	binary.BigEndian.PutUint32(b[:], uint32(kind)<<24|uint32(n))
	binary.BigEndian.PutUint32(b[4:], route)
}

// open makes a route known and tells the other end; nil when the lane is over.
func (l *lane) open(instance wire.InstanceID, gen wire.Gen, to Receiver) *Route {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return nil
	}
	l.last++
	r := &Route{lane: l, id: l.last, instance: instance, gen: gen, receiver: to}
	l.routes[r.id] = r
	l.mu.Unlock()
	var head [itemHead]byte
	putHead(&head, itemOpen, openSize, r.id)
	body := binary.BigEndian.AppendUint64(make([]byte, 0, openSize), uint64(instance))
	_ = l.s.put(head[:], binary.BigEndian.AppendUint32(body, uint32(gen))) // where it fails the stream has, and so the route ends
	return r
}

// leave takes a route off the lane; false when it was off.
func (l *lane) leave(r *Route) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routes[r.id] != r {
		return false
	}
	delete(l.routes, r.id)
	r.receiver = nil
	return true
}

func (l *lane) sayClosed(id uint32, why byte) {
	var head [itemHead]byte
	putHead(&head, itemClosed, 1, id)
	_ = l.s.put(head[:], []byte{why}) // else the stream has ended, and all routes with it
}

func (l *lane) find(id uint32) (*Route, Receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routes[id]
	if r == nil {
		return nil, nil
	}
	return r, r.receiver
}

func (l *lane) receiverOf(r *Route) Receiver {
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.receiver
}

// resumed tells all routes that there is a connection.
func (l *lane) resumed() {
	l.mu.Lock()
	told := make([]Receiver, 0, len(l.routes))
	for _, r := range l.routes {
		if r.receiver != nil {
			told = append(told, r.receiver)
		}
	}
	l.mu.Unlock()
	for _, to := range told {
		to.Resumed()
	}
}

// read is the goroutine of a lane: it hands what comes to the routes until the stream ends, and then tells them so.
func (l *lane) read(context.Context) {
	buf, n := make([]byte, laneBuf), 0
	for {
		got, err := l.s.Read(buf[n:])
		if err != nil {
			l.end(err)
			return
		}
		n += got
		used, err := l.handle(buf[:n])
		if err != nil {
			l.s.links.faults.Add(1)
			l.s.links.log.Warn("a lane of another node makes no sense", "peer", uint64(l.s.peer), "lane", l.s.place, "err", err)
			l.s.fail(err)
			l.end(err)
			return
		}
		n = copy(buf, buf[used:n])
	}
}

// handle takes what is whole of b and tells who got something that this was all. A panic of whoever is called ends the lane
// only; that of a Receiver's Take, its route only.
func (l *lane) handle(b []byte) (used int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = l.panicked("what a lane calls", p)
		}
	}()
	if used, err = l.take(b); err == nil {
		l.drained()
	}
	return used, err
}

// panicked logs a panic and makes an error of it.
func (l *lane) panicked(who string, p any) error {
	l.s.links.log.Error(who+" panicked", "peer", uint64(l.s.peer), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return fmt.Errorf("panic: %v", p)
}

// take handles the whole items in b and returns how many bytes they are.
func (l *lane) take(b []byte) (used int, err error) {
	for {
		rest := b[used:]
		if len(rest) < itemHead {
			return used, nil
		}
		kind, n, err := itemLength(rest)
		if err != nil {
			return used, err
		}
		if len(rest) < itemHead+n {
			return used, nil
		}
		if err := l.item(kind, binary.BigEndian.Uint32(rest[4:]), rest[itemHead:itemHead+n]); err != nil {
			return used, err
		}
		used += itemHead + n
	}
}

// itemLength checks the head of an item and returns the length of its payload.
func itemLength(b []byte) (kind byte, n int, err error) {
	kind, n = b[0], int(b[1])<<16|int(b[2])<<8|int(b[3])
	switch {
	case kind == itemOpen && n == openSize, kind == itemFrames && n > 0 && n <= maxFrames,
		kind == itemClosed && n == 1, kind == itemNotice && n <= MaxNotice:
		return kind, n, nil
	}
	return 0, 0, fmt.Errorf("item of kind %d with %d bytes: %w", kind, n, errRecord)
}

func (l *lane) item(kind byte, id uint32, body []byte) error {
	switch kind {
	case itemOpen:
		return l.opened(id, wire.InstanceID(binary.BigEndian.Uint64(body)), wire.Gen(binary.BigEndian.Uint32(body[8:])))
	case itemFrames:
		l.frames(id, body)
	case itemClosed:
		l.closed(id, body[0])
	case itemNotice:
		if notified := l.s.links.deps.Notified; notified != nil {
			notified(l.s.peer, body)
		}
	}
	return nil
}

// opened handles the beginning of a route of the other end.
func (l *lane) opened(id uint32, instance wire.InstanceID, gen wire.Gen) error {
	if l.s.mine {
		return fmt.Errorf("a route against the direction of the lane: %w", errRecord)
	}
	r := &Route{lane: l, id: id, instance: instance, gen: gen}
	l.mu.Lock()
	taken, many := l.routes[id] != nil, len(l.routes) >= maxRoutes
	if !taken && !many {
		l.routes[id] = r
	}
	l.mu.Unlock()
	switch {
	case taken:
		return fmt.Errorf("route %d is opened twice: %w", id, errRecord)
	case many:
		l.sayClosed(id, closedRefused)
		return nil
	}
	to := l.s.links.deps.Accept(l.s.peer, instance, gen, r)
	if to == nil {
		r.closed.Store(true)
		if l.leave(r) {
			l.sayClosed(id, closedRefused)
		}
		return nil
	}
	l.mu.Lock()
	if l.routes[id] == r {
		r.receiver = to
	}
	l.mu.Unlock()
	if r.Pending() < roomMark {
		to.Room() // which it may have asked for before it was known
	}
	return nil
}

// frames hands a batch to its route.
func (l *lane) frames(id uint32, batch []byte) {
	r, to := l.find(id)
	if to == nil {
		l.s.links.late.Add(1)
		return
	}
	n, frames := cutBatch(batch)
	l.s.counts.framesIn.Add(uint64(frames))
	if !r.dirty {
		r.dirty = true
		l.dirty = append(l.dirty, r)
	}
	err := errRecord
	if n == len(batch) {
		err = l.hand(to, batch)
	}
	if err == nil || !l.leave(r) {
		return
	}
	l.s.links.faults.Add(1)
	r.closed.Store(true)
	l.sayClosed(id, closedFault)
	to.Ended(fmt.Errorf("what a route of node session %d carries: %w", uint64(l.s.peer), err))
}

// hand turns a panic of a Receiver into an error: only this route ends.
func (l *lane) hand(to Receiver, batch []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = l.panicked("the receiver of a route", p)
		}
	}()
	return to.Take(batch)
}

// closed handles the end of a route.
func (l *lane) closed(id uint32, why byte) {
	r, to := l.find(id)
	if r == nil || !l.leave(r) {
		return // closed here at the same time
	}
	r.closed.Store(true)
	if to == nil {
		return
	}
	switch why {
	case closedRefused:
		to.Ended(ErrRefused)
	case closedFault:
		to.Ended(ErrFault)
	default:
		to.Ended(io.EOF)
	}
}

// drained tells the routes that have had something that this was all.
func (l *lane) drained() {
	for i, r := range l.dirty {
		r.dirty = false
		l.dirty[i] = nil
		if to := l.receiverOf(r); to != nil {
			to.Drained()
		}
	}
	l.dirty = l.dirty[:0]
}

// end tells all routes that the lane has ended.
func (l *lane) end(err error) {
	l.mu.Lock()
	l.over = true
	var told []Receiver
	for _, r := range l.routes {
		r.closed.Store(true)
		if r.receiver != nil {
			told = append(told, r.receiver)
			r.receiver = nil
		}
	}
	clear(l.routes)
	l.mu.Unlock()
	if !errors.Is(err, io.EOF) {
		err = fmt.Errorf("lane to node session %d: %w", uint64(l.s.peer), err)
	}
	for _, to := range told {
		to.Ended(err)
	}
}
