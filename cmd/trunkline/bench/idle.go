package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Idle is the memory that connections cost which only exist.
type Idle struct {
	Name  string  `json:"name"`
	Conns int     `json:"conns"`
	Setup float64 `json:"setup_seconds"`
	// Before and After are the resident bytes of the process.
	Before int64 `json:"before_bytes"`
	After  int64 `json:"after_bytes"`
	// PerConn is their difference per connection.
	PerConn float64 `json:"bytes_per_connection"`
	// Collected is the same after a garbage collection, which a Go process that is idle does every two minutes by
	// itself; 0 when it could not be asked for.
	Collected float64 `json:"bytes_per_connection_collected,omitempty"`
}

// idleWarmup is how many connections come and go before memory is read first: code and pools are not the connections'.
const idleWarmup = 200

func (b *bench) idle(ctx context.Context) error {
	s, app, err := b.attach(ctx, false)
	if err != nil {
		return err
	}
	own, err := s.contender("trunkline", app, b.o.PerRoom, b.o.TLS)
	if err != nil {
		return err
	}
	var collect func(context.Context) error
	if s.admin != "" {
		collect = s.collect
	}
	for range b.o.Rounds {
		if err := b.idleOf(ctx, own, b.o.Conns, collect); err != nil {
			return err
		}
	}
	if !b.local(s) {
		return nil
	}
	base, err := b.lab.startFloor(ctx, false, b.o.TLS)
	if err != nil {
		return err
	}
	cs := []*contender{base}
	if b.o.Peers {
		peers, err := b.peers(ctx, base)
		if err != nil {
			return err
		}
		cs = append(cs, peers...)
	}
	for _, c := range cs {
		wish := b.o.Conns
		if c != base {
			wish = min(wish, peerConns)
		}
		if err := b.idleOf(ctx, c, wish, nil); err != nil {
			return err
		}
	}
	return nil
}

// peerConns is what proxies are asked for: each connection takes two of their descriptors.
const peerConns = 8500

// idleOf opens connections to one contender and adds what they cost to the report.
func (b *bench) idleOf(ctx context.Context, c *contender, wish int, collect func(context.Context) error) error {
	n := b.connectionsFor(wish, c)
	warm, err := c.connect(ctx, min(idleWarmup, n), 0)
	if err != nil {
		return named("warm-up", err)
	}
	closeAll(warm)
	x := Idle{Name: c.Name, Conns: n}
	if x.Before, err = b.settled(ctx, c, collect); err != nil {
		return err
	}
	b.say("idle: opening %d connections to %s", n, c.Name)
	start := time.Now()
	conns, err := c.connect(ctx, n, 0)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	x.Setup = time.Since(start).Seconds()
	stop := keep(conns)
	defer stop()
	if x.After, err = b.settled(ctx, c, nil); err != nil {
		return err
	}
	x.PerConn = float64(x.After-x.Before) / float64(n)
	if collect != nil {
		after, err := b.settled(ctx, c, collect)
		if err != nil {
			return err
		}
		x.Collected = float64(after-x.Before) / float64(n)
	}
	b.trackSources(c)
	b.report.Idle = append(b.report.Idle, x)
	b.say("idle: %s %s KiB per connection", c.Name, compact(x.PerConn/1024))
	if ended := stop(); ended > 0 {
		b.note("%s closed %d connections while they were idle", c.Name, ended)
	}
	return nil
}

// settled reads the resident memory after a while of quiet.
func (b *bench) settled(ctx context.Context, c *contender, collect func(context.Context) error) (int64, error) {
	if collect != nil {
		if err := collect(ctx); err != nil {
			b.note("%v; memory is as it was found", err)
		}
	}
	t := time.NewTimer(b.o.Duration)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	u, err := c.meter.read(ctx)
	return u.RSS, err
}

// keep answers pings on all connections until the returned function is called, which says how many had ended before.
func keep(conns []*conn) (stop func() int64) {
	var all sync.WaitGroup
	var stopping atomic.Bool
	var ended atomic.Int64
	for _, c := range conns {
		all.Go(func() {
			for {
				if err := c.read(func([]byte) error { return nil }); err != nil {
					if !stopping.Load() {
						ended.Add(1)
					}
					return
				}
			}
		})
	}
	return sync.OnceValue(func() int64 {
		stopping.Store(true)
		for _, c := range conns {
			c.nc.SetReadDeadline(time.Now())
		}
		all.Wait()
		return ended.Load()
	})
}
