package logins

import (
	"container/list"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"
)

// maxMemory is how many logins are kept in memory; those changed longest ago make
// room.
const maxMemory = 1 << 20

// placed is a record with its place in the order of changes.
type placed struct {
	record
	place uint64
}

// memory is the backend without a file.
type memory struct {
	id  [16]byte
	max int

	mu    sync.RWMutex
	place uint64
	order *list.List // of *placed, by place
	byKey map[key]*list.Element
	byID  map[string][][32]byte
	peers map[string][]byte // cursors
}

func newMemory(max int) *memory {
	m := &memory{max: max, order: list.New(), byKey: make(map[key]*list.Element), byID: make(map[string][][32]byte), peers: make(map[string][]byte)}
	_, _ = rand.Read(m.id[:]) // crypto/rand never fails: it ends the process instead
	return m
}

func (m *memory) lineage() [16]byte { return m.id }
func (m *memory) close() error      { return nil }

func (m *memory) cursor(peer string) []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.peers[peer]
}

func (m *memory) keepCursor(peer string, cursor []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.peers[peer]; known || len(m.peers) < maxFollowed {
		m.peers[peer] = slices.Clone(cursor)
	}
	return nil
}

func (m *memory) write(records []record) (changed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		r := &records[i]
		if e, ok := m.byKey[r.key]; ok {
			p := e.Value.(*placed)
			if !worthWriting(&p.record, r) {
				continue
			}
			m.place++
			p.record, p.place = *r, m.place
			m.order.MoveToBack(e)
		} else {
			if len(m.byKey) >= m.max {
				m.remove(m.order.Front())
			}
			m.place++
			m.byKey[r.key] = m.order.PushBack(&placed{*r, m.place})
			m.byID[r.id] = append(m.byID[r.id], r.app)
		}
		changed++
	}
	return changed, nil
}

// worthWriting reports whether r changes anything of old that is kept: a user
// that comes back all day is written once a day.
func worthWriting(old, r *record) bool {
	if !r.newer(old) {
		return false
	}
	same := old.kind == r.kind && old.name == r.name
	return !same || time.Duration(r.seen-old.seen)*time.Millisecond >= seenEvery
}

func (m *memory) remove(e *list.Element) {
	p := m.order.Remove(e).(*placed)
	delete(m.byKey, p.key)
	apps := slices.DeleteFunc(m.byID[p.id], func(app [32]byte) bool { return app == p.app })
	if len(apps) == 0 {
		delete(m.byID, p.id)
		return
	}
	m.byID[p.id] = apps
}

func (m *memory) get(k key) (record, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.byKey[k]
	if !ok {
		return record{}, false
	}
	return e.Value.(*placed).record, true
}

func (m *memory) owners(id string) [][32]byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	apps := m.byID[id]
	return slices.Clone(apps[:min(2, len(apps))])
}

func (m *memory) since(place uint64, max int) ([]record, uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e := m.order.Back()
	for e != nil && e.Value.(*placed).place > place {
		e = e.Prev()
	}
	if e == nil {
		e = m.order.Front()
	} else {
		e = e.Next()
	}
	var out []record
	for ; e != nil && len(out) < max; e = e.Next() {
		p := e.Value.(*placed)
		out, place = append(out, p.record), p.place
	}
	return out, place, nil
}

func (m *memory) sweep(_ context.Context, before int64) (removed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := m.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*placed).seen < before {
			m.remove(e)
			removed++
		}
		e = next
	}
	return removed, nil
}
