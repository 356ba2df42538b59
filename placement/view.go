package placement

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/subtle"
	"encoding/json"
	"iter"
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

// view returns the content under the read lock and what gives the lock back.
func (t *Table) view() (*content, func()) {
	t.mu.RLock()
	return t.content.Load(), t.mu.RUnlock
}

func (c *content) instance(slot uint32) Instance {
	inst := *c.instances.get(slot)
	inst.Rows = c.rowsOf[slot]
	return inst
}

// Instance returns an instance; one that is gone stays known while it has rows.
func (t *Table) Instance(id wire.InstanceID) (Instance, bool) {
	c, done := t.view()
	defer done()
	slot, ok := c.byID[id]
	if !ok {
		return Instance{}, false
	}
	return c.instance(slot), true
}

// Named returns the live instance that a registration of this name belongs to. Legacy ones have no incarnation.
func (t *Table) Named(app wire.AppID, storeID string, native bool, incarnation [16]byte) (Instance, bool) {
	c, done := t.view()
	defer done()
	slot, ok := c.byName[instanceName{app: app, storeID: storeID, native: native, incarnation: incarnation}]
	if !ok {
		return Instance{}, false
	}
	return c.instance(slot), true
}

// Instances returns the live instances of an app, oldest first.
func (t *Table) Instances(app wire.AppID) []Instance {
	c, done := t.view()
	defer done()
	e := c.dir.find(app)
	if e == nil {
		return nil
	}
	out := make([]Instance, 0, len(e.live))
	for _, slot := range e.live {
		out = append(out, c.instance(slot))
	}
	return out
}

// AllInstances returns the live instances of all apps, oldest first.
func (t *Table) AllInstances() []Instance {
	return t.instances(func(i *Instance) bool { return !i.Gone })
}

// GoneInstances returns the instances that are gone and still have rows, oldest first.
func (t *Table) GoneInstances() []Instance {
	return t.instances(func(i *Instance) bool { return i.Gone })
}

func (t *Table) instances(want func(*Instance) bool) []Instance {
	c, done := t.view()
	defer done()
	var out []Instance
	for _, slot := range c.byID {
		if want(c.instances.get(slot)) {
			out = append(out, c.instance(slot))
		}
	}
	slices.SortFunc(out, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Candidates appends to dst what Choose needs to know of the live instances of an app, oldest first.
func (t *Table) Candidates(app wire.AppID, dst []Candidate) []Candidate {
	c, done := t.view()
	defer done()
	e := c.dir.find(app)
	if e == nil {
		return dst
	}
	for _, slot := range e.live {
		inst := c.instances.get(slot)
		dst = append(dst, Candidate{
			ID: inst.ID, StoreID: inst.StoreID, Region: inst.Region, Capacity: inst.Capacity,
			Rows: c.rowsOf[slot], Draining: inst.Draining,
		})
	}
	return dst
}

// App returns an app: listed by an operator, or known because an instance registered it. One that is being deleted is
// not returned.
func (t *Table) App(id wire.AppID) (App, bool) {
	c, done := t.view()
	defer done()
	e := c.dir.find(id)
	if e == nil || e.deleting {
		return App{}, false
	}
	return e.app(), true
}

// Apps returns all apps in the order of their ids.
func (t *Table) Apps() []App {
	return t.apps(func(e *tenant) bool { return !e.deleting })
}

// Deleting returns the apps that are being deleted and still have rows.
func (t *Table) Deleting() []App {
	return t.apps(func(e *tenant) bool { return e.deleting })
}

// Owner returns the listed app that has a secret with this SHA-256. It looks at every secret and copies no app: anybody
// may make a node ask.
func (t *Table) Owner(hash [32]byte) (app wire.AppID, ok bool) {
	c, done := t.view()
	defer done()
	for _, e := range c.tenants.values() {
		if e == nil || !e.listed || e.deleting {
			continue
		}
		for i := range e.secrets {
			if subtle.ConstantTimeCompare(e.secrets[i][:], hash[:]) == 1 {
				app, ok = e.id, true
			}
		}
	}
	return app, ok
}

func (t *Table) apps(want func(*tenant) bool) []App {
	c, done := t.view()
	defer done()
	var out []App
	for _, e := range c.tenants.values() {
		if e != nil && want(e) {
			out = append(out, e.app())
		}
	}
	slices.SortFunc(out, func(a, b App) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Login returns the login configuration of an app, a JSON object: the pinned one; or the union over its live
// instances, where the younger instance wins a name that two of them have; or that of the last one that lived.
// nil: none. A configuration that is not a JSON object counts as none.
func (t *Table) Login(app wire.AppID) json.RawMessage {
	c, done := t.view()
	e := c.dir.find(app)
	if e == nil || e.deleting {
		done()
		return nil
	}
	parts := make([]json.RawMessage, 0, len(e.live))
	for _, slot := range e.live {
		parts = append(parts, c.instances.get(slot).Login)
	}
	pinned, last := e.settings.PinnedLogin, e.lastLogin
	done()
	switch {
	case len(pinned) > 0:
		return pinned
	case len(parts) == 0:
		parts = append(parts, last)
	}
	return union(parts)
}

func union(parts []json.RawMessage) json.RawMessage {
	all := map[string]json.RawMessage{}
	for _, p := range parts {
		var one map[string]json.RawMessage
		if json.Unmarshal(p, &one) != nil {
			continue
		}
		for name, conf := range one {
			all[name] = conf
		}
	}
	if len(all) == 0 {
		return nil
	}
	out, err := json.Marshal(all)
	if err != nil {
		return nil // the parts were JSON a moment ago
	}
	return out
}

// lowest is a heap whose top is the highest state kept so far.
type lowest []State

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i].State > h[j].State }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(x any)        { *h = append(*h, x.(State)) }
func (h *lowest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// States returns the first limit rows of an app in the order of their ids, from the one given on. It looks at every
// row of the table: for listings, not for the data path.
func (t *Table) States(app wire.AppID, from wire.StateID, limit int) []State {
	var kept lowest
	for s := range t.All() {
		if s.App != app || s.State < from || limit <= 0 || len(kept) == limit && s.State > kept[0].State {
			continue
		}
		heap.Push(&kept, s)
		if len(kept) > limit {
			heap.Pop(&kept)
		}
	}
	slices.SortFunc(kept, func(a, b State) int { return cmp.Compare(a.State, b.State) })
	return kept
}

// All yields every row, in no order, those of apps being deleted included. Each of 1,024 parts is seen as of one
// moment and yielded without a lock, so the table may be changed meanwhile.
func (t *Table) All() iter.Seq[State] {
	return func(yield func(State) bool) {
		var part []State
		for i := range shardCount {
			part = t.part(i, part[:0])
			for _, s := range part {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (t *Table) part(i int, dst []State) []State {
	c, done := t.view()
	defer done()
	c.shards[i].block.Load().each(func(r stored) {
		dst = append(dst, State{App: c.tenants.get(r.app).id, State: r.state})
		c.join(&r, &dst[len(dst)-1].Row)
	})
	return dst
}

// Stats counts what is in the table.
type Stats struct {
	Rows, Apps, Instances, Gone, Sessions, Keys int
}

// Stats returns the counts of one moment. Gone instances are those that still have rows.
func (t *Table) Stats() Stats {
	c, done := t.view()
	defer done()
	return Stats{
		Rows: c.rows, Apps: c.dir.live, Instances: len(c.byName), Gone: len(c.byID) - len(c.byName),
		Sessions: len(c.sessions), Keys: len(c.keys),
	}
}
