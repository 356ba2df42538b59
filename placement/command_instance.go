package placement

import (
	"encoding/json"
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

// Register attaches an instance to a node. The live instance of the same name, for native ones with the same
// incarnation, is attached again: gen one higher, its rows untouched. Otherwise it is a new instance, one per index.
// An app nobody has listed becomes known by it.
type Register struct {
	App         wire.AppID
	StoreID     string
	Native      bool
	Incarnation [16]byte // zero exactly when legacy
	Region      string
	Capacity    uint32
	Login       json.RawMessage // not looked into
	Node        wire.NodeSession
	// Replace and ReplaceGen are the attachment that a legacy registration takes over.
	Replace    wire.InstanceID
	ReplaceGen wire.Gen
}

// Kind returns KindRegister.
func (*Register) Kind() Kind { return KindRegister }

func (g *Register) append(dst []byte) []byte {
	dst = appendText(append(dst, g.App[:]...), g.StoreID)
	dst = append(appendBool(dst, g.Native), g.Incarnation[:]...)
	dst = appendU32(appendText(dst, g.Region), g.Capacity)
	dst = appendU64(appendText(dst, g.Login), g.Node)
	return appendU32(appendU64(dst, g.Replace), g.ReplaceGen)
}

func (g *Register) decode(r *reader) {
	g.App, g.StoreID = r.app(), r.text(MaxStoreID)
	g.Native, g.Incarnation = r.bool(), r.id128()
	g.Region, g.Capacity = r.text(MaxRegion), r.u32()
	g.Login, g.Node = r.bytes(MaxLogin), r.node()
	g.Replace, g.ReplaceGen = r.inst(), wire.Gen(r.u32())
}

func (g *Register) apply(c *content, index uint64) Result {
	switch {
	case g.StoreID == "" || g.Native == (g.Incarnation == [16]byte{}):
		return Result{Outcome: Refused}
	case c.sessionIndex(g.Node) < 0:
		return Result{Outcome: Stale}
	}
	name := instanceName{app: g.App, storeID: g.StoreID, native: g.Native, incarnation: g.Incarnation}
	if slot, ok := c.byName[name]; ok {
		return g.again(c, slot)
	}
	e := c.dir.find(g.App)
	switch {
	case e != nil && e.deleting:
		return Result{Outcome: NoApp}
	case e != nil && len(e.live)+e.ghosts >= MaxInstances:
		return Result{Outcome: Full}
	case c.registerAt == index:
		return Result{Outcome: Again}
	}
	if e == nil {
		e = c.addTenant(g.App)
	}
	c.registerAt = index
	c.wake(e)
	inst := &Instance{
		ID: wire.InstanceID(index), App: g.App, StoreID: g.StoreID, Native: g.Native, Incarnation: g.Incarnation,
		Region: g.Region, Capacity: g.Capacity, Node: g.Node, Gen: 1, Login: g.Login,
	}
	e.live = append(e.live, c.addInstance(inst))
	c.note(Change{Kind: InstanceChanged, App: g.App, Instance: inst.ID})
	return Result{Outcome: Done, Instance: inst.ID, Gen: 1, Node: g.Node}
}

// again attaches the instance in slot once more.
func (g *Register) again(c *content, slot uint32) Result {
	inst := *c.instances.get(slot)
	held := Result{Outcome: Held, Instance: inst.ID, Gen: inst.Gen, Node: inst.Node}
	if !g.Native && (g.Replace != inst.ID || g.ReplaceGen != inst.Gen) {
		return held
	}
	if inst.Gen == ^wire.Gen(0) {
		return Result{Outcome: Full}
	}
	inst.Gen++
	inst.Node, inst.Region, inst.Capacity, inst.Login = g.Node, g.Region, g.Capacity, g.Login
	c.instances.set(slot, &inst)
	c.note(Change{Kind: InstanceChanged, App: inst.App, Instance: inst.ID})
	return Result{Outcome: Done, Instance: inst.ID, Gen: inst.Gen, Node: inst.Node, Known: true}
}

// Gone says that an instance is over: its rows are free by definition, however many they are.
type Gone struct {
	Instance wire.InstanceID
	Gen      wire.Gen // the attachment that ended; a newer one keeps the instance
}

// Kind returns KindGone.
func (*Gone) Kind() Kind { return KindGone }

func (g *Gone) append(dst []byte) []byte { return appendU32(appendU64(dst, g.Instance), g.Gen) }

func (g *Gone) decode(r *reader) { g.Instance, g.Gen = r.inst(), wire.Gen(r.u32()) }

func (g *Gone) apply(c *content, _ uint64) Result {
	slot, ok := c.byID[g.Instance]
	if !ok {
		return Result{Outcome: NoInstance}
	}
	switch inst := c.instances.get(slot); {
	case inst.Gone:
		return Result{Outcome: NoInstance}
	case inst.Gen != g.Gen:
		return Result{Outcome: Stale}
	}
	c.leave(slot)
	return Result{Outcome: Done}
}

// leave marks the live instance in slot gone. It stays known while rows name it.
func (c *content) leave(slot uint32) {
	inst := *c.instances.get(slot)
	inst.Gone = true
	c.instances.set(slot, &inst)
	delete(c.byName, nameOf(&inst))
	e := c.dir.find(inst.App)
	i := slices.Index(e.live, slot)
	e.live = slices.Delete(e.live, i, i+1)
	e.ghosts++
	if len(e.live) == 0 {
		e.lastLogin = inst.Login
	}
	c.note(Change{Kind: InstanceLeft, App: inst.App, Instance: inst.ID})
	c.forget(slot)
}

// forget drops an instance that is gone and that no row names, and the app if that was all that kept it.
func (c *content) forget(slot uint32) {
	inst := c.instances.get(slot)
	if !inst.Gone || c.rowsOf[slot] > 0 {
		return
	}
	delete(c.byID, inst.ID)
	c.instances.drop(slot)
	e := c.dir.find(inst.App)
	e.ghosts--
	c.settle(e)
}

// Drain says whether an instance gets no new states. It keeps those it has.
type Drain struct {
	Instance wire.InstanceID
	Draining bool
}

// Kind returns KindDrain.
func (*Drain) Kind() Kind { return KindDrain }

func (d *Drain) append(dst []byte) []byte {
	return appendBool(appendU64(dst, d.Instance), d.Draining)
}

func (d *Drain) decode(r *reader) { d.Instance, d.Draining = r.inst(), r.bool() }

func (d *Drain) apply(c *content, _ uint64) Result {
	slot, ok := c.liveSlot(d.Instance)
	if !ok {
		return Result{Outcome: NoInstance}
	}
	inst := *c.instances.get(slot)
	inst.Draining = d.Draining
	c.instances.set(slot, &inst)
	c.note(Change{Kind: InstanceChanged, App: inst.App, Instance: inst.ID})
	return Result{Outcome: Done}
}
