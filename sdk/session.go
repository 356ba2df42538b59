package sdk

import (
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// Session is one client connection in a state. It stays the same value when the
// same client resumes. Its methods may be called from any goroutine.
type Session struct {
	// Data is the application's.
	Data any

	state  *State
	user   string
	stream wire.StreamID

	// Guarded by state.mu.
	link    *link // of channel
	channel uint32
	out     uint64 // number of the last message to the session
	joined  bool
	kicked  bool // Close was called
	left    bool

	// Of the goroutine that runs the state's handlers.
	done    uint64 // number of the last message handled
	unacked bool

	acked atomic.Uint64 // what done was when it was last acknowledged
}

// bind finds or makes the session of a stream and puts it on a channel.
func (s *State) bind(l *link, o *tunnel.Session) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.sessions[o.Stream]
	if c == nil {
		c = &Session{state: s, user: o.User, stream: o.Stream}
		if s.phase != gone {
			s.sessions[o.Stream] = c
			s.b.sessions.Add(1)
		}
	}
	c.link, c.channel = l, o.Channel
	return c
}

// rebind puts a session whose channel has ended on another one that it has; false when it was not on that channel.
func (s *State) rebind(c *Session, l *link, ended, to uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.link != l || c.channel != ended {
		return false
	}
	c.channel = to
	return true
}

// User is who the token says.
func (c *Session) User() string { return c.user }

// Stream is what an SDK client keeps when it reconnects; random for others.
func (c *Session) Stream() wire.StreamID { return c.stream }

// State is where the session is.
func (c *Session) State() *State { return c.state }

// Send sends one message to this session. data is copied. It waits while the
// tunnel is congested. Errors: ErrDetached, ErrGone, ErrTooBig.
func (c *Session) Send(data []byte) error { return c.send(data, false) }

// SendUnreliable sends one message that may be dropped rather than delay others.
func (c *Session) SendUnreliable(data []byte) error { return c.send(data, true) }

func (c *Session) send(data []byte, unreliable bool) error {
	var failed error
	err := c.state.send(len(data), func(up tunnel.Uplink) {
		switch {
		case c.left || c.kicked:
			failed = ErrGone
		case c.link != c.state.link:
			failed = ErrDetached // its client has not come back yet
		default:
			c.out++
			up.ToSession(c.channel, c.out, data, unreliable)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// Close ends the session: its client is told code and reason (at most 123
// bytes), after what was sent to it before. No more of its messages are handled;
// Leave is called if it had joined.
func (c *Session) Close(code wire.Code, reason string) error {
	s := c.state
	s.mu.Lock()
	switch {
	case c.left || c.kicked:
		s.mu.Unlock()
		return ErrGone
	case s.link == nil || c.link != s.link:
		s.mu.Unlock()
		return ErrDetached
	}
	c.kicked = true
	l, channel := s.link, c.channel
	s.up.CloseSession(channel, c.out+1, code, reason)
	running := s.running
	s.mu.Unlock()
	if first, _ := s.push(event{kind: evClose, link: l, sess: c, channel: channel}, nil); first {
		s.start()
	} else if !running {
		l.sent(false)
	}
	return nil
}
