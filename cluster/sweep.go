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
	if err := l.sweepRows(ctx, now); err != nil {
		return err
	}
	if err := l.endSessions(ctx, now); err != nil {
		return err
	}
	return l.removeKeys(ctx, now)
}

// sweepRows removes the rows of instances that have been gone for as long as free rows stay, those of apps being
// deleted, and, when as much time has passed since the start, those that an earlier life of this node left pending or
// tentative: who had asked for them is gone.
func (l *Local) sweepRows(ctx context.Context, now time.Time) error {
	due := l.dueInstances(now)
	deleting := map[wire.AppID]bool{}
	for _, a := range l.table.Deleting() {
		deleting[a.ID] = true
	}
	leftovers := !l.leftovers && now.Sub(l.opened) >= l.cfg.FreeRows
	if len(due) == 0 && len(deleting) == 0 && !leftovers {
		return nil
	}
	err := l.removeRows(ctx, func(s *placement.State) bool {
		return s.Free && (due[s.Instance] || deleting[s.App]) ||
			leftovers && (s.Pending || s.Tentative) && s.Epoch.Index() < uint64(l.self.ID)
	})
	l.leftovers = l.leftovers || leftovers && err == nil
	return err
}

// dueInstances returns the instances that this node has seen gone for long enough.
func (l *Local) dueInstances(now time.Time) map[wire.InstanceID]bool {
	seen, due := map[wire.InstanceID]time.Time{}, map[wire.InstanceID]bool{}
	for _, inst := range l.table.GoneInstances() {
		since, ok := l.gone[inst.ID]
		if !ok {
			since = now
		}
		seen[inst.ID] = since
		if now.Sub(since) >= l.cfg.FreeRows {
			due[inst.ID] = true
		}
	}
	l.gone = seen
	return due
}

// removeRows proposes to remove the rows wanted, some at a time.
func (l *Local) removeRows(ctx context.Context, want func(*placement.State) bool) error {
	var cmds []placement.Command
	for s := range l.table.All() {
		if !want(&s) {
			continue
		}
		cmds = append(cmds, &placement.Remove{App: s.App, State: s.State, Epoch: s.Epoch})
		if len(cmds) == sweepAtOnce {
			if err := l.removeSome(ctx, cmds); err != nil {
				return err
			}
			cmds = nil
		}
	}
	return l.removeSome(ctx, cmds)
}

func (l *Local) removeSome(ctx context.Context, cmds []placement.Command) error {
	results, err := l.many(ctx, cmds)
	for _, r := range results {
		if r.Outcome == placement.Done {
			l.counts.swept.Add(1)
		}
	}
	return err
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
