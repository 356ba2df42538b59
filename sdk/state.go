package sdk

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// phase is where a state is in its life.
type phase uint8

const (
	making    phase = iota // NewState or Load has not returned yet
	live                   // held: named when the instance registers again
	releasing              // Release was called and is not confirmed
	gone                   // lost; only Gone is still to be called
)

// flushAfter is how long what a handler sends may wait for other handlers.
const flushAfter = 500 * time.Microsecond

// State is one room, match or document of a backend. It stays the same value
// while it is held here, over breaks of the tunnel too. Its methods may be
// called from any goroutine; outside of handlers, what is sent leaves at once.
type State struct {
	// Data is the application's: what the state is made of. The package does
	// not touch it; handlers need no lock for it.
	Data any

	b     *Backend
	id    wire.StateID
	epoch wire.Epoch
	after <-chan struct{} // closed when the state's former holder here is done

	finished chan struct{} // closed when Gone has returned

	mu       sync.Mutex
	phase    phase
	ctx      context.Context
	cancel   context.CancelFunc
	link     *link         // nil while detached
	up       tunnel.Uplink // the latest, on upLink
	upLink   *link
	sessions map[wire.StreamID]*Session
	inbox    []event
	arena    []byte // the payloads of inbox
	running  bool   // a goroutine works off the inbox, or is about to
	over     bool   // finished is closed, or about to be

	opened map[uint32]struct{} // channels of the state; the tunnel's reader's

	// Of the goroutine that works.
	spare      []event
	spareArena []byte
	acks       []*Session
}

func newState(b *Backend, l *link, id wire.StateID, epoch wire.Epoch) *State {
	s := &State{
		b: b, id: id, epoch: epoch, finished: make(chan struct{}), sessions: make(map[wire.StreamID]*Session),
		link: l, up: l.a.Uplink(id, epoch), upLink: l,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// ID returns the state's id; its String is what clients connect to.
func (s *State) ID() wire.StateID { return s.id }

// Context ends when the tunnel breaks or the state leaves. In a state that is
// kept over a break, a later call returns a new one.
func (s *State) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx
}

// Sessions returns the sessions that have joined, in no order.
func (s *State) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Session, 0, len(s.sessions))
	for _, c := range s.sessions {
		if c.joined {
			all = append(all, c)
		}
	}
	return all
}

// Broadcast sends a message to every session that has joined. data is copied.
// It waits while the tunnel is congested. Errors: ErrDetached, ErrGone,
// ErrTooBig.
func (s *State) Broadcast(data []byte) error { return s.broadcast(nil, data) }

// BroadcastExcept sends a message to every session that has joined but one.
func (s *State) BroadcastExcept(who *Session, data []byte) error { return s.broadcast(who, data) }

func (s *State) broadcast(except *Session, data []byte) error {
	return s.send(len(data), func(up tunnel.Uplink) {
		channel := uint32(0)
		if except != nil && except.link == s.link {
			channel = except.channel
		}
		up.ToAll(channel, data, false)
	})
}

// SendUser sends a message to all sessions of a user.
func (s *State) SendUser(user string, data []byte) error {
	return s.send(len(data), func(up tunnel.Uplink) { up.ToUser(user, data) })
}

// Flush writes what was sent so far, without waiting for the handler to return.
func (s *State) Flush() {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil {
		l.a.Flush()
	}
}

// Release lets go of the state: no further handler but Gone is called, which
// follows when the coordinator has confirmed, and the next who asks for the
// state may meet another instance. Store it before.
func (s *State) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.phase != live:
		return ErrGone
	case s.link == nil:
		return ErrDetached
	}
	s.phase = releasing
	s.cancel()
	s.up.Release()
	if !s.running {
		s.link.sent(false)
	}
	return nil
}

// send waits for room and calls say, which runs under s.mu, so that nothing is
// said on a tunnel that is no longer the state's.
func (s *State) send(n int, say func(up tunnel.Uplink)) error {
	if n > s.b.cfg.MaxMessage {
		return ErrTooBig
	}
	for {
		s.mu.Lock()
		switch {
		case s.phase == gone || s.phase == releasing:
			s.mu.Unlock()
			return ErrGone
		case s.link == nil:
			s.mu.Unlock()
			return ErrDetached
		}
		wait := s.up.Admit(n)
		if wait == nil {
			say(s.up)
			l, running := s.link, s.running
			s.mu.Unlock()
			if running {
				l.soon()
			} else {
				l.sent(false)
			}
			return nil
		}
		l := s.link
		s.mu.Unlock()
		l.a.Flush()
		<-wait // closed at the latest when the tunnel ends
	}
}

// push queues an event; first says that start must follow. A state that is over
// takes none.
func (s *State) push(e event, payload []byte) (first, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false, false
	}
	e.from = len(s.arena)
	s.arena = append(s.arena, payload...)
	e.to = len(s.arena)
	s.inbox = append(s.inbox, e)
	first = !s.running
	s.running = true
	return first, true
}

// start runs the handlers until the inbox is empty, in a goroutine that Run of
// the backend waits for.
func (s *State) start() {
	s.b.working.Add(1)
	s.b.wg.Go(s.work)
}

// resume puts a kept state on a new tunnel.
func (s *State) resume(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.up, s.upLink = l, l.a.Uplink(s.id, s.epoch), l
	s.opened = nil
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// suspend takes the state off a tunnel that has ended; false when there is
// nothing to keep.
func (s *State) suspend() (keep bool) {
	s.mu.Lock()
	s.cancel()
	s.link = nil
	keep = s.phase == live
	s.mu.Unlock()
	if !keep {
		s.lose()
	}
	return keep
}

// lose ends the state: its sessions are forgotten and Gone is called.
func (s *State) lose() {
	s.mu.Lock()
	if s.phase == gone {
		s.mu.Unlock()
		return
	}
	wasMade := s.phase != making
	s.phase = gone
	s.cancel()
	s.link = nil
	s.b.sessions.Add(-int64(len(s.sessions)))
	s.sessions = nil
	s.mu.Unlock()
	if first, _ := s.push(event{kind: evGone, made: wasMade}, nil); first {
		s.start()
	}
}

// made notes that NewState or Load has returned without error; false when the
// tunnel broke meanwhile, or the state was lost.
func (s *State) made(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != making || s.link != l {
		return false
	}
	s.phase = live
	return true
}

// call runs one handler; a panic is logged and returned as an error.
func (s *State) call(what string, handler func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.b.cfg.Log.Error("handler panicked", "handler", what, "state", s.id.String(),
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return handler()
}

var errPanic = errors.New("handler panicked")
