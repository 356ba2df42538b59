package placement

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/trunkline-edge/trunkline/wire"
)

type stateKey struct {
	app   wire.AppID
	state wire.StateID
}

// machine applies random commands to two tables and keeps what must stay true of every row over time.
type machine struct {
	one, two *Table
	index    uint64
	highest  map[stateKey]wire.Epoch                     // of any row the state ever had
	owner    map[stateKey]map[wire.Epoch]wire.InstanceID // who had it in an epoch
	nodes    []wire.NodeSession
	insts    []wire.InstanceID
	versions []uint64
	asked    map[Request][]Result // what requests of open sessions were answered
}

func newMachine(rt *rapid.T) *machine {
	m := &machine{
		one: New(), two: New(), highest: map[stateKey]wire.Epoch{}, owner: map[stateKey]map[wire.Epoch]wire.InstanceID{},
		versions: []uint64{0}, asked: map[Request][]Result{},
	}
	m.apply(rt, &Form{Generation: testGeneration, MACKey: [32]byte{1, 2, 3}})
	m.apply(rt, &OpenSession{NodeID: "n1"})
	return m
}

func (m *machine) apply(rt *rapid.T, cmds ...Command) {
	before := m.rows()
	m.index += rapid.Uint64Range(1, 3).Draw(rt, "gap")
	entry := AppendEntry(nil, cmds...)
	r1, err1 := m.one.Apply(m.index, entry, nil)
	r2, err2 := m.two.Apply(m.index, entry, nil)
	if err1 != nil || err2 != nil || fmt.Sprint(r1) != fmt.Sprint(r2) {
		rt.Fatalf("two tables answer %v, %v and %v, %v", r1, err1, r2, err2)
	}
	removed := map[stateKey]bool{}
	answered := false // what follows a request that was answered from memory changes nothing
	for i, r := range r1 {
		if _, asks := cmds[i].(*Request); asks {
			answered = r.Known || r.Outcome != Done
		}
		if answered {
			continue
		}
		switch cmd := cmds[i].(type) {
		case *Remove:
			removed[stateKey{cmd.App, cmd.State}] = removed[stateKey{cmd.App, cmd.State}] || r.Outcome == Done
		case *Release:
			removed[stateKey{cmd.App, cmd.State}] = removed[stateKey{cmd.App, cmd.State}] || r.Outcome == Done
		case *OpenSession:
			m.nodes = append(m.nodes, r.Node)
		case *Register:
			m.insts = append(m.insts, r.Instance)
		case *SetApp:
			m.versions = append(m.versions, m.index)
		}
	}
	m.once(rt, cmds, r1)
	for key, done := range removed { // made anew in the same entry, it has no owner to move away from
		if done {
			delete(before, key)
		}
	}
	m.follow(rt, before)
}

// once compares the results of requests with those that the same request had before: as long as its session is open and
// it is not forgotten it is answered with the same ones, and it is applied once at most.
func (m *machine) once(rt *rapid.T, cmds []Command, rs []Result) {
	for i, cmd := range cmds {
		q, ok := cmd.(*Request)
		if !ok {
			continue
		}
		end := i + 1
		for end < len(cmds) && cmds[end].Kind() != KindRequest {
			end++
		}
		got := rs[i+1 : end]
		was, asked := m.asked[*q]
		switch {
		case rs[i].Outcome != Done:
			if _, open := m.one.Session(q.Session); open && asked {
				rt.Fatalf("%+v was answered and is %+v now", *q, rs[i])
			}
			was = nil
		case rs[i].Known != asked:
			rt.Fatalf("%+v: asked before %v, answered %+v", *q, asked, rs[i])
		case !asked:
			m.asked[*q] = slices.Clone(got)
			continue
		}
		for j, r := range got {
			if j < len(was) && r != was[j] || j >= len(was) && r != (Result{Outcome: Stale}) {
				rt.Fatalf("%+v: %+v, was %+v", *q, got, was)
			}
		}
	}
}

func (m *machine) rows() map[stateKey]Row {
	rows := map[stateKey]Row{}
	for s := range m.one.All() {
		rows[stateKey{s.App, s.State}] = s.Row
	}
	return rows
}

// follow checks what the last entry did to rows: an owner changes with a new epoch of that index, and in no other way.
func (m *machine) follow(rt *rapid.T, before map[stateKey]Row) {
	for key, row := range m.rows() {
		was, known := before[key]
		if known && was.Epoch == row.Epoch {
			if was.Instance != row.Instance {
				rt.Fatalf("%v: the owner changed within epoch %x", key, row.Epoch)
			}
			continue
		}
		if row.Epoch.Index() != m.index || row.Epoch.Generation() > m.one.Generation() {
			rt.Fatalf("%v: epoch %x given at index %d", key, row.Epoch, m.index)
		}
		if row.Epoch <= m.highest[key] {
			rt.Fatalf("%v: epoch %x after %x", key, row.Epoch, m.highest[key])
		}
		if known && !was.Free {
			// It must have become free in this very entry: then its instance is gone now.
			if inst, ok := m.one.Instance(was.Instance); ok && !inst.Gone {
				rt.Fatalf("%v moved away from instance %d, which lives", key, was.Instance)
			}
		}
		m.highest[key] = row.Epoch
		if m.owner[key] == nil {
			m.owner[key] = map[wire.Epoch]wire.InstanceID{}
		}
		if other, ok := m.owner[key][row.Epoch]; ok && other != row.Instance {
			rt.Fatalf("%v: epoch %x names instances %d and %d", key, row.Epoch, other, row.Instance)
		}
		m.owner[key][row.Epoch] = row.Instance
	}
}

func pick[T any](rt *rapid.T, name string, from []T, or T) T {
	if len(from) == 0 {
		return or
	}
	return rapid.SampledFrom(from).Draw(rt, name)
}

// command draws a command that has a good chance to be right, and some to be stale.
func (m *machine) command(rt *rapid.T) Command {
	app := rapid.SampledFrom([]wire.AppID{appA, appB}).Draw(rt, "app")
	state := wire.StateID(rapid.Uint64Range(0, 5).Draw(rt, "state"))
	store := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "store")
	row, _ := m.one.Lookup(app, state)
	epoch := row.Epoch
	if rapid.IntRange(0, 9).Draw(rt, "stale") == 0 {
		epoch--
	}
	inst := pick(rt, "instance", m.insts, 1)
	known, _ := m.one.Instance(inst)
	node := pick(rt, "node", m.nodes, 1)
	switch rapid.IntRange(0, 19).Draw(rt, "kind") {
	case 0:
		return &OpenSession{NodeID: store}
	case 1:
		return &EndSession{Session: node, At: 5}
	case 2, 3:
		named, _ := m.one.Named(app, store, false, [16]byte{})
		return &Register{App: app, StoreID: store, Node: node, Replace: named.ID, ReplaceGen: named.Gen, Login: []byte(`{}`)}
	case 4:
		return &Register{App: app, StoreID: store, Node: node, Native: true, Incarnation: [16]byte{1 + byte(state)%2}}
	case 5:
		return &Gone{Instance: inst, Gen: known.Gen}
	case 6:
		return &Drain{Instance: inst, Draining: state%2 == 0}
	case 7, 8, 9:
		return &Create{App: app, State: state, Instance: inst, Mode: Mode(rapid.IntRange(0, 2).Draw(rt, "mode"))}
	case 10, 11:
		return &Move{App: app, State: state, Expect: epoch, To: inst}
	case 12:
		return &Firm{App: app, State: state, Epoch: epoch}
	case 13:
		return &Remove{App: app, State: state, Epoch: epoch}
	case 14:
		return &Release{App: app, State: state, Epoch: epoch}
	case 15:
		if rapid.Bool().Draw(rt, "taint") {
			return &Untaint{App: app, State: state, StoreID: store}
		}
		held := epoch
		if rapid.Bool().Draw(rt, "older") {
			held = wire.MakeEpoch(m.one.Generation()-1, 7)
		}
		return &Claim{App: app, State: state, Held: held, Instance: inst}
	case 16:
		return m.nodeCommand(rt, store)
	case 17, 18:
		return &Request{Session: node, Counter: rapid.Uint64Range(1, 4).Draw(rt, "counter")}
	default:
		version := pick(rt, "version", m.versions, 0)
		if rapid.Bool().Draw(rt, "delete") {
			return &DeleteApp{App: app, Expect: version}
		}
		return &SetApp{App: app, Expect: version, Secrets: [][32]byte{{1}}, Settings: AppSettings{MaxStates: 4}}
	}
}

// nodeCommand draws one that ends sessions or decides who may open them.
func (m *machine) nodeCommand(rt *rapid.T, node string) Command {
	key := [32]byte{rapid.Uint8Range(0, 2).Draw(rt, "key")}
	switch rapid.IntRange(0, 7).Draw(rt, "node command") {
	case 0, 1:
		return &OpenSession{NodeID: node, Key: key, Proto: uint16(key[0])}
	case 2, 3:
		return &BindNode{NodeID: node, Key: key}
	case 4:
		return &Revoke{NodeID: node, At: 6}
	case 5, 6:
		return &Unbind{NodeID: node, At: 7}
	default:
		c := m.one.Cluster()
		return &Recover{Generation: c.Generation + uint32(key[0]), Incarnation: [16]byte{c.Incarnation[0] + 1}, At: 8}
	}
}

// TestInvariants: whatever is proposed, in whatever order and batches, two tables agree, counts match rows, epochs of a
// state only rise, an owner changes at most once per index and never away from a living instance, a request is applied
// once, and a table restored from a snapshot is the same table.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt)
		for range rapid.IntRange(1, 60).Draw(rt, "entries") {
			var cmds []Command
			for range rapid.IntRange(1, 5).Draw(rt, "commands") {
				cmds = append(cmds, m.command(rt))
			}
			m.apply(rt, cmds...)
			if err := m.one.content.Load().check(); err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(0, 4).Draw(rt, "snapshot") == 0 {
				m.restore(rt)
			}
		}
		m.restore(rt)
	})
}

// restore replaces the second table by one restored from the first, which has to go on like it.
func (m *machine) restore(rt *rapid.T) {
	var b bytes.Buffer
	if _, err := m.one.Snapshot().WriteTo(&b); err != nil {
		rt.Fatal(err)
	}
	if m.one.Snapshot().Sum() != m.two.Snapshot().Sum() {
		rt.Fatal("two tables of the same entries have different snapshots")
	}
	fresh := New()
	if err := fresh.Restore(bytes.NewReader(b.Bytes())); err != nil {
		rt.Fatal(err)
	}
	if err := fresh.content.Load().check(); err != nil {
		rt.Fatalf("restored: %v", err)
	}
	var again bytes.Buffer
	if _, err := fresh.Snapshot().WriteTo(&again); err != nil {
		rt.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) || fresh.Index() != m.one.Index() {
		rt.Fatal("a restored table has another snapshot")
	}
	for key, row := range m.rows() {
		if got, ok := fresh.Lookup(key.app, key.state); !ok || got != row {
			rt.Fatalf("%v: restored as %+v, was %+v", key, got, row)
		}
	}
	m.two = fresh
}

// TestRowsLikeAMap: one shard's table against a map, with snapshots in between that must not change.
func TestRowsLikeAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newContent()
		e := c.addTenant(appA)
		c.seed = seed{1, 2}
		s, want := &shard{}, map[wire.StateID]wire.Epoch{}
		var frozen *block
		var then map[wire.StateID]wire.Epoch
		for range rapid.IntRange(0, 400).Draw(rt, "steps") {
			state := wire.StateID(rapid.IntRange(0, 120).Draw(rt, "state"))
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0, 1, 2, 3, 4, 5:
				epoch := wire.Epoch(rapid.Uint64Range(1, 1000).Draw(rt, "epoch"))
				s.put(c, stored{state: state, epoch: epoch, app: e.slot})
				want[state] = epoch
			case 9:
				frozen, s.shared = s.block.Load(), true
				then = map[wire.StateID]wire.Epoch{}
				for k, v := range want {
					then[k] = v
				}
			default:
				s.remove(c, stored{state: state, app: e.slot})
				delete(want, state)
			}
			if s.used != len(want) {
				rt.Fatalf("%d rows, want %d", s.used, len(want))
			}
		}
		for state := wire.StateID(0); state <= 120; state++ {
			row, ok := s.get(c.seed.hash(e.key, state), e.slot, state)
			if epoch, there := want[state]; ok != there || row.epoch != epoch {
				rt.Fatalf("state %d: %+v %v, want %d %v", state, row, ok, epoch, there)
			}
		}
		if frozen != nil {
			frozen.each(func(r stored) {
				if then[r.state] != r.epoch {
					rt.Fatalf("frozen row %+v, was %d", r, then[r.state])
				}
				delete(then, r.state)
			})
			if len(then) > 0 {
				rt.Fatalf("frozen rows are missing: %v", then)
			}
		}
	})
}
