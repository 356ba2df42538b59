package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// ask has raft do something and waits for its answer, ctx's end or the replica's.
func (r *Replica) ask(ctx context.Context, do func(rf *raft.Raft) error) error {
	r.mu.Lock()
	rf := r.raft.Load()
	if rf == nil || r.closing {
		r.mu.Unlock()
		return ErrNotLeader
	}
	r.asked.Add(1)
	r.mu.Unlock()
	done := make(chan error, 1)
	go func() { // shutting down waits for it
		defer r.asked.Done()
		done <- told(do(rf))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
	}
	select {
	case err := <-done:
		return err
	default:
		return ErrUnknown
	}
}

func told(err error) error {
	switch {
	case err == nil, errors.Is(err, errKnown), errors.Is(err, ErrUnknown), errors.Is(err, ErrNotLeader):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// errKnown marks what told leaves alone.
var errKnown = errors.New("not agreed")

// Lead waits until this replica leads and has applied everything that was committed before, or until it has ended.
func (r *Replica) Lead(ctx context.Context) error {
	for {
		changed := r.Changed()
		if r.Leading() {
			if err := r.Barrier(ctx); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknown) {
				return err
			}
		}
		select {
		case <-changed:
		case <-r.ended:
			return errors.Join(ErrNotLeader, r.machine.broken())
		case <-r.machine.failed:
			return r.machine.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leading says whether this replica leads, by its own knowledge.
func (r *Replica) Leading() bool {
	rf := r.raft.Load()
	return rf != nil && rf.State() == raft.Leader
}

// Barrier waits until everything committed before has been applied here. ErrNotLeader, ErrUnknown, ctx's error.
func (r *Replica) Barrier(ctx context.Context) error {
	return r.ask(ctx, func(rf *raft.Raft) error { return rf.Barrier(0).Error() })
}

// Propose has entries committed and applied, in order, and returns the results of all their commands. It
// waits as long as this replica leads. One caller at a time, so that the entries follow each other.
func (r *Replica) Propose(entries [][]byte) (results []placement.Result, err error) {
	kept := make([][]byte, len(entries))
	for i, e := range entries {
		if len(e) > placement.MaxEntry {
			return nil, fmt.Errorf("propose an entry of %d bytes, at most %d: %w", len(e), placement.MaxEntry, placement.ErrEntry)
		}
		kept[i] = append([]byte(nil), e...) // raft keeps the bytes: a caller may use its buffer again
	}
	results, _, err = r.propose(context.Background(), kept)
	if err == nil {
		r.counts.proposed.Add(uint64(len(entries)))
	}
	return results, err
}

// Tick has an entry without commands committed and applied, and returns its index: whoever asks for something before a
// Tick and is answered after it knows that this replica led in between. Beside a Propose it may be called by anybody.
func (r *Replica) Tick(ctx context.Context) (index uint64, err error) {
	_, index, err = r.propose(ctx, [][]byte{placement.AppendEntry(nil)})
	return index, err
}

// outcome is what became of entries.
type outcome struct {
	results []placement.Result
	index   uint64 // of the last of them
}

func (r *Replica) propose(ctx context.Context, entries [][]byte) ([]placement.Result, uint64, error) {
	got := make(chan outcome, 1)
	err := r.ask(ctx, func(rf *raft.Raft) error {
		r.progress.begin()
		defer r.progress.end()
		out, err := collect(rf, entries)
		got <- out
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	out := <-got
	return out.results, out.index, nil
}

// collect waits for all entries. It answers as raft does where none was taken, and otherwise that it is unknown what became of
// them, since some may be committed.
func collect(rf *raft.Raft, entries [][]byte) (out outcome, err error) {
	futures := make([]raft.ApplyFuture, len(entries))
	for i, e := range entries {
		futures[i] = rf.ApplyLog(raft.Log{Data: e}, 0)
	}
	refused := 0
	for i, f := range futures {
		if ferr := f.Error(); ferr != nil {
			if err == nil {
				err = fmt.Errorf("%w: entry %d of %d: %w", ErrUnknown, i+1, len(futures), ferr)
			}
			if errors.Is(told(ferr), ErrNotLeader) {
				refused++
			}
			continue
		}
		a := f.Response().(answer)
		if a.err != nil {
			return out, fmt.Errorf("%w: %w", errKnown, a.err)
		}
		out.results, out.index = append(out.results, a.results...), f.Index()
	}
	if refused == len(futures) && refused > 0 {
		return out, ErrNotLeader
	}
	return out, err
}

// CommitIndex returns the index up to which this replica knows entries to be committed.
func (r *Replica) CommitIndex() uint64 { return r.number((*raft.Raft).CommitIndex) }

// AppliedIndex returns the index up to which raft has handed entries to the table, which may be applying them still.
func (r *Replica) AppliedIndex() uint64 { return r.number((*raft.Raft).AppliedIndex) }

// LastIndex returns the index of the last entry in the log, committed or not.
func (r *Replica) LastIndex() uint64 { return r.number((*raft.Raft).LastIndex) }

// Term returns the term that this replica is in.
func (r *Replica) Term() uint64 { return r.number((*raft.Raft).CurrentTerm) }

func (r *Replica) number(of func(*raft.Raft) uint64) uint64 {
	rf := r.raft.Load()
	if rf == nil {
		return 0
	}
	return of(rf)
}

// LastContact returns when this replica last heard of its leader; the present while it leads, zero for never.
func (r *Replica) LastContact() time.Time {
	rf := r.raft.Load()
	switch {
	case rf == nil:
		return time.Time{}
	case rf.State() == raft.Leader:
		return r.cfg.Now()
	}
	return rf.LastContact()
}
