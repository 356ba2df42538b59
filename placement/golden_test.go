package placement

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// samples has one command of every kind with every field set.
func samples() []Command {
	app := wire.AppID(bytes.Repeat([]byte{0xaa}, 32))
	return []Command{
		&Form{Generation: 0x010203, Incarnation: [16]byte{1}, MACKey: [32]byte{2}, Name: "games", Profile: MultiRegion, Region: "eu"},
		&OpenSession{
			NodeID: "n1", Region: "eu", NodeAddr: "10.0.0.1:7947", GossipAddr: "10.0.0.1:7946", Key: [32]byte{18}, Proto: 19,
		},
		&EndSession{Session: 3, At: 1_700_000_000},
		&PutKey{ID: "n1.1", Public: [32]byte{4}, Session: 3},
		&RemoveKey{ID: "n1.1"},
		&BindNode{NodeID: "n1", Key: [32]byte{18}},
		&Revoke{NodeID: "n1", At: 1_700_000_000},
		&Unbind{NodeID: "n1", At: 1_700_000_000},
		&Recover{Generation: 0x010204, Incarnation: [16]byte{20}, At: 1_700_000_000},
		&Request{Session: 3, Counter: 21},
		&Register{
			App: app, StoreID: "store", Native: true, Incarnation: [16]byte{5}, Region: "eu", Capacity: 100,
			Login: []byte(`{"anonymous":{}}`), Node: 3, Replace: 6, ReplaceGen: 7,
		},
		&Gone{Instance: 6, Gen: 7},
		&Drain{Instance: 6, Draining: true},
		&Create{App: app, State: 8, Instance: 6, Mode: TentativeRow},
		&Move{App: app, State: 8, Expect: wire.MakeEpoch(9, 10), To: 11},
		&Firm{App: app, State: 8, Epoch: wire.MakeEpoch(9, 10)},
		&Remove{App: app, State: 8, Epoch: wire.MakeEpoch(9, 10)},
		&Release{App: app, State: 8, Epoch: wire.MakeEpoch(9, 10)},
		&Untaint{App: app, State: 8, StoreID: "store"},
		&Claim{App: app, State: 8, Held: wire.MakeEpoch(9, 10), Instance: 6},
		&SetApp{
			App: app, Expect: 12, Secrets: [][32]byte{{13}, {14}}, Settings: AppSettings{
				Name: "game", MaxStates: 15, MaxMessage: 16, MaxConns: 17, Greeting: true, URLTokens: Off,
				PinnedLogin: []byte(`{"nickname":{}}`),
			},
		},
		&DeleteApp{App: app, Expect: 12},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: the bytes have changed, and logs and snapshots of older programs with them\n got %s\nwant %s", name, got, want)
	}
}

// TestEntryGolden pins the bytes of every command.
func TestEntryGolden(t *testing.T) {
	var text strings.Builder
	kinds := map[Kind]bool{}
	for _, cmd := range samples() {
		entry := AppendEntry(nil, cmd)
		fmt.Fprintf(&text, "%s %x\n", reflect.TypeOf(cmd).Elem().Name(), entry)
		kinds[cmd.Kind()] = true
		back, err := DecodeEntry(entry)
		if err != nil || len(back) != 1 || !reflect.DeepEqual(back[0], cmd) {
			t.Errorf("%T comes back as %+v, %v", cmd, back, err)
		}
	}
	for k := range 256 {
		if (newCommand(Kind(k)) != nil) != kinds[Kind(k)] {
			t.Errorf("kind %d is not among the samples", k)
		}
	}
	golden(t, "entries", text.String())
}

// sampleTable has something of everything a snapshot carries.
func sampleTable(t testing.TB) *world {
	w := newWorld(t)
	n := w.session()
	w.must(&OpenSession{NodeID: "n2", Region: "us"})
	w.must(&PutKey{ID: "n1.1", Public: [32]byte{4}, Session: n})
	w.must(&SetApp{App: appA, Secrets: [][32]byte{{13}}, Settings: AppSettings{Name: "game", Greeting: true}})
	a := w.must(&Register{App: appA, StoreID: "a", Region: "eu", Capacity: 7, Login: []byte(`{}`), Node: n}).Instance
	b := w.native(appA, "b", 5, n)
	c := w.legacy(appB, "c", n)
	for s := range wire.StateID(6) {
		w.must(&Create{App: appA, State: s, Instance: a, Mode: Mode(s % 3)})
	}
	w.must(&Create{App: appB, State: 1, Instance: c.ID})
	w.must(&Gone{Instance: a, Gen: 1})
	w.must(&Move{App: appA, State: 0, Expect: w.row(appA, 0).Epoch, To: b.ID})
	w.must(&Move{App: appA, State: 1, Expect: w.row(appA, 1).Epoch, To: b.ID})
	idle := w.must(&Register{App: wire.AppID{1}, StoreID: "d", Login: []byte(`{"x":{}}`), Node: n}).Instance
	w.must(&Gone{Instance: idle, Gen: 1})
	n3 := w.must(&OpenSession{
		NodeID: "n3", Region: "ap", NodeAddr: "10.0.0.3:7947", GossipAddr: "[2001:db8::3]:7946", Key: keyA, Proto: 2,
	}).Node
	w.must(&BindNode{NodeID: "n4", Key: keyB})
	w.must(&Revoke{NodeID: "n4", At: 9})
	w.do(&Request{Session: n3, Counter: 1}, &Create{App: appB, State: 2, Instance: c.ID}, &Firm{App: appB, State: 9})
	w.do(&Request{Session: n, Counter: 3}, &Register{App: appB, StoreID: "e", Node: n3}, &Request{Session: n3, Counter: 5})
	return w
}

func snapshotOf(t testing.TB, table *Table) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := table.Snapshot().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSnapshotGolden pins the bytes of a snapshot, and that those committed can be read.
func TestSnapshotGolden(t *testing.T) {
	w := sampleTable(t)
	golden(t, "snapshot", hex.EncodeToString(snapshotOf(t, w.table))+"\n")
	text, err := os.ReadFile(filepath.Join("testdata", "snapshot.golden"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	back := New()
	if err := back.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if row, ok := back.Lookup(appA, 0); !ok || row.Taint != "a" || row != w.row(appA, 0) {
		t.Errorf("row %+v", row)
	}
	if string(back.Login(wire.AppID{1})) != `{"x":{}}` || back.Login(appB) != nil {
		t.Error("logins are not what they were")
	}
	if fmt.Sprint(back.Sessions(), back.NodeInfos(), back.Cluster()) !=
		fmt.Sprint(w.table.Sessions(), w.table.NodeInfos(), w.table.Cluster()) {
		t.Errorf("nodes are not what they were: %+v, %+v", back.Sessions(), back.NodeInfos())
	}
}

// TestDamagedSnapshotIsRefused: every bit matters, every length, and a table that refuses is what it was.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	w := sampleTable(t)
	good := snapshotOf(t, w.table)
	table := New()
	if err := table.Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	want := table.Snapshot().Sum()
	refuse := func(what string, b []byte) {
		t.Helper()
		if err := table.Restore(bytes.NewReader(b)); err == nil {
			t.Fatalf("%s: restored", what)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		refuse(fmt.Sprintf("bit flipped in byte %d", i), b)
		refuse(fmt.Sprintf("cut at %d", i), good[:i])
	}
	refuse("more bytes", append(bytes.Clone(good), 0))
	refuse("a section of 4 GiB", append([]byte(snapshotMagic), 1, 0xff, 0xff, 0xff, 0xff))
	refuse("next version", append([]byte(snapshotMagic[:7]), 2))
	if table.Snapshot().Sum() != want {
		t.Fatal("a refused snapshot has changed the table")
	}
}
