package cluster

import (
	"context"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// sweepAtOnce bounds the rows removed by one proposal, so that sweeping delays nobody for long.
const sweepAtOnce = 1000

// sweeper removes what is left over, and is what a leader remembers between sweeps.
type sweeper struct {
	*Node
	gone map[wire.InstanceID]time.Time // since when it has seen them gone
	// oldest is the oldest open session, since when it has been that, and whether what older ones left is removed.
	oldest wire.NodeSession
	since  time.Time
	swept  bool
}

// sweepEvery removes what is left over, while this node leads: the table has no clock, so somebody who has one proposes it.
func (n *Node) sweepEvery(ctx context.Context, every time.Duration) error {
	s := &sweeper{Node: n}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("sweeping the table failed; it is tried again", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sweep proposes what the time has come for.
func (s *sweeper) sweep(ctx context.Context) error {
	now := s.cfg.Now()
	s.forgetReports(now)
	if err := s.sweepRows(ctx, now); err != nil {
		return err
	}
	return s.removeKeys(ctx, now)
}

// sweepRows removes the rows of instances that have been gone for as long as free rows stay, those of apps being
// deleted, and those left pending or tentative from before the oldest open session: whoever had asked for them is gone.
func (s *sweeper) sweepRows(ctx context.Context, now time.Time) error {
	due := s.dueInstances(now)
	deleting := map[wire.AppID]bool{}
	for _, a := range s.table.Deleting() {
		deleting[a.ID] = true
	}
	leftovers := s.leftBehind(now)
	if len(due) == 0 && len(deleting) == 0 && !leftovers {
		return nil
	}
	err := s.removeRows(ctx, func(row *placement.State) bool {
		return row.Free && (due[row.Instance] || deleting[row.App]) ||
			leftovers && (row.Pending || row.Tentative) && row.Epoch.Index() < uint64(s.oldest)
	})
	s.swept = s.swept || leftovers && err == nil
	return err
}

// leftBehind says whether it is time to remove what sessions that are over have left.
func (s *sweeper) leftBehind(now time.Time) bool {
	open := s.table.Sessions()
	if len(open) == 0 {
		return false
	}
	if open[0].ID != s.oldest {
		s.oldest, s.since, s.swept = open[0].ID, now, false
	}
	return !s.swept && now.Sub(s.since) >= s.cfg.FreeRows
}

// dueInstances returns the instances that this leader has seen gone for long enough.
func (s *sweeper) dueInstances(now time.Time) map[wire.InstanceID]bool {
	seen, due := map[wire.InstanceID]time.Time{}, map[wire.InstanceID]bool{}
	for _, inst := range s.table.GoneInstances() {
		since, ok := s.gone[inst.ID]
		if !ok {
			since = now
		}
		seen[inst.ID] = since
		if now.Sub(since) >= s.cfg.FreeRows {
			due[inst.ID] = true
		}
	}
	s.gone = seen
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
