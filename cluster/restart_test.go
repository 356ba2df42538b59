package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
)

// TestRestartKeepsTheTable: apps, keys, rows and instances survive; a new node session is open; the old one's instances
// wait to attach again under it.
func TestRestartKeepsTheTable(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{DataDir: dir})
	ctx := t.Context()
	public := ed25519.PublicKey(bytes.Repeat([]byte{7}, 32))
	l.ok(l.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{Name: "game", Greeting: true}))
	l.ok(l.PutKey(ctx, "n1.1", public))
	a := l.legacy("a")
	p := l.create()
	l.ok(l.Firm(ctx, app, p.State, p.Epoch))
	first, mac, sum := l.Session(), l.MACKey(), l.Table().Snapshot().Sum()
	l.halt()

	l = start(t, Config{DataDir: dir})
	if l.MACKey() != mac || mac == [32]byte{} {
		t.Error("another MAC key")
	}
	if s := l.Session(); s.ID <= first.ID || s.Number != first.Number || s.Boot != first.Boot+1 {
		t.Errorf("session %+v after %+v", s, first)
	}
	if got, ok := l.Table().App(app); !ok || got.Settings.Name != "game" || !got.Settings.Greeting || !got.HasSecret([32]byte{1}) {
		t.Errorf("app %+v", got)
	}
	if k, ok := l.Key("n1.1"); !ok || !k.Equal(public) {
		t.Errorf("key %x", k)
	}
	row := l.row(p.State)
	if row.Free || row.Instance != a.Instance || row.Epoch != p.Epoch || row.Node != first.ID {
		t.Errorf("row %+v", row)
	}
	inst, ok := l.Table().Named(app, "a", false, [16]byte{})
	if !ok || inst.Node != first.ID || inst.Gen != 1 {
		t.Fatalf("instance %+v", inst)
	}
	at, err := l.Register(ctx, placement.RegisterRequest{App: app, StoreID: "a", Replace: inst.ID, ReplaceGen: inst.Gen})
	l.ok(err)
	if at != (placement.Attached{Instance: a.Instance, Gen: 2, Again: true}) {
		t.Errorf("attached again as %+v", at)
	}
	if row := l.row(p.State); row.Node != l.Node() || row.Epoch != p.Epoch {
		t.Errorf("row after its instance is back: %+v", row)
	}
	if l.Table().Snapshot().Sum() == sum {
		t.Error("the sum says nothing")
	}
}

func TestMemoryOnlyForgets(t *testing.T) {
	l := start(t, Config{})
	l.legacy("a")
	generation := l.Table().Generation()
	l.halt()
	l = start(t, Config{Now: func() time.Time { return time.Now().Add(2 * time.Minute) }})
	if n := l.Table().Stats().Instances; n != 0 {
		t.Errorf("%d instances in a new table", n)
	}
	if l.Table().Generation() <= generation {
		t.Error("a table made anew gives epochs below the old one's")
	}
}

// tableSum is the sum of what is on disk.
func tableSum(t *testing.T, dir string) [32]byte {
	t.Helper()
	d, err := openDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	table := placement.New()
	j, err := d.load(table)
	if err != nil {
		t.Fatal(err)
	}
	if j != nil {
		j.file.Close()
	}
	return table.Snapshot().Sum()
}

// TestSnapshotsShortenTheJournal: with snapshots all the time the table on disk is the one in memory.
func TestSnapshotsShortenTheJournal(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{DataDir: dir, SnapshotBytes: 4 << 10})
	l.legacy("a")
	l.legacy("b")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := range 50 {
				p, err := l.Create(t.Context(), placement.CreateRequest{App: app})
				if err == nil && i%3 == 0 {
					err = l.Remove(t.Context(), app, p.State, p.Epoch)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := l.Table().Snapshot().Sum()
	l.halt()
	if n := l.counts.snapshots.Load(); n == 0 {
		t.Fatal("no snapshot was written")
	}
	if got := tableSum(t, dir); got != want {
		t.Fatal("the table on disk is not the one that was in memory")
	}
	d := &dataDir{path: filepath.Join(dir, tableFolder)}
	if names, _ := d.journals(); len(names) > 2 {
		t.Fatalf("old journals are kept: %v", names)
	}
	l = start(t, Config{DataDir: dir, SnapshotBytes: 4 << 10})
	l.create()
}

// only returns the path of the one journal in dir.
func only(t *testing.T, dir string) string {
	t.Helper()
	d := &dataDir{path: filepath.Join(dir, tableFolder)}
	names, err := d.journals()
	if err != nil || len(names) != 1 {
		t.Fatalf("journals %v, %v", names, err)
	}
	return filepath.Join(d.path, names[0])
}

func edit(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// journalled makes a data directory with some records, returns the journal and where each record begins.
func journalled(t *testing.T) (dir, path string, records []int) {
	t.Helper()
	dir = t.TempDir()
	l := start(t, Config{DataDir: dir})
	l.legacy("a")
	for range 5 {
		l.create()
	}
	l.halt()
	path = only(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := journalHead; at < len(b); {
		records = append(records, at)
		_, _, n := parseRecord(b[at:])
		if n == 0 {
			t.Fatalf("record at %d is not whole", at)
		}
		at += n
	}
	return dir, path, records
}

// TestTruncatedTailIsTolerated: whatever part of the last record a crash left, the records before it are all there.
func TestTruncatedTailIsTolerated(t *testing.T) {
	dir, path, records := journalled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := records[len(records)-1]
	for _, cut := range []int{last + 1, last + recordHead, last + recordHead + 3, len(whole) - 1} {
		for name, tail := range map[string][]byte{"cut": nil, "zeros": make([]byte, 300)} {
			edit(t, path, func([]byte) []byte { return append(whole[:cut:cut], tail...) })
			l := start(t, Config{DataDir: dir})
			if n := l.Table().Stats().Rows; n != 4 {
				t.Errorf("%s at %d: %d rows, want the 4 before the last", name, cut, n)
			}
			if !strings.Contains(l.log.String(), "cut off") {
				t.Errorf("%s at %d: the log says nothing", name, cut)
			}
			p := l.create() // and goes on
			l.halt()
			l = start(t, Config{DataDir: dir})
			l.row(p.State)
			l.halt()
		}
	}
}

// TestFlippedBitIsRefused: damage before the last record is told apart from a crash, wherever the bit is.
func TestFlippedBitIsRefused(t *testing.T) {
	dir, path, records := journalled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < records[len(records)-1]; at += 7 {
		edit(t, path, func([]byte) []byte {
			b := bytes.Clone(whole)
			b[at] ^= 1 << (at % 8)
			return b
		})
		l, err := openIn(t, dir)
		if err == nil {
			l.Close()
			t.Fatalf("bit flipped at byte %d was not noticed", at)
		}
		if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
			t.Fatalf("bit flipped at byte %d: %v", at, err)
		}
	}
	edit(t, path, func([]byte) []byte { return whole })
	start(t, Config{DataDir: dir})
}

func TestFlippedBitInSnapshotIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{DataDir: dir, SnapshotBytes: 1})
	l.legacy("a")
	l.create()
	l.halt()
	path := filepath.Join(dir, tableFolder, snapshotFile)
	edit(t, path, func(b []byte) []byte {
		b[len(b)/2] ^= 4
		return b
	})
	if _, err := openIn(t, dir); !errors.Is(err, placement.ErrSnapshot) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
}

func TestMissingJournalIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{DataDir: dir, SnapshotBytes: 1 << 30})
	l.legacy("a")
	l.create()
	next, err := l.dir.begin(l.Table().Incarnation(), l.Table().Index()+1)
	if err != nil {
		t.Fatal(err)
	}
	next.file.Close()
	old := l.journal.file.Name()
	l.halt()
	d := &dataDir{path: filepath.Join(dir, tableFolder)}
	names, _ := d.journals()
	edit(t, old, func(b []byte) []byte { return b[:len(b)-3] }) // cut off, but not the newest
	if _, err := openIn(t, dir); !errors.Is(err, errDamaged) {
		t.Fatalf("a hole before %v: %v", names, err)
	}
}

func TestJournalOfAnotherTableIsRefused(t *testing.T) {
	dir, path, _ := journalled(t)
	other, otherPath, _ := journalled(t)
	l := start(t, Config{DataDir: dir, SnapshotBytes: 1})
	l.create()
	l.halt() // now there is a snapshot, and a journal that begins later
	b, err := os.ReadFile(otherPath)
	if err != nil {
		t.Fatal(err)
	}
	_ = other
	newest := only(t, dir)
	if newest == path {
		t.Fatal("the journal was not replaced")
	}
	edit(t, newest, func([]byte) []byte { return b })
	if _, err := openIn(t, dir); err == nil {
		t.Fatal("a journal of another table was loaded")
	}
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{DataDir: dir})
	if _, err := openIn(t, dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	for name, prepare := range map[string]func(folder string) error{
		"files of something else": func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "raft.db"), nil, 0o600))
		},
		"another format": func(folder string) error {
			return errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, formatFile), []byte("trunkline cluster 1\n"), 0o600))
		},
		"a file": func(folder string) error { return os.WriteFile(folder, nil, 0o600) },
		"a link": func(folder string) error { return os.Symlink("/tmp", folder) },
	} {
		dir := t.TempDir()
		if err := prepare(filepath.Join(dir, tableFolder)); err != nil {
			t.Fatal(err)
		}
		l, err := openIn(t, dir)
		if err == nil {
			l.Close()
			t.Errorf("%s: opened", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestSecretsOthersMayReadAreRefused(t *testing.T) {
	dir, path, _ := journalled(t)
	refused := func(what string) {
		t.Helper()
		l, err := openIn(t, dir)
		if err == nil {
			l.Close()
			t.Errorf("%s: opened", what)
		} else if !strings.Contains(err.Error(), "chmod") && !strings.Contains(err.Error(), "link") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s was made with mode %v", p, st.Mode())
		}
		if err := os.Chmod(p, st.Mode().Perm()|0o044); err != nil {
			t.Fatal(err)
		}
		refused(p)
		if err := os.Chmod(p, st.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
		t.Fatal(err)
	}
	refused("a link in place of the journal")
}

// TestDiskFullRefusesAndGoesOn: what cannot be written is not promised, and the table stays what the journal says.
func TestDiskFullRefusesAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{DataDir: dir})
	l.legacy("a")
	l.halt()
	l2, err := openIn(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l2.Close()
	name := l2.journal.file.Name()
	good := l2.journal.file
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	before := l2.table.Index()
	l2.journal.file = full
	_, err = l2.commitOne([]placement.Command{&placement.PutKey{ID: "k", Session: l2.Node()}})
	if err == nil || l2.table.Index() != before {
		t.Fatalf("committed to a full disk: %v", err)
	}
	l2.journal.file = good
	if _, err := l2.commitOne([]placement.Command{&placement.PutKey{ID: "k", Session: l2.Node()}}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestBrokenJournalStopsTheWriter: after a failed sync nothing more is promised.
func TestBrokenJournalStopsTheWriter(t *testing.T) {
	l, err := openIn(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l.journal.file.Close() // every write and truncate fails from here on
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	if err := l.PutKey(t.Context(), "k", make(ed25519.PublicKey, 32)); err == nil {
		t.Fatal("a key was put into a journal that is closed")
	}
	var broken *brokenError
	if err := <-ended; !errors.As(err, &broken) {
		t.Fatalf("run ended with %v", err)
	}
	if err := l.PutKey(t.Context(), "k", make(ed25519.PublicKey, 32)); !errors.Is(err, placement.ErrStopped) {
		t.Fatalf("got %v", err)
	}
}

// TestReplayGolden pins the bytes of a journal: what an older program wrote has to be read by every newer one.
func TestReplayGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	j, err := newJournal(f, [16]byte{1, 2, 3}, 5)
	if err == nil {
		err = j.write(5, [][]byte{{1}, {1, 2}})
	}
	if err == nil {
		err = j.write(7, [][]byte{{1, 2, 3}})
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "54524b4a524e4c01010203000000000000000000000000000000000000000005c17bb0b4" +
		"ab5452ba0000000b0000000000000005f1aa6942000000010100000002010236185d9a" +
		"ab5452ba000000070000000000000007762d2911000000030102034848b230"
	if got := fmt.Sprintf("%x", b); got != golden {
		t.Errorf("journal bytes\n got %s\nwant %s", got, golden)
	}
	var seen []string
	h, whole, err := replay(bytes.NewReader(b), func(index uint64, e []byte) error {
		seen = append(seen, fmt.Sprint(index, e))
		return nil
	})
	if err != nil || whole != int64(len(b)) || h.first != 5 || h.incarnation != [16]byte{1, 2, 3} {
		t.Fatalf("head %+v, %d bytes, %v", h, whole, err)
	}
	if fmt.Sprint(seen) != "[5 [1] 6 [1 2] 7 [1 2 3]]" {
		t.Fatalf("entries %v", seen)
	}
}
