package placement

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// MaxInstances bounds the instances of an app, those that are gone and still have rows included.
	MaxInstances = 10_000

	maxSessions = 4096
	maxNodes    = 1 << 16
	// Unlisted apps of which nothing but a login configuration is left: beyond maxIdle the longest idle are forgotten,
	// sweepIdle more at once than needed so that not every newcomer has to look for one.
	maxIdle   = 4096
	sweepIdle = 256
)

// instanceName is what a registration finds its instance by. Legacy instances have no incarnation.
type instanceName struct {
	app         wire.AppID
	storeID     string
	native      bool
	incarnation [16]byte
}

func nameOf(i *Instance) instanceName {
	return instanceName{app: i.App, storeID: i.StoreID, native: i.Native, incarnation: i.Incarnation}
}

type nodeRecord struct {
	number, boot uint32
	key          [32]byte // zero: not bound yet
	revoked      bool
}

type taintRef struct {
	slot uint32
	rows int
}

// content is everything a table says. Readers without a lock go through dir, shards, instances and taints; all else is
// guarded by the Table's lock. A restored table is another content.
type content struct {
	shards    [shardCount]shard // first, so that none lies across two cache lines
	seed      seed
	dir       directory
	tenants   slots[tenant]
	instances slots[Instance] // values are never changed, only replaced
	taints    slots[string]

	cluster  ClusterInfo // generation 0: not formed
	macKey   [32]byte
	index    uint64
	byID     map[wire.InstanceID]uint32
	byName   map[instanceName]uint32
	rowsOf   []int // rows by instance slot
	taintOf  map[string]*taintRef
	sessions []Session // oldest first
	nodes    map[string]nodeRecord
	keys     map[string]Key
	requests map[wire.NodeSession]*requests // of open sessions that made any
	idle     int                            // tenants with idleSince != 0
	rows     int

	sessionAt, registerAt uint64 // the last index that opened a session, that registered a new instance
	noted                 []Change
	group                 group  // of the entry being applied
	answers               []byte // room for its results
}

func newContent() *content {
	return &content{
		byID:     map[wire.InstanceID]uint32{},
		byName:   map[instanceName]uint32{},
		taintOf:  map[string]*taintRef{},
		nodes:    map[string]nodeRecord{},
		keys:     map[string]Key{},
		requests: map[wire.NodeSession]*requests{},
	}
}

func (c *content) note(ch Change) {
	ch.Index = c.index
	c.noted = append(c.noted, ch)
}

// lookup is Table.Lookup: no lock, no allocation.
func (c *content) lookup(app wire.AppID, state wire.StateID) (out Row, ok bool) {
	e := c.dir.find(app)
	if e == nil {
		return Row{}, false
	}
	hash := c.seed.hash(e.key, state)
	s := &c.shards[shardOf(hash)]
	for try := 0; ; try++ {
		row, found, version := s.peek(hash, e.slot, state)
		if found {
			c.join(&row, &out)
		}
		if s.settled(version) {
			break
		}
		yield(try)
		out.Epoch = 0
	}
	if out.Epoch == 0 || e.dead.Load() {
		return Row{}, false
	}
	return out, true
}

// join fills out with a row and its instance. The caller checks afterwards that the row still stood; if it did not,
// out may be anything.
func (c *content) join(r *stored, out *Row) {
	inst := c.instances.get(r.instance)
	if inst == nil {
		return
	}
	*out = Row{
		Instance: inst.ID, Node: inst.Node, Epoch: r.epoch, Gen: inst.Gen, Native: inst.Native,
		Pending: r.flags&flagPending != 0, Tentative: r.flags&flagTentative != 0, Free: inst.Gone,
	}
	if r.taint != 0 {
		if t := c.taints.get(r.taint); t != nil {
			out.Taint = *t
		}
	}
}

// row returns the app's tenant, nil when there is none, and the row of a state.
func (c *content) row(app wire.AppID, state wire.StateID) (*tenant, stored, bool) {
	e := c.dir.find(app)
	if e == nil {
		return nil, stored{}, false
	}
	hash := c.seed.hash(e.key, state)
	row, ok := c.shards[shardOf(hash)].get(hash, e.slot, state)
	return e, row, ok
}

// hashOf is the writer's.
func (c *content) hashOf(r stored) uint64 { return c.seed.hash(c.tenants.get(r.app).key, r.state) }

func (c *content) putRow(r stored) { c.shards[shardOf(c.hashOf(r))].put(c, r) }

func (c *content) addRow(e *tenant, r stored) {
	c.putRow(r)
	c.rows++
	e.states++
	c.rowsOf[r.instance]++
	c.note(Change{Kind: RowChanged, App: e.id, State: r.state, Instance: c.instances.get(r.instance).ID})
}

func (c *content) dropRow(r stored) {
	c.shards[shardOf(c.hashOf(r))].remove(c, r)
	c.rows--
	c.untaint(r.taint)
	e := c.tenants.get(r.app)
	e.states--
	c.rowsOf[r.instance]--
	c.forget(r.instance)
}

func (c *content) addTenant(id wire.AppID) *tenant {
	e := &tenant{id: id, key: binary.LittleEndian.Uint64(id[:])}
	e.slot = c.tenants.add(e)
	c.dir.add(e)
	return e
}

func (c *content) dropTenant(e *tenant) {
	c.dir.remove(e)
	c.tenants.drop(e.slot)
}

// settle is called when an app lost an instance for good. It drops a deleted app that nothing is left of, and starts
// the memory of an unlisted one.
func (c *content) settle(e *tenant) {
	switch {
	case !e.idle() || e.idleSince != 0:
	case e.deleting:
		c.dropTenant(e)
	case len(e.lastLogin) == 0:
		c.dropTenant(e)
		c.note(Change{Kind: AppRemoved, App: e.id})
	default:
		e.idleSince = c.index
		if c.idle++; c.idle > maxIdle {
			c.trimIdle()
		}
	}
}

// wake ends the idleness of an app.
func (c *content) wake(e *tenant) {
	if e.idleSince != 0 {
		e.idleSince = 0
		c.idle--
	}
}

// trimIdle forgets the longest idle of more than maxIdle idle apps.
func (c *content) trimIdle() {
	var idle []*tenant
	for _, e := range c.tenants.values() {
		if e != nil && e.idleSince != 0 {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *tenant) int {
		return cmp.Or(cmp.Compare(a.idleSince, b.idleSince), bytes.Compare(a.id[:], b.id[:]))
	})
	for _, e := range idle[:len(idle)-maxIdle+sweepIdle] {
		c.wake(e)
		c.dropTenant(e)
		c.note(Change{Kind: AppRemoved, App: e.id})
	}
}

func (c *content) addInstance(inst *Instance) uint32 {
	slot := c.instances.add(inst)
	for int(slot) >= len(c.rowsOf) {
		c.rowsOf = append(c.rowsOf, 0)
	}
	c.byID[inst.ID] = slot
	if !inst.Gone {
		c.byName[nameOf(inst)] = slot
	}
	return slot
}

// liveSlot returns the slot of an instance that is not gone.
func (c *content) liveSlot(id wire.InstanceID) (uint32, bool) {
	slot, ok := c.byID[id]
	if !ok || c.instances.get(slot).Gone {
		return 0, false
	}
	return slot, true
}

// attachedTo returns the live instances of the node sessions named, oldest first.
func (c *content) attachedTo(sessions map[wire.NodeSession]bool) []wire.InstanceID {
	var ids []wire.InstanceID
	for _, slot := range c.byName {
		if inst := c.instances.get(slot); sessions[inst.Node] {
			ids = append(ids, inst.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (c *content) sessionIndex(id wire.NodeSession) int {
	return slices.IndexFunc(c.sessions, func(s Session) bool { return s.ID == id })
}

// taint returns a slot for a storeId and counts one more row that uses it.
func (c *content) taint(storeID string) uint32 {
	ref := c.taintOf[storeID]
	if ref == nil {
		storeID = strings.Clone(storeID)
		ref = &taintRef{slot: c.taints.add(&storeID)}
		c.taintOf[storeID] = ref
	}
	ref.rows++
	return ref.slot
}

// untaint gives one use of a taint back.
func (c *content) untaint(slot uint32) {
	if slot == 0 {
		return
	}
	storeID := *c.taints.get(slot)
	ref := c.taintOf[storeID]
	if ref.rows--; ref.rows == 0 {
		delete(c.taintOf, storeID)
		c.taints.drop(slot)
	}
}
