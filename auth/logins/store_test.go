package logins

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
)

var (
	appA = strings.Repeat("a", 64)
	appB = strings.Repeat("b", 64)
)

type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *testClock { return &testClock{now: time.Unix(1_800_000_000, 0)} }

func open(t *testing.T, path string, clock *testClock) *Store {
	t.Helper()
	s, err := Open(path, Config{Clock: clock.time, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// each runs a test on a store in memory and on one in a file.
func each(t *testing.T, test func(t *testing.T, path string)) {
	t.Run("memory", func(t *testing.T) { test(t, "") })
	t.Run("file", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "logins")) })
}

func ann(id string) auth.Identity {
	return auth.Identity{Type: auth.TypeGoogle, ID: id, Name: "Ann " + id, Email: "ann@example.org"}
}

// kept is what may be left of ann in the store.
func kept(id string) auth.Identity {
	return auth.Identity{Type: auth.TypeGoogle, ID: id, Name: "Ann " + id}
}

func put(t *testing.T, s *Store, app string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if !s.Put(app, ann(id)) {
			t.Fatalf("%q was not taken", id)
		}
	}
}

func mustFlush(t *testing.T, s *Store) {
	t.Helper()
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
}

func TestPutGetFind(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		s := open(t, path, newClock())
		put(t, s, appA, "1", "both")
		put(t, s, appB, "both")
		check := func(when string) {
			t.Helper()
			if got, ok := s.Get(appA, "1"); !ok || got != kept("1") {
				t.Errorf("%s: get %+v, %v", when, got, ok)
			}
			if _, ok := s.Get(appB, "1"); ok {
				t.Errorf("%s: another app's user was found", when)
			}
			if got, ok := s.Find("1"); !ok || got != kept("1") {
				t.Errorf("%s: find %+v, %v", when, got, ok)
			}
			if _, ok := s.Find("both"); ok {
				t.Errorf("%s: an id of two apps was found", when)
			}
			for _, id := range []string{"", "2", "bot", "both\x00", strings.Repeat("x", 256)} {
				if _, ok := s.Find(id); ok {
					t.Errorf("%s: %q was found", when, id)
				}
			}
		}
		check("queued")
		mustFlush(t, s)
		check("written")
		put(t, s, appB, "1") // queued here, written there
		if _, ok := s.Find("1"); ok {
			t.Error("an id of two apps was found, one of them queued")
		}
		put(t, s, appA, "both")
		check2, ok := s.Get(appA, "both")
		if !ok || check2 != kept("both") {
			t.Errorf("queued again: %+v, %v", check2, ok)
		}
	})
}

func TestPutRefuses(t *testing.T) {
	s := open(t, "", newClock())
	for name, c := range map[string]struct {
		app string
		id  auth.Identity
	}{
		"short app": {"abc", ann("1")},
		"odd app":   {strings.Repeat("x", 64), ann("1")},
		"no id":     {appA, ann("")},
		"long id":   {appA, ann(strings.Repeat("x", 256))},
		"long name": {appA, auth.Identity{ID: "1", Name: strings.Repeat("x", maxName+1)}},
		"long type": {appA, auth.Identity{ID: "1", Type: strings.Repeat("x", maxType+1)}},
	} {
		if s.Put(c.app, c.id) {
			t.Errorf("%s: taken", name)
		}
	}
	if _, ok := s.Get("abc", "1"); ok {
		t.Error("found in an app that is none")
	}
	for i := range maxQueue {
		s.queued.records[key{id: fmt.Sprint(i)}] = record{}
	}
	if s.Put(appA, ann("1")) {
		t.Error("taken with a full queue")
	}
	got := collect(s)
	if got["login_store_refused_total"] != 7 || got["login_store_queued"] != maxQueue {
		t.Errorf("counted %v", got)
	}
}

func collect(s *Store) map[string]float64 {
	out := map[string]float64{}
	s.Collect(func(name string, value float64, _ ...string) { out[name] = value })
	return out
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	clock := newClock()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]Config{
		"clock": {Log: log}, "log": {Clock: clock.time}, "retention": {Clock: clock.time, Log: log, Retention: time.Minute},
	} {
		if _, err := Open("", cfg); err == nil {
			t.Errorf("bad %s: opened", name)
		}
	}
	cfg := Config{Clock: clock.time, Log: log}
	good := filepath.Join(dir, "good")
	s := open(t, good, clock)
	if _, err := Open(good, cfg); err == nil {
		t.Error("one file opened twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(good)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(dir, "readable")
	if err := os.WriteFile(readable, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, garbage, readable, dir, filepath.Join(dir, "no", "such")} {
		if _, err := Open(path, cfg); err == nil {
			t.Errorf("%s: opened", path)
		}
	}
	fileVersion[0] = 2
	_, err = Open(good, cfg)
	fileVersion[0] = 1
	if err == nil || !strings.Contains(err.Error(), "later version") {
		t.Errorf("another version: %v", err)
	}
}

func TestFileSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logins")
	clock := newClock()
	s := open(t, path, clock)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	put(t, s, appA, "1", "2")
	cancel() // what is queued is written before Run returns
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.Put(appA, ann("3")) {
		t.Error("taken after the end")
	}
	if _, ok := s.Get(appA, "1"); ok {
		t.Error("found in a closed store")
	}
	if _, ok := s.Find("1"); ok {
		t.Error("found in a closed store")
	}
	s = open(t, path, clock)
	for _, id := range []string{"1", "2"} {
		if got, ok := s.Find(id); !ok || got != kept(id) {
			t.Errorf("%s after the restart: %+v, %v", id, got, ok)
		}
	}
}

func TestRunWritesAndSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("", Config{Clock: time.Now, Log: slog.New(slog.DiscardHandler), Retention: 48 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		put(t, s, appA, "1")
		time.Sleep(2 * linger)
		if got := collect(s); got["login_store_written_total"] != 1 || got["login_store_queued"] != 0 {
			t.Errorf("after the linger %v", got)
		}
		time.Sleep(47 * time.Hour)
		if _, ok := s.Get(appA, "1"); !ok {
			t.Error("gone too early")
		}
		put(t, s, appA, "2")
		time.Sleep(2 * time.Hour)
		if _, ok := s.Get(appA, "1"); ok {
			t.Error("still there after the retention")
		}
		if _, ok := s.Get(appA, "2"); !ok {
			t.Error("the younger one is gone too")
		}
		if got := collect(s); got["login_store_removed_total"] != 1 {
			t.Errorf("after the sweep %v", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// failing is a backend that cannot write for a while.
type failing struct {
	backend
	left int
}

func (f *failing) write(r []record) (int, error) {
	if f.left > 0 {
		f.left--
		return 0, os.ErrPermission
	}
	return f.backend.write(r)
}

func (f *failing) sweep(context.Context, int64) (int, error) { return 0, os.ErrPermission }

func TestRunGoesOnWhenTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, err := Open("", Config{Clock: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.back = &failing{s.back, 2}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		put(t, s, appA, "1")
		time.Sleep(linger + retry/2)
		put(t, s, appA, "2")
		for _, id := range []string{"1", "2"} {
			if _, ok := s.Get(appA, id); !ok {
				t.Errorf("%s was lost", id)
			}
		}
		time.Sleep(3 * retry)
		got := collect(s)
		if got["login_store_written_total"] != 2 || got["login_store_write_failures_total"] != 2 || got["login_store_queued"] != 0 {
			t.Errorf("counted %v", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "cannot remove old logins") || !strings.Contains(log.String(), "stay queued") {
			t.Errorf("log: %s", log.String())
		}
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		clock := newClock()
		s := open(t, path, clock)
		for i := range sweepPiece + 10 { // more than one piece
			put(t, s, appA, fmt.Sprintf("old-%d", i))
		}
		put(t, s, appB, "old-1")
		mustFlush(t, s)
		clock.add(DefaultRetention / 2)
		put(t, s, appA, "new", "old-1")
		mustFlush(t, s)
		clock.add(DefaultRetention/2 + time.Hour)
		if _, ok := s.Get(appA, "old-2"); ok {
			t.Error("found after its time, before the sweep")
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if path != "" {
			s.sweep(ended)
			if n := s.removed.Load(); n != 0 {
				t.Errorf("%d removed after the end", n)
			}
		}
		s.sweep(context.Background())
		if n := s.removed.Load(); n != sweepPiece+10 {
			t.Errorf("%d removed", n)
		}
		for _, id := range []string{"new", "old-1"} { // old-1 is known to one app only now
			if _, ok := s.Find(id); !ok {
				t.Errorf("%s is gone", id)
			}
		}
		s.sweep(context.Background())
		if n := s.removed.Load(); n != sweepPiece+10 {
			t.Errorf("%d removed by a second sweep", n)
		}
	})
}

func TestSeenIsKeptByTheDay(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		clock := newClock()
		s := open(t, path, clock)
		place := func() uint64 {
			t.Helper()
			mustFlush(t, s)
			records, reached, err := s.back.since(0, 10)
			if err != nil || len(records) != 1 {
				t.Fatalf("%d records, %v", len(records), err)
			}
			return reached
		}
		put(t, s, appA, "1")
		first := place()
		clock.add(time.Hour)
		put(t, s, appA, "1")
		if place() != first {
			t.Error("written again within the day")
		}
		s.Put(appA, auth.Identity{Type: auth.TypeGoogle, ID: "1", Name: "Bea"})
		renamed := place()
		if got, _ := s.Get(appA, "1"); renamed == first || got.Name != "Bea" {
			t.Errorf("a new name was not written: %+v", got)
		}
		clock.add(25 * time.Hour)
		s.Put(appA, auth.Identity{Type: auth.TypeGoogle, ID: "1", Name: "Bea"})
		if place() == renamed {
			t.Error("not written again after a day")
		}
	})
}

func TestExportImport(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		clock := newClock()
		from := open(t, path, clock)
		to := open(t, "", clock)
		copyAll := func(from, to *Store, cursor []byte) (next []byte, changed int) {
			t.Helper()
			for {
				batch, n, err := from.Export(cursor)
				if err != nil {
					t.Fatal(err)
				}
				cursor = n
				if batch == nil {
					return cursor, changed
				}
				c, err := to.Import(batch)
				if err != nil {
					t.Fatal(err)
				}
				changed += c
			}
		}
		cursor, n := copyAll(from, to, nil)
		if n != 0 || len(cursor) != cursorLength {
			t.Errorf("an empty store gives %d, cursor %x", n, cursor)
		}
		for i := range 2*exportMax + 5 {
			put(t, from, appA, fmt.Sprint(i))
		}
		mustFlush(t, from)
		cursor, n = copyAll(from, to, cursor)
		if n != 2*exportMax+5 {
			t.Errorf("%d came over", n)
		}
		if got, ok := to.Find("7"); !ok || got != kept("7") {
			t.Errorf("found %+v, %v", got, ok)
		}
		if _, n := copyAll(from, to, nil); n != 0 {
			t.Errorf("%d changed by the same batches again", n)
		}
		// What came from there changes nothing there: two stores that follow
		// each other come to rest.
		if _, n := copyAll(to, from, nil); n != 0 {
			t.Errorf("%d changed at the source", n)
		}
		clock.add(48 * time.Hour)
		put(t, from, appA, "7")
		mustFlush(t, from)
		next, n := copyAll(from, to, cursor)
		if n != 1 {
			t.Errorf("%d came over after one change", n)
		}
		if _, n := copyAll(from, to, next); n != 0 {
			t.Errorf("%d came over after none", n)
		}
		// A cursor of another store starts at the beginning.
		batch, _, err := from.Export(binary.BigEndian.AppendUint64(bytes.Repeat([]byte{9}, 16), 1<<40))
		if err != nil || batch == nil {
			t.Errorf("with another store's cursor: %d bytes, %v", len(batch), err)
		}
	})
}

func TestImportMerges(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		clock := newClock()
		now := clock.now.UnixMilli()
		s := open(t, path, clock)
		k, _ := keyOf(appA, "1")
		day := seenEvery.Milliseconds()
		for _, step := range []struct {
			name    string
			seen    int64
			changed int
			want    string
		}{
			{"a", now - 5*day, 1, "a"},
			{"older", now - 6*day, 0, "a"},
			{"b", now - 5*day, 1, "b"}, // the same time: the later text
			{"a", now - 5*day, 0, "b"},
			{"c", now, 1, "c"},
			{"ahead", now + day/2, 1, "ahead"},
			{"far ahead", now + 2*day, 0, "ahead"},
			{"ancient", now - DefaultRetention.Milliseconds() - 1, 0, "ahead"},
		} {
			r := record{key: k, kind: "google", name: step.name, seen: step.seen}
			n, err := s.Import(seal(appendRecord(nil, &r)))
			got, _ := s.Get(appA, "1")
			if err != nil || n != step.changed || got.Name != step.want {
				t.Errorf("%s: %d changed, %v, name %q, want %q", step.name, n, err, got.Name, step.want)
			}
		}
	})
}

// seal makes a batch of encoded records.
func seal(records []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte(batchMagic), crc32.Checksum(records, castagnoli))
	return append(b, records...)
}

func TestImportRefuses(t *testing.T) {
	s := open(t, "", newClock())
	k, _ := keyOf(appA, "1")
	r := record{key: k, kind: "google", name: "Ann", seen: s.cfg.Clock().UnixMilli()}
	one := appendRecord(nil, &r)
	good := seal(one)
	bad := map[string][]byte{
		"nothing":       nil,
		"other version": append([]byte("TKL2"), good[4:]...),
		"altered":       append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"too large":     seal(make([]byte, importMax)),
		"no id":         seal(append(append(bytes.Clone(one[:32]), 0), one[34:]...)),
	}
	for n := 1; n < len(one); n++ {
		bad[fmt.Sprintf("cut at %d", n)] = seal(one[:n])
		bad[fmt.Sprintf("second cut at %d", n)] = seal(append(bytes.Clone(one), one[:n]...))
	}
	for name, batch := range bad {
		if n, err := s.Import(batch); err == nil {
			t.Errorf("%s: imported, %d changed", name, n)
		}
	}
	if _, ok := s.Get(appA, "1"); ok {
		t.Error("a bad batch changed something")
	}
	if n, err := s.Import(good); n != 1 || err != nil {
		t.Errorf("the good one: %d, %v", n, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(100)
	for i := range 250 {
		if n, err := m.write([]record{{key: key{id: fmt.Sprint(i)}}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := len(m.byKey); n != 100 || m.order.Len() != 100 || len(m.byID) != 100 {
		t.Errorf("%d logins, %d in order, %d ids", n, m.order.Len(), len(m.byID))
	}
	if _, ok := m.get(key{id: "149"}); ok {
		t.Error("an old one is still there")
	}
	if _, ok := m.get(key{id: "150"}); !ok {
		t.Error("a young one is gone")
	}
}

func TestCorruptEntriesAreSkipped(t *testing.T) {
	for _, c := range []struct{ k, v []byte }{
		{make([]byte, 32), make([]byte, 20)},
		{make([]byte, 33), nil},
		{make([]byte, 33), append(make([]byte, 16), 9, 'x')},
	} {
		if p, ok := decodeValue(c.k, c.v); ok {
			t.Errorf("decoded %+v", p)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		s := open(t, path, newClock())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 500 {
					id := fmt.Sprintf("%d-%d", w, i)
					if !s.Put(appA, ann(id)) {
						t.Errorf("%s was not taken", id)
						return
					}
					if got, ok := s.Find(id); !ok || got != kept(id) {
						t.Errorf("%s right after it was put: %+v, %v", id, got, ok)
						return
					}
				}
			})
		}
		wg.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
