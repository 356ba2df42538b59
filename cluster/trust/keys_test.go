package trust

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster.key")
	r := &ring{name: "games", secrets: []Secret{fixedSecret(1)}}
	if err := WritePrivate(path, r.text()); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) *Keys {
	t.Helper()
	k, err := LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyFilesThatOthersMayUseAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o601} {
		path := keyFile(t)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestKeyFilesThatAreNoFilesAreRefused(t *testing.T) {
	path := keyFile(t)
	link, pipe := filepath.Join(t.TempDir(), "link.key"), filepath.Join(t.TempDir(), "pipe.key")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(link); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link: %v", err)
	}
	if _, err := LoadKeys(pipe); err == nil || !strings.Contains(err.Error(), "plain file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := LoadKeys(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "plain file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := LoadKeys(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a large file: %v", err)
	}
}

func TestRotationAddUseDrop(t *testing.T) {
	path := keyFile(t)
	k := load(t, path)
	first, second := fixedSecret(1), fixedSecret(101)

	changed := k.Changed()
	id, err := k.Add(second)
	if err != nil || id != second.ID() {
		t.Fatal(id, err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the new key")
	}
	check := func(step string, want ...KeyInfo) {
		t.Helper()
		for _, keys := range []*Keys{k, load(t, path)} {
			got := keys.List()
			if len(got) != len(want) {
				t.Fatalf("%s: %v", step, got)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%s: %v, not %v", step, got, want)
				}
			}
		}
	}
	check("add", KeyInfo{first.ID(), true}, KeyInfo{second.ID(), false})
	if k.Primary() != first {
		t.Error("the new key encrypts at once")
	}
	if err := k.Drop(first.ID()); !errors.Is(err, ErrPrimaryKey) {
		t.Errorf("dropped the primary key: %v", err)
	}
	if err := k.Use(second.ID()); err != nil {
		t.Fatal(err)
	}
	check("use", KeyInfo{first.ID(), false}, KeyInfo{second.ID(), true})
	primary, all := k.GossipKeys()
	if len(all) != 2 || !bytes.Equal(primary, all[0]) || !bytes.Equal(primary, second.derive(labelGossip, 32)) {
		t.Errorf("gossip keys do not follow: %d", len(all))
	}
	if err := k.Drop(first.ID()); err != nil {
		t.Fatal(err)
	}
	check("drop", KeyInfo{second.ID(), true})
	if err := k.Use(first.ID()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a dropped key is used: %v", err)
	}
}

func TestStepsOfARotationMayBeRepeated(t *testing.T) {
	k := load(t, keyFile(t))
	second := fixedSecret(101)
	for range 2 {
		if _, err := k.Add(second); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := k.Use(second.ID()); err != nil {
			t.Fatal(err)
		}
	}
	changed := k.Changed()
	for range 2 {
		if err := k.Drop(fixedSecret(1).ID()); err != nil {
			t.Fatal(err)
		}
	}
	<-changed
	changed = k.Changed()
	if err := k.Drop(fixedSecret(1).ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("told of a change that was none")
	default:
	}
}

func TestNodesThatShareAKeyFileRotateOneAfterTheOther(t *testing.T) {
	path := keyFile(t)
	nodes := []*Keys{load(t, path), load(t, path), load(t, path)}
	second := fixedSecret(101)
	each := func(step func(*Keys) error) {
		t.Helper()
		for i, k := range nodes {
			if err := step(k); err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
		}
	}
	each(func(k *Keys) error { _, err := k.Add(second); return err })
	each(func(k *Keys) error { return k.Use(second.ID()) })
	each(func(k *Keys) error { return k.Drop(fixedSecret(1).ID()) })
	if list := load(t, path).List(); len(list) != 1 || list[0] != (KeyInfo{second.ID(), true}) {
		t.Errorf("the file has %v", list)
	}
}

func TestKeyFileChangedByHandIsKept(t *testing.T) {
	path := keyFile(t)
	k := load(t, path)
	byHand := &ring{name: "games", secrets: []Secret{fixedSecret(50)}}
	if err := WritePrivate(path, byHand.text()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add(fixedSecret(101)); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("written over: %v", err)
	}
	if len(k.List()) != 1 {
		t.Error("the key is used although it is in no file")
	}
	if got := load(t, path).Primary(); got != fixedSecret(50) {
		t.Error("the file was changed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Add(fixedSecret(101)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestRewrittenKeyFileIsPrivateAndAlone(t *testing.T) {
	path := keyFile(t)
	k := load(t, path)
	if _, err := k.Add(fixedSecret(101)); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("left over: %v %v", names, err)
	}
}

func TestKeysAreBounded(t *testing.T) {
	k := NewKeys("games")
	for range MaxSecrets - 1 {
		if _, err := k.Add(NewSecret()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Add(NewSecret()); !errors.Is(err, ErrTooManyKeys) {
		t.Errorf("one too many: %v", err)
	}
}

func TestKeysChangeFromManySides(t *testing.T) {
	k := load(t, keyFile(t))
	var all sync.WaitGroup
	for i := range MaxSecrets - 1 {
		all.Go(func() {
			if _, err := k.Add(fixedSecret(byte(40 + i))); err != nil {
				t.Error(err)
			}
			k.GossipKeys()
		})
	}
	all.Wait()
	if n := len(load(t, k.Path()).List()); n != MaxSecrets {
		t.Errorf("%d keys in the file", n)
	}
}

func TestRevealedSecretIsParsed(t *testing.T) {
	s := NewSecret()
	got, err := ParseSecret(s.Reveal())
	if err != nil || got != s {
		t.Error(err)
	}
	if len(s.ID()) != 16 || s.ID() == NewSecret().ID() {
		t.Errorf("id %q", s.ID())
	}
	// The last character has two bits that are not used: another one in its place is another text for the same secret.
	for _, text := range []string{"", s.Reveal() + "A", s.Reveal()[1:], s.Reveal()[:42] + "!", fixedSecret(1).Reveal()[:42] + "B"} {
		if _, err := ParseSecret(text); err == nil {
			t.Errorf("%d characters are read", len(text))
		}
	}
}
