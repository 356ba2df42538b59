package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// drainLimit is how long the answers to what is in flight may take once a run is over; what has not come then is lost.
const drainLimit = 5 * time.Second

// setupParallel is how many connections are being made at the same time.
const setupParallel = 64

var errAnswer = errors.New("an answer differs from what was sent")

// loadConfig is one run of echo traffic.
type loadConfig struct {
	window   int     // closed loop: messages in flight per connection
	size     int     // bytes of a message
	rate     float64 // open loop when above 0: messages per second and connection
	warmup   time.Duration
	duration time.Duration
	patience time.Duration // how much longer to wait for a first answer; 0: firstAnswer
}

// firstAnswer is how long past its duration a run waits for a first answer before it fails.
const firstAnswer = 10 * time.Second

// Cell is what one run of one contender measured.
type Cell struct {
	Messages  int64   `json:"messages"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	CPUMicros float64 `json:"cpu_us_per_message"`
	// PerCPU is messages per second of processor time that all processes of the run used together, the generator too.
	// Where nothing but processors limits a run, it is what the rate would be on one quiet processor.
	PerCPU      float64 `json:"per_cpu_second"`
	Allocations float64 `json:"allocations_per_frame,omitempty"`
	// LinkBytes is what the node with the tunnel sent to other nodes, per message.
	LinkBytes float64 `json:"link_bytes_per_message,omitempty"`
	Percentiles
	Lost    int64 `json:"lost"`
	Skipped int64 `json:"skipped,omitempty"`
}

// run is the state that the goroutines of one run share.
type run struct {
	cfg      loadConfig
	epoch    time.Time
	latency  *latencies
	answered counter
	skipped  atomic.Int64
	lost     atomic.Int64
	stopping atomic.Bool
	failed   chan error
}

func newRun(cfg loadConfig) *run {
	return &run{cfg: cfg, epoch: time.Now(), latency: newLatencies(), failed: make(chan error, 1)}
}

// now is the run's monotonic clock in nanoseconds.
func (r *run) now() int64 { return int64(time.Since(r.epoch)) }

func (r *run) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// openAll makes n connections, setupParallel at a time. On an error it closes those that were made.
func openAll(ctx context.Context, n int, open func(ctx context.Context, i int) (*conn, error)) ([]*conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns := make([]*conn, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, setupParallel) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				c, err := open(ctx, i)
				if err != nil {
					cancel(fmt.Errorf("connection %d of %d: %w", i+1, n, err))
					return
				}
				conns[i] = c
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		closeAll(conns)
		return nil, context.Cause(ctx)
	}
	return conns, nil
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		if c != nil {
			c.close()
		}
	}
}

// echoLoad sends echo traffic over conns and measures it after the warm-up. It leaves the connections open.
func echoLoad(ctx context.Context, conns []*conn, cfg loadConfig, m meter) (Cell, error) {
	r := newRun(cfg)
	payload := bytes.Repeat([]byte("trunkline bench "), cfg.size/16+1)[:cfg.size]
	var all sync.WaitGroup
	finish := r.drainClosed
	if cfg.rate > 0 {
		finish = r.openLoop(conns, payload, &all)
	} else {
		for i, c := range conns {
			all.Go(func() { r.closedLoop(c, i, payload) })
		}
	}
	cell, err := r.measure(ctx, m)
	cell.Allocations /= 2 // one frame each way per message
	r.stopping.Store(true)
	limit := time.Now()
	if err == nil {
		limit = limit.Add(drainLimit)
	}
	finish(conns, limit)
	all.Wait()
	cell.Lost, cell.Skipped = r.lost.Load(), r.skipped.Load()
	return cell, err
}

// drainClosed gives closed-loop readers, which end by themselves, until limit.
func (r *run) drainClosed(conns []*conn, limit time.Time) {
	for _, c := range conns {
		c.nc.SetReadDeadline(limit)
	}
}

// measure waits for the warm-up, then counts for the duration.
func (r *run) measure(ctx context.Context, m meter) (Cell, error) {
	if err := r.pause(ctx, r.cfg.warmup); err != nil {
		return Cell{}, err
	}
	before, err := m.read(ctx)
	if err != nil {
		return Cell{}, err
	}
	family := familyTicks(os.Getpid())
	start, count := r.now(), r.answered.sum()
	r.latency.recording.Store(true)
	if err := r.pause(ctx, r.cfg.duration); err != nil {
		return Cell{}, err
	}
	patience := r.cfg.patience
	if patience == 0 {
		patience = firstAnswer
	}
	for late := r.now() + int64(patience); r.answered.sum() == count && r.now() < late; {
		if err := r.pause(ctx, drainPoll); err != nil {
			return Cell{}, err
		}
	}
	r.latency.recording.Store(false)
	end, messages := r.now(), r.answered.sum()-count
	family = familyTicks(os.Getpid()) - family
	after, err := m.read(ctx)
	if err != nil {
		return Cell{}, err
	}
	if messages == 0 {
		return Cell{}, fmt.Errorf("no answer within %v", r.cfg.duration+patience)
	}
	seconds := float64(end-start) / 1e9
	cell := Cell{
		Messages: messages, Seconds: seconds, PerSecond: float64(messages) / seconds,
		CPUMicros:   float64(after.CPU-before.CPU) / 1e3 / float64(messages),
		Allocations: allocated(before, after) / float64(messages),
		LinkBytes:   (after.Link - before.Link) / float64(messages),
		Percentiles: percentilesOf(r.latency.merged()),
	}
	if family > 0 {
		cell.PerCPU = float64(messages) * ticksPerSecond / float64(family)
	}
	return cell, nil
}

// pause waits for d, or until the run has failed.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case err := <-r.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closedLoop keeps the window full: every batch of answers is followed at once by as many new messages, in one write.
func (r *run) closedLoop(c *conn, who int, payload []byte) {
	window := r.cfg.window
	c.reserve(min(maxBuffer, max(window*(len(payload)+maxHeader), 512)))
	frames := newClientFrames(payload, window)
	sent := make([]int64, window)
	head, inFlight := 0, 0
	send := func(n int) error {
		now := r.now()
		for range n {
			sent[(head+inFlight)%window] = now
			inFlight++
		}
		_, err := c.nc.Write(frames.first(n))
		return err
	}
	got := 0
	each := func(answer []byte) error {
		if !bytes.Equal(answer, payload) {
			return errAnswer
		}
		got++
		return nil
	}
	done := make([]int64, 0, window)
	err := send(window)
	for err == nil && inFlight > 0 {
		got = 0
		if err = c.read(each); err != nil {
			break
		}
		if got > inFlight {
			err = errors.New("more answers than messages")
			break
		}
		done = done[:0]
		for range got {
			done = append(done, sent[head])
			head = (head + 1) % window
		}
		inFlight -= got
		r.latency.record(who, r.now(), done)
		r.answered.add(who, int64(got))
		if got > 0 && !r.stopping.Load() {
			err = send(got)
		}
	}
	r.lost.Add(int64(inFlight))
	if err != nil && !r.stopping.Load() {
		r.fail(fmt.Errorf("connection %d: %w", who+1, err))
	}
}
