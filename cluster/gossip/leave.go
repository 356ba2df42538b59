package gossip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// goodbye is how long members that do not take the goodbye are waited for.
	goodbye = time.Second
	// spread is how long the news that this node left may take to go out.
	spread  = 5 * time.Second
	tellers = 16
)

// farewell is a wish to leave; its answer comes through done, which has room for it.
type farewell struct {
	ctx  context.Context
	done chan error
}

// Leave tells the others that this node goes, so that they list it as left and not as dead. Run goes on, answers probes
// and joins nobody any more; end it afterwards. A second Leave does nothing.
func (g *Gossip) Leave(ctx context.Context) error {
	wish := farewell{ctx, make(chan error, 1)}
	if !g.started.Load() {
		return fmt.Errorf("leave gossip: %w", ErrNotRunning)
	}
	select {
	case g.leave <- wish:
	case <-g.over:
		return fmt.Errorf("leave gossip: %w", ErrNotRunning)
	case <-ctx.Done():
		return fmt.Errorf("leave gossip: %w", context.Cause(ctx))
	}
	select {
	case err := <-wish.done:
		return err
	case <-g.over:
		return fmt.Errorf("leave gossip: %w", ErrNotRunning)
	case <-ctx.Done():
		return fmt.Errorf("leave gossip: %w", context.Cause(ctx))
	}
}

// depart says goodbye when it is asked to. What it starts ends before it does.
func (g *Gossip) depart(ctx context.Context) error {
	var telling errgroup.Group
	telling.SetLimit(tellers)
	for {
		select {
		case wish := <-g.leave:
			if g.left.CompareAndSwap(false, true) {
				g.listing.leaving(g.cfg.Name)
				g.tell(ctx, wish.ctx, &telling)
				wish.done <- g.quit(wish.ctx)
			} else {
				wish.done <- nil
			}
		case <-ctx.Done():
			return telling.Wait()
		}
	}
}

// tell sends the goodbye to every member. memberlist's own news of a leave looks to our hooks like a death.
func (g *Gossip) tell(run, wish context.Context, telling *errgroup.Group) {
	others := g.others()
	told := make(chan struct{}, len(others))
	enough := time.NewTimer(goodbye)
	defer enough.Stop()
	b := appendHead(nil, kindLeaving, g.cfg.Name)
	waiting := 0
	for _, m := range others {
		if telling.TryGo(func() error {
			_ = g.list.SendReliable(m.node(), b) // who cannot be told finds out by itself
			told <- struct{}{}
			return nil
		}) {
			waiting++
			continue
		}
		_ = g.list.SendBestEffort(m.node(), b)
	}
	for ; waiting > 0; waiting-- {
		select {
		case <-told:
		case <-enough.C:
			return
		case <-run.Done():
			return
		case <-wish.Done():
			return
		}
	}
}

// quit has memberlist spread the news.
func (g *Gossip) quit(wish context.Context) error {
	limit := spread
	if until, ok := wish.Deadline(); ok {
		limit = min(limit, time.Until(until))
	}
	if limit <= 0 {
		return fmt.Errorf("leave gossip: %w", context.Cause(wish))
	}
	if err := g.list.Leave(limit); err != nil {
		return errors.Join(errors.New("leave gossip"), err)
	}
	return nil
}
