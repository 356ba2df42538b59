package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// nudgeAfter is how long after a batch the others are told that it is committed, unless the next one does it.
	nudgeAfter = time.Millisecond
	// lookEvery is how often a leader looks at sessions and voters.
	lookEvery = time.Second
	// heldUp is how late a look may come.
	heldUp = 3 * time.Second
	// sweepTime is how often it sweeps.
	sweepTime = time.Minute
	// tickLimit is how long a tick may take; then whoever waited for it is told that nothing was granted.
	tickLimit = 2 * time.Second
)

// lead does what only the leader does, whenever this node is it.
func (n *Node) lead(ctx context.Context) error {
	r := n.replica.Load()
	for {
		changed := r.Changed()
		if r.Leading() && r.Barrier(ctx) == nil {
			if err := n.reign(ctx, r.Term()); err != nil {
				return err
			}
			continue
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-changed:
		case <-pause.C: // a barrier that failed is tried again
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
		pause.Stop()
	}
}

// reign is one term of leading.
func (n *Node) reign(ctx context.Context, term uint64) error {
	r := n.replica.Load()
	n.granter.lead(n.table.Sessions(), n.cfg.Now())
	defer n.granter.follow()
	n.log.Info("this node leads the cluster", "term", term)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.tick(ctx) })
	g.Go(func() error { return n.look(ctx, term) })
	g.Go(func() error { return n.tend(ctx) })
	g.Go(func() error { return n.sweepEvery(ctx, sweepTime) })
	for {
		changed := r.Changed()
		if !r.Leading() || r.Term() != term {
			break
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return g.Wait()
		}
		pause.Stop()
	}
	n.log.Info("this node does not lead the cluster any more", "term", term)
	cancel()
	return g.Wait()
}

// tick grants renewals: those that were received before an entry was proposed are answered when it is committed. A
// voter that has taken the entry has not voted for another leader before, so no renewal is granted that a newer leader
// does not know of. The entry also tells the other replicas what was committed before it; raft would do so 50 to 100 ms
// later.
func (n *Node) tick(ctx context.Context) error {
	every := time.NewTicker(n.times().Tick)
	defer every.Stop()
	for {
		nudged := false
		select {
		case <-every.C:
		case batch := <-n.nudge:
			nudged = sleep(ctx, nudgeAfter) == nil && n.counts.begun.Load() == batch
		case <-ctx.Done():
			return nil
		}
		waiting := n.granter.collect()
		if len(waiting) == 0 && !nudged {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, tickLimit)
		_, err := n.replica.Load().Tick(limit)
		cancel()
		tell(waiting, err == nil)
	}
}

// tend sees to the voters, at intervals. It waits for other nodes, so nothing else waits for it.
func (n *Node) tend(ctx context.Context) error {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return nil
		}
		if err := n.seeToVoters(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("the voters could not be changed; it is tried again", "err", err)
		}
	}
}

// look ends sessions that are dead, at intervals.
func (n *Node) look(ctx context.Context, term uint64) error {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	last := n.cfg.Now()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return nil
		}
		now := n.cfg.Now()
		if now.Sub(last) > heldUp {
			// This process stood still, and with it whatever others have said: nobody is dead for that.
			n.log.Warn("this leader was held up; all sessions count as renewed", "for", now.Sub(last))
			n.granter.lead(n.table.Sessions(), now)
		}
		last = now
		if err := n.expire(ctx, term); err != nil && ctx.Err() == nil {
			n.log.Error("a dead session could not be ended; it is tried again", "err", err)
		}
	}
}

// expire ends the sessions that nothing was heard of for too long.
func (n *Node) expire(ctx context.Context, term uint64) error {
	now := n.cfg.Now()
	open := n.table.Sessions()
	for _, id := range n.granter.due(open, now, n.times().Dead) {
		s, ok := n.table.Session(id)
		if !ok {
			continue
		}
		r, err := n.inTerm(ctx, term, &placement.EndSession{Session: id, At: now.Unix()})
		if err != nil {
			return err
		}
		if r[0].Outcome == placement.Done {
			n.counts.expired.Add(1)
			n.log.Warn("a node was not heard of for too long; its session is over",
				"peer", s.Node, "session", uint64(id), "limit", n.times().Dead)
		}
	}
	return nil
}

func (n *Node) times() Times { return TimesOf(n.place().Profile) }

// renewTime is how long a renewal may take before the next one is tried.
const renewTime = 2 * time.Second

// renew keeps this node's session: it tells the leader every so often that this node lives. It ends when the cluster has
// ended the session.
func (n *Node) renew(ctx context.Context, id sessionID) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // one that hangs must not keep the next from being sent
	every := time.NewTicker(n.times().Renew)
	defer every.Stop()
	over := make(chan struct{}, 1)
	for {
		g.TryGo(func() error {
			if err := n.renewOnce(ctx, id); errors.Is(err, ErrSessionOver) {
				select {
				case over <- struct{}{}:
				default:
				}
			}
			return nil
		})
		select {
		case <-every.C:
		case <-over:
			_ = g.Wait()
			return ErrSessionOver
		case <-ctx.Done():
			_ = g.Wait()
			return ctx.Err()
		}
	}
}

func (n *Node) renewOnce(ctx context.Context, id sessionID) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	sent := n.cfg.Now()
	own := renewalReport{session: id, applied: n.table.Index(), server: n.place().Server}
	var err error
	if n.leading() {
		_, err = n.grant(ctx, own)
	} else {
		_, err = n.callLeader(ctx, control.Renew, own.append(nil))
		if errors.Is(err, ErrNoLeader) {
			err = n.renewAnywhere(ctx, own, err)
		}
	}
	switch {
	case err == nil:
		n.counts.renewals.Add(1)
		n.holder.granted(sent, n.times().Lease)
	case isCode(err, codeSessionOver):
		return ErrSessionOver
	default:
		n.counts.renewalsFailed.Add(1)
	}
	return err
}

// renewAnywhere asks the nodes that this one knows, of whom one may lead: a replica that was removed while it was cut off
// hears of no leader any more, nor of its own end. It returns why nobody was found where none of them does.
func (n *Node) renewAnywhere(ctx context.Context, own renewalReport, nobody error) error {
	addrs := n.peerAddrs()
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, addr := range addrs {
		if _, err := n.client.Call(ctx, addr, "", control.Renew, own.append(nil)); err == nil || isCode(err, codeSessionOver) {
			return err
		}
	}
	return nobody
}

// report is what a renewal says beside that the node lives.
type renewalReport struct {
	session wire.NodeSession
	applied uint64
	server  string
}

func (r renewalReport) append(dst []byte) []byte {
	dst = appendU64(appendU64(dst, uint64(r.session)), r.applied)
	return appendText(dst, r.server)
}

func (n *Node) takeRenewal(ctx context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	f := fields{b: body}
	r := renewalReport{session: wire.NodeSession(f.u64()), applied: f.u64(), server: f.text()}
	if f.bad {
		return nil, errBadCall
	}
	if s, ok := n.table.Session(r.session); ok && s.Node != from.NodeID {
		return nil, coded(codeDenied, "node session %d is not one of %s", s.ID, from.NodeID)
	}
	return n.grant(ctx, r)
}

// grant answers a renewal once a tick that was proposed after it is committed.
func (n *Node) grant(ctx context.Context, report renewalReport) ([]byte, error) {
	r := n.granter.receive(report.session, n.cfg.Now())
	if r == nil {
		return nil, n.notLeader()
	}
	// Who leads has applied everything that was committed before it did; so does the table that has this session.
	if _, ok := n.table.Session(report.session); !ok {
		return nil, coded(codeSessionOver, "node session %d is over", report.session)
	}
	n.lag.note(report.session, report.applied)
	return nil, n.await(ctx, r, report.session)
}

// await waits for the tick that answers a renewal.
func (n *Node) await(ctx context.Context, r *renewal, session wire.NodeSession) error {
	select {
	case granted := <-r.done:
		if !granted {
			return n.notLeader()
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	// It may have been ended after it was looked for, and before the tick was proposed: then this came too late.
	if _, ok := n.table.Session(session); !ok {
		return coded(codeSessionOver, "node session %d is over", session)
	}
	return nil
}
