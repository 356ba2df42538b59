package placement

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/wire"
)

// tenant is what the table keeps of an app. Its identity never changes: an app that is removed and made again is
// another tenant. The fields below dead belong to the writer and to readers that hold the table's lock.
type tenant struct {
	id   wire.AppID
	key  uint64 // first bytes of id, for hashing
	slot uint32
	dead atomic.Bool // removed: its slot may belong to another

	tenantState
	states int
	live   []uint32 // slots of its live instances, oldest first
	ghosts int      // instances that are gone and still have rows
}

// tenantState is the part of a tenant that a snapshot carries.
type tenantState struct {
	listed    bool
	deleting  bool
	version   uint64
	secrets   [][32]byte
	settings  AppSettings
	lastLogin []byte
	idleSince uint64 // index since when nothing of an unlisted app is left; 0 = not idle
}

// idle reports whether nothing but the memory of its login configuration keeps the app in the table.
func (e *tenant) idle() bool { return !e.listed && e.states == 0 && len(e.live) == 0 && e.ghosts == 0 }

// directory finds tenants by id without a lock. One writer. Entries are only added; dead ones are passed over, and
// left out when the directory is next rebuilt.
type directory struct {
	places atomic.Pointer[[]atomic.Pointer[tenant]]
	used   int // places taken, dead ones included
	live   int
}

func (d *directory) hash(id wire.AppID) uint64 {
	return binary.LittleEndian.Uint64(id[:]) * 0x9e3779b97f4a7c15
}

// find returns the living tenant of an app, or nil.
func (d *directory) find(id wire.AppID) *tenant {
	p := d.places.Load()
	if p == nil {
		return nil
	}
	places := *p
	mask := uint64(len(places) - 1)
	for i := d.hash(id) >> 32; ; i++ {
		e := places[i&mask].Load()
		if e == nil {
			return nil
		}
		if e.is(&id) && !e.dead.Load() {
			return e
		}
	}
}

// is compares word by word: a call for 32 bytes would be a good part of a look-up.
func (e *tenant) is(id *wire.AppID) bool {
	le := binary.LittleEndian
	return e.key == le.Uint64(id[:8]) && le.Uint64(e.id[8:16]) == le.Uint64(id[8:16]) &&
		le.Uint64(e.id[16:24]) == le.Uint64(id[16:24]) && le.Uint64(e.id[24:]) == le.Uint64(id[24:])
}

func (d *directory) add(e *tenant) {
	p := d.places.Load()
	if p == nil || 2*(d.used+1) > len(*p) {
		d.rebuild()
		p = d.places.Load()
	}
	d.insert(*p, e)
	d.used++
	d.live++
}

func (d *directory) insert(places []atomic.Pointer[tenant], e *tenant) {
	mask := uint64(len(places) - 1)
	i := d.hash(e.id) >> 32
	for places[i&mask].Load() != nil {
		i++
	}
	places[i&mask].Store(e)
}

// rebuild publishes a directory of the living with room to double.
func (d *directory) rebuild() {
	size := 16
	for size < 4*(d.live+1) {
		size *= 2
	}
	places := make([]atomic.Pointer[tenant], size)
	if p := d.places.Load(); p != nil {
		for i := range *p {
			if e := (*p)[i].Load(); e != nil && !e.dead.Load() {
				d.insert(places, e)
			}
		}
	}
	d.used = d.live
	d.places.Store(&places)
}

// remove marks a tenant dead. From here on no reader returns what it finds under the tenant's slot.
func (d *directory) remove(e *tenant) {
	e.dead.Store(true)
	d.live--
}

// stateCap is how many rows the app may have.
func (e *tenant) stateCap() int {
	if e.settings.MaxStates == 0 {
		return DefaultMaxStates
	}
	return int(min(e.settings.MaxStates, maxStates))
}

// app returns what readers see of it.
func (e *tenant) app() App {
	return App{
		ID: e.id, Listed: e.listed, Version: e.version, Secrets: e.secrets, Settings: e.settings,
		MaxStates: e.stateCap(), States: e.states, Live: len(e.live),
	}
}
