// Package logins keeps who has logged in to which app: {type, id, name} and when
// last seen, under (app, id). Nothing else is kept of a login, and nothing at all
// of anonymous ones.
//
// A login is put into a bounded queue and written in batches, away from the
// request that brought it; look-ups see what is still queued. What has not been
// seen for the retention time is removed. Batches of records can be exported and
// imported without knowing what is in them, and so the stores of several nodes
// follow each other (follow.go): of two records the one seen later wins, whatever
// the order they arrive in.
//
// It refuses app ids that are not 64 hexadecimal digits, ids of more
// than 255 bytes, batches that are cut or altered, and files that are links or
// that others may read.
//
// [Store.Run] owns no goroutine but the one it is called in, [Store.Follow] one for
// each store that it follows.
package logins

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
)

const (
	// DefaultRetention is how long a login is kept after it was last seen.
	DefaultRetention = 365 * 24 * time.Hour

	maxQueue   = 1 << 16 // logins not written yet
	maxBatch   = 1 << 12 // logins in one transaction
	linger     = 50 * time.Millisecond
	retry      = time.Second
	sweepEvery = time.Hour
	seenEvery  = 24 * time.Hour // how exactly "last seen" is kept

	maxID, maxType, maxName = 255, 64, 1024
)

// Config says how long logins are kept.
type Config struct {
	// Retention is how long a login is kept after it was last seen, at least an
	// hour. Default 365 d.
	Retention time.Duration
	// Clock tells the wall time. Required.
	Clock func() time.Time
	// Log gets what went wrong. Required.
	Log *slog.Logger
}

// key is what a login is kept under.
type key struct {
	app [32]byte
	id  string
}

// record is one login as it is kept.
type record struct {
	key
	kind, name string
	seen       int64 // Unix time in milliseconds
}

func (r *record) identity() auth.Identity {
	return auth.Identity{Type: r.kind, ID: r.id, Name: r.name}
}

// newer reports whether r replaces old: it was seen later, or at the same time
// and comes later in the order of text, so that all stores agree.
func (r *record) newer(old *record) bool {
	if r.seen != old.seen {
		return r.seen > old.seen
	}
	return r.kind+"\x00"+r.name > old.kind+"\x00"+old.name
}

// backend keeps records; memory and bolt are the two.
type backend interface {
	// write merges the records: of two of one key the newer stays. It reports
	// how many changed anything.
	write(records []record) (changed int, err error)
	get(k key) (record, bool)
	// owners returns up to two apps that know the id.
	owners(id string) [][32]byte
	// since returns up to max records changed after that place in the order of
	// changes, oldest first, and the place reached.
	since(place uint64, max int) ([]record, uint64, error)
	// sweep removes what was not seen since then.
	sweep(ctx context.Context, before int64) (removed int, err error)
	// lineage names this store: places of another mean nothing here.
	lineage() [16]byte
	// cursor is how far the store of another node has been followed, nil when it
	// was not; keepCursor keeps it.
	cursor(peer string) []byte
	keepCursor(peer string, cursor []byte) error
	close() error
}

// Store keeps logins. Safe for concurrent use.
type Store struct {
	cfg  Config
	back backend
	wake chan struct{} // 1: something is queued

	mu      sync.Mutex
	queued  queue // not taken by Run yet
	writing queue // being written
	closed  bool
	changed chan struct{} // closed at the next change; nil while nobody waits

	written, refused, failed, removed, imported, askFailed atomic.Uint64
}

// Open opens the store in the file, which is made if there is none; "" keeps it
// in memory. It starts nothing.
func Open(path string, cfg Config) (*Store, error) {
	if cfg.Retention == 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.Retention < time.Hour || cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("login store: a clock, a log and a retention of at least an hour are required")
	}
	s := &Store{cfg: cfg, wake: make(chan struct{}, 1), queued: newQueue(), writing: newQueue()}
	if path == "" {
		s.back = newMemory(maxMemory)
		return s, nil
	}
	back, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	s.back = back
	return s, nil
}

// Put queues a login as seen now. It does not block and does no I/O; false means
// that the login is not well-formed, the queue is full or the store closed.
func (s *Store) Put(app string, id auth.Identity) bool {
	k, ok := keyOf(app, id.ID)
	r := record{key: k, kind: id.Type, name: id.Name, seen: s.cfg.Clock().UnixMilli()}
	if !ok || !r.valid() {
		s.refused.Add(1)
		return false
	}
	s.mu.Lock()
	ok = !s.closed && s.queued.add(r)
	s.mu.Unlock()
	if !ok {
		s.refused.Add(1)
		return false
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

func (r *record) valid() bool {
	return r.id != "" && len(r.id) <= maxID && len(r.kind) <= maxType && len(r.name) <= maxName
}

func keyOf(app, id string) (key, bool) {
	k := key{id: id}
	if len(app) != hex.EncodedLen(len(k.app)) {
		return key{}, false
	}
	n, err := hex.Decode(k.app[:], []byte(app))
	return k, err == nil && n == len(k.app) && id != "" && len(id) <= maxID
}

// Get returns the login of the id in the app.
func (s *Store) Get(app, id string) (auth.Identity, bool) {
	k, ok := keyOf(app, id)
	if !ok {
		return auth.Identity{}, false
	}
	return s.lookup(k)
}

func (s *Store) lookup(k key) (auth.Identity, bool) {
	s.mu.Lock()
	r, ok := s.queued.records[k]
	if !ok {
		r, ok = s.writing.records[k]
	}
	closed := s.closed
	s.mu.Unlock()
	if !ok && !closed {
		r, ok = s.back.get(k)
	}
	if !ok || r.seen < s.cutoff() {
		return auth.Identity{}, false
	}
	return r.identity(), true
}

// Find returns the login of the id if exactly one app knows it.
func (s *Store) Find(id string) (auth.Identity, bool) {
	if id == "" || len(id) > maxID {
		return auth.Identity{}, false
	}
	s.mu.Lock()
	owners := append(s.queued.owners(id), s.writing.owners(id)...)
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return auth.Identity{}, false
	}
	owners = append(owners, s.back.owners(id)...)
	if len(owners) == 0 {
		return auth.Identity{}, false
	}
	for _, app := range owners[1:] {
		if app != owners[0] {
			return auth.Identity{}, false
		}
	}
	return s.lookup(key{app: owners[0], id: id})
}

// cutoff is when a login must have been seen last to be kept.
func (s *Store) cutoff() int64 { return s.cfg.Clock().Add(-s.cfg.Retention).UnixMilli() }

// Run writes queued logins and removes old ones until the context ends, then
// writes what is left and closes the store.
func (s *Store) Run(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	s.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			err := s.flush()
			return errors.Join(err, s.Close())
		case <-sweep.C:
			s.sweep(ctx)
		case <-s.wake:
			if !pause(ctx, linger) {
				continue
			}
			if err := s.flush(); err != nil {
				s.cfg.Log.Error("cannot write logins; they stay queued", "err", err)
				pause(ctx, retry)
				s.again()
			}
		}
	}
}

// again lets Run try once more.
func (s *Store) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pause waits; false means that the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// flush writes what is queued. Until it is written it stays visible to look-ups;
// what could not be written is queued again.
func (s *Store) flush() error {
	for {
		s.mu.Lock()
		if s.writing.empty() {
			s.writing, s.queued = s.queued, s.writing
		}
		batch := s.writing.first(maxBatch)
		s.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if _, err := s.back.write(batch); err != nil {
			s.failed.Add(1)
			return err
		}
		s.written.Add(uint64(len(batch)))
		s.mu.Lock()
		s.writing.remove(batch)
		s.mu.Unlock()
		s.tell()
	}
}

func (s *Store) sweep(ctx context.Context) {
	n, err := s.back.sweep(ctx, s.cutoff())
	s.removed.Add(uint64(n))
	if err != nil {
		s.cfg.Log.Error("cannot remove old logins", "err", err)
	}
}

// Close closes a store that is not running. Look-ups then find nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	return s.back.close()
}

// Collect emits the store's counters.
func (s *Store) Collect(emit func(name string, value float64, labels ...string)) {
	s.mu.Lock()
	waiting := len(s.queued.records) + len(s.writing.records)
	s.mu.Unlock()
	emit("login_store_queued", float64(waiting))
	emit("login_store_written_total", float64(s.written.Load()))
	emit("login_store_refused_total", float64(s.refused.Load()))
	emit("login_store_write_failures_total", float64(s.failed.Load()))
	emit("login_store_removed_total", float64(s.removed.Load()))
	emit("login_store_imported_total", float64(s.imported.Load()))
	emit("login_store_asks_failed_total", float64(s.askFailed.Load()))
}
