package cluster

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
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

// TestSnapshotsShortenTheLog: with snapshots all the time the table on disk is the one in memory.
func TestSnapshotsShortenTheLog(t *testing.T) {
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
	rows := rowsOf(l.Table())
	l.halt()
	if list, err := filepath.Glob(filepath.Join(dir, tableFolder, "snapshots", "*", "state.bin")); err != nil || len(list) == 0 {
		t.Fatalf("no snapshot was written: %v", err)
	}
	l = start(t, Config{DataDir: dir, SnapshotBytes: 4 << 10})
	if got := rowsOf(l.Table()); !maps.Equal(got, rows) {
		t.Fatalf("%d rows after the restart, %d before", len(got), len(rows))
	}
	l.create()
}

func rowsOf(table *placement.Table) map[wire.StateID]placement.Row {
	rows := map[wire.StateID]placement.Row{}
	for s := range table.All() {
		rows[s.State] = s.Row
	}
	return rows
}

// kept makes a data directory with some commands, and returns the file of the log.
func kept(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	l := start(t, Config{DataDir: dir})
	l.legacy("a")
	for range 5 {
		l.create()
	}
	l.halt()
	files, err := filepath.Glob(filepath.Join(dir, tableFolder, "log-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("log files %v, %v", files, err)
	}
	return dir, files[0]
}

// TestFlippedBitIsRefused: damage is never served; the error says what to do.
func TestFlippedBitIsRefused(t *testing.T) {
	dir, path := kept(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[100] ^= 4
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openIn(t, dir)
	if err == nil {
		l.Close()
		t.Fatal("a flipped bit was not noticed")
	}
	if !errors.Is(err, consensus.ErrCorrupt) || !strings.Contains(err.Error(), "backup") || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Config{DataDir: dir})
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
		"a table of the old kind": func(folder string) error {
			return os.Mkdir(filepath.Join(filepath.Dir(folder), oldFolder), 0o700)
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
	dir, path := kept(t)
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
	refused("a link in place of the log")
}
