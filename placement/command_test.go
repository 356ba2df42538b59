package placement

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestNothingBeforeForm(t *testing.T) {
	w := &world{t: t, table: New()}
	w.want(Refused, &OpenSession{NodeID: "n1"})
	w.want(Refused, &Form{})
	w.want(Refused, &Form{Generation: 1 << 24})
	w.must(&Form{Generation: 3, Incarnation: [16]byte{9}, MACKey: [32]byte{8}})
	w.want(Refused, &Form{Generation: 4})
	if w.table.Generation() != 3 || w.table.Incarnation() != [16]byte{9} || w.table.MACKey() != [32]byte{8} {
		t.Fatal("the table is not what it was formed as")
	}
}

func TestIndexFollows(t *testing.T) {
	w := newWorld(t)
	entry := AppendEntry(nil, &OpenSession{NodeID: "n1"})
	for _, index := range []uint64{0, w.index, 1 << 40} {
		if _, err := w.table.Apply(index, entry, nil); !errors.Is(err, ErrIndex) {
			t.Errorf("index %d after %d: %v", index, w.index, err)
		}
	}
	if _, err := w.table.Apply(w.index+10, entry, nil); err != nil {
		t.Errorf("a gap: %v", err)
	}
	if n := w.table.Sessions()[0].ID; n != wire.NodeSession(w.index+10) {
		t.Errorf("session %d", n)
	}
}

// TestEntriesNotUnderstoodStopTheLog: nothing of them is applied, not even what comes before the part not understood.
func TestEntriesNotUnderstoodStopTheLog(t *testing.T) {
	w := newWorld(t)
	good := AppendEntry(nil, &OpenSession{NodeID: "n1"})
	for name, entry := range map[string][]byte{
		"empty":            {},
		"other version":    {2},
		"unknown kind":     append(append([]byte(nil), good...), 200, 0, 0, 0),
		"cut off":          good[:len(good)-1],
		"cut in a head":    append(append([]byte(nil), good...), 2, 0),
		"longer body":      {1, byte(KindGone), 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0},
		"shorter body":     {1, byte(KindGone), 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0},
		"flag of 2":        {1, byte(KindDrain), 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2},
		"text over limit":  AppendEntry(nil, &OpenSession{NodeID: strings.Repeat("x", MaxNodeID+1)}),
		"login over limit": AppendEntry(nil, &Register{StoreID: "a", Login: make([]byte, MaxLogin+1)}),
		"mode of 3":        AppendEntry(nil, &Create{Mode: 3}),
		"17 secrets":       AppendEntry(nil, &SetApp{Secrets: make([][32]byte, 17)}),
		"too large":        append(AppendEntry(nil), make([]byte, MaxEntry)...),
	} {
		before := w.table.Snapshot().Sum()
		if _, err := w.table.Apply(w.index+1, entry, nil); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
		if w.table.Snapshot().Sum() != before || w.table.Index() != w.index {
			t.Errorf("%s: the table has changed", name)
		}
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	w.want(Refused, &OpenSession{})
	rs := w.do(&OpenSession{NodeID: "n1", Region: "eu"}, &OpenSession{NodeID: "n2"})
	if rs[0].Outcome != Done || rs[1].Outcome != Again {
		t.Fatalf("two sessions at one index: %+v", rs)
	}
	first := rs[0].Node
	second := w.must(&OpenSession{NodeID: "n1", Region: "us"}).Node
	other := w.must(&OpenSession{NodeID: "n2"}).Node
	want := []Session{
		{ID: first, Node: "n1", Number: 1, Boot: 1, Region: "eu"},
		{ID: second, Node: "n1", Number: 1, Boot: 2, Region: "us"},
		{ID: other, Node: "n2", Number: 2, Boot: 1},
	}
	if got := w.table.Sessions(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("sessions %v, want %v", got, want)
	}
	if s, ok := w.table.Session(second); !ok || s != want[1] {
		t.Fatalf("session %v", s)
	}
	a := w.legacy(appA, "a", first)
	b := w.legacy(appA, "b", second)
	w.must(&PutKey{ID: "k1", Public: [32]byte{1}, Session: first})
	w.must(&PutKey{ID: "k2", Public: [32]byte{2}, Session: second})
	w.must(&Create{App: appA, State: 1, Instance: a.ID})
	w.want(Stale, &EndSession{Session: 99})
	w.must(&EndSession{Session: first, At: 1234})
	w.want(Stale, &EndSession{Session: first})
	if _, ok := w.table.Session(first); ok {
		t.Error("an ended session is open")
	}
	if !w.row(appA, 1).Free {
		t.Error("an instance of an ended session lives")
	}
	if inst, ok := w.table.Instance(b.ID); !ok || inst.Gone {
		t.Error("an instance of another session went")
	}
	keys := w.table.Keys()
	if len(keys) != 2 || keys[0].Retired != 1234 || keys[1].Retired != 0 {
		t.Errorf("keys %+v", keys)
	}
	w.want(Stale, &Register{App: appA, StoreID: "c", Node: first})
	w.want(Stale, &PutKey{ID: "k3", Session: first})
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	w.want(Refused, &PutKey{Session: n})
	w.must(&PutKey{ID: "k", Public: [32]byte{1}, Session: n})
	w.must(&PutKey{ID: "k", Public: [32]byte{1}, Session: n})
	w.want(Stale, &PutKey{ID: "k", Public: [32]byte{2}, Session: n})
	w.want(Stale, &RemoveKey{ID: "k"}) // its session lives
	w.want(Stale, &RemoveKey{ID: "x"})
	w.must(&EndSession{Session: n})
	if k, _ := w.table.Key("k"); k.Retired == 0 {
		t.Error("a key retired at time 0 looks alive")
	}
	w.must(&RemoveKey{ID: "k"})
	if _, ok := w.table.Key("k"); ok {
		t.Error("a removed key is there")
	}
}

func TestRegister(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	w.want(Refused, &Register{App: appA, Node: n})
	w.want(Refused, &Register{App: appA, StoreID: "a", Native: true, Node: n})
	w.want(Refused, &Register{App: appA, StoreID: "a", Incarnation: [16]byte{1}, Node: n})
	rs := w.do(&Register{App: appA, StoreID: "a", Node: n}, &Register{App: appA, StoreID: "b", Node: n})
	if rs[0].Outcome != Done || rs[1].Outcome != Again {
		t.Fatalf("two instances at one index: %+v", rs)
	}
	a := rs[0].Instance
	held := w.want(Held, &Register{App: appA, StoreID: "a", Node: n})
	if held.Instance != a || held.Gen != 1 || held.Node != n {
		t.Fatalf("held: %+v", held)
	}
	w.want(Held, &Register{App: appA, StoreID: "a", Node: n, Replace: a, ReplaceGen: 2})
	again := w.must(&Register{App: appA, StoreID: "a", Node: n, Replace: a, ReplaceGen: 1, Region: "us", Capacity: 5, Login: []byte(`{}`)})
	if !again.Known || again.Instance != a || again.Gen != 2 {
		t.Fatalf("again: %+v", again)
	}
	if inst, _ := w.table.Instance(a); inst.Region != "us" || inst.Capacity != 5 || string(inst.Login) != "{}" {
		t.Fatalf("instance %+v", inst)
	}
	// The same name under another app, or spoken natively, is somebody else.
	b := w.legacy(appB, "a", n)
	c := w.native(appA, "a", 1, n)
	if b.ID == a || c.ID == a || c.ID == b.ID {
		t.Fatal("instances are mixed up")
	}
	if got, ok := w.table.Named(appA, "a", true, [16]byte{1}); !ok || got.ID != c.ID {
		t.Fatalf("named %+v", got)
	}
	if _, ok := w.table.Named(appA, "a", true, [16]byte{2}); ok {
		t.Fatal("an incarnation nobody has")
	}
	if ids := w.table.Instances(appA); len(ids) != 2 || ids[0].ID != a || ids[1].ID != c.ID {
		t.Fatalf("instances %+v", ids)
	}
	if all := w.table.AllInstances(); len(all) != 3 {
		t.Fatalf("all instances %+v", all)
	}
}

func TestGenRunsOut(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a := w.native(appA, "a", 1, n)
	c := w.table.content.Load()
	inst := *c.instances.get(c.byID[a.ID])
	inst.Gen = ^wire.Gen(0)
	c.instances.set(c.byID[a.ID], &inst)
	w.want(Full, &Register{App: appA, StoreID: "a", Native: true, Incarnation: [16]byte{1}, Node: n})
}

func TestGoneAndDrain(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a := w.legacy(appA, "a", n)
	w.must(&Drain{Instance: a.ID, Draining: true})
	if inst, _ := w.table.Instance(a.ID); !inst.Draining {
		t.Error("does not drain")
	}
	w.must(&Drain{Instance: a.ID})
	w.want(NoInstance, &Drain{Instance: 99})
	w.want(NoInstance, &Gone{Instance: 99})
	w.want(Stale, &Gone{Instance: a.ID, Gen: 2})
	w.must(&Create{App: appA, State: 1, Instance: a.ID})
	w.must(&Gone{Instance: a.ID, Gen: 1})
	w.want(NoInstance, &Gone{Instance: a.ID, Gen: 1})
	w.want(NoInstance, &Drain{Instance: a.ID})
	if inst, ok := w.table.Instance(a.ID); !ok || !inst.Gone || inst.Rows != 1 {
		t.Errorf("instance with a row left: %+v", inst)
	}
	if g := w.table.GoneInstances(); len(g) != 1 || len(w.table.AllInstances()) != 0 {
		t.Errorf("gone: %+v", g)
	}
	w.must(&Remove{App: appA, State: 1, Epoch: w.row(appA, 1).Epoch})
	if _, ok := w.table.Instance(a.ID); ok {
		t.Error("an instance without rows is remembered")
	}
	if _, ok := w.table.App(appA); ok {
		t.Error("an app that nothing is left of is remembered")
	}
}

func TestRows(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a, b := w.legacy(appA, "a", n), w.legacy(appA, "b", n)
	foreign := w.legacy(appB, "f", n)
	w.want(NoInstance, &Create{App: appA, State: 1, Instance: 99})
	w.want(NoInstance, &Create{App: appA, State: 1, Instance: foreign.ID})
	w.want(NoInstance, &Create{App: wire.AppID{9}, State: 1, Instance: a.ID})
	r := w.must(&Create{App: appA, State: 1, Instance: a.ID, Mode: PendingRow})
	if r.Epoch != wire.MakeEpoch(testGeneration, w.index) {
		t.Fatalf("epoch %x at index %d", r.Epoch, w.index)
	}
	w.want(Stale, &Create{App: appA, State: 1, Instance: b.ID})
	w.noRow(appB, 1)
	if row := w.row(appA, 1); row != (Row{Instance: a.ID, Node: n, Epoch: r.Epoch, Gen: 1, Pending: true}) {
		t.Fatalf("row %+v", row)
	}
	w.must(&Create{App: appB, State: 1, Instance: foreign.ID}) // the same id in another app

	w.want(Stale, &Firm{App: appA, State: 1, Epoch: r.Epoch + 1})
	w.want(Stale, &Firm{App: appA, State: 2, Epoch: r.Epoch})
	w.must(&Firm{App: appA, State: 1, Epoch: r.Epoch})
	w.must(&Firm{App: appA, State: 1, Epoch: r.Epoch})
	if row := w.row(appA, 1); row.Pending || row.Epoch != r.Epoch {
		t.Fatalf("row %+v", row)
	}
	w.want(Stale, &Remove{App: appA, State: 1, Epoch: r.Epoch})
	w.want(Stale, &Release{App: appA, State: 1, Epoch: r.Epoch + 1})
	w.must(&Release{App: appA, State: 1, Epoch: r.Epoch})
	w.must(&Release{App: appA, State: 1, Epoch: r.Epoch})
	w.must(&Remove{App: appA, State: 1, Epoch: r.Epoch})
	w.noRow(appA, 1)

	r = w.must(&Create{App: appA, State: 0, Instance: a.ID, Mode: TentativeRow}) // 0 is an id like any other
	if !w.row(appA, 0).Tentative {
		t.Fatal("not tentative")
	}
	w.want(Stale, &Remove{App: appA, State: 0, Epoch: r.Epoch + 1})
	w.must(&Remove{App: appA, State: 0, Epoch: r.Epoch})
	w.noRow(appA, 0)
}

func TestMoveTaintsAndKeepsFlags(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a, b := w.legacy(appA, "a", n), w.legacy(appA, "b", n)
	first := w.must(&Create{App: appA, State: 1, Instance: a.ID, Mode: TentativeRow}).Epoch
	move := func(expect wire.Epoch, to wire.InstanceID) *Move {
		return &Move{App: appA, State: 1, Expect: expect, To: to}
	}
	w.want(Stale, move(first, b.ID)) // its instance lives
	w.must(&Gone{Instance: a.ID, Gen: 1})
	w.want(Stale, move(first+1, b.ID))
	w.want(Stale, &Move{App: appA, State: 2, Expect: first, To: b.ID})
	w.want(NoInstance, move(first, a.ID))
	w.want(NoInstance, move(first, w.legacy(appB, "f", n).ID))
	second := w.must(move(first, b.ID)).Epoch
	if row := w.row(appA, 1); row.Taint != "a" || !row.Tentative || row.Instance != b.ID || row.Epoch != second || second <= first {
		t.Fatalf("row %+v", row)
	}
	if _, ok := w.table.Instance(a.ID); ok {
		t.Fatal("an instance whose last row moved is remembered")
	}
	// Back to the same name: the taint of before stays, for nobody else had the state in between.
	w.must(&Gone{Instance: b.ID, Gen: 1})
	b2 := w.legacy(appA, "b", n)
	third := w.must(move(second, b2.ID)).Epoch
	if row := w.row(appA, 1); row.Taint != "a" || row.Epoch != third {
		t.Fatalf("row %+v", row)
	}
	w.must(&Untaint{App: appA, State: 1, StoreID: "b"})
	if row := w.row(appA, 1); row.Taint != "a" {
		t.Fatal("untainted by another name")
	}
	w.must(&Untaint{App: appA, State: 1, StoreID: "a"})
	if row := w.row(appA, 1); row.Taint != "" || row.Epoch != third {
		t.Fatalf("row %+v", row)
	}
	w.must(&Untaint{App: appA, State: 9, StoreID: "a"})
	if c := w.table.content.Load(); len(c.taintOf) != 0 {
		t.Fatalf("taints nobody has: %v", c.taintOf)
	}
}

// TestOneOwnerChangePerStateAndIndex: within one entry a state gets an owner at most once, or an epoch would name two.
func TestOneOwnerChangePerStateAndIndex(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a, b := w.legacy(appA, "a", n), w.legacy(appA, "b", n)
	epoch := wire.MakeEpoch(testGeneration, w.index+1)
	rs := w.do(
		&Create{App: appA, State: 1, Instance: a.ID, Mode: PendingRow},
		&Remove{App: appA, State: 1, Epoch: epoch},
		&Release{App: appA, State: 1, Epoch: epoch},
		&Create{App: appA, State: 1, Instance: b.ID},
		&Gone{Instance: a.ID, Gen: 1},
		&Move{App: appA, State: 1, Expect: epoch, To: b.ID},
		&Claim{App: appA, State: 1, Held: epoch, Instance: b.ID},
		&Firm{App: appA, State: 1, Epoch: epoch},
	)
	for i, want := range []Outcome{Done, Again, Again, Stale, Done, Again, Again, Done} {
		if rs[i].Outcome != want {
			t.Errorf("command %d: outcome %d, want %d", i, rs[i].Outcome, want)
		}
	}
	if row := w.row(appA, 1); row.Instance != a.ID || !row.Free || row.Pending {
		t.Errorf("row %+v", row)
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	a := w.native(appA, "a", 1, n)
	held := w.must(&Create{App: appA, State: 1, Instance: a.ID, Mode: PendingRow}).Epoch
	claim := func(state wire.StateID, held wire.Epoch, by wire.InstanceID) *Claim {
		return &Claim{App: appA, State: state, Held: held, Instance: by}
	}
	w.want(Stale, claim(1, held, a.ID)) // has an owner
	w.must(&Gone{Instance: a.ID, Gen: 1})
	a2 := w.native(appA, "a", 2, n)
	w.want(NoInstance, claim(1, held, a.ID))
	w.want(NoInstance, claim(1, held, w.native(appB, "b", 2, n).ID))
	w.want(Stale, claim(1, held-1, a2.ID))
	r := w.must(claim(1, held, a2.ID))
	if row := w.row(appA, 1); row.Instance != a2.ID || row.Pending || row.Taint != "" || row.Epoch != r.Epoch || r.Epoch <= held {
		t.Fatalf("row %+v", row)
	}
	w.want(Stale, claim(2, wire.MakeEpoch(testGeneration, 1), a2.ID))
	w.want(Stale, claim(2, 1, a2.ID))
	w.must(claim(2, wire.MakeEpoch(testGeneration-1, 1<<30), a2.ID))
	w.must(&SetApp{App: appA, Secrets: [][32]byte{{1}}, Settings: AppSettings{MaxStates: 2}})
	w.want(Full, claim(3, wire.MakeEpoch(1, 1), a2.ID))
	w.want(Full, &Create{App: appA, State: 3, Instance: a2.ID})
}

func TestApps(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	secret := [][32]byte{{1}}
	w.want(Refused, &SetApp{App: appA})
	w.want(Stale, &SetApp{App: appA, Expect: 4, Secrets: secret})
	w.must(&SetApp{App: appA, Secrets: secret, Settings: AppSettings{Name: "one", MaxStates: 1 << 60}})
	version := w.index
	w.want(Stale, &SetApp{App: appA, Secrets: secret})
	got, ok := w.table.App(appA)
	if !ok || got.Version != version || got.Settings.Name != "one" || got.MaxStates != maxStates || !got.Listed {
		t.Fatalf("app %+v", got)
	}
	w.must(&SetApp{App: appA, Expect: version, Secrets: [][32]byte{{1}, {2}}})
	version = w.index
	if got, _ := w.table.App(appA); got.MaxStates != DefaultMaxStates || !got.HasSecret([32]byte{2}) || got.HasSecret([32]byte{3}) {
		t.Fatalf("app %+v", got)
	}
	if _, ok := w.table.App(appB); ok {
		t.Fatal("an app nobody made")
	}
	a := w.legacy(appA, "a", n)
	w.must(&Create{App: appA, State: 1, Instance: a.ID})
	w.must(&Gone{Instance: a.ID, Gen: 1})
	w.must(&Remove{App: appA, State: 1, Epoch: w.row(appA, 1).Epoch})
	if apps := w.table.Apps(); len(apps) != 1 {
		t.Fatal("a listed app was forgotten with its last instance")
	}
	a = w.legacy(appA, "a", n)
	w.must(&Create{App: appA, State: 1, Instance: a.ID})

	w.want(NoApp, &DeleteApp{App: appB})
	w.want(Stale, &DeleteApp{App: appA, Expect: version + 1})
	w.must(&DeleteApp{App: appA, Expect: version})
	w.want(NoApp, &DeleteApp{App: appA, Expect: version})
	w.want(NoApp, &SetApp{App: appA, Expect: version, Secrets: secret})
	w.want(NoApp, &Register{App: appA, StoreID: "a", Node: n})
	if _, ok := w.table.App(appA); ok || len(w.table.Apps()) != 0 || len(w.table.Deleting()) != 1 {
		t.Fatal("an app being deleted is shown")
	}
	if w.table.Login(appA) != nil {
		t.Fatal("an app being deleted has logins")
	}
	if row := w.row(appA, 1); !row.Free {
		t.Fatalf("row %+v", row)
	}
	w.must(&Remove{App: appA, State: 1, Epoch: w.row(appA, 1).Epoch})
	if len(w.table.Deleting()) != 0 {
		t.Fatal("an app stays after its last row")
	}
	w.must(&SetApp{App: appA, Secrets: secret})
	w.must(&DeleteApp{App: appA, Expect: w.index})
	if w.table.Stats().Apps != 0 {
		t.Fatal("an empty app is not deleted at once")
	}
}

func TestOwnerOfASecret(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	w.must(&SetApp{App: appA, Secrets: [][32]byte{{1}, {2}}})
	w.legacy(appB, "a", n) // known, but nobody listed it
	for secret, want := range map[[32]byte]wire.AppID{{1}: appA, {2}: appA, {3}: {}, appB: {}} {
		if got, ok := w.table.Owner(secret); got != want || ok != (want != wire.AppID{}) {
			t.Errorf("%x belongs to %v, %v", secret[:2], got, ok)
		}
	}
	app, _ := w.table.App(appA)
	w.must(&SetApp{App: appA, Expect: app.Version, Secrets: [][32]byte{{2}}})
	if got, ok := w.table.Owner([32]byte{1}); ok {
		t.Errorf("a removed secret belongs to %v", got)
	}
	app, _ = w.table.App(appA)
	w.must(&DeleteApp{App: appA, Expect: app.Version})
	if got, ok := w.table.Owner([32]byte{2}); ok {
		t.Errorf("the secret of a deleted app belongs to %v", got)
	}
}

// TestIdleAppIsDeletedAtOnce: one that is only remembered for its logins has no last instance whose end would do it.
func TestIdleAppIsDeletedAtOnce(t *testing.T) {
	w := newWorld(t)
	r := w.must(&Register{App: appA, StoreID: "a", Node: w.session(), Login: []byte(`{}`)})
	w.must(&Gone{Instance: r.Instance, Gen: 1})
	w.must(&DeleteApp{App: appA})
	if n := w.table.Stats().Apps; n != 0 || w.table.content.Load().idle != 0 {
		t.Fatalf("%d apps are left", n)
	}
}

// TestLoginUnion: pin, else the union over live instances, the younger winning, else the last one that lived.
func TestLoginUnion(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	login := func(want string) {
		t.Helper()
		if got := string(w.table.Login(appA)); got != want {
			t.Fatalf("login %s, want %s", got, want)
		}
	}
	reg := func(storeID, conf string) wire.InstanceID {
		t.Helper()
		return w.must(&Register{App: appA, StoreID: storeID, Node: n, Login: []byte(conf)}).Instance
	}
	login("")
	a := reg("a", `{"anonymous":{},"google":{"clientId":"1"}}`)
	login(`{"anonymous":{},"google":{"clientId":"1"}}`)
	b := reg("b", `{"google":{"clientId":"2"},"nickname":{}}`)
	c := reg("c", `not JSON`)
	login(`{"anonymous":{},"google":{"clientId":"2"},"nickname":{}}`)
	w.must(&Gone{Instance: a, Gen: 1})
	login(`{"google":{"clientId":"2"},"nickname":{}}`)
	w.must(&Gone{Instance: c, Gen: 1})
	w.must(&Gone{Instance: b, Gen: 1})
	login(`{"google":{"clientId":"2"},"nickname":{}}`)
	w.must(&SetApp{App: appA, Secrets: [][32]byte{{1}}, Settings: AppSettings{PinnedLogin: []byte(`{"pinned":{}}`)}})
	login(`{"pinned":{}}`)
	reg("d", `{"x":{}}`)
	login(`{"pinned":{}}`)
}

// TestIdleAppsAreBounded: apps that nobody listed are remembered for their logins only, and not without end.
func TestIdleAppsAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	id := func(i int) wire.AppID { return wire.AppID{byte(i), byte(i >> 8), byte(i >> 16), 1} }
	for i := range maxIdle + 10 {
		r := w.must(&Register{App: id(i), StoreID: "a", Node: n, Login: []byte(`{"anonymous":{}}`)})
		w.must(&Gone{Instance: r.Instance, Gen: 1})
	}
	apps := w.table.Stats().Apps
	if apps > maxIdle || apps < maxIdle-sweepIdle {
		t.Fatalf("%d idle apps, at most %d", apps, maxIdle)
	}
	if w.table.Login(id(0)) != nil || w.table.Login(id(maxIdle+9)) == nil {
		t.Fatal("not the longest idle were forgotten")
	}
	w.must(&Register{App: id(maxIdle), StoreID: "a", Node: n}) // one of them wakes
	if c := w.table.content.Load(); c.idle != apps-1 {
		t.Fatalf("%d idle of %d", c.idle, apps)
	}
}

func TestInstancesPerAppAreBounded(t *testing.T) {
	w := newWorld(t)
	n := w.session()
	for i := range MaxInstances {
		w.legacy(appA, fmt.Sprint(i), n)
		w.log = nil
	}
	w.want(Full, &Register{App: appA, StoreID: "one more", Node: n})
	w.legacy(appB, "a", n)
}

func TestNodesAndKeysAreBounded(t *testing.T) {
	w := newWorld(t)
	first := w.session()
	for i := range MaxKeys {
		w.must(&PutKey{ID: fmt.Sprint(i), Session: first})
	}
	w.want(Full, &PutKey{ID: "one more", Session: first})
	for range maxSessions - 1 {
		w.session()
	}
	w.want(Full, &OpenSession{NodeID: "n1"})
	w.must(&EndSession{Session: first})
	w.session()
}
