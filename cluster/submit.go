package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
)

const (
	// maxQueue is how many proposals may wait for the writer, or for being forwarded, before those who propose wait
	// themselves.
	maxQueue = 4096
	// patience is how long an ask is repeated whose caller set no deadline.
	patience = 10 * time.Second
	// retryPause is how long after a try that reached nobody the next one comes, unless a leader turns up before.
	retryPause = 50 * time.Millisecond
)

// submit has an ask decided by whoever leads and returns when this node's table has what was decided. It is repeated
// while no leader answers, until ctx ends. With ctx's error nothing was changed; placement.ErrUnknown says that nobody
// knows.
func (n *Node) submit(ctx context.Context, a *ask) (answer, error) {
	out, unsure, err := n.decide(ctx, a)
	if err != nil {
		return answer{}, err
	}
	return n.settle(ctx, a, out, unsure)
}

// decide is submit without waiting for this node's table. unsure is why an earlier try may have been committed.
func (n *Node) decide(ctx context.Context, a *ask) (out answer, unsure, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	for {
		var early *tooEarly
		changed := n.leaderChanged()
		out, err = n.try(ctx, a)
		switch {
		case err == nil:
			return out, unsure, nil
		case errors.As(err, &early):
			return answer{}, nil, orUnknown(early.why, unsure)
		case !errors.Is(err, ErrNoLeader):
			unsure = err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-n.stopped:
			err = placement.ErrStopped
		}
		pause.Stop()
		if stopping(n.stopped) || ctx.Err() != nil {
			return answer{}, nil, orUnknown(err, unsure)
		}
	}
}

func stopping(stopped <-chan struct{}) bool {
	select {
	case <-stopped:
		return true
	default:
		return false
	}
}

// orUnknown is err, unless an earlier try may have been committed.
func orUnknown(err, unsure error) error {
	if unsure == nil {
		return err
	}
	return fmt.Errorf("%w: %w", placement.ErrUnknown, unsure)
}

// settle waits until the own table has what was decided.
func (n *Node) settle(ctx context.Context, a *ask, out answer, unsure error) (answer, error) {
	if out.fate == fateForgotten {
		return answer{}, orUnknown(placement.ErrStopped, unsure)
	}
	if n.table.Index() >= out.index {
		return out, nil
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := n.table.WaitIndex(wait, out.index); err != nil {
		return answer{}, fmt.Errorf("%w: it is decided, but this node's table does not have it", placement.ErrUnknown)
	}
	return out, nil
}

// tooEarly is how a try ends that was given up before anybody worked on it.
type tooEarly struct{ why error }

func (e *tooEarly) Error() string { return e.why.Error() }

// try asks once: the own writer where this node leads, else whoever does.
func (n *Node) try(ctx context.Context, a *ask) (answer, error) {
	if n.leading() {
		return n.ask(ctx, n.proposals, a)
	}
	return n.ask(ctx, n.forwards, a)
}

func (n *Node) ask(ctx context.Context, queue chan<- *proposal, a *ask) (answer, error) {
	p := propose(a)
	select {
	case queue <- p:
	case <-ctx.Done():
		return answer{}, &tooEarly{ctx.Err()}
	case <-n.stopped:
		return answer{}, &tooEarly{placement.ErrStopped}
	}
	select {
	case <-p.done:
		return p.result()
	case <-n.stopped:
		return p.stopped()
	case <-ctx.Done():
	}
	if p.fate.CompareAndSwap(waits, withdrawn) {
		return answer{}, &tooEarly{ctx.Err()}
	}
	select { // it may be committed: the writer and the forwarder end it in bounded time
	case <-p.done:
		return p.result()
	case <-n.stopped:
		return p.stopped()
	}
}

// result is the answer to the only ask of a proposal that has ended.
func (p *proposal) result() (answer, error) {
	if p.err != nil {
		return answer{}, p.err
	}
	return p.answers[0], nil
}

// errCut is how a try ends whose goroutine ended under it.
var errCut = errors.New("the node stopped while it was under way")

// stopped returns what became of a proposal after the writer has ended.
func (p *proposal) stopped() (answer, error) {
	select {
	case <-p.done:
		return p.result()
	default:
	}
	if p.fate.CompareAndSwap(waits, withdrawn) {
		return answer{}, &tooEarly{placement.ErrStopped}
	}
	return answer{}, errCut
}

// many has commands committed together, and returns a result for each. They may be repeated as they are.
func (n *Node) many(ctx context.Context, cmds []placement.Command) ([]placement.Result, error) {
	if len(cmds) == 0 {
		return nil, nil
	}
	out, err := n.submit(ctx, commands(cmds...))
	return out.results, err
}

// inTerm has commands committed by this node as the leader of a term, or not at all: what a leader decides by what it
// alone has heard must not be committed by another one.
func (n *Node) inTerm(ctx context.Context, term uint64, cmds ...placement.Command) ([]placement.Result, error) {
	a := commands(cmds...)
	a.term = term
	out, err := n.ask(ctx, n.proposals, a)
	if err == nil && out.fate != fateDone {
		err = ErrNoLeader
	}
	return out.results, err
}

// one is many for a single command.
func (n *Node) one(ctx context.Context, cmd placement.Command) (placement.Result, error) {
	rs, err := n.many(ctx, []placement.Command{cmd})
	if err != nil {
		return placement.Result{}, err
	}
	return rs[0], nil
}

// once has a command committed that must not happen twice, whatever becomes of a try.
func (n *Node) once(ctx context.Context, cmd placement.Command) (placement.Result, error) {
	counter, err := n.window.begin(ctx)
	if err != nil {
		return placement.Result{}, err
	}
	defer n.window.end(counter)
	a := commands(cmd)
	a.request = placement.Request{Session: n.Node(), Counter: counter}
	out, err := n.submit(ctx, a)
	if err != nil {
		return placement.Result{}, err
	}
	return out.results[0], nil
}
