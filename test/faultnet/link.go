package faultnet

import (
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// Quality is how one direction between two hosts treats packets. The zero value carries everything at once.
type Quality struct {
	Delay  time.Duration
	Jitter time.Duration // at most this much more; packets stay in order
	Loss   float64       // 0 to 1
	Rate   float64       // bytes per second, 0: no limit
	Cut    bool          // nothing passes, and what is under way is lost
}

// Stats count the packets of one direction.
type Stats struct {
	In, Out, Lost, Cut, Over uint64
}

// queueLimit bounds the packets that are under way in one direction; more are dropped, as a router would.
const queueLimit = 4000

type packet struct {
	due  time.Time
	data []byte
}

// link is one direction between two hosts.
type link struct {
	out  *os.File
	wake chan struct{}

	mu    sync.Mutex
	q     Quality
	dice  *rand.Rand
	stats Stats
	line  []packet  // in the order of their due times
	busy  time.Time // when the last byte of the packet before has left, with a rate
}

func newLink(out *os.File, seed uint64) *link {
	return &link{out: out, wake: make(chan struct{}, 1), dice: rand.New(rand.NewPCG(seed, 1))}
}

// take takes a packet in, which the link keeps.
func (l *link) take(data []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.In++
	switch {
	case l.q.Cut:
		l.stats.Cut++
		return
	case l.q.Loss > 0 && l.dice.Float64() < l.q.Loss:
		l.stats.Lost++
		return
	case len(l.line) >= queueLimit:
		l.stats.Over++
		return
	}
	due := now.Add(l.q.Delay)
	if l.q.Jitter > 0 {
		due = due.Add(time.Duration(l.dice.Int64N(int64(l.q.Jitter))))
	}
	if l.q.Rate > 0 {
		if l.busy.Before(now) {
			l.busy = now
		}
		l.busy = l.busy.Add(time.Duration(float64(len(data)) / l.q.Rate * float64(time.Second)))
		due = due.Add(l.busy.Sub(now))
	}
	if n := len(l.line); n > 0 && due.Before(l.line[n-1].due) {
		due = l.line[n-1].due
	}
	l.line = append(l.line, packet{due, data})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// set changes the direction's quality.
func (l *link) set(change func(*Quality)) {
	l.mu.Lock()
	change(&l.q)
	if l.q.Cut {
		l.stats.Cut += uint64(len(l.line))
		l.line = nil
	}
	l.mu.Unlock()
}

// ready takes the packets off that are due, and says how long until the next one is.
func (l *link) ready(now time.Time) (due []packet, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.line) && !l.line[n].due.After(now) {
		n++
	}
	due, l.line = l.line[:n:n], l.line[n:]
	l.stats.Out += uint64(n)
	if len(l.line) == 0 {
		l.line = nil
		return due, time.Hour
	}
	return due, l.line[0].due.Sub(now)
}

// carry hands packets on until done.
func (l *link) carry(done <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait := l.ready(time.Now())
		for _, p := range due {
			_, _ = l.out.Write(p.data) // a host whose device is down loses packets
		}
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-done:
			return
		}
	}
}
