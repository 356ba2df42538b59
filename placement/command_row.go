package placement

import "github.com/trunkline-edge/trunkline/wire"

// Mode says what is known of a new row's state.
type Mode uint8

// The modes of a new row.
const (
	FirmRow      Mode = iota // its instance has it
	PendingRow               // created; its instance has not been told yet
	TentativeRow             // somebody connected to it; nobody knows whether it exists
)

// Create makes the row of a state that has none.
type Create struct {
	App      wire.AppID
	State    wire.StateID
	Instance wire.InstanceID
	Mode     Mode
}

// Kind returns KindCreate.
func (*Create) Kind() Kind { return KindCreate }

func (n *Create) append(dst []byte) []byte {
	dst = appendU64(append(dst, n.App[:]...), n.State)
	return append(appendU64(dst, n.Instance), byte(n.Mode))
}

func (n *Create) decode(r *reader) {
	n.App, n.State, n.Instance, n.Mode = r.app(), r.state(), r.inst(), Mode(r.upTo(uint8(TentativeRow)))
}

func (n *Create) apply(c *content, index uint64) Result {
	e, _, known := c.row(n.App, n.State)
	if known {
		return Result{Outcome: Stale}
	}
	slot, ok := c.liveSlot(n.Instance)
	switch {
	case !ok || c.instances.get(slot).App != n.App:
		return Result{Outcome: NoInstance}
	case e.states >= e.stateCap():
		return Result{Outcome: Full}
	}
	var flags rowFlags
	switch n.Mode {
	case PendingRow:
		flags = flagPending
	case TentativeRow:
		flags = flagTentative
	}
	epoch := wire.MakeEpoch(c.cluster.Generation, index)
	c.addRow(e, stored{state: n.State, epoch: epoch, app: e.slot, instance: slot, flags: flags})
	return Result{Outcome: Done, Epoch: epoch}
}

// Move gives the row of an instance that is gone to another one. It stays pending or tentative if it was. The storeId
// it leaves becomes its taint, unless it goes on under the same storeId.
type Move struct {
	App    wire.AppID
	State  wire.StateID
	Expect wire.Epoch
	To     wire.InstanceID
}

// Kind returns KindMove.
func (*Move) Kind() Kind { return KindMove }

func (m *Move) append(dst []byte) []byte {
	dst = appendU64(append(dst, m.App[:]...), m.State)
	return appendU64(appendU64(dst, m.Expect), m.To)
}

func (m *Move) decode(r *reader) {
	m.App, m.State, m.Expect, m.To = r.app(), r.state(), r.epoch(), r.inst()
}

func (m *Move) apply(c *content, index uint64) Result {
	_, row, known := c.row(m.App, m.State)
	switch {
	case !known || row.epoch != m.Expect || !c.instances.get(row.instance).Gone:
		return Result{Outcome: Stale}
	case row.epoch == wire.MakeEpoch(c.cluster.Generation, index):
		return Result{Outcome: Again}
	}
	slot, ok := c.liveSlot(m.To)
	if !ok || c.instances.get(slot).App != m.App {
		return Result{Outcome: NoInstance}
	}
	return Result{Outcome: Done, Epoch: c.moveRow(m.App, row, slot, index)}
}

// moveRow gives row to the instance in slot under a new epoch.
func (c *content) moveRow(app wire.AppID, row stored, slot uint32, index uint64) wire.Epoch {
	from, was := row.instance, row.taint
	if left := c.instances.get(from).StoreID; left != c.instances.get(slot).StoreID {
		row.taint = c.taint(left)
	}
	row.instance, row.epoch = slot, wire.MakeEpoch(c.cluster.Generation, index)
	c.rowsOf[slot]++
	c.putRow(row)
	if row.taint != was {
		c.untaint(was)
	}
	c.note(Change{Kind: RowChanged, App: app, State: row.state, Instance: c.instances.get(slot).ID})
	c.rowsOf[from]--
	c.forget(from)
	return row.epoch
}

// Firm says that the instance has the state: its row is neither pending nor tentative any more.
type Firm struct {
	App   wire.AppID
	State wire.StateID
	Epoch wire.Epoch
}

// Kind returns KindFirm.
func (*Firm) Kind() Kind { return KindFirm }

func (f *Firm) append(dst []byte) []byte { return appendKey(dst, f.App, f.State, f.Epoch) }

func (f *Firm) decode(r *reader) { f.App, f.State, f.Epoch = r.app(), r.state(), r.epoch() }

func (f *Firm) apply(c *content, _ uint64) Result {
	_, row, known := c.row(f.App, f.State)
	if !known || row.epoch != f.Epoch {
		return Result{Outcome: Stale}
	}
	if row.flags != 0 {
		row.flags = 0
		c.putRow(row)
		c.note(Change{Kind: RowChanged, App: f.App, State: f.State, Instance: c.instances.get(row.instance).ID})
	}
	return Result{Outcome: Done}
}

// Remove removes a row that nobody counts on: pending, tentative or free. A row that is not there is removed already.
type Remove struct {
	App   wire.AppID
	State wire.StateID
	Epoch wire.Epoch
}

// Kind returns KindRemove.
func (*Remove) Kind() Kind { return KindRemove }

func (m *Remove) append(dst []byte) []byte { return appendKey(dst, m.App, m.State, m.Epoch) }

func (m *Remove) decode(r *reader) { m.App, m.State, m.Epoch = r.app(), r.state(), r.epoch() }

func (m *Remove) apply(c *content, index uint64) Result {
	_, row, known := c.row(m.App, m.State)
	if known && row.flags == 0 && !c.instances.get(row.instance).Gone {
		return Result{Outcome: Stale}
	}
	return c.removeRow(m.App, row, known, m.Epoch, index)
}

// Release removes a row, firm or not: its own instance has said that it let go of the state.
type Release struct {
	App   wire.AppID
	State wire.StateID
	Epoch wire.Epoch
}

// Kind returns KindRelease.
func (*Release) Kind() Kind { return KindRelease }

func (l *Release) append(dst []byte) []byte { return appendKey(dst, l.App, l.State, l.Epoch) }

func (l *Release) decode(r *reader) { l.App, l.State, l.Epoch = r.app(), r.state(), r.epoch() }

func (l *Release) apply(c *content, index uint64) Result {
	_, row, known := c.row(l.App, l.State)
	return c.removeRow(l.App, row, known, l.Epoch, index)
}

// removeRow removes a row of the epoch expected. Not in the index that made it: made again there, its epoch would not
// be its own.
func (c *content) removeRow(app wire.AppID, row stored, known bool, expect wire.Epoch, index uint64) Result {
	switch {
	case !known:
		return Result{Outcome: Done}
	case row.epoch != expect:
		return Result{Outcome: Stale}
	case row.epoch == wire.MakeEpoch(c.cluster.Generation, index):
		return Result{Outcome: Again}
	}
	c.dropRow(row)
	c.note(Change{Kind: RowRemoved, App: app, State: row.state})
	return Result{Outcome: Done}
}

// Untaint says that the process named no longer holds an old copy of a state. Nothing happens if the row says nothing
// of the kind.
type Untaint struct {
	App     wire.AppID
	State   wire.StateID
	StoreID string
}

// Kind returns KindUntaint.
func (*Untaint) Kind() Kind { return KindUntaint }

func (u *Untaint) append(dst []byte) []byte {
	return appendText(appendU64(append(dst, u.App[:]...), u.State), u.StoreID)
}

func (u *Untaint) decode(r *reader) {
	u.App, u.State, u.StoreID = r.app(), r.state(), r.text(MaxStoreID)
}

func (u *Untaint) apply(c *content, _ uint64) Result {
	_, row, known := c.row(u.App, u.State)
	if !known || row.taint == 0 || *c.taints.get(row.taint) != u.StoreID {
		return Result{Outcome: Done}
	}
	was := row.taint
	row.taint = 0
	c.putRow(row)
	c.untaint(was)
	c.note(Change{Kind: RowChanged, App: u.App, State: u.State, Instance: c.instances.get(row.instance).ID})
	return Result{Outcome: Done}
}

// Claim is what a native instance that registers says: it has this state in memory, as of epoch Held. It gets the row
// if that is the latest anybody knows: the row is free and of that epoch, or there is none and Held is of an older
// cluster generation, whose table is lost.
type Claim struct {
	App      wire.AppID
	State    wire.StateID
	Held     wire.Epoch
	Instance wire.InstanceID
}

// Kind returns KindClaim.
func (*Claim) Kind() Kind { return KindClaim }

func (k *Claim) append(dst []byte) []byte {
	return appendU64(appendKey(dst, k.App, k.State, k.Held), k.Instance)
}

func (k *Claim) decode(r *reader) {
	k.App, k.State, k.Held, k.Instance = r.app(), r.state(), r.epoch(), r.inst()
}

func (k *Claim) apply(c *content, index uint64) Result {
	e, row, known := c.row(k.App, k.State)
	slot, ok := c.liveSlot(k.Instance)
	switch {
	case !ok || c.instances.get(slot).App != k.App:
		return Result{Outcome: NoInstance}
	case known && (row.epoch != k.Held || !c.instances.get(row.instance).Gone):
		return Result{Outcome: Stale}
	case known && row.epoch == wire.MakeEpoch(c.cluster.Generation, index):
		return Result{Outcome: Again}
	case known:
		row.flags = 0
		return Result{Outcome: Done, Epoch: c.moveRow(k.App, row, slot, index)}
	case k.Held.Generation() == 0 || k.Held.Generation() >= c.cluster.Generation:
		return Result{Outcome: Stale}
	case e.states >= e.stateCap():
		return Result{Outcome: Full}
	}
	epoch := wire.MakeEpoch(c.cluster.Generation, index)
	c.addRow(e, stored{state: k.State, epoch: epoch, app: e.slot, instance: slot})
	return Result{Outcome: Done, Epoch: epoch}
}

func appendKey(dst []byte, app wire.AppID, state wire.StateID, epoch wire.Epoch) []byte {
	return appendU64(appendU64(append(dst, app[:]...), state), epoch)
}
