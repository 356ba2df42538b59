package faults

import (
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/trunkline-edge/trunkline/wire"
)

// row is what the model knows of one state.
type row struct {
	there bool
	soft  bool       // pending or tentative
	epoch wire.Epoch // 0: one that nobody was told of, above last
	last  wire.Epoch // the highest one that is known
}

// is takes it that the row has an epoch, if it can be.
func (r row) is(epoch wire.Epoch) (row, bool) {
	if !r.there || r.epoch != epoch && (r.epoch != 0 || epoch <= r.last) {
		return r, false
	}
	r.epoch, r.last = epoch, epoch
	return r, true
}

// without is the row after it was removed.
func (r row) without() row { return row{last: r.last} }

// given is the row with a new owner.
func (r row) given(epoch wire.Epoch) row {
	return row{there: true, soft: r.soft || !r.there, epoch: epoch, last: max(r.last, epoch)}
}

// rows is the model: each state by itself.
var rows = porcupine.NondeterministicModel{
	Partition: byState,
	Init:      func() []any { return []any{row{}} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, r := range steps(state.(row), input.(entry)) {
			next = append(next, r)
		}
		return next
	},
}

func byState(ops []porcupine.Operation) [][]porcupine.Operation {
	at := map[wire.StateID]int{}
	var parts [][]porcupine.Operation
	for _, op := range ops {
		state := op.Input.(entry).state
		i, ok := at[state]
		if !ok {
			i = len(parts)
			at[state], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

// steps are the rows that there may be after something was asked for and answered.
func steps(r row, e entry) []row {
	switch e.end {
	case stale:
		return refused(r, e)
	case unknown:
		e.end = done
		if e.kind == place || e.kind == move {
			return append(moved(r, e, 0), r)
		}
		return append(steps(r, e), r)
	}
	known, is := r.is(e.expect) // of place: something else
	switch e.kind {
	case create:
		if !r.there && r.last == 0 {
			return []row{r.given(e.epoch)}
		}
	case place:
		if is, ok := r.is(e.epoch); ok {
			return append(moved(r, e, e.epoch), is)
		}
		return moved(r, e, e.epoch)
	case move:
		return moved(r, e, e.epoch)
	case firm:
		if is {
			known.soft = false
			return []row{known}
		}
	case remove, release:
		if !r.there {
			return []row{r}
		}
		if is { // remove: a firm one too, if its owner is gone
			return []row{known.without()}
		}
	case look:
		if e.epoch == 0 && !r.there {
			return []row{r}
		}
		if is, ok := r.is(e.epoch); ok {
			return []row{is}
		}
	}
	return nil
}

// moved gives the row, or a new one, to an owner; the epoch 0 is one that nobody was told.
func moved(r row, e entry, epoch wire.Epoch) []row {
	if e.kind == move {
		known, is := r.is(e.expect)
		if !is {
			return nil
		}
		r = known
	}
	if epoch != 0 && epoch <= r.last || e.kind == place && r.epoch == 0 && r.there && epoch == 0 {
		return nil
	}
	return []row{r.given(epoch)}
}

// refused is what may be there when something was refused.
func refused(r row, e entry) []row {
	known, is := r.is(e.expect)
	surely := is && r.epoch == e.expect
	switch {
	case e.kind == firm && !surely, e.kind == release && r.there && !surely:
		return []row{r}
	case e.kind == remove && r.there && (!is || !known.soft || !surely):
		return []row{r}
	}
	return nil
}

// TestModelTellsGoodFromBad: what the checker is there for.
func TestModelTellsGoodFromBad(t *testing.T) {
	did := func(k kind, expect, epoch wire.Epoch) entry {
		return entry{kind: k, state: 7, expect: expect, epoch: epoch}
	}
	no := func(k kind, expect wire.Epoch, end end) entry {
		return entry{kind: k, state: 7, expect: expect, end: end}
	}
	saw := func(epoch wire.Epoch) entry { return did(look, 0, epoch) }
	made := did(create, 0, 10)
	for name, c := range map[string]struct {
		good    bool
		entries []entry // one after the other
	}{
		"made and there":            {true, []entry{made, saw(10)}},
		"made and lost":             {false, []entry{made, saw(0)}},
		"made and somebody else's":  {false, []entry{made, saw(11)}},
		"removed":                   {true, []entry{made, did(remove, 10, 0), saw(0)}},
		"removed and back":          {false, []entry{made, did(remove, 10, 0), saw(12)}},
		"perhaps removed, there":    {true, []entry{made, no(remove, 10, unknown), saw(10)}},
		"perhaps removed, gone":     {true, []entry{made, no(remove, 10, unknown), saw(0)}},
		"not removed, soft":         {false, []entry{made, no(remove, 10, stale), saw(10)}},
		"not removed, firm":         {true, []entry{made, did(firm, 10, 0), no(remove, 10, stale), saw(10)}},
		"firm, though it is gone":   {false, []entry{made, did(release, 10, 0), did(firm, 10, 0), saw(0)}},
		"moved":                     {true, []entry{made, did(move, 10, 12), saw(12)}},
		"moved from what it is not": {false, []entry{made, did(move, 9, 12), saw(12)}},
		"moved twice from one":      {false, []entry{made, did(move, 10, 12), did(move, 10, 13), saw(13)}},
		"perhaps moved":             {true, []entry{made, no(move, 10, unknown), saw(13)}},
		"moved back":                {false, []entry{made, did(place, 0, 9), saw(9)}},
		"perhaps placed, then seen": {true, []entry{no(place, 0, unknown), did(place, 0, 8), saw(8)}},
		"released with another":     {false, []entry{made, did(release, 9, 0), saw(0)}},
	} {
		var ops []porcupine.Operation
		for i, e := range c.entries {
			op := porcupine.Operation{Input: e, Output: e, Call: int64(2 * i), Return: int64(2*i + 1)}
			if e.end == unknown {
				op.Return = 1 << 60
			}
			ops = append(ops, op)
		}
		if porcupine.CheckOperations(rows.ToModel(), ops) != c.good {
			t.Errorf("%s: judged wrongly", name)
		}
	}
}
