package edge

import (
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/wire"
)

const roomShards = 64

// roomMap holds the rooms of a node, sharded by state.
type roomMap struct{ shards [roomShards]roomShard }

type roomShard struct {
	mu    sync.Mutex
	rooms map[roomKey]*room
}

func (m *roomMap) init() {
	for i := range m.shards {
		m.shards[i].rooms = make(map[roomKey]*room)
	}
}

func (m *roomMap) shard(key roomKey) *roomShard {
	h := uint64(key.state) * 0x9E3779B97F4A7C15 // Fibonacci hashing: neighbouring ids spread
	return &m.shards[h>>58]
}

// all returns the rooms as they are now.
func (m *roomMap) all() []*room {
	var out []*room
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for _, rm := range sh.rooms {
			out = append(out, rm)
		}
		sh.mu.Unlock()
	}
	return out
}

// find returns the room of the state if there is one. It is for listings: the room may be given up at any moment.
func (m *roomMap) find(key roomKey) *room {
	sh := m.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.rooms[key]
}

// expiring is a bounded map whose entries end by themselves. When it is full a new entry is not taken.
type expiring[K comparable, V any] struct {
	max int
	mu  sync.Mutex
	m   map[K]expiry[V]
}

type expiry[V any] struct {
	value V
	until time.Time
}

func (e *expiring[K, V]) put(k K, v V, until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.m == nil {
		e.m = make(map[K]expiry[V])
	}
	if _, has := e.m[k]; has || len(e.m) < e.max {
		e.m[k] = expiry[V]{v, until}
	}
}

func (e *expiring[K, V]) get(k K) (v V, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, has := e.m[k]; has && time.Now().Before(x.until) {
		return x.value, true
	}
	return v, false
}

// take returns the entry and removes it.
func (e *expiring[K, V]) take(k K) (v V, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, has := e.m[k]
	delete(e.m, k)
	return x.value, has && time.Now().Before(x.until)
}

func (e *expiring[K, V]) sweep(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, x := range e.m {
		if now.After(x.until) {
			delete(e.m, k)
		}
	}
}

// quiet lets one log line per key and 10 s through, for what anybody outside can cause.
type quiet struct{ seen expiring[string, struct{}] }

const (
	quietTime = 10 * time.Second
	quietKeys = 50
)

func (q *quiet) allow(key string, now time.Time) bool {
	q.seen.mu.Lock()
	defer q.seen.mu.Unlock()
	if q.seen.m == nil {
		q.seen.m = make(map[string]expiry[struct{}])
	}
	if x, has := q.seen.m[key]; has && now.Before(x.until) {
		return false
	}
	if len(q.seen.m) >= quietKeys {
		return false
	}
	q.seen.m[key] = expiry[struct{}]{until: now.Add(quietTime)}
	return true
}

func (q *quiet) sweep(now time.Time) { q.seen.sweep(now) }

// lobbies are what this node remembers of the states that were created as lobbies, newest last. They live as long as the
// state's row; a lobby whose row is gone is dropped when it is next looked at.
type lobbies struct {
	max   int
	lives func(wire.AppID, wire.StateID) bool

	mu    sync.Mutex
	app   map[wire.AppID][]api.Lobby
	total int // over all apps
}

func (l *lobbies) init(limit int, lives func(wire.AppID, wire.StateID) bool) {
	l.max, l.lives, l.app = limit, lives, make(map[wire.AppID][]api.Lobby)
}

func (l *lobbies) add(app wire.AppID, state wire.StateID, lobby api.Lobby) {
	lobby.State = state
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.max {
		l.makeRoomLocked()
	}
	l.app[app] = append(l.app[app], lobby)
	l.total++
}

// makeRoomLocked drops the lobbies whose states do not live and then, while too many are left, the older half of those of
// the app that has most. A quarter is free afterwards, so that not every newcomer has to look for room.
func (l *lobbies) makeRoomLocked() {
	for app := range l.app {
		l.pruneLocked(app)
	}
	for l.total > l.max*3/4 {
		var most wire.AppID
		for app, list := range l.app {
			if len(list) > len(l.app[most]) {
				most = app
			}
		}
		list := l.app[most]
		l.keepLocked(most, append([]api.Lobby(nil), list[(len(list)+1)/2:]...))
	}
}

// pruneLocked drops the lobbies of one app whose states do not live.
func (l *lobbies) pruneLocked(app wire.AppID) []api.Lobby {
	list := l.app[app]
	kept := list[:0]
	for _, lobby := range list {
		if l.lives(app, lobby.State) {
			kept = append(kept, lobby)
		}
	}
	dropped := list[len(kept):]
	l.keepLocked(app, kept)
	clear(dropped)
	return kept
}

func (l *lobbies) keepLocked(app wire.AppID, kept []api.Lobby) {
	l.total += len(kept) - len(l.app[app])
	if l.app[app] = kept; len(kept) == 0 {
		delete(l.app, app)
	}
}

// newest returns up to limit public lobbies whose state lives, newest first, and forgets those whose state does not.
func (l *lobbies) newest(app wire.AppID, region string, limit int) []api.Lobby {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.pruneLocked(app)
	var out []api.Lobby
	for i := len(kept) - 1; i >= 0 && len(out) < limit; i-- {
		if lobby := kept[i]; lobby.Visibility == "public" && (region == "" || region == lobby.Region) {
			out = append(out, lobby)
		}
	}
	return out
}
