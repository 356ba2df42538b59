package placement

import (
	"fmt"

	"github.com/trunkline-edge/trunkline/wire"
)

// check compares everything that the table counts with what there is.
func (c *content) check() error {
	rows, states, perInstance, taints := 0, map[uint32]int{}, map[uint32]int{}, map[uint32]int{}
	for i := range c.shards {
		s, used := &c.shards[i], 0
		s.block.Load().each(func(r stored) {
			used++
			states[r.app]++
			perInstance[r.instance]++
			if r.taint != 0 {
				taints[r.taint]++
			}
		})
		if used != s.used {
			return fmt.Errorf("shard %d has %d rows and counts %d", i, used, s.used)
		}
		rows += used
	}
	if rows != c.rows {
		return fmt.Errorf("%d rows, counted %d", rows, c.rows)
	}
	for slot, n := range c.rowsOf {
		if n != perInstance[uint32(slot)] {
			return fmt.Errorf("instance slot %d has %d rows, counted %d", slot, perInstance[uint32(slot)], n)
		}
	}
	for storeID, ref := range c.taintOf {
		if taints[ref.slot] != ref.rows || ref.rows == 0 || *c.taints.get(ref.slot) != storeID {
			return fmt.Errorf("taint %q has %d rows, counted %d", storeID, taints[ref.slot], ref.rows)
		}
	}
	live, ghosts := map[wire.AppID]int{}, map[wire.AppID]int{}
	for id, slot := range c.byID {
		inst := c.instances.get(slot)
		switch {
		case inst == nil || inst.ID != id:
			return fmt.Errorf("instance %d is not in its slot", id)
		case inst.Gone && perInstance[slot] == 0:
			return fmt.Errorf("instance %d is gone, has no rows and is remembered", id)
		case inst.Gone:
			ghosts[inst.App]++
		case c.byName[nameOf(inst)] != slot:
			return fmt.Errorf("instance %d is not found by its name", id)
		default:
			live[inst.App]++
		}
	}
	if err := c.checkRequests(); err != nil {
		return err
	}
	idle, apps := 0, 0
	for _, e := range c.tenants.values() {
		if e == nil {
			continue
		}
		apps++
		if e.idleSince != 0 {
			idle++
		}
		if e.states != states[e.slot] || len(e.live) != live[e.id] || e.ghosts != ghosts[e.id] || c.dir.find(e.id) != e {
			return fmt.Errorf("app %s: %d states, %d live, %d ghosts do not match", e.id, e.states, len(e.live), e.ghosts)
		}
		if e.idle() && (e.deleting || e.idleSince == 0) {
			return fmt.Errorf("app %s: nothing is left of it and it is not forgotten", e.id)
		}
	}
	if idle != c.idle || apps != c.dir.live {
		return fmt.Errorf("%d idle of %d apps, counted %d of %d", idle, apps, c.idle, c.dir.live)
	}
	return nil
}

func (c *content) checkRequests() error {
	for session, q := range c.requests {
		if c.sessionIndex(session) < 0 {
			return fmt.Errorf("requests of session %d, which is over, are remembered", session)
		}
		bytes, last := 0, q.forgotten
		for _, m := range q.list {
			if m.counter <= last {
				return fmt.Errorf("session %d remembers request %d after %d", session, m.counter, last)
			}
			last, bytes = m.counter, bytes+len(m.answers)
		}
		if bytes != q.bytes || bytes > maxAnswers || len(q.list) > MaxRequests {
			return fmt.Errorf("session %d remembers %d requests of %d bytes, counted %d", session, len(q.list), bytes, q.bytes)
		}
	}
	return nil
}
