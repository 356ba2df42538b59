package cluster

import (
	"context"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// sweepAtOnce bounds the rows removed by one proposal, so that sweeping delays nobody for long.
const sweepAtOnce = 1000

// sweepEvery removes what is left over: the table has no clock, so somebody who has one proposes it.
func (l *Local) sweepEvery(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.sweep(ctx); err != nil && ctx.Err() == nil {
				l.log.Error("sweeping the table failed; it is tried again", "err", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sweep proposes what the time has come for.
func (l *Local) sweep(ctx context.Context) error {
	now := l.cfg.Now()
	l.forgetReports(now)
	if err := l.sweepInstances(ctx, now); err != nil {
		return err
	}
	for _, a := range l.table.Deleting() {
		if err := l.sweepApp(ctx, a.ID); err != nil {
			return err
		}
	}
	if err := l.endSessions(ctx, now); err != nil {
		return err
	}
	return l.removeKeys(ctx, now)
}

// sweepInstances removes the rows of instances that have been gone for as long as free rows stay.
func (l *Local) sweepInstances(ctx context.Context, now time.Time) error {
	seen := make(map[wire.InstanceID]time.Time, len(l.gone))
	for _, inst := range l.table.GoneInstances() {
		since, ok := l.gone[inst.ID]
		if !ok {
			since = now
		}
		seen[inst.ID] = since
	}
	l.gone = seen
	for id, since := range seen {
		if now.Sub(since) < l.cfg.FreeRows {
			continue
		}
		inst, ok := l.table.Instance(id)
		if !ok {
			continue
		}
		if err := l.removeAll(ctx, inst.App, func() []placement.State { return l.table.StatesOf(id, sweepAtOnce) }); err != nil {
			return err
		}
	}
	return nil
}

// sweepApp removes the rows of an app that is being deleted.
func (l *Local) sweepApp(ctx context.Context, app wire.AppID) error {
	return l.removeAll(ctx, app, func() []placement.State { return l.table.States(app, 0, sweepAtOnce) })
}

// removeAll removes rows as long as next finds some.
func (l *Local) removeAll(ctx context.Context, app wire.AppID, next func() []placement.State) error {
	for {
		states := next()
		var cmds []placement.Command
		for _, s := range states {
			if s.Free {
				cmds = append(cmds, &placement.Remove{App: app, State: s.State, Epoch: s.Epoch})
			}
		}
		if len(cmds) == 0 {
			return nil
		}
		results, err := l.many(ctx, cmds)
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Outcome == placement.Done {
				l.counts.swept.Add(1)
			}
		}
	}
}

// endSessions ends earlier lives of nodes that no instance is attached to any more.
func (l *Local) endSessions(ctx context.Context, now time.Time) error {
	attached := map[wire.NodeSession]bool{l.self.ID: true}
	for _, inst := range l.table.AllInstances() {
		attached[inst.Node] = true
	}
	for _, s := range l.table.Sessions() {
		if attached[s.ID] {
			continue
		}
		if _, err := l.one(ctx, &placement.EndSession{Session: s.ID, At: now.Unix()}); err != nil {
			return err
		}
	}
	return nil
}

// removeKeys removes keys whose tokens have all expired.
func (l *Local) removeKeys(ctx context.Context, now time.Time) error {
	for _, k := range l.table.Keys() {
		if k.Retired == 0 || now.Sub(time.Unix(k.Retired, 0)) < l.cfg.KeyRetention {
			continue
		}
		if _, err := l.one(ctx, &placement.RemoveKey{ID: k.ID}); err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) forgetReports(now time.Time) {
	l.loads.mu.Lock()
	defer l.loads.mu.Unlock()
	for id, r := range l.loads.of {
		if now.Sub(r.at) > reportLife {
			delete(l.loads.of, id)
		}
	}
}
