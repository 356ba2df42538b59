package bench

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// creator makes one state and returns when it is there. It belongs to one goroutine.
type creator func(ctx context.Context) error

// createLoad keeps every creator busy or, with a rate, shares out creates among them by the clock; then the time that one
// waits for a free creator is part of its latency. The rate is that of all creators together.
func createLoad(ctx context.Context, creators []creator, cfg loadConfig, m meter) (Cell, error) {
	r := newRun(cfg)
	var all sync.WaitGroup
	var due chan int64
	stop := make(chan struct{})
	if cfg.rate > 0 {
		due = make(chan int64, flightLimit)
		all.Go(func() {
			defer close(due)
			if err := r.paceCreates(due, stop); err != nil {
				r.fail(err)
			}
		})
	}
	for i, create := range creators {
		all.Go(func() {
			if err := r.create(ctx, create, i, due); err != nil {
				r.fail(err)
			}
		})
	}
	cell, err := r.measure(ctx, m)
	r.stopping.Store(true)
	close(stop)
	all.Wait()
	cell.Skipped = r.skipped.Load()
	return cell, err
}

// create makes states one after the other until the run stops.
func (r *run) create(ctx context.Context, create creator, who int, due <-chan int64) error {
	one := func(since int64) error {
		if err := create(ctx); err != nil {
			return fmt.Errorf("creator %d: %w", who+1, err)
		}
		r.latency.record(who, r.now(), []int64{since})
		r.answered.add(who, 1)
		return nil
	}
	if due == nil {
		for !r.stopping.Load() {
			if err := one(r.now()); err != nil {
				return err
			}
		}
		return nil
	}
	for moment := range due {
		if r.stopping.Load() {
			continue // nobody has begun it
		}
		if err := one(moment); err != nil {
			return err
		}
	}
	return nil
}

// paceCreates hands out the moments at which creates are due, until stopped.
func (r *run) paceCreates(due chan<- int64, stop <-chan struct{}) error {
	clock, err := newTicker(min(max(time.Duration(float64(time.Second)/r.cfg.rate), pacerTickMin), pacerTickMax))
	if err != nil {
		return fmt.Errorf("pacer: %w", err)
	}
	defer clock.close()
	s := newSchedule(r.now(), r.cfg.rate)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := clock.wait(); err != nil {
			return fmt.Errorf("pacer: %w", err)
		}
		s.due(r.now(), func(_, moment int64) {
			select {
			case due <- moment:
			default:
				r.skipped.Add(1)
			}
		})
	}
}

// createRounds measures full load and then half of what it gave, in each round.
func createRounds(ctx context.Context, o options, creators []creator, m meter) (full, half []Cell, err error) {
	cfg := loadConfig{warmup: o.Warmup, duration: o.Duration}
	for range o.Rounds {
		cfg.rate = 0
		f, err := createLoad(ctx, creators, cfg, m)
		if err != nil {
			return nil, nil, err
		}
		cfg.rate = f.PerSecond / 2
		h, err := createLoad(ctx, creators, cfg, m)
		if err != nil {
			return nil, nil, err
		}
		full, half = append(full, f), append(half, h)
	}
	return full, half, nil
}
