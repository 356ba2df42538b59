package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
)

const (
	// maxForwards is how many batches may be on their way to the leader at once.
	maxForwards = 4
	// maxForwardBytes bounds a batch on its way.
	maxForwardBytes = 512 << 10
	// forwardTime is how long an answer to a batch may take; then nobody knows what became of it.
	forwardTime = 5 * time.Second
)

// forward is the forwarder's goroutine: gather what this node's callers ask for, send it to whoever leads.
func (n *Node) forward(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(maxForwards)
	defer func() { _ = g.Wait() }()
	for {
		select {
		case p := <-n.forwards:
			batch := n.gather(p)
			if len(batch) == 0 {
				continue
			}
			g.Go(func() error { // waits while maxForwards are on their way; meanwhile the next ones gather
				n.send(ctx, batch)
				return nil
			})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gather takes what waits, as much as one batch holds.
func (n *Node) gather(p *proposal) (batch []*proposal) {
	for size := 0; ; {
		if p.take() {
			batch = append(batch, p)
			size += p.asks[0].size()
		}
		if size >= maxForwardBytes || len(batch) == maxAsks {
			return batch
		}
		select {
		case p = <-n.forwards:
			continue
		default:
		}
		return batch
	}
}

// send has a batch of single asks decided by the leader, and ends each.
func (n *Node) send(ctx context.Context, batch []*proposal) {
	answers, err := n.sendAsks(ctx, batch)
	n.counts.forwarded.Add(1)
	for i, p := range batch {
		if err != nil {
			p.end(nil, err)
			continue
		}
		p.end(answers[i:i+1], nil)
	}
}

func (n *Node) sendAsks(ctx context.Context, batch []*proposal) ([]answer, error) {
	asks := make([]*ask, len(batch))
	for i, p := range batch {
		asks[i] = p.asks[0]
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTime)
	defer cancel()
	b, err := n.callLeader(ctx, control.Propose, appendAsks(nil, asks))
	if err != nil {
		return nil, err
	}
	return decodeAnswers(b, len(asks))
}

// callLeader calls whoever leads. ErrNoLeader: certainly nothing was done.
func (n *Node) callLeader(ctx context.Context, verb control.Verb, body []byte) ([]byte, error) {
	node, addr, ok := n.leader()
	if !ok || node == n.cfg.NodeID {
		return nil, ErrNoLeader
	}
	b, err := n.client.Call(ctx, addr, node, verb, body)
	switch {
	case errors.Is(err, control.ErrNotSent) && !errors.Is(err, control.ErrUnknown), isCode(err, codeNotLeader):
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, err)
	case err != nil:
		return nil, fmt.Errorf("ask the leader, %s: %w", node, err)
	}
	return b, nil
}

// takeAsks answers what another node has forwarded. Where this node does not lead it says so; it never forwards.
func (n *Node) takeAsks(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	asks, err := decodeAsks(body)
	if err != nil {
		return nil, &control.Error{Code: codeBadAsk, Text: err.Error()}
	}
	for _, a := range asks {
		if err := n.mayAsk(from, a); err != nil {
			return nil, err
		}
	}
	if !n.leading() {
		return nil, n.notLeader()
	}
	p := propose(asks...)
	select {
	case n.proposals <- p:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.stopped:
		return nil, n.notLeader()
	}
	select {
	case <-p.done:
	case <-n.stopped:
		return nil, placement.ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if errors.Is(p.err, ErrNoLeader) {
		return nil, n.notLeader()
	}
	if p.err != nil {
		return nil, &control.Error{Code: codeUnknown, Text: p.err.Error()}
	}
	return appendAnswers(nil, n.table.Index(), p.answers), nil
}

// mayAsk refuses what a node asks for in the name of another one.
func (n *Node) mayAsk(from nodeport.Peer, a *ask) error {
	if a.request.Counter != 0 {
		if s, ok := n.table.Session(a.request.Session); ok && s.Node != from.NodeID {
			return &control.Error{Code: codeDenied, Text: fmt.Sprintf("node session %d is not one of %s", s.ID, from.NodeID)}
		}
	}
	for _, o := range a.opens() {
		if o.NodeID != from.NodeID || o.Key != from.KeyHash {
			return &control.Error{Code: codeDenied, Text: fmt.Sprintf("%s may not open a session of %s", from.NodeID, o.NodeID)}
		}
	}
	return nil
}
