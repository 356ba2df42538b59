package bench

import (
	"sync"
	"time"
)

// schedule says when each message of an open-loop run ought to leave, whatever the server does. Message k of all
// connections together is due at start + k/rate, and connection k mod conns sends it. Latencies are counted from the
// moment a message was due, so that a server that stalls pays for every message it kept from leaving: that is the
// correction for coordinated omission.
type schedule struct {
	start    int64 // nanoseconds of the run's clock
	interval float64
	sent     int64
}

// newSchedule spreads perSecond messages evenly.
func newSchedule(start int64, perSecond float64) *schedule {
	return &schedule{start: start, interval: float64(time.Second) / perSecond}
}

// due calls send for every message whose moment has come and was not handed out before, with its number and moment.
func (s *schedule) due(now int64, send func(k, moment int64)) {
	for {
		moment := s.moment(s.sent)
		if moment > now {
			return
		}
		send(s.sent, moment)
		s.sent++
	}
}

func (s *schedule) moment(k int64) int64 { return s.start + int64(float64(k)*s.interval) }

// flightLimit bounds the messages of one connection that wait for their answer in an open-loop run; what comes on top
// is not sent and counted as skipped.
const flightLimit = 1 << 14

// flight remembers, in order, when the unanswered messages of a connection were due.
type flight struct {
	mu   sync.Mutex
	due  []int64
	head int
}

// push adds a message; it refuses when the limit is reached.
func (f *flight) push(moment int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.due)-f.head >= flightLimit {
		return false
	}
	if f.head > 0 && len(f.due) == cap(f.due) {
		f.due = append(f.due[:0], f.due[f.head:]...)
		f.head = 0
	}
	f.due = append(f.due, moment)
	return true
}

// pop appends the moments of the n oldest messages to dst, fewer when fewer are in flight.
func (f *flight) pop(dst []int64, n int) []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = min(n, len(f.due)-f.head)
	dst = append(dst, f.due[f.head:f.head+n]...)
	f.head += n
	if f.head == len(f.due) {
		f.due, f.head = f.due[:0], 0
	}
	return dst
}

// len returns how many messages wait for their answer.
func (f *flight) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.due) - f.head
}
