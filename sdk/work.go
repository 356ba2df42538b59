package sdk

import (
	"errors"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// eventKind is what happens to a state.
type eventKind uint8

const (
	evNew   eventKind = iota // the state was created
	evLoad                   // it comes from elsewhere
	evOpen                   // a session comes, or resumes
	evData                   // a message
	evClose                  // a session ends
	evSweep                  // sessions that did not resume end
	evGone                   // the state has left
)

// event is one entry of a state's inbox. Its payload is arena[from:to].
type event struct {
	kind     eventKind
	made     bool // evGone: NewState or Load had succeeded
	channel  uint32
	link     *link
	sess     *Session
	seq      uint64
	from, to int
	user     string
}

// keepArena is the largest arena that a state keeps for its next input.
const keepArena = 64 << 10

// work runs handlers until the inbox is empty.
func (s *State) work() {
	if s.after != nil {
		<-s.after
		s.after = nil
	}
	last := time.Now()
	var l *link // the latest, also when the state has left it: what it said goes out
	for {
		s.mu.Lock()
		if s.link != nil {
			l = s.link
		}
		if len(s.inbox) == 0 {
			s.running = false
			s.mu.Unlock()
			others := s.b.working.Add(-1) > 0
			if l != nil {
				l.sent(others)
			}
			return
		}
		events, arena := s.inbox, s.arena
		s.inbox, s.arena = s.spare[:0], s.spareArena[:0]
		s.mu.Unlock()
		for i := range events {
			e := &events[i]
			s.handle(e, arena[e.from:e.to:e.to])
			if now := time.Now(); now.Sub(last) > flushAfter {
				last = now
				s.sayAcks()
			}
		}
		s.sayAcks()
		clear(events)
		s.spare, s.spareArena = events[:0], arena[:0]
		if cap(arena) > keepArena {
			s.spareArena = nil
		}
	}
}

// handle does one event.
func (s *State) handle(e *event, payload []byte) {
	switch e.kind {
	case evNew:
		s.make("NewState", e.link, func() error {
			if s.b.h.NewState == nil {
				return nil
			}
			return s.b.h.NewState(s, e.user, payload)
		})
	case evLoad:
		s.make("Load", e.link, func() error {
			if s.b.h.Load == nil {
				return nil
			}
			return s.b.h.Load(s)
		})
	case evOpen:
		s.open(e)
	case evData:
		s.message(e, payload)
	case evClose:
		s.closed(e)
	case evSweep:
		s.sweep(e.link)
	case evGone:
		s.end(e.made)
	}
}

// uplinkOf calls say with the uplink if the state is still on this link.
func (s *State) uplinkOf(l *link, say func(up tunnel.Uplink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l && l != nil {
		say(s.up)
		l.soon()
	}
}

// make runs NewState or Load and answers.
func (s *State) make(what string, l *link, handler func() error) {
	s.mu.Lock()
	wanted := s.phase == making
	s.mu.Unlock()
	if !wanted {
		return
	}
	err := s.call(what, handler)
	if err == nil {
		if s.made(l) {
			s.uplinkOf(l, tunnel.Uplink.Accept)
		} else if s.b.h.Gone != nil {
			_ = s.call("Gone", func() error { s.b.h.Gone(s); return nil })
		}
		return
	}
	code, reason := wire.CodeStateNotFound, ""
	var c *CloseError
	if errors.As(err, &c) {
		code, reason = c.Code, c.Reason
	}
	s.b.drop(s)
	s.uplinkOf(l, func(up tunnel.Uplink) { up.Refuse(code, reason) })
	s.lose()
}

// open lets a session join, or resume.
func (s *State) open(e *event) {
	c := e.sess
	s.mu.Lock()
	current := s.phase == live && s.link == e.link && c.channel == e.channel && !c.left && !c.kicked
	joined := c.joined
	s.mu.Unlock()
	if !current {
		return
	}
	if !joined {
		err := s.call("Join", func() error {
			if s.b.h.Join == nil {
				return nil
			}
			return s.b.h.Join(s, c)
		})
		if err != nil {
			s.turnAway(c, err)
			return
		}
	}
	s.uplinkOf(e.link, func(up tunnel.Uplink) {
		if c.channel == e.channel && !c.left && !c.kicked {
			c.joined = true
			up.Join(e.channel)
		}
	})
}

func (s *State) turnAway(c *Session, err error) {
	if errors.Is(err, errPanic) {
		s.panicked()
		return
	}
	code, reason := wire.CodePolicy, err.Error()
	var given *CloseError
	if errors.As(err, &given) {
		code, reason = given.Code, given.Reason
	}
	_ = c.Close(code, reason)
}

// message hands one message to the application, once per stream and number.
func (s *State) message(e *event, payload []byte) {
	c := e.sess
	s.mu.Lock()
	current := s.phase == live && s.link == e.link && !c.left && !c.kicked
	joined := c.joined
	s.mu.Unlock()
	if current && joined && e.seq > c.done {
		err := s.call("Message", func() error {
			if s.b.h.Message != nil {
				s.b.h.Message(s, c, payload)
			}
			return nil
		})
		if err != nil {
			s.panicked()
			return
		}
		c.done = e.seq
	}
	if current && joined && !c.unacked {
		c.unacked = true
		s.acks = append(s.acks, c)
	}
	s.consumed(e.link, len(payload))
}

// consumed returns the credit of a message, whatever has become of the state.
func (s *State) consumed(l *link, n int) {
	s.mu.Lock()
	up, same := s.up, s.upLink == l
	s.mu.Unlock()
	if same {
		up.Consumed(n)
		l.soon()
	}
}

// sayAcks acknowledges, for each session that sent something, all it has done.
func (s *State) sayAcks() {
	if len(s.acks) == 0 {
		return
	}
	s.mu.Lock()
	for i, c := range s.acks {
		if c.unacked = false; c.link == s.link && s.link != nil && !c.left {
			s.up.Ack(c.channel, c.done)
			s.link.soon()
			c.acked.Store(c.done)
		}
		s.acks[i] = nil
	}
	s.mu.Unlock()
	s.acks = s.acks[:0]
}

// closed ends a session that has not resumed on another channel meanwhile.
func (s *State) closed(e *event) {
	c := e.sess
	s.mu.Lock()
	same := c.link == e.link && c.channel == e.channel
	if s.link == e.link {
		s.up.CloseSession(e.channel, c.out+1, wire.CodeNormal, "")
	} else {
		e.link.a.CloseChannel(e.channel)
	}
	s.mu.Unlock()
	if same {
		s.depart(c)
	}
}

// depart forgets a session and tells the application, once.
func (s *State) depart(c *Session) {
	s.mu.Lock()
	if s.sessions[c.stream] != c {
		s.mu.Unlock()
		return
	}
	delete(s.sessions, c.stream)
	c.left = true
	joined := c.joined
	c.joined = false
	s.mu.Unlock()
	s.b.sessions.Add(-1)
	if joined && s.b.h.Leave != nil {
		if err := s.call("Leave", func() error { s.b.h.Leave(s, c); return nil }); err != nil {
			s.panicked()
		}
	}
}

// sweep ends the sessions that are not on the state's present tunnel.
func (s *State) sweep(l *link) {
	s.mu.Lock()
	var missing []*Session
	if s.link == l {
		for _, c := range s.sessions {
			if c.link != l {
				missing = append(missing, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range missing {
		s.depart(c)
	}
}

// panicked gives the state up: its memory may be broken.
func (s *State) panicked() {
	if s.Release() != nil {
		s.b.drop(s)
		s.lose()
	}
}

// end calls Gone and lets whoever takes the state's place begin.
func (s *State) end(made bool) {
	if made && s.b.h.Gone != nil {
		_ = s.call("Gone", func() error { s.b.h.Gone(s); return nil })
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	close(s.finished)
}
