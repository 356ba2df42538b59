package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// A proposal is asked of the writer. prepare runs there, so what it reads of the table and of the batch is what its
// commands will meet, but for commands before it in the same batch: those can make them Stale, and the asker tries
// again.
type proposal struct {
	prepare func(b *batch) ([]placement.Command, error)
	fate    atomic.Uint32
	results []placement.Result
	err     error
	done    chan struct{}
}

// The fates of a proposal: whoever is first decides.
const (
	waits uint32 = iota
	taken
	withdrawn
)

// submit has commands committed and returns a result for each; none when prepare had nothing to do. With ctx's error
// nothing was committed: once the writer has taken a proposal, its asker waits for the end of that batch.
func (n *Node) submit(ctx context.Context, prepare func(b *batch) ([]placement.Command, error)) ([]placement.Result, error) {
	p := &proposal{prepare: prepare, done: make(chan struct{})}
	select {
	case n.proposals <- p:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.stopped:
		return nil, placement.ErrStopped
	}
	select {
	case <-p.done:
		return p.results, p.err
	case <-n.stopped:
		return p.end()
	case <-ctx.Done():
	}
	if p.fate.CompareAndSwap(waits, withdrawn) {
		return nil, ctx.Err()
	}
	select {
	case <-p.done:
		return p.results, p.err
	case <-n.stopped:
		return p.end()
	}
}

// end returns what became of a proposal after the writer has ended.
func (p *proposal) end() ([]placement.Result, error) {
	select {
	case <-p.done:
		return p.results, p.err
	default:
		return nil, placement.ErrStopped
	}
}

// one submits a single command.
func (n *Node) one(ctx context.Context, cmd placement.Command) (placement.Result, error) {
	rs, err := n.submit(ctx, func(*batch) ([]placement.Command, error) { return []placement.Command{cmd}, nil })
	if err != nil {
		return placement.Result{}, err
	}
	return rs[0], nil
}

// batch is what is proposed to raft at one time: entries that follow each other.
type batch struct {
	node       *Node
	entries    [][]byte
	solo       bool // the last entry has a command of which an index takes one
	commands   int
	candidates map[wire.AppID][]placement.Candidate
	waiting    []waiting
}

// waiting is a proposal whose results are n from the given one on.
type waiting struct {
	p       *proposal
	from, n int
}

const (
	maxBatchBytes    = 4 << 20
	maxBatchCommands = 16_384
)

// write is the writer's goroutine: take what waits, have it committed and applied, answer.
func (n *Node) write(ctx context.Context) error {
	for {
		select {
		case p := <-n.proposals:
			if err := n.writeBatch(p); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Node) writeBatch(p *proposal) error {
	b := &batch{node: n, entries: n.entries[:0]}
	for size := 0; ; {
		size += b.take(p)
		if size >= maxBatchBytes || b.commands >= maxBatchCommands {
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
	for _, w := range b.waiting {
		if err == nil {
			w.p.results = append([]placement.Result(nil), results[w.from:w.from+w.n]...)
		} else {
			w.p.err = fmt.Errorf("write the table: %w", err)
		}
		close(w.p.done)
	}
	if errors.Is(err, placement.ErrEntry) {
		return fmt.Errorf("write the table: %w", err)
	}
	if err != nil {
		n.log.Error("the table could not be written", "err", err)
	}
	return nil
}

// take prepares a proposal and adds its commands to the batch. It returns how many bytes they take.
func (b *batch) take(p *proposal) (size int) {
	if !p.fate.CompareAndSwap(waits, taken) {
		return 0
	}
	cmds, err := p.prepare(b)
	if err != nil || len(cmds) == 0 {
		p.err = err
		close(p.done)
		return 0
	}
	b.waiting = append(b.waiting, waiting{p: p, from: b.commands, n: len(cmds)})
	for _, cmd := range cmds {
		size += b.add(cmd)
	}
	return size
}

// maxCommand is above the length of any command: two texts of 16 KiB and some.
const maxCommand = 48 << 10

func (b *batch) add(cmd placement.Command) int {
	solo := cmd.Kind() == placement.KindRegister || cmd.Kind() == placement.KindOpenSession
	n := len(b.entries)
	if n == 0 || solo && b.solo || len(b.entries[n-1])+maxCommand > placement.MaxEntry {
		b.solo = false
		if n < cap(b.entries) { // take the room of an entry of an earlier batch
			b.entries = b.entries[:n+1]
			b.entries[n] = placement.AppendEntry(b.entries[n][:0])
		} else {
			b.entries = append(b.entries, placement.AppendEntry(nil))
		}
		n++
	}
	b.solo = b.solo || solo
	b.commands++
	before := len(b.entries[n-1])
	b.entries[n-1] = placement.AppendCommand(b.entries[n-1], cmd)
	return len(b.entries[n-1]) - before
}

// commit has a batch committed and applied.
func (n *Node) commit(b *batch) ([]placement.Result, error) {
	if len(b.entries) == 0 {
		return nil, nil
	}
	results, err := n.replica.Propose(b.entries)
	if err != nil {
		return nil, err
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

// commitOne commits commands as one batch. Before Run, and by the writer.
func (n *Node) commitOne(cmds []placement.Command) ([]placement.Result, error) {
	b := &batch{node: n}
	for _, cmd := range cmds {
		b.add(cmd)
	}
	return n.commit(b)
}

// choose chooses an instance and counts the state for it until the batch is applied.
func (b *batch) choose(app wire.AppID, in placement.Inputs) (wire.InstanceID, error) {
	cs, ok := b.candidates[app]
	if !ok {
		if b.candidates == nil {
			b.candidates = map[wire.AppID][]placement.Candidate{}
		}
		cs = b.node.table.Candidates(app, nil)
		for i := range cs {
			cs[i].Reported, _, _ = b.node.Load(cs[i].ID)
		}
		b.candidates[app] = cs
	}
	in.Candidates, in.Random = cs, rand.Uint64()
	choice, err := placement.Choose(in)
	if err != nil {
		return 0, err
	}
	for i := range cs {
		if cs[i].ID == choice.Instance {
			cs[i].Pending++
		}
	}
	return choice.Instance, nil
}
