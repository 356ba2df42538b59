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
func (n *Node) sweepEvery(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := n.sweep(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("sweeping the table failed; it is tried again", "err", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sweep proposes what the time has come for.
func (n *Node) sweep(ctx context.Context) error {
	now := n.cfg.Now()
	n.forgetReports(now)
	if err := n.sweepRows(ctx, now); err != nil {
		return err
	}
	if err := n.endSessions(ctx, now); err != nil {
		return err
	}
	return n.removeKeys(ctx, now)
}

// sweepRows removes the rows of instances that have been gone for as long as free rows stay, those of apps being
// deleted, and, when as much time has passed since the start, those that an earlier life of this node left pending or
// tentative: who had asked for them is gone.
func (n *Node) sweepRows(ctx context.Context, now time.Time) error {
	due := n.dueInstances(now)
	deleting := map[wire.AppID]bool{}
	for _, a := range n.table.Deleting() {
		deleting[a.ID] = true
	}
	leftovers := !n.leftovers && now.Sub(n.opened) >= n.cfg.FreeRows
	if len(due) == 0 && len(deleting) == 0 && !leftovers {
		return nil
	}
	err := n.removeRows(ctx, func(s *placement.State) bool {
		return s.Free && (due[s.Instance] || deleting[s.App]) ||
			leftovers && (s.Pending || s.Tentative) && s.Epoch.Index() < uint64(n.self.ID)
	})
	n.leftovers = n.leftovers || leftovers && err == nil
	return err
}

// dueInstances returns the instances that this node has seen gone for long enough.
func (n *Node) dueInstances(now time.Time) map[wire.InstanceID]bool {
	seen, due := map[wire.InstanceID]time.Time{}, map[wire.InstanceID]bool{}
	for _, inst := range n.table.GoneInstances() {
		since, ok := n.gone[inst.ID]
		if !ok {
			since = now
		}
		seen[inst.ID] = since
		if now.Sub(since) >= n.cfg.FreeRows {
			due[inst.ID] = true
		}
	}
	n.gone = seen
	return due
}

// removeRows proposes to remove the rows wanted, some at a time.
func (n *Node) removeRows(ctx context.Context, want func(*placement.State) bool) error {
	var cmds []placement.Command
	for s := range n.table.All() {
		if !want(&s) {
			continue
		}
		cmds = append(cmds, &placement.Remove{App: s.App, State: s.State, Epoch: s.Epoch})
		if len(cmds) == sweepAtOnce {
			if err := n.removeSome(ctx, cmds); err != nil {
				return err
			}
			cmds = nil
		}
	}
	return n.removeSome(ctx, cmds)
}

func (n *Node) removeSome(ctx context.Context, cmds []placement.Command) error {
	results, err := n.many(ctx, cmds)
	for _, r := range results {
		if r.Outcome == placement.Done {
			n.counts.swept.Add(1)
		}
	}
	return err
}

// endSessions ends earlier lives of nodes that no instance is attached to any more.
func (n *Node) endSessions(ctx context.Context, now time.Time) error {
	attached := map[wire.NodeSession]bool{n.self.ID: true}
	for _, inst := range n.table.AllInstances() {
		attached[inst.Node] = true
	}
	for _, s := range n.table.Sessions() {
		if attached[s.ID] {
			continue
		}
		if _, err := n.one(ctx, &placement.EndSession{Session: s.ID, At: now.Unix()}); err != nil {
			return err
		}
	}
	return nil
}

// removeKeys removes keys whose tokens have all expired.
func (n *Node) removeKeys(ctx context.Context, now time.Time) error {
	for _, k := range n.table.Keys() {
		if k.Retired == 0 || now.Sub(time.Unix(k.Retired, 0)) < n.cfg.KeyRetention {
			continue
		}
		if _, err := n.one(ctx, &placement.RemoveKey{ID: k.ID}); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) forgetReports(now time.Time) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	for id, r := range n.loads.of {
		if now.Sub(r.at) > reportLife {
			delete(n.loads.of, id)
		}
	}
}
