package cluster

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	coordinator "github.com/trunkline-edge/trunkline/cluster"
)

// settle ends the story: it waits until all is quiet and checks what must hold after every one.
func (w *world) settle() {
	t, l := w.t, w.load
	t.Helper()
	w.leader()
	l.everybody(time.Now())
	l.stop()
	w.sameTables()
	l.checkCreates()
	l.checkControlPlane()
	l.checkPlayers()
}

// sameTables waits until every live node was seen with a table of one index, and compares those: at one index, all are
// the same to the last byte.
func (w *world) sameTables() {
	t := w.t
	t.Helper()
	seen := map[uint64]map[string]bool{} // by index: nodes that had it
	sums := map[uint64][32]byte{}
	problem := ""
	met := within(patience, func() bool {
		for _, n := range w.live() {
			index, sum, err := n.digest()
			if err != nil {
				problem = n.name + ": " + err.Error()
				return false
			}
			if seen[index] == nil {
				seen[index], sums[index] = map[string]bool{}, sum
			}
			if sums[index] != sum {
				t.Fatalf("the table of %s at index %d differs from that of %v", n.name, index, seen[index])
			}
			seen[index][n.name] = true
			if len(seen[index]) == len(w.live()) {
				return true
			}
			problem = fmt.Sprintf("%s is at index %d", n.name, index)
		}
		return false
	})
	if !met {
		t.Fatalf("the tables of the nodes do not come to one index: %s", problem)
	}
	if w.load == nil {
		return
	}
	until(t, "all nodes to list the same states", patience, func() bool {
		rows := w.load.rows(w.live()[0])
		return !slices.ContainsFunc(w.live(), func(n *node) bool { return !maps.Equal(rows, w.load.rows(n)) })
	})
}

// digest sums up the table of a node and says at which index it is.
func (n *node) digest() (index uint64, sum [32]byte, err error) {
	ctx, cancel := call()
	defer cancel()
	var saved bytes.Buffer
	if err := n.operator().Snapshot(ctx, &saved); err != nil {
		return 0, sum, err
	}
	all := saved.Bytes()
	info, err := coordinator.InspectSnapshot(&saved)
	if err != nil {
		return 0, sum, err
	}
	table := all[:len(all)-sha256.Size] // behind a head that says who saved it and when
	return info.Index, sha256.Sum256(table[int64(len(table))-info.Bytes:]), nil
}

// checkCreates checks that no acknowledged create is lost at any node, and that none was made twice.
func (l *load) checkCreates() {
	t := l.w.t
	t.Helper()
	keys, made := map[string]string{}, map[string]string{} // of a state; state of a key
	for _, e := range l.of("made") {
		keys[e.State] = e.Key
	}
	acked, unknown := map[string]string{}, 0
	for _, e := range l.of("create") {
		if e.Result != "ok" {
			unknown++
			continue
		}
		acked[e.State] = e.Key
		if keys[e.State] != e.Key {
			t.Errorf("state %s, made with %s at %s, was made by a backend with %q", e.State, e.Key, e.Node, keys[e.State])
		}
	}
	for _, n := range l.w.live() {
		rows := l.rows(n)
		for state, key := range acked {
			if _, ok := rows[state]; !ok {
				t.Errorf("state %s (%s), acknowledged, is lost at %s", state, key, n.name)
			}
		}
		for state := range rows {
			key := keys[state]
			if other, twice := made[key]; twice && other != state && key != "" {
				t.Errorf("%s was made twice: %s and %s", key, state, other)
			}
			made[key] = state
		}
	}
	t.Logf("%d creates acknowledged, %d with an unknown outcome", len(acked), unknown)
	if len(acked) < 10 {
		t.Errorf("only %d creates were acknowledged: too few to say anything", len(acked))
	}
}

// checkControlPlane checks that one copy of the table explains what creators, readers and listers saw.
func (l *load) checkControlPlane() {
	t := l.w.t
	t.Helper()
	var rows, apps []porcupine.Operation
	for _, e := range l.since(0) {
		op := porcupine.Operation{Input: e, Output: e, Call: e.At, Return: e.Ret}
		switch {
		case e.Op == "create" && e.Result == "ok", e.Op == "where":
			rows = append(rows, op)
		case e.Op == "list", e.Op == "delete":
			if e.Result == "unknown" {
				op.Return = math.MaxInt64
			}
			apps = append(apps, op)
		}
	}
	for name, check := range map[string]struct {
		model porcupine.NondeterministicModel
		ops   []porcupine.Operation
	}{"states": {rowModel(l.plan.moves), rows}, "apps": {appModel, apps}} {
		model := check.model.ToModel()
		result, info := porcupine.CheckOperationsVerbose(model, check.ops, 30*time.Second)
		switch result {
		case porcupine.Illegal:
			path := logPath(t, "porcupine-"+name, "html")
			err := porcupine.VisualizePath(model, info, path)
			t.Errorf("no order of the %d operations on %s explains what was seen: %s (%v)", len(check.ops), name, path, err)
		case porcupine.Unknown:
			t.Logf("the %d operations on %s are too many to check in 30 s", len(check.ops), name)
		}
	}
	t.Logf("control plane: %d operations on states, %d on apps", len(rows), len(apps))
}

func partition(by func(event) string) func([]porcupine.Operation) [][]porcupine.Operation {
	return func(ops []porcupine.Operation) (parts [][]porcupine.Operation) {
		groups := map[string][]porcupine.Operation{}
		for _, op := range ops {
			key := by(op.Input.(event))
			groups[key] = append(groups[key], op)
		}
		for _, key := range slices.Sorted(maps.Keys(groups)) {
			parts = append(parts, groups[key])
		}
		return parts
	}
}

func describe(input, _ any) string {
	e := input.(event)
	return fmt.Sprintf("%s %s%s at %s: %s %d/%d", e.Op, e.State, e.Key, e.Node, e.Result, e.Inst, e.Epoch)
}

// appModel is an app that is listed or is not. Who makes or deletes it is told which of the two it was, so all of it is
// linearizable; what was not answered may have happened at any time after, or never.
var appModel = porcupine.NondeterministicModel{
	Partition: partition(func(e event) string { return e.Key }),
	Init:      func() []any { return []any{false} },
	Step: func(state, input, _ any) []any {
		e, is := input.(event), state.(bool)
		makes := e.Op == "list"
		switch {
		case e.Result == "unknown":
			return []any{is, makes}
		case e.Result == "ok" && is != makes:
			return []any{makes}
		case e.Result != "ok" && is == makes:
			return []any{is}
		}
		return nil
	},
	DescribeOperation: describe,
}

// row is a state as the model has it. Look-ups never leave their node, so they may be late, but no node's go backwards,
// not over its deaths either, and the node that acknowledged a create knows it from then on.
type row struct {
	made        bool
	epoch, inst uint64    // the latest that anybody saw; 0: nobody yet
	seen        [9]uint64 // by node: the epoch it last showed, 1: it must have one
}

func rowModel(moves bool) porcupine.NondeterministicModel {
	return porcupine.NondeterministicModel{
		Partition: partition(func(e event) string { return e.State }),
		Init:      func() []any { return []any{row{}} },
		Step: func(state, input, _ any) []any {
			e, r := input.(event), state.(row)
			seen := &r.seen[e.Node[1]-'0']
			switch {
			case e.Op == "create" && !r.made:
				r.made, *seen = true, 1
			case e.Op == "where" && e.Result == "missing" && *seen == 0:
			case e.Op == "where" && e.Result == "ok" && r.made && e.Epoch >= *seen:
				switch {
				case r.epoch == 0, e.Epoch > r.epoch && moves:
					r.epoch, r.inst = e.Epoch, e.Inst
				case e.Epoch == r.epoch && (e.Inst == r.inst || moves), e.Epoch < r.epoch && moves:
				default:
					return nil
				}
				*seen = e.Epoch
			default:
				return nil
			}
			return []any{r}
		},
		DescribeOperation: describe,
	}
}

// The checker finds what it is there to find.
func TestCheckerRefusesHistoriesThatCannotBe(t *testing.T) {
	t.Parallel()
	op := func(e event, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: e, Output: e, Call: call, Return: ret}
	}
	made := op(event{Op: "create", State: "s", Node: "n1", Result: "ok"}, 1, 2)
	where := func(node, result string, epoch uint64, call int64) porcupine.Operation {
		return op(event{Op: "where", State: "s", Node: node, Result: result, Epoch: epoch, Inst: epoch}, call, call+1)
	}
	list := func(kind, result string, call, ret int64) porcupine.Operation {
		return op(event{Op: kind, Key: "a", Node: "n1", Result: result}, call, ret)
	}
	for _, tc := range []struct {
		what  string
		model porcupine.NondeterministicModel
		ops   []porcupine.Operation
		want  bool
	}{
		{"a node that is late", rowModel(false), []porcupine.Operation{made, where("n2", "missing", 0, 3), where("n2", "ok", 7, 5), where("n1", "ok", 7, 7)}, true},
		{"lost where it was acknowledged", rowModel(false), []porcupine.Operation{made, where("n1", "missing", 0, 3)}, false},
		{"lost after it was seen", rowModel(false), []porcupine.Operation{made, where("n2", "ok", 7, 3), where("n2", "missing", 0, 5)}, false},
		{"made twice", rowModel(false), []porcupine.Operation{made, made}, false},
		{"a move that nobody wanted", rowModel(false), []porcupine.Operation{made, where("n2", "ok", 7, 3), where("n1", "ok", 8, 5)}, false},
		{"a move", rowModel(true), []porcupine.Operation{made, where("n2", "ok", 7, 3), where("n1", "ok", 8, 5), where("n2", "ok", 7, 7)}, true},
		{"a node that goes backwards", rowModel(true), []porcupine.Operation{made, where("n2", "ok", 8, 3), where("n2", "ok", 7, 5)}, false},
		{"listed twice", appModel, []porcupine.Operation{list("list", "ok", 1, 2), list("list", "ok", 3, 4)}, false},
		{"listed twice, deleted in between by who knows", appModel, []porcupine.Operation{list("list", "ok", 1, 2), list("delete", "unknown", 1, math.MaxInt64), list("list", "ok", 3, 4)}, true},
		{"there before it was made", appModel, []porcupine.Operation{list("list", "exists", 1, 2), list("list", "ok", 3, 4)}, false},
	} {
		if got := porcupine.CheckOperations(tc.model.ToModel(), tc.ops); got != tc.want {
			t.Errorf("%s: explained is %v, want %v", tc.what, got, tc.want)
		}
	}
}

// checkPlayers checks that nobody heard what was not for him, that answers of one instance came in the order of the
// messages, and that no instance was given a message of an SDK client twice or out of order.
func (l *load) checkPlayers() {
	t := l.w.t
	t.Helper()
	kinds := map[string]string{}
	for _, p := range l.players {
		kinds[p.User] = p.Kind
	}
	heard, got, missing, lost := map[string]int{}, map[string]int{}, 0, 0
	count := map[string]int{}
	for _, e := range l.since(0) {
		count[e.Op]++
		key := e.Store + "/" + e.State + "/" + e.User
		switch e.Op {
		case "mistake", "refused":
			t.Errorf("%s of %s in %s: %s", e.Op, e.User, e.State, e.Text)
		case "heard":
			if e.N <= heard[key] {
				t.Errorf("%s (%s) heard %d behind %d from %s", e.User, kinds[e.User], e.N, heard[key], e.Store)
			}
			heard[key] = e.N
		case "gap":
			lost += e.N
		case "left": // who comes back after that is new to the instance
			delete(got, key)
		case "gone", "loaded": // what the instance remembered of the state's clients is gone with it
			for _, p := range l.players {
				delete(got, e.Store+"/"+e.State+"/"+p.User)
			}
		case "got":
			if kinds[e.User] == native {
				if e.N <= got[key] {
					t.Errorf("%s was given %d of %s behind %d", e.Store, e.N, e.User, got[key])
				}
				if got[key] > 0 {
					missing += e.N - got[key] - 1
				}
			}
			got[key] = e.N
		}
	}
	t.Logf("players: %d sent, %d heard; of the SDK's: %d gaps told (%d messages given up), %d numbers missing at backends; %d connections ended",
		count["sent"], count["heard"], count["gap"], lost, missing, count["disconnected"])
	// What is under way to a node or an instance when it dies, or is taken for dead, may be lost.
	if missing > 0 && !l.plan.moves && count["kill"]+count["stopped"] == 0 {
		t.Errorf("%d messages of SDK clients are missing between others that arrived", missing)
	}
}
