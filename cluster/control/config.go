package control

import (
	"bufio"
	"errors"
	"log/slog"
	"math"
	"net"
	"time"
)

// Config is how calls behave, at both ends.
type Config struct {
	// MaxBody is the largest body of a request or an answer; MaxAnonymous that of a request without certificate.
	MaxBody, MaxAnonymous int
	// MaxCalls is how many calls of a connection may be on their way at a time.
	MaxCalls int
	// Budget is what bodies of requests of one connection may take in memory.
	Budget int
	// MaxTime is how long a call may take at the server, whatever its caller says.
	MaxTime time.Duration
	// Beat is how often an idle connection shows life. One that shows none for Silence is closed.
	Beat, Silence time.Duration
	// Stall bounds sending one frame once it has begun, in both directions.
	Stall time.Duration
	// Idle is how long a client keeps a connection that nobody calls over.
	Idle time.Duration
	// Log takes what is worth a line; nil discards.
	Log *slog.Logger
	// Now is the clock, with a monotonic reading; nil is time.Now.
	Now func() time.Time
}

// Default returns the values in use.
func Default() Config {
	return Config{
		MaxBody: 1 << 20, MaxAnonymous: 16 << 10, MaxCalls: 256, Budget: 16 << 20, MaxTime: time.Minute,
		Beat: 2 * time.Second, Silence: 6 * time.Second, Stall: 10 * time.Second, Idle: 5 * time.Minute,
	}
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	switch {
	case c.MaxBody < longestText+2 || c.MaxBody > math.MaxInt32-answerHead:
		return errors.New("control: the largest body must hold an error, and its length 31 bits")
	case c.MaxAnonymous < 1 || c.MaxAnonymous > c.MaxBody || c.Budget < c.MaxBody:
		return errors.New("control: an anonymous body is at most any body, and the budget holds one")
	case c.MaxCalls < 1 || c.MaxCalls > math.MaxUint16:
		return errors.New("control: calls at a time must be 1 to 65,535")
	case c.MaxTime <= 0 || c.Beat <= 0 || c.Stall <= 0 || c.Idle <= 0:
		return errors.New("control: times must be above zero")
	case c.Silence < 2*c.Beat:
		return errors.New("control: silence must be at least two beats")
	}
	return nil
}

func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c.Validate()
}

// timed is a connection that waits for each byte no longer than Silence, for all of a frame and for each write no longer
// than Stall.
type timed struct {
	net.Conn
	cfg   *Config
	began time.Time // when the frame that is being read began; zero between frames
}

func (t *timed) Read(b []byte) (int, error) {
	now := t.cfg.Now()
	until := now.Add(t.cfg.Silence)
	if !t.began.IsZero() {
		if end := t.began.Add(t.cfg.Stall); end.Before(until) {
			until = end
		}
	}
	if err := t.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return t.Conn.Read(b)
}

func (t *timed) Write(b []byte) (int, error) {
	if err := t.SetWriteDeadline(t.cfg.Now().Add(t.cfg.Stall)); err != nil {
		return 0, err
	}
	return t.Conn.Write(b)
}

// await waits for the first byte of a frame; from then on its time runs.
func (t *timed) await(r *bufio.Reader) error {
	t.began = time.Time{}
	_, err := r.Peek(1)
	t.began = t.cfg.Now()
	return err
}
