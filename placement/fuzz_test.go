package placement

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// FuzzApply: any bytes are taken or refused equally by two tables that came about differently, one of them by a
// restore; what is refused changes nothing; what is taken keeps every count right and is written back as it was.
func FuzzApply(f *testing.F) {
	for _, cmd := range samples() {
		f.Add(AppendEntry(nil, cmd))
	}
	w := sampleTable(f)
	node := w.table.Sessions()[0].ID
	b := w.row(appA, 0)
	f.Add(AppendEntry(nil,
		&Register{App: appB, StoreID: "new", Node: node},
		&Create{App: appA, State: 100, Instance: b.Instance},
		&Gone{Instance: b.Instance, Gen: 1},
		&Remove{App: appA, State: 0, Epoch: b.Epoch},
		&DeleteApp{App: appA, Expect: 5},
	))
	f.Add(AppendEntry(nil)) // a tick
	last := w.table.Sessions()[2]
	f.Add(AppendEntry(nil,
		&Request{Session: last.ID, Counter: 1}, &Create{App: appB, State: 2, Instance: b.Instance},
		&Request{Session: last.ID, Counter: 4}, &Create{App: appA, State: 101, Instance: b.Instance},
		&BindNode{NodeID: last.Node, Key: keyB},
		&Revoke{NodeID: last.Node, At: 1}, &Unbind{NodeID: "n4", At: 1},
		&Recover{Generation: testGeneration + 1, Incarnation: [16]byte{2}, At: 1},
	))
	snapshot := snapshotOf(f, w.table)
	log := w.log
	f.Fuzz(func(t *testing.T, entry []byte) {
		one, two := New(), New()
		for i, e := range log {
			if _, err := one.Apply(uint64(i+1), e, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := two.Restore(bytes.NewReader(snapshot)); err != nil {
			t.Fatal(err)
		}
		before := one.Snapshot().Sum()
		index := one.Index() + 1
		r1, err1 := one.Apply(index, entry, nil)
		r2, err2 := two.Apply(index, entry, nil)
		if fmt.Sprint(r1, err1) != fmt.Sprint(r2, err2) {
			t.Fatalf("one answers %v, %v, the other %v, %v", r1, err1, r2, err2)
		}
		after := one.Snapshot().Sum()
		if after != two.Snapshot().Sum() {
			t.Fatal("two tables differ after the same entry")
		}
		if err := one.content.Load().check(); err != nil {
			t.Fatal(err)
		}
		if err1 != nil {
			if !errors.Is(err1, ErrEntry) || after != before {
				t.Fatalf("refused with %v, changed: %v", err1, after != before)
			}
			return
		}
		cmds, err := DecodeEntry(entry)
		if err != nil || !bytes.Equal(AppendEntry(nil, cmds...), entry) {
			t.Fatalf("%v: comes back as other bytes", err)
		}
	})
}

// sections makes a snapshot whose checksums are right of any bytes: u8 tag | u16 length | payload, repeated. The last
// section is made up.
func sections(raw []byte) []byte {
	b := []byte(snapshotMagic)
	add := func(tag byte, payload []byte) {
		start := len(b)
		b = binary.BigEndian.AppendUint32(append(b, tag), uint32(len(payload)))
		b = append(b, payload...)
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	}
	rows := 0
	for len(raw) >= 3 {
		n := min(int(binary.BigEndian.Uint16(raw[1:])), len(raw)-3)
		if raw[0] == sectionRows {
			rows += n / 29
		}
		add(raw[0], raw[3:3+n])
		raw = raw[3+n:]
	}
	sum := sha256.Sum256(b)
	add(sectionEnd, append(binary.BigEndian.AppendUint64(nil, uint64(rows)), sum[:]...))
	return b
}

// unwrap is the reverse of sections for a good snapshot.
func unwrap(snapshot []byte) (raw []byte) {
	for b := snapshot[len(snapshotMagic):]; len(b) > 0; {
		n := int(binary.BigEndian.Uint32(b[1:]))
		if b[0] != sectionEnd {
			raw = append(raw, b[0], byte(n>>8), byte(n))
			raw = append(raw, b[5:5+n]...)
		}
		b = b[5+n+4:]
	}
	return raw
}

// FuzzRestore: any bytes, as they are and with checksums made right, are refused without a change, or make a table
// whose counts are right and whose snapshot makes the same table again.
func FuzzRestore(f *testing.F) {
	good := snapshotOf(f, sampleTable(f).table)
	f.Add(good)
	f.Add(unwrap(good))
	f.Add(snapshotOf(f, New()))
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sections(b)} {
			table := New()
			if err := table.Restore(bytes.NewReader(b)); err != nil {
				if !errors.Is(err, ErrSnapshot) || table.Index() != 0 || table.Stats() != (Stats{}) {
					t.Fatalf("refused with %v: %+v", err, table.Stats())
				}
				continue
			}
			first := snapshotOf(t, table)
			again := New()
			if err := again.Restore(bytes.NewReader(first)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, snapshotOf(t, again)) {
				t.Fatal("a restored table has another snapshot")
			}
			exercise(t, table)
		}
	})
}

// exercise does a few things to a table that must not panic whatever it was restored from.
func exercise(t *testing.T, table *Table) {
	states := table.States(appA, 0, 10)
	cmds := []Command{&OpenSession{NodeID: "n9"}, &DeleteApp{App: appA}}
	for _, inst := range table.AllInstances() {
		cmds = append(cmds, &Gone{Instance: inst.ID, Gen: inst.Gen})
	}
	for s := range table.All() {
		cmds = append(cmds, &Firm{App: s.App, State: s.State, Epoch: s.Epoch}, &Release{App: s.App, State: s.State, Epoch: s.Epoch})
		if _, ok := table.Lookup(s.App, s.State); !ok {
			t.Fatalf("state %v is listed and not found", s.State)
		}
	}
	for _, s := range states {
		cmds = append(cmds, &Untaint{App: appA, State: wire.StateID(s.State), StoreID: s.Taint})
	}
	for _, s := range table.Sessions() {
		cmds = append(cmds, &Request{Session: s.ID, Counter: 2}, &Firm{App: appA}, &Request{Session: s.ID, Counter: 1 << 60})
	}
	if !do(t, table, cmds) {
		return
	}
	if table.Generation() != 0 {
		if n := table.Stats().Rows; n != 0 {
			t.Fatalf("%d rows are left after all were released", n)
		}
	}
	cmds = cmds[:0]
	for _, n := range table.NodeInfos() {
		cmds = append(cmds, &BindNode{NodeID: n.Node, Key: keyA}, &Revoke{NodeID: n.Node}, &Unbind{NodeID: n.Node})
	}
	cmds = append(cmds, &Recover{Generation: 1<<24 - 1, Incarnation: [16]byte{0xff, 0xee}})
	if !do(t, table, cmds) {
		return
	}
	if c := table.Cluster(); len(table.Sessions()) > 0 && c.Generation != 0 && c.Incarnation == [16]byte{0xff, 0xee} {
		t.Fatalf("sessions are left of %+v: %+v", c, table.Sessions())
	}
	if err := table.content.Load().checkRequests(); err != nil {
		t.Fatal(err)
	}
}

// do applies the commands as one entry, if an entry can have them and the table another index.
func do(t *testing.T, table *Table, cmds []Command) bool {
	entry := AppendEntry(nil, cmds...)
	if len(entry) > MaxEntry || table.Index() == maxIndex {
		return false
	}
	if _, err := table.Apply(table.Index()+1, entry, nil); err != nil {
		t.Fatal(err)
	}
	return true
}
