package nodeport

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Reason is why a connection that came in was closed before, or instead of, being served.
type Reason uint8

const (
	NotTLS        Reason = iota // its first bytes begin no TLS handshake
	Stalled                     // handshake and kind byte took too long
	TooMuch                     // its handshake was too long in bytes
	BadHandshake                // the handshake failed: certificate, version, or the other end gave up
	BadPeer                     // a good certificate that names no node
	NoCertificate               // it had none and wanted something else than control
	UnknownKind                 // nobody serves what it wanted
	Crowded                     // it was the oldest when there were too many without certificate
	TooMany                     // its node has too many connections
	WasCut                      // a node was cut while the handshake went on
	NobodyAccepts               // the queue of its listener is full
	Panicked                    // its handler panicked
	Overstayed                  // it was anonymous for too long
	reasons
)

var reasonNames = [reasons]string{
	"not tls", "stalled", "too much", "bad handshake", "bad peer", "no certificate", "unknown kind", "crowded", "too many",
	"cut", "nobody accepts", "panicked", "overstayed",
}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Refused counts connections by the reason for which they were closed.
type Refused [reasons]uint64

// Each calls f for every reason there is, also those that have not occurred.
func (r Refused) Each(f func(reason Reason, n uint64)) {
	for i, n := range r {
		f(Reason(i), n)
	}
}

// Counters are what a port has seen.
type Counters struct {
	// Accepted connections came in, Served ones were given to a handler or listener.
	Accepted, Served uint64
	// Dialled connections were made; DialFailed attempts were not.
	Dialled, DialFailed uint64
	// Cut connections were ended by Cut, Aged ones because they had lasted as long as they may.
	Cut, Aged uint64
	// Open is how many connections of nodes there are now, both ways; Strangers how many without certificate.
	Open, Strangers int
	Refused         Refused
}

const (
	quiet     = 10 * time.Second // between two lines for the same reason
	longestIn = 256              // bytes of another's text in a line
)

// complaints counts refusals and puts a few of them into the log.
type complaints struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	count Refused
	said  [reasons]uint64 // of count, when the last line was written
	next  [reasons]time.Time
}

// add counts a refusal, and returns whether it was worth a line.
func (c *complaints) add(r Reason, from net.Addr, err error) bool {
	now := c.now()
	c.mu.Lock()
	c.count[r]++
	say := !now.Before(c.next[r])
	more := c.count[r] - c.said[r] - 1
	if say {
		c.said[r], c.next[r] = c.count[r], now.Add(quiet)
	}
	c.mu.Unlock()
	if !say {
		return false
	}
	attrs := []any{"reason", r.String(), "from", from.String(), "more", more}
	if err != nil {
		attrs = append(attrs, "error", clip(err.Error()))
	}
	c.log.Warn("node port: connection refused", attrs...)
	return true
}

func (c *complaints) counts() Refused {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

func clip(s string) string {
	if len(s) > longestIn {
		return s[:longestIn]
	}
	return s
}

// refusal is an error that says for which reason a connection is closed.
type refusal struct {
	reason Reason
	err    error
}

func (r *refusal) Error() string {
	if r.err == nil {
		return r.reason.String()
	}
	return r.reason.String() + ": " + r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

// failed is the refusal for an error of a handshake.
func failed(c *Conn, err error) *refusal {
	var known *refusal
	var late net.Error
	switch {
	case c.reason.Load() != 0: // closed by this end, which knows why
		return &refusal{Reason(c.reason.Load() - 1), nil}
	case errors.As(err, &known):
		return known
	case errors.As(err, &late) && late.Timeout():
		return &refusal{Stalled, err}
	}
	return &refusal{BadHandshake, err}
}
