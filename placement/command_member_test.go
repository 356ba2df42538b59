package placement

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

var keyA, keyB = [32]byte{0xa}, [32]byte{0xb}

func (w *world) node(id string) NodeInfo {
	w.t.Helper()
	info, ok := w.table.NodeInfo(id)
	if !ok {
		w.t.Fatalf("node %q is not known", id)
	}
	return info
}

func TestClusterIsWhatItWasFormedAs(t *testing.T) {
	w := &world{t: t, table: New()}
	if got := w.table.Cluster(); got != (ClusterInfo{}) {
		t.Errorf("before Form: %+v", got)
	}
	w.must(&Form{Generation: 3, Incarnation: [16]byte{9}, MACKey: [32]byte{8}, Name: "games", Profile: MultiRegion, Region: "eu"})
	want := ClusterInfo{Name: "games", Profile: MultiRegion, Region: "eu", Generation: 3, Incarnation: [16]byte{9}}
	if got := w.table.Cluster(); got != want {
		t.Errorf("cluster %+v, want %+v", got, want)
	}
}

func TestSessionCarriesWhereItsNodeIs(t *testing.T) {
	w := newWorld(t)
	if p := w.table.MinProto(); p != 0 {
		t.Errorf("lowest protocol of nobody: %d", p)
	}
	open := OpenSession{
		NodeID: "n1", Region: "eu", NodeAddr: "10.0.0.1:7947", GossipAddr: "10.0.0.1:7946", Key: keyA, Proto: 4,
	}
	id := w.must(&open).Node
	want := Session{
		ID: id, Node: "n1", Number: 1, Boot: 1, Region: "eu",
		NodeAddr: "10.0.0.1:7947", GossipAddr: "10.0.0.1:7946", Key: keyA, Proto: 4,
	}
	if got, ok := w.table.Session(id); !ok || got != want {
		t.Errorf("session %+v, want %+v", got, want)
	}
	old := w.must(&OpenSession{NodeID: "n2", Proto: 3}).Node
	w.must(&OpenSession{NodeID: "n3", Proto: 5})
	if p := w.table.MinProto(); p != 3 {
		t.Errorf("lowest protocol %d, want 3", p)
	}
	w.must(&EndSession{Session: old})
	if p := w.table.MinProto(); p != 4 {
		t.Errorf("lowest protocol %d after the oldest program left, want 4", p)
	}
}

func TestNodeIsBoundToItsFirstKey(t *testing.T) {
	w := newWorld(t)
	w.want(Refused, &BindNode{NodeID: "n1"})
	w.want(Refused, &BindNode{Key: keyA})
	w.must(&BindNode{NodeID: "n1", Key: keyA})
	w.must(&BindNode{NodeID: "n1", Key: keyA})
	w.want(Denied, &BindNode{NodeID: "n1", Key: keyB})
	if got := w.node("n1"); got != (NodeInfo{Node: "n1", Number: 1, Key: keyA}) {
		t.Errorf("bound and never opened: %+v", got)
	}
	w.want(Denied, &OpenSession{NodeID: "n1", Key: keyB})
	w.want(Denied, &OpenSession{NodeID: "n1"})
	w.must(&OpenSession{NodeID: "n1", Key: keyA})

	w.must(&OpenSession{NodeID: "n2"}) // it has no key yet
	w.must(&OpenSession{NodeID: "n2", Key: keyB})
	w.want(Denied, &OpenSession{NodeID: "n2", Key: keyA})
	w.want(Denied, &BindNode{NodeID: "n2", Key: keyA})
	want := []NodeInfo{{Node: "n1", Number: 1, Boot: 1, Key: keyA}, {Node: "n2", Number: 2, Boot: 2, Key: keyB}}
	if got := w.table.NodeInfos(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("nodes %+v, want %+v", got, want)
	}
	if info, ok := w.table.NodeInfo("n3"); ok {
		t.Errorf("nobody is known as %+v", info)
	}
}

func TestBindingSaysSoOnce(t *testing.T) {
	w := newWorld(t)
	w.must(&BindNode{NodeID: "n1", Key: keyA})
	since := w.index
	w.must(&BindNode{NodeID: "n1", Key: keyA})
	w.want(Denied, &BindNode{NodeID: "n1", Key: keyB})
	if changes, ok := w.table.Changes(since, nil); !ok || len(changes) > 0 {
		t.Errorf("binding as before changed %+v", changes)
	}
	if changes, _ := w.table.Changes(since-1, nil); len(changes) != 1 || changes[0].Kind != NodesChanged {
		t.Errorf("binding changed %+v", changes)
	}
}

// attach opens a session that has an instance with a state, and a key.
func (w *world) attach(id string, key [32]byte, state wire.StateID) (wire.NodeSession, Instance) {
	w.t.Helper()
	n := w.must(&OpenSession{NodeID: id, Key: key}).Node
	inst := w.legacy(appA, fmt.Sprint("of-", n), n)
	w.must(&Create{App: appA, State: state, Instance: inst.ID})
	w.must(&PutKey{ID: fmt.Sprint("key-", n), Public: key, Session: n})
	w.do(&Request{Session: n, Counter: 1}, &Firm{App: appA, State: state})
	return n, inst
}

// over checks that a session and all that hung on it is over.
func (w *world) over(id wire.NodeSession, state wire.StateID, at int64) {
	w.t.Helper()
	if _, ok := w.table.Session(id); ok {
		w.t.Errorf("session %d is open", id)
	}
	if !w.row(appA, state).Free {
		w.t.Errorf("state %d is not free", state)
	}
	if k, _ := w.table.Key(fmt.Sprint("key-", id)); k.Retired != at {
		w.t.Errorf("key of session %d is retired at %d, want %d", id, k.Retired, at)
	}
	if w.table.content.Load().requests[id] != nil {
		w.t.Errorf("requests of session %d are remembered", id)
	}
}

func TestRevokedNodeIsOut(t *testing.T) {
	w := newWorld(t)
	w.want(Stale, &Revoke{NodeID: "n1", At: 1})
	first, _ := w.attach("n1", keyA, 1)
	second, _ := w.attach("n1", keyA, 2)
	other, inst := w.attach("n2", keyB, 3)
	w.must(&Revoke{NodeID: "n1", At: 1234})
	w.over(first, 1, 1234)
	w.over(second, 2, 1234)
	if got := w.node("n1"); !got.Revoked || got.Key != keyA || got.Boot != 2 {
		t.Errorf("node %+v", got)
	}
	if s := w.table.Sessions(); len(s) != 1 || s[0].ID != other || w.row(appA, 3).Free {
		t.Errorf("the other node was touched: %+v", s)
	}
	w.want(Denied, &OpenSession{NodeID: "n1", Key: keyA})
	w.want(Denied, &OpenSession{NodeID: "n1"})
	w.want(Denied, &BindNode{NodeID: "n1", Key: keyA})
	w.want(Stale, &Gone{Instance: inst.ID, Gen: 9})
	w.must(&Revoke{NodeID: "n1", At: 5678})
	w.over(first, 1, 1234) // as it was
}

func TestUnboundNodeBeginsAnewUnderItsNumber(t *testing.T) {
	w := newWorld(t)
	w.want(Stale, &Unbind{NodeID: "n1", At: 1})
	first, _ := w.attach("n1", keyA, 1)
	w.attach("n2", keyB, 2)
	w.must(&Unbind{NodeID: "n1", At: 77})
	w.over(first, 1, 77)
	if got := w.node("n1"); got != (NodeInfo{Node: "n1", Number: 1, Boot: 1}) {
		t.Errorf("unbound: %+v", got)
	}
	w.must(&Revoke{NodeID: "n1", At: 78})
	w.must(&Unbind{NodeID: "n1", At: 79})
	again := w.must(&OpenSession{NodeID: "n1", Key: keyB}).Node
	if s, _ := w.table.Session(again); s.Number != 1 || s.Boot != 2 {
		t.Errorf("a node that is back: %+v", s)
	}
}

// TestRecoverBeginsAnew: no session, request or owner of the old generation is left, and epochs go on above.
func TestRecoverBeginsAnew(t *testing.T) {
	w := newWorld(t)
	first, inst := w.attach("n1", keyA, 1)
	second, _ := w.attach("n2", keyB, 2)
	was := w.row(appA, 1).Epoch
	mac := w.table.MACKey()
	w.want(Stale, &Recover{Generation: testGeneration, Incarnation: [16]byte{2}})
	w.want(Stale, &Recover{Generation: testGeneration - 1, Incarnation: [16]byte{2}})
	w.want(Refused, &Recover{Generation: 1 << 24, Incarnation: [16]byte{2}})
	w.want(Refused, &Recover{Generation: testGeneration + 1})
	w.want(Refused, &Recover{Generation: testGeneration + 1, Incarnation: [16]byte{1}})
	w.must(&Recover{Generation: testGeneration + 1, Incarnation: [16]byte{2}, At: 55})
	w.over(first, 1, 55)
	w.over(second, 2, 55)
	if c := w.table.Cluster(); c.Generation != testGeneration+1 || c.Incarnation != [16]byte{2} {
		t.Errorf("cluster %+v", c)
	}
	if w.table.MACKey() != mac || w.node("n1").Key != keyA {
		t.Error("what was to stay is not what it was")
	}
	n := w.must(&OpenSession{NodeID: "n1", Key: keyA}).Node
	back := w.legacy(appA, inst.StoreID, n)
	epoch := w.must(&Move{App: appA, State: 1, Expect: was, To: back.ID}).Epoch
	if epoch <= was || epoch.Generation() != testGeneration+1 {
		t.Errorf("epoch %x after %x", epoch, was)
	}
	w.want(Stale, &Recover{Generation: testGeneration + 1, Incarnation: [16]byte{2}, At: 55})
}

func TestEntryWithoutCommandIsATick(t *testing.T) {
	w := newWorld(t)
	w.session()
	hash, changed := w.table.Hash(), w.table.Changed()
	if rs := w.do(); len(rs) != 0 {
		t.Errorf("results %+v", rs)
	}
	if w.table.Index() != w.index {
		t.Errorf("index %d, want %d", w.table.Index(), w.index)
	}
	<-changed
	if w.table.Hash() == hash {
		t.Error("a table of another index has the same hash")
	}
}

func TestHashIsThatOfTheSnapshot(t *testing.T) {
	w := sampleTable(t)
	back := New()
	if err := back.Restore(bytes.NewReader(snapshotOf(t, w.table))); err != nil {
		t.Fatal(err)
	}
	if w.table.Hash() != w.table.Snapshot().Sum() || back.Hash() != w.table.Hash() {
		t.Error("equal tables have different hashes")
	}
	w.must(&Drain{Instance: w.row(appB, 1).Instance, Draining: true})
	if back.Hash() == w.table.Hash() {
		t.Error("different tables have equal hashes")
	}
}
