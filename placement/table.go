package placement

import (
	"encoding/json"

	"github.com/trunkline-edge/trunkline/wire"
)

// Table is the table.
type Table struct{}

// New returns an empty table at index 0.
func New() *Table { return &Table{} }

// Lookup returns the row of a state.
func (t *Table) Lookup(app wire.AppID, state wire.StateID) (Row, bool) { return Row{}, false }

// Instance returns an instance; one that is gone stays known while it has rows.
func (t *Table) Instance(id wire.InstanceID) (Instance, bool) { return Instance{}, false }

// Named returns the live instance that a registration with this name belongs to.
// For legacy instances incarnation is zero.
func (t *Table) Named(app wire.AppID, storeID string, native bool, incarnation [16]byte) (Instance, bool) {
	return Instance{}, false
}

// Instances returns the live instances of an app, oldest first.
func (t *Table) Instances(app wire.AppID) []Instance { return nil }

// AllInstances returns the live instances of all apps, oldest first.
func (t *Table) AllInstances() []Instance { return nil }

// App returns an app.
func (t *Table) App(id wire.AppID) (App, bool) { return App{}, false }

// Apps returns all apps in the order of their ids.
func (t *Table) Apps() []App { return nil }

// Login returns the login configuration of an app: the pinned one, or the union over its live
// instances, or that of the last one that lived. nil: none.
func (t *Table) Login(app wire.AppID) json.RawMessage { return nil }

// States returns up to limit rows of an app in the order of their ids, from above after; from the start when all is true.
func (t *Table) States(app wire.AppID, after wire.StateID, all bool, limit int) []State { return nil }

// StatesOf returns up to limit rows that name an instance, in no order.
func (t *Table) StatesOf(id wire.InstanceID, limit int) []State { return nil }

// Sessions returns the open node sessions, oldest first.
func (t *Table) Sessions() []Session { return nil }

// Key returns a public key.
func (t *Table) Key(kid string) (Key, bool) { return Key{}, false }

// Keys returns all public keys in the order of their ids.
func (t *Table) Keys() []Key { return nil }

// MACKey returns the secret made with the table; zero before it is formed.
func (t *Table) MACKey() [32]byte { return [32]byte{} }

// Generation returns the cluster generation.
func (t *Table) Generation() uint32 { return 0 }

// Index returns the index of the last entry applied.
func (t *Table) Index() uint64 { return 0 }

// Changed returns a channel that is closed when the next entry has been applied. Take it before looking.
func (t *Table) Changed() <-chan struct{} { return nil }

// Changes appends to dst what entries after since have changed. !ok: that is too long ago, look at everything again.
func (t *Table) Changes(since uint64, dst []Change) (changes []Change, ok bool) { return dst, true }
