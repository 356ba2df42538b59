package edge

import "sync"

// channels numbers the sessions of one native tunnel. Number 0 is never given, and a number is not given twice while the
// tunnel lives: 32 bits last for four thousand million sessions, after which the tunnel is told to attach anew.
type channels struct {
	mu   sync.Mutex
	last uint32
	open map[uint32]*session
}

// add gives the session a number; nil takes a number for a session that is only being closed.
func (c *channels) add(s *session) uint32 {
	c.mu.Lock()
	c.last++
	n := c.last
	if s != nil {
		if c.open == nil {
			c.open = make(map[uint32]*session)
		}
		c.open[n] = s
	}
	c.mu.Unlock()
	return n
}

// drop forgets the number.
func (c *channels) drop(n uint32) {
	c.mu.Lock()
	delete(c.open, n)
	c.mu.Unlock()
}

// get returns the session with the number, or nil.
func (c *channels) get(n uint32) *session {
	c.mu.Lock()
	s := c.open[n]
	c.mu.Unlock()
	return s
}
