package faults

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// entry is something that was asked for, or seen, and what came of it.
type entry struct {
	kind   kind
	state  wire.StateID
	expect wire.Epoch // of firm, remove, release, move; for place the newest epoch that anybody had been answered
	end    end
	epoch  wire.Epoch // what create, place and move gave, and what look saw; 0 for look: there is no row

	client    int
	call, ret time.Duration // since the beginning
}

type kind uint8

const (
	create  kind = iota // a row that is pending, under a new id
	place               // whatever row there is, else one that is tentative; a new owner if the last one is gone
	firm                // a row that is pending or tentative no more
	remove              // no row, if it was pending, tentative or without owner
	release             // no row
	move                // a new owner, if the last one is gone and the epoch as expected
	look                // the row in all tables, when nothing goes on any more
)

var kinds = [...]string{"create", "place", "firm", "remove", "release", "move", "look"}

type end uint8

const (
	done    end = iota
	stale       // refused: the row is not as expected
	nothing     // an error that says that nothing was changed
	unknown     // an error that does not say
)

// endOf is what an error of a cluster.Node says about what was asked for.
func endOf(err error) end {
	switch {
	case err == nil:
		return done
	case errors.Is(err, placement.ErrUnknown):
		return unknown
	case errors.Is(err, placement.ErrStale):
		return stale
	default:
		return nothing
	}
}

func (e *entry) String() string {
	text := fmt.Sprintf("%s %s", kinds[e.kind], e.state)
	if e.expect != 0 {
		text += fmt.Sprintf(" of %d", e.expect)
	}
	return fmt.Sprintf("%s: %s %d", text, [...]string{"done", "stale", "nothing", "unknown"}[e.end], e.epoch)
}

// history is what was written down.
type history struct {
	began time.Time

	mu      sync.Mutex
	entries []entry
	lost    int // creates of which nobody knows: of their rows there may be as many
	highest wire.Epoch
	tries   []entry // places that are no entries
	failed  []string
}

func newHistory() *history { return &history{began: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.began) }

// add writes down what has ended now. What certainly changed nothing is not part of the history: if it did change
// something, that is found.
func (h *history) add(e entry, err error) {
	e.ret, e.end = h.now(), endOf(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case e.kind == create && e.end == unknown:
		h.lost++
	case e.kind == create && e.end == stale: // others were faster, again and again
	case e.kind == place && (e.end == nothing || e.end == stale || e.end == done && e.epoch <= e.expect):
		// Read in the node's own table, which may be behind; or given up, perhaps after an owner that was gone at once.
		h.tries = append(h.tries, e)
	case e.end == nothing, e.kind == move && e.end == stale: // which says too little: its owner may have been live
	default:
		h.highest = max(h.highest, e.epoch)
		h.entries = append(h.entries, e)
	}
}

// newest is the highest epoch that somebody was answered.
func (h *history) newest() wire.Epoch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.highest
}

// fail notes what must not have happened.
func (h *history) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, fmt.Sprintf(format, args...))
}

// acks is how many creates, places and moves were acknowledged so far.
func (h *history) acks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for i := range h.entries {
		if h.entries[i].end == done && h.entries[i].kind <= place {
			n++
		}
	}
	return n
}

// check compares the history with the model, given the rows that are in all tables now.
func (h *history) check(t *testing.T, rows map[wire.StateID]wire.Epoch) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.failed {
		t.Error(text)
	}
	asked := map[wire.StateID]bool{}
	var counts [len(kinds)][unknown + 1]int
	for i := range h.entries {
		asked[h.entries[i].state] = true
		counts[h.entries[i].kind][h.entries[i].end]++
	}
	over := 0
	for state := range rows {
		if !asked[state] {
			over++
		}
	}
	if over > h.lost {
		t.Errorf("there are %d rows that nobody asked for, and only of %d creates nobody knows", over, h.lost)
	}
	t.Logf("%d entries of %d states; creates done %d unknown %d; places %d, %d; firm %d, %d, stale %d; "+
		"removed %d, %d, stale %d; moved %d, %d",
		len(h.entries), len(asked), counts[create][done], h.lost, counts[place][done], counts[place][unknown],
		counts[firm][done], counts[firm][unknown], counts[firm][stale],
		counts[remove][done]+counts[release][done], counts[remove][unknown]+counts[release][unknown],
		counts[remove][stale]+counts[release][stale],
		counts[move][done], counts[move][unknown])
	h.checkEpochs(t)
	all := slices.Clone(h.entries)
	at := h.now()
	for state := range asked {
		all = append(all, entry{kind: look, state: state, epoch: rows[state], call: at, ret: at})
	}
	checkModel(t, append(all, h.between(t, all)...))
}

// between are the owners that places gave on their way: where the instance is gone again when a node sees it, the node
// asks once more. Of such an owner nobody was told, but somebody may have seen it and named it.
func (h *history) between(t *testing.T, all []entry) (found []entry) {
	type key struct {
		state wire.StateID
		epoch wire.Epoch
	}
	told := map[key]bool{}
	for _, e := range all {
		if e.end == done && e.kind != look {
			told[key{e.state, e.epoch}] = true
		}
	}
	places := map[wire.StateID][]entry{}
	for _, e := range append(slices.Clone(h.tries), h.entries...) {
		if e.kind == place {
			places[e.state] = append(places[e.state], e)
		}
	}
	for _, e := range all {
		k := key{e.state, e.expect}
		if e.kind == look {
			k.epoch = e.epoch
		}
		if e.end != done || e.kind == place || k.epoch == 0 || told[k] {
			continue
		}
		told[k] = true
		if slices.ContainsFunc(all, func(m entry) bool {
			return m.kind == move && m.end == unknown && m.state == k.state && m.expect < k.epoch && m.call < e.ret
		}) {
			continue // perhaps that one
		}
		given := entry{kind: place, state: k.state, epoch: k.epoch, call: math.MaxInt64, client: 99}
		for _, p := range places[k.state] {
			if p.expect < k.epoch && p.call < e.ret && (p.end != done || p.epoch > k.epoch) {
				given.call = min(given.call, p.call)
				given.ret = max(given.ret, p.ret, e.ret)
			}
		}
		if given.call == math.MaxInt64 {
			t.Errorf("state %s was seen with epoch %d, which nobody asked for", k.state, k.epoch)
			continue
		}
		found = append(found, given)
	}
	return found
}

// checkEpochs looks for an epoch that is not above those of answers that were there before it was asked for.
func (h *history) checkEpochs(t *testing.T) {
	given := slices.Clone(h.entries)
	given = slices.DeleteFunc(given, func(e entry) bool { return e.end != done || e.kind != create && e.kind != move })
	byReturn := slices.Clone(given)
	slices.SortFunc(byReturn, func(a, b entry) int { return int(a.ret - b.ret) })
	slices.SortFunc(given, func(a, b entry) int { return int(a.call - b.call) })
	var highest wire.Epoch
	i := 0
	for _, e := range given {
		for ; i < len(byReturn) && byReturn[i].ret < e.call; i++ {
			highest = max(highest, byReturn[i].epoch)
		}
		if e.epoch <= highest {
			t.Errorf("epoch %d was given after epoch %d had been", e.epoch, highest)
			return
		}
	}
}

// checkModel has porcupine look for an order of what happened that the model allows.
func checkModel(t *testing.T, entries []entry) {
	t.Helper()
	var ops []porcupine.Operation
	for i := range entries {
		e := entries[i]
		op := porcupine.Operation{ClientId: e.client, Input: e, Output: e, Call: int64(e.call), Return: int64(e.ret)}
		if e.end == unknown {
			op.Return = math.MaxInt64
		}
		ops = append(ops, op)
	}
	for _, of := range byState(ops) {
		result := porcupine.CheckOperationsTimeout(rows.ToModel(), of, 30*time.Second)
		if result == porcupine.Ok {
			continue
		}
		t.Errorf("state %s: %s:", of[0].Input.(entry).state, result)
		slices.SortFunc(of, func(a, b porcupine.Operation) int { return int(a.Call/1000 - b.Call/1000) })
		for i := range of {
			e := of[i].Input.(entry)
			t.Logf("  %12v to %12v: %v", e.call, e.ret, &e)
		}
		return
	}
}
