package bench

import (
	"bytes"
	"fmt"
	"sync"
	"time"
)

// paced is one connection of an open-loop run.
type paced struct {
	c      *conn
	flight flight
}

// The pacer's tick bounds how late a message may leave because of the generator itself, and how often it wakes.
const (
	pacerTickMin = 50 * time.Microsecond
	pacerTickMax = time.Millisecond
)

// drainPoll is how often the end of a run looks whether the last answers have come.
const drainPoll = 2 * time.Millisecond

// openLoop sends by the clock, not by the answers: one pacer for all connections, one reader for each. A connection
// that does not take its bytes holds up the pacer; messages that leave late for it still count from when they were
// due. The returned function stops the pacer, waits for the answers that are due until a limit, and ends the readers.
func (r *run) openLoop(conns []*conn, payload []byte, all *sync.WaitGroup) (finish func([]*conn, time.Time)) {
	perSecond := r.cfg.rate * float64(len(conns))
	tick := min(max(time.Duration(float64(time.Second)/perSecond), pacerTickMin), pacerTickMax)
	frames := newClientFrames(payload, 1)
	paces := make([]*paced, len(conns))
	for i, c := range conns {
		c.reserve(max(len(payload)+maxHeader, 512))
		paces[i] = &paced{c: c}
		all.Go(func() { r.readPaced(paces[i], i, payload) })
	}
	stopped, paceEnded := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		defer close(paceEnded)
		if err := r.pace(paces, frames.bytes, perSecond, tick, stopped); err != nil {
			r.fail(err)
		}
	})
	return func(conns []*conn, limit time.Time) {
		close(stopped)
		for _, c := range conns {
			c.nc.SetWriteDeadline(limit)
		}
		<-paceEnded
		for _, p := range paces {
			for p.flight.len() > 0 && time.Now().Before(limit) {
				time.Sleep(drainPoll)
			}
			p.c.nc.SetReadDeadline(time.Now())
		}
	}
}

// pace sends what is due at every tick until stopped.
func (r *run) pace(paces []*paced, message []byte, perSecond float64, tick time.Duration, stopped <-chan struct{}) error {
	clock, err := newTicker(tick)
	if err != nil {
		return fmt.Errorf("pacer: %w", err)
	}
	defer clock.close()
	s := newSchedule(r.now(), perSecond)
	var failed error
	send := func(k, moment int64) {
		p := paces[k%int64(len(paces))]
		if !p.flight.push(moment) {
			r.skipped.Add(1)
			return
		}
		if _, err := p.c.nc.Write(message); err != nil && failed == nil {
			failed = fmt.Errorf("connection %d: %w", k%int64(len(paces))+1, err)
		}
	}
	for {
		select {
		case <-stopped:
			return nil
		default:
		}
		if err := clock.wait(); err != nil {
			return fmt.Errorf("pacer: %w", err)
		}
		if s.due(r.now(), send); failed != nil {
			return failed
		}
	}
}

// readPaced counts one connection's answers until the connection's deadline.
func (r *run) readPaced(p *paced, who int, payload []byte) {
	got := 0
	each := func(answer []byte) error {
		if !bytes.Equal(answer, payload) {
			return errAnswer
		}
		got++
		return nil
	}
	var due []int64
	for {
		got = 0
		err := p.c.read(each)
		if got > 0 {
			due = p.flight.pop(due[:0], got)
			r.latency.record(who, r.now(), due)
			r.answered.add(who, int64(len(due)))
		}
		if err == nil {
			continue
		}
		r.lost.Add(int64(p.flight.len()))
		if !r.stopping.Load() {
			r.fail(fmt.Errorf("connection %d: %w", who+1, err))
		}
		return
	}
}
