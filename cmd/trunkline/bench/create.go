package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Create is what full joins cost: an anonymous login, a new room, a connection into it.
type Create struct {
	Joins     int     `json:"joins"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	CPUMicros float64 `json:"cpu_us_per_join"`
	// Growth is the time per join over all joins, over that of the first growthFrom; 0 with fewer joins.
	Growth float64 `json:"growth,omitempty"`
	Steps  []Step  `json:"steps"`
	Percentiles
}

// Step says how far the joins were at one moment.
type Step struct {
	Joins         int     `json:"joins"`
	Seconds       float64 `json:"seconds"`
	PerSecond     float64 `json:"per_second"`
	StepPerSecond float64 `json:"step_per_second"`
}

// growthFrom is where the first rate is taken, and how many joins the steps of the report are apart.
const growthFrom = 2000

// createParallel is how many joins are on their way at the same time.
const createParallel = 32

func (b *bench) create(ctx context.Context) error {
	s, app, err := b.attach(ctx, false)
	if err != nil {
		return err
	}
	c, err := s.contender("trunkline", app, 1, b.o.TLS)
	if err != nil {
		return err
	}
	for round := range b.o.Rounds {
		x, err := b.joins(ctx, c, b.connectionsFor(b.o.Conns, c))
		if err != nil {
			return err
		}
		if round == 0 || x.PerSecond > b.report.Create.PerSecond {
			b.report.Create = x
		}
	}
	if b.o.Rounds > 1 {
		b.note("the best of %d rounds", b.o.Rounds)
	}
	return nil
}

// joinRun is the state that the workers of one run share.
type joinRun struct {
	*run
	c     *contender
	conns []*conn
	next  atomic.Int64
	at    []int64 // when join i was complete, in the order of completion
	done  atomic.Int64
}

// joins makes n full joins and keeps all connections open until the last is made.
func (b *bench) joins(ctx context.Context, c *contender, n int) (*Create, error) {
	// The backend must have attached, and code must be warm.
	warm, err := c.connect(ctx, min(idleWarmup, n), 0)
	if err != nil {
		return nil, named("warm-up", err)
	}
	closeAll(warm)
	j := &joinRun{run: newRun(loadConfig{}), c: c, conns: make([]*conn, n), at: make([]int64, n)}
	defer func() { closeAll(j.conns) }()
	before, err := c.meter.read(ctx)
	if err != nil {
		return nil, err
	}
	b.say("create: %d joins, %d at a time", n, createParallel)
	j.latency.recording.Store(true)
	start, since := j.now(), neighboursNow()
	if err := j.all(ctx, b); err != nil {
		return nil, err
	}
	b.trackNeighbours(since)
	after, err := c.meter.read(ctx)
	if err != nil {
		return nil, err
	}
	b.trackSources(c)
	x := createOf(j.at, start)
	x.CPUMicros = float64(after.CPU-before.CPU) / 1e3 / float64(n)
	x.Percentiles = percentilesOf(j.latency.merged())
	return x, nil
}

func (j *joinRun) all(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	for w := range createParallel {
		workers.Go(func() {
			if err := j.worker(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	over := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-over:
				return
			case <-t.C:
				b.say("create: %d joined", j.done.Load())
			}
		}
	})
	workers.Wait()
	close(over)
	reporting.Wait()
	return context.Cause(ctx)
}

func (j *joinRun) worker(ctx context.Context, who int) error {
	api, err := openAPI(ctx, &j.c.endpoint)
	if err != nil {
		return err
	}
	defer api.close()
	for {
		i := int(j.next.Add(1)) - 1
		if i >= len(j.conns) || ctx.Err() != nil {
			return nil
		}
		since := j.now()
		if j.conns[i], err = j.join(ctx, api); err != nil {
			return fmt.Errorf("join %d of %d: %w", i+1, len(j.conns), err)
		}
		now := j.now()
		j.latency.record(who, now, []int64{since})
		j.at[j.done.Add(1)-1] = now
	}
}

func (j *joinRun) join(ctx context.Context, api *apiConn) (*conn, error) {
	token, err := api.login(j.c.rooms.app)
	if err != nil {
		return nil, err
	}
	state, err := api.create(j.c.rooms.app, token)
	if err != nil {
		return nil, err
	}
	e := j.c.endpoint
	e.max = maxMessage
	e.greeting = func(int) []byte { return connectMessage(state, token) }
	c, err := e.open(ctx, 0)
	if err != nil && ctx.Err() != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return c, err
}

// createOf reckons rates and growth from the moments at which joins were complete.
func createOf(at []int64, start int64) *Create {
	n := len(at)
	seconds := func(joins int) float64 { return float64(at[joins-1]-start) / 1e9 }
	x := &Create{Joins: n, Seconds: seconds(n), PerSecond: float64(n) / seconds(n)}
	last := 0
	for last < n {
		mark := last + growthFrom
		if mark > n || n-mark < growthFrom/2 {
			mark = n
		}
		step := Step{Joins: mark, Seconds: seconds(mark), PerSecond: float64(mark) / seconds(mark)}
		step.StepPerSecond = step.PerSecond
		if last > 0 {
			step.StepPerSecond = float64(mark-last) / (seconds(mark) - seconds(last))
		}
		x.Steps = append(x.Steps, step)
		last = mark
	}
	if n >= 2*growthFrom {
		x.Growth = (x.Seconds / float64(n)) / (seconds(growthFrom) / growthFrom)
	}
	return x
}
