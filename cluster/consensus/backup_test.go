package consensus

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// next is a generation after another.
func next(last placement.ClusterInfo) placement.Recover {
	return placement.Recover{Generation: last.Generation + 1, Incarnation: [16]byte{byte(last.Generation) + 100}, At: 1}
}

func nextOf(saved, present placement.ClusterInfo) placement.Recover {
	if saved.Generation < present.Generation {
		saved.Generation = present.Generation
	}
	return next(saved)
}

func TestBackupIsRestoredOnAllReplicas(t *testing.T) {
	g := newGroup(t, 3, nil)
	lead := g.leader()
	lead.fill(t, 300)
	var file bytes.Buffer
	saved, err := lead.Save(&file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if info.Stats.Rows != 300 || info.Cluster.Generation != 1 || info.Index != saved.Index || info.SavedBy != lead.cfg.ID || !info.SavedAt.Equal(saved.SavedAt) {
		t.Errorf("the backup says %+v", info)
	}
	lead.commit(t, &placement.OpenSession{NodeID: "later"})
	index := lead.table.Index()
	if _, err := g.peers[g.follower()].Restore(t.Context(), bytes.NewReader(file.Bytes()), nextOf); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower restores: %v", err)
	}
	if _, err := lead.Restore(t.Context(), bytes.NewReader(file.Bytes()), nextOf); err != nil {
		t.Fatal(err)
	}
	if got := lead.table.Generation(); got != 2 {
		t.Errorf("generation %d after a restore", got)
	}
	st := lead.table.Stats()
	if st.Rows != 300 || st.Sessions != 0 {
		t.Errorf("%d rows, %d sessions after a restore", st.Rows, st.Sessions)
	}
	if n := lead.commit(t, &placement.OpenSession{NodeID: "n"})[0].Node; uint64(n) <= index {
		t.Errorf("index %d after a restore, %d before", n, index)
	}
	g.same()
	for i := range g.peers {
		g.down(i)
	}
	for i := range g.peers {
		g.up(i)
	}
	g.same()
	if got := g.leader().table.Generation(); got != 2 {
		t.Errorf("generation %d after all were restarted", got)
	}
}

func TestDamagedBackupIsRefused(t *testing.T) {
	p := alone(t, testConfig(t, ""))
	p.fill(t, 20)
	var file bytes.Buffer
	if _, err := p.Save(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	before := sum(p.table)
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if _, err := Inspect(bytes.NewReader(b)); !errors.Is(err, ErrBackup) {
			t.Fatalf("byte %d of %d flipped: %v", i, len(whole), err)
		}
	}
	for _, n := range []int{0, 5, 8, 12, 40, len(whole) / 2, len(whole) - 1} {
		if _, err := Inspect(bytes.NewReader(whole[:n])); !errors.Is(err, ErrBackup) {
			t.Errorf("the first %d of %d bytes: %v", n, len(whole), err)
		}
	}
	for what, b := range map[string][]byte{"more": append(bytes.Clone(whole), 0), "text": []byte(strings.Repeat("backup\n", 100)), "length": []byte(backupMagic + "\xff\xff\xff\xff")} {
		if _, err := p.Restore(t.Context(), bytes.NewReader(b), nextOf); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := p.Restore(t.Context(), bytes.NewReader(whole), func(_, present placement.ClusterInfo) placement.Recover {
		return placement.Recover{Generation: present.Generation, Incarnation: [16]byte{1}}
	}); err == nil {
		t.Error("a generation that is not higher was taken")
	}
	if sum(p.table) != before {
		t.Error("the table changed")
	}
}

const goldenBackup = "testdata/backup.golden"

// TestGoldenBackup: files of operators stay readable.
func TestGoldenBackup(t *testing.T) {
	table := placement.New()
	for i, c := range []placement.Command{form(), &placement.OpenSession{NodeID: "n"}, &placement.Register{App: wire.AppID{1}, StoreID: "s", Node: 2}, &placement.Create{App: wire.AppID{1}, State: 5, Instance: 3}} {
		if _, err := table.Apply(uint64(i+1), placement.AppendEntry(nil, c), nil); err != nil {
			t.Fatal(err)
		}
	}
	snap := table.Snapshot()
	var body, file bytes.Buffer
	if _, err := snap.WriteTo(&body); err != nil {
		t.Fatal(err)
	}
	info := BackupInfo{SavedAt: time.Unix(1_700_000_000, 0).UTC(), SavedBy: "n1.4", Index: 4, Term: 2, Bytes: int64(body.Len())}
	if err := writeBackup(&file, info, snap); err != nil {
		t.Fatal(err)
	}
	got := hex.EncodeToString(file.Bytes()) + "\n"
	want, err := os.ReadFile(goldenBackup)
	if os.Getenv("TRUNKLINE_GOLDEN") != "" {
		err = os.WriteFile(goldenBackup, []byte(got), 0o600)
		want = []byte(got)
	}
	if err != nil || got != string(want) {
		t.Fatalf("the bytes of a backup changed: %s, %v", got, err)
	}
	raw, _ := hex.DecodeString(strings.TrimSpace(string(want)))
	read, err := Inspect(bytes.NewReader(raw))
	if err != nil || read.Stats.Rows != 1 || read.Term != 2 || !read.SavedAt.Equal(info.SavedAt) {
		t.Errorf("%+v, %v", read, err)
	}
}

func FuzzInspect(f *testing.F) {
	raw, err := os.ReadFile(goldenBackup)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := hex.DecodeString(strings.TrimSpace(string(raw)))
	f.Add(b)
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Inspect(bytes.NewReader(b)); err != nil && !errors.Is(err, ErrBackup) {
			t.Error(err)
		}
	})
}

// Two of three voters are lost for good: what the third has is the beginning of a new generation, and replicas join it.
func TestRecoverAfterTwoOfThreeAreLost(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, nil)
	lead := g.leader()
	lead.fill(t, 500)
	lead.snapshot()
	lead.commit(t, &placement.OpenSession{NodeID: "behind the snapshot"})
	g.same()
	index := lead.table.Index()
	for i := range g.peers {
		g.down(i)
	}
	// Which of them knows most? Here all know the same entries of the table.
	p := open(t, g.config(0))
	term, last, err := p.Position()
	if err != nil || last < index || term == 0 {
		t.Errorf("the log ends at %d of term %d, %v", last, term, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := g.config(0)
	if _, err := Recover(cfg, []Server{{ID: cfg.ID, Addr: cfg.Addr}}, func(last placement.ClusterInfo) placement.Recover {
		return placement.Recover{Generation: last.Generation}
	}); err == nil {
		t.Error("a generation that is not higher was taken")
	}
	at, err := Recover(cfg, []Server{{ID: cfg.ID, Addr: cfg.Addr}}, next) // after an attempt that was cut off
	if err != nil || at <= last {
		t.Fatalf("the generation begins at %d after %d, %v", at, last, err)
	}
	began := time.Now()
	p = g.up(0)
	if err := p.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second && !raceEnabled {
		t.Errorf("it led after %v", took)
	}
	st := p.table.Stats()
	if p.table.Generation() != 2 || st.Rows != 500 || st.Sessions != 0 {
		t.Errorf("generation %d, %d rows, %d sessions", p.table.Generation(), st.Rows, st.Sessions)
	}
	// One of the others comes back with what it has, and is not heard: nobody answers for its vote.
	g.up(1)
	time.Sleep(4 * quick().Election) // what must not happen has no event to wait for
	if !p.Leading() || g.peers[1].Leading() {
		t.Error("a lost voter disturbed the new generation")
	}
	g.down(1)
	if err := Wipe(g.dirs[1]); err != nil {
		t.Fatal(err)
	}
	g.ids[1] = "n1.99"
	if err := p.AddNonvoter(t.Context(), g.ids[1], g.addrs[1]); err != nil {
		t.Fatal(err)
	}
	g.up(1)
	g.same()
}

func TestRecoverNeedsSomethingToRecover(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	if _, err := Recover(cfg, []Server{{ID: cfg.ID, Addr: cfg.Addr}}, next); err == nil {
		t.Error("an empty folder was recovered")
	}
}
