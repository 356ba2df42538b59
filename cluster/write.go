package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// A proposal is what is handed to the writer, or to the forwarder where another node leads: one caller's ask, or those
// that another node has gathered.
type proposal struct {
	asks    []*ask
	fate    atomic.Uint32
	answers []answer // one for each ask, unless err says what became of all of them
	err     error
	done    chan struct{}
}

func propose(asks ...*ask) *proposal { return &proposal{asks: asks, done: make(chan struct{})} }

// The fates of a proposal: whoever is first decides.
const (
	waits uint32 = iota
	taken
	withdrawn
)

// take says that the proposal is being worked on from here, unless its caller has withdrawn it.
func (p *proposal) take() bool { return p.fate.CompareAndSwap(waits, taken) }

func (p *proposal) end(answers []answer, err error) {
	p.answers, p.err = answers, err
	close(p.done)
}

// batch is what is proposed to raft at one time: entries that follow each other. Commands behind a Request belong to it,
// so those without one have entries of their own.
type batch struct {
	node       *Node
	term       uint64 // in which this node leads and has caught up; 0 = none
	entries    [][]byte
	counts     []int // results of each entry
	open       [2]openEntry
	commands   int
	bytes      int
	candidates map[wire.AppID][]placement.Candidate
	waiting    []*proposal
	spots      []spot
}

// openEntry is an entry that takes more commands.
type openEntry struct {
	at   int  // in entries, from 1; 0 = none
	solo bool // it has a command of which an index takes one
}

// spot is where the results of an ask will be.
type spot struct {
	p           *proposal
	ask         int
	entry, from int
	n           int
}

const (
	maxBatchBytes    = 4 << 20
	maxBatchCommands = 16_384
)

// write is the writer's goroutine: take what waits, have it committed and applied, answer.
func (n *Node) write(ctx context.Context) error {
	term := uint64(0)
	for {
		select {
		case p := <-n.proposals:
			term = n.catchUp(ctx, term)
			if err := n.writeBatch(p, term); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp sees to it that the table has what an earlier leader had committed, before anything is chosen by this one. It
// returns the term that this node leads in, having done so; 0 = none.
func (n *Node) catchUp(ctx context.Context, term uint64) uint64 {
	r := n.replica.Load()
	switch now := r.Term(); {
	case !r.Leading():
		return 0
	case now == term || r.Barrier(ctx) == nil:
		return now
	}
	return 0
}

func (n *Node) writeBatch(p *proposal, term uint64) error {
	n.counts.begun.Add(1)
	b := &batch{node: n, entries: n.entries[:0], term: term}
	for {
		b.take(p)
		if b.bytes >= maxBatchBytes || b.commands >= maxBatchCommands {
			break
		}
		select {
		case p = <-n.proposals:
			continue
		default:
		}
		break
	}
	n.entries = b.entries
	results, err := n.commit(b)
	if err == nil && len(b.entries) > 0 && len(n.proposals) == 0 {
		select { // no other batch tells the other replicas that this one is committed
		case n.nudge <- n.counts.begun.Load():
		default:
		}
	}
	if err == nil {
		b.fill(results)
	}
	index := n.table.Index()
	for _, p := range b.waiting {
		for i := range p.answers {
			p.answers[i].index = index
		}
		p.end(p.answers, err)
	}
	if errors.Is(err, placement.ErrEntry) {
		return err
	}
	if err != nil && !errors.Is(err, ErrNoLeader) {
		n.log.Error("the table could not be written", "err", err)
	}
	return nil
}

// take prepares the asks of a proposal.
func (b *batch) take(p *proposal) {
	if !p.take() {
		return
	}
	p.answers = make([]answer, len(p.asks))
	for i, a := range p.asks {
		b.prepare(p, i, a)
	}
	b.waiting = append(b.waiting, p)
}

// prepare answers an ask, or adds its commands to the batch. What it reads of the table and of the batch is what the
// commands will meet, but for commands before them in the same batch: those can make them Stale, and the asker asks again.
func (b *batch) prepare(p *proposal, i int, a *ask) {
	out := &p.answers[i]
	var cmd placement.Command
	switch a.kind {
	case askCommands:
		if a.term != 0 && a.term != b.term {
			out.fate = fateAgain
			return
		}
		b.add(p, i, a)
		return
	case askCreate:
		cmd = b.create(a, out)
	case askPlace:
		cmd = b.place(a, out)
	}
	if cmd != nil {
		b.add(p, i, commands(cmd))
	}
}

// create chooses an instance for a new state. A row that is there already is the asker's: nobody else knows its id.
func (b *batch) create(a *ask, out *answer) placement.Command {
	if row, known := b.node.table.Lookup(a.app, a.state); known {
		*out = answer{fate: fateDone, instance: row.Instance, epoch: row.Epoch}
		return nil
	}
	if out.fate = b.choose(a, "", out); out.fate != 0 {
		return nil
	}
	return &placement.Create{App: a.app, State: a.state, Instance: out.instance, Mode: placement.PendingRow}
}

// place chooses an instance for a state that is unknown or free.
func (b *batch) place(a *ask, out *answer) placement.Command {
	row, known := b.node.table.Lookup(a.app, a.state)
	if known && !row.Free {
		out.fate = fateDone
		return nil
	}
	if known && b.node.cfg.Now().Before(b.node.rowsHeld) {
		out.fate = fateNoInstance
		return nil
	}
	if out.fate = b.choose(a, row.Taint, out); out.fate != 0 {
		return nil
	}
	if known {
		return &placement.Move{App: a.app, State: a.state, Expect: row.Epoch, To: out.instance}
	}
	return &placement.Create{App: a.app, State: a.state, Instance: out.instance, Mode: placement.TentativeRow}
}

// choose chooses an instance and counts the state for it until the batch is applied. It refuses early what the table
// would refuse: a full app costs no entry.
func (b *batch) choose(a *ask, taint string, out *answer) askFate {
	if taint == "" {
		if app, ok := b.node.table.App(a.app); ok && app.States >= app.MaxStates {
			return fateFull
		}
	}
	cs, ok := b.candidates[a.app]
	if !ok {
		if b.candidates == nil {
			b.candidates = map[wire.AppID][]placement.Candidate{}
		}
		cs = b.node.table.Candidates(a.app, nil)
		for i := range cs {
			cs[i].Reported, _, _ = b.node.Load(cs[i].ID)
		}
		b.candidates[a.app] = cs
	}
	choice, err := placement.Choose(placement.Inputs{
		Candidates: cs, Region: a.region, Avoid: a.avoid, Taint: taint, Random: rand.Uint64(),
	})
	if err != nil {
		return fateNoInstance
	}
	for i := range cs {
		if cs[i].ID == choice.Instance {
			cs[i].Pending++
		}
	}
	out.instance = choice.Instance
	return 0
}

// add adds the commands of an ask to the batch: all to one entry, behind their request if they have one.
func (b *batch) add(p *proposal, i int, a *ask) {
	class := 0
	if a.request.Counter != 0 {
		class = 1
	}
	o := &b.open[class]
	if o.at == 0 || a.solo && o.solo || len(b.entries[o.at-1])+len(a.body)+64 > placement.MaxEntry {
		b.grow()
		*o = openEntry{at: len(b.entries)}
	}
	o.solo = o.solo || a.solo
	at := o.at - 1
	before := len(b.entries[at])
	s := spot{p: p, ask: i, entry: at, from: b.counts[at], n: a.count}
	if class == 1 {
		b.entries[at] = placement.AppendCommand(b.entries[at], &a.request)
		s.n++
	}
	b.entries[at] = append(b.entries[at], a.body...)
	b.counts[at] += s.n
	b.commands += s.n
	b.bytes += len(b.entries[at]) - before
	b.spots = append(b.spots, s)
}

// grow adds an empty entry, in the room of one of an earlier batch if there is one.
func (b *batch) grow() {
	n := len(b.entries)
	if n < cap(b.entries) {
		b.entries = b.entries[:n+1]
		b.entries[n] = placement.AppendEntry(b.entries[n][:0])
	} else {
		b.entries = append(b.entries, placement.AppendEntry(nil))
	}
	b.counts = append(b.counts, 0)
}

// fill makes answers of the results of all entries.
func (b *batch) fill(results []placement.Result) {
	first := make([]int, len(b.counts))
	for i, sum := 0, 0; i < len(b.counts); i++ {
		first[i] = sum
		sum += b.counts[i]
	}
	for _, s := range b.spots {
		from := first[s.entry] + s.from
		s.p.answers[s.ask].fill(s.p.asks[s.ask], results[from:from+s.n])
	}
}

func (out *answer) fill(a *ask, results []placement.Result) {
	out.fate = fateDone
	if a.kind == askCommands {
		if a.request.Counter != 0 {
			if results[0].Outcome != placement.Done {
				out.fate = fateForgotten
			}
			results = results[1:]
		}
		out.results = append([]placement.Result(nil), results...)
		return
	}
	switch results[0].Outcome {
	case placement.Done:
		out.epoch = results[0].Epoch
	case placement.Full:
		out.fate = fateFull
	default: // somebody was faster, or the instance left in the same batch
		out.fate = fateAgain
	}
}

// commit has a batch committed and applied.
func (n *Node) commit(b *batch) ([]placement.Result, error) {
	if len(b.entries) == 0 {
		return nil, nil
	}
	results, err := n.replica.Load().Propose(b.entries)
	switch {
	case errors.Is(err, consensus.ErrNotLeader):
		return nil, ErrNoLeader
	case err != nil:
		return nil, fmt.Errorf("write the table: %w", err)
	}
	n.counts.batches.Add(1)
	n.counts.commands.Add(uint64(len(results)))
	for i := range results {
		if results[i].Outcome != placement.Done {
			n.counts.refused.Add(1)
		}
	}
	return results, nil
}
