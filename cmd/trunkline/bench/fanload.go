package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// Fan-out: the first connection sends, all of them receive. A message begins with its number; one with the top bit set
// only finds out whether everybody is in the room yet.
const (
	probeBit      = uint64(1) << 63
	probeEvery    = 100 * time.Millisecond
	probeAttempts = 100
)

var (
	errOrder     = errors.New("a delivery is missing, repeated or out of order")
	errNotJoined = errors.New("a message to everyone did not reach all connections")
)

// fan is the state of one fan-out run. Slots are taken in turn by the messages in flight.
type fan struct {
	*run
	receivers int
	slots     []fanSlot
	free      chan struct{}
	sent      atomic.Int64

	probe     atomic.Uint64
	probeLeft atomic.Int64
	probed    chan struct{}
}

type fanSlot struct {
	sent atomic.Int64 // when
	left atomic.Int64 // receivers that have not got it
	_    [48]byte
}

// fanLoad sends messages to everyone and measures deliveries after the warm-up. A new message leaves when all
// receivers have one of the window's.
func fanLoad(ctx context.Context, conns []*conn, cfg loadConfig, m meter) (Cell, error) {
	f := &fan{
		run: newRun(cfg), receivers: len(conns), slots: make([]fanSlot, cfg.window),
		free: make(chan struct{}, cfg.window), probed: make(chan struct{}, probeAttempts),
	}
	var all sync.WaitGroup
	for i, c := range conns {
		c.reserve(max(cfg.window*(cfg.size+maxHeader), 512))
		all.Go(func() { f.receive(c, i) })
	}
	stop, sender := make(chan struct{}), make(chan struct{})
	cell, err := Cell{}, f.awaitEverybody(ctx, conns[0])
	if err == nil {
		for range cfg.window {
			f.free <- struct{}{}
		}
		all.Go(func() {
			defer close(sender)
			f.send(conns[0], stop)
		})
		cell, err = f.measure(ctx, m)
	} else {
		close(sender)
	}
	close(stop)
	f.stopping.Store(true)
	limit := time.Now().Add(drainLimit)
	select { // what it may have sent last is waited for as well
	case <-sender:
	case <-time.After(drainLimit):
	}
	for err == nil && f.answered.sum() < f.sent.Load()*int64(f.receivers) && time.Now().Before(limit) {
		time.Sleep(drainPoll)
	}
	for _, c := range conns {
		c.nc.SetDeadline(time.Now())
	}
	all.Wait()
	cell.Lost = f.sent.Load()*int64(f.receivers) - f.answered.sum()
	return cell, err
}

// awaitEverybody repeats a probe until one has reached all: a session is joined a moment after it is acknowledged.
func (f *fan) awaitEverybody(ctx context.Context, c *conn) error {
	for k := range uint64(probeAttempts) {
		f.probeLeft.Store(int64(f.receivers))
		f.probe.Store(k)
		if err := f.write(c, probeBit|k); err != nil {
			return err
		}
		t := time.NewTimer(probeEvery)
		select {
		case <-f.probed:
			t.Stop()
			return nil
		case err := <-f.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return errNotJoined
}

func (f *fan) write(c *conn, number uint64) error {
	payload := make([]byte, f.cfg.size)
	binary.BigEndian.PutUint64(payload, number)
	_, err := c.nc.Write(appendClientFrame(nil, ws.OpBinary, payload))
	return err
}

func (f *fan) send(c *conn, stop <-chan struct{}) {
	for n := int64(0); ; n++ {
		select {
		case <-stop:
			return
		case <-f.free:
		}
		slot := &f.slots[n%int64(len(f.slots))]
		slot.left.Store(int64(f.receivers))
		slot.sent.Store(f.now())
		f.sent.Add(1)
		if err := f.write(c, uint64(n)); err != nil {
			f.fail(fmt.Errorf("sender: %w", err))
			return
		}
	}
}

func (f *fan) receive(c *conn, who int) {
	next := uint64(0)
	var since []int64
	each := func(payload []byte) error {
		if len(payload) != f.cfg.size {
			return errAnswer
		}
		number := binary.BigEndian.Uint64(payload)
		if number&probeBit != 0 {
			if number&^probeBit == f.probe.Load() && f.probeLeft.Add(-1) == 0 {
				f.probed <- struct{}{}
			}
			return nil
		}
		if number != next {
			return fmt.Errorf("%w: number %d instead of %d", errOrder, number, next)
		}
		next++
		slot := &f.slots[number%uint64(len(f.slots))]
		since = append(since, slot.sent.Load())
		if slot.left.Add(-1) == 0 {
			f.free <- struct{}{}
		}
		return nil
	}
	for {
		since = since[:0]
		err := c.read(each)
		f.latency.record(who, f.now(), since)
		f.answered.add(who, int64(len(since)))
		if err != nil {
			if !f.stopping.Load() {
				f.fail(fmt.Errorf("connection %d: %w", who+1, err))
			}
			return
		}
	}
}
