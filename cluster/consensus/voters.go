package consensus

import (
	"cmp"
	"slices"
)

// Peer is a replica as whoever plans the voters sees it.
type Peer struct {
	ID    string
	Voter bool
	// Live: the leader has heard of it within the time after which it is to be replaced, by Contact and nothing else.
	Live bool
	// CaughtUp: it is near the end of the log, and has been live for long enough to be relied on.
	CaughtUp bool
	// Home: it is in the region that formed the cluster.
	Home bool
	// Leaving: it has said that it goes.
	Leaving bool
}

// Change is one step.
type Change struct {
	ID      string
	Promote bool // else demote
}

// PlanVoters returns the steps, in order, from the voters there are to those there should be: the largest odd number of
// live replicas up to maxVoters, those at home first. A voter that is dead is demoted once another was promoted in its place,
// so the set shrinks only where one is leaving. The leader keeps its vote: one that leaves hands over first.
//
// Each step is safe when those before it are committed: at no time is a majority of the voters dead that was not before.
func PlanVoters(peers []Peer, leader string, maxVoters int) []Change {
	p := plan{leader: leader, peers: slices.Clone(peers)}
	// In the order in which they are promoted, and against it demoted. Ids decide last, so that equal inputs give one plan.
	slices.SortFunc(p.peers, func(a, b Peer) int {
		return cmp.Or(-compareBool(a.ID == leader, b.ID == leader), -compareBool(a.Home, b.Home), cmp.Compare(a.ID, b.ID))
	})
	target := oddBelow(min(max(maxVoters, 1), p.count(func(q *Peer) bool { return q.Live && !q.Leaving })))
	p.replaceDead()
	p.grow(target)
	p.replaceLeaving(target)
	p.bringHome(target)
	return p.steps
}

type plan struct {
	leader string
	peers  []Peer
	steps  []Change
}

func oddBelow(n int) int { return max(n-1+n%2, 1) }

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (p *plan) count(want func(*Peer) bool) (n int) {
	for i := range p.peers {
		if want(&p.peers[i]) {
			n++
		}
	}
	return n
}

// voters counts those that stay.
func (p *plan) voters() int { return p.count(func(q *Peer) bool { return q.Voter && !q.Leaving }) }

func candidate(q *Peer) bool { return !q.Voter && q.Live && q.CaughtUp && !q.Leaving }

func dead(q *Peer) bool { return q.Voter && !q.Live && !q.Leaving }

// promote promotes the first that may be, if one more vote leaves a majority of live voters.
func (p *plan) promote(want func(*Peer) bool) bool {
	all := p.count(func(q *Peer) bool { return q.Voter }) + 1
	live := p.count(func(q *Peer) bool { return q.Voter && q.Live }) + 1
	if live < all/2+1 {
		return false
	}
	for i := range p.peers {
		if q := &p.peers[i]; candidate(q) && want(q) {
			q.Voter = true
			p.steps = append(p.steps, Change{q.ID, true})
			return true
		}
	}
	return false
}

// demote demotes the last that may be, never the leader, if those that stay have a majority of live voters.
func (p *plan) demote(want func(*Peer) bool) bool {
	all := p.count(func(q *Peer) bool { return q.Voter }) - 1
	live := p.count(func(q *Peer) bool { return q.Voter && q.Live })
	for i := len(p.peers) - 1; i >= 0; i-- {
		q := &p.peers[i]
		if !q.Voter || q.ID == p.leader || !want(q) {
			continue
		}
		if q.Live && live-1 < all/2+1 || live < all/2+1 {
			continue
		}
		q.Voter = false
		p.steps = append(p.steps, Change{q.ID, false})
		return true
	}
	return false
}

func anyone(*Peer) bool { return true }

func (p *plan) replaceDead() {
	for p.count(dead) > 0 && p.promote(anyone) {
		if !p.demote(dead) {
			return
		}
	}
}

// grow adds voters so that their number becomes odd again, or stays so.
func (p *plan) grow(target int) {
	for n := p.voters(); n < target; n = p.voters() {
		need := 1 + n%2 // an even number is one short
		if p.count(candidate) < need {
			return
		}
		for range need {
			if !p.promote(anyone) {
				return
			}
		}
	}
}

// replaceLeaving takes the votes of those that leave, for each in turn another's first if there is one, and does not leave
// an even number.
func (p *plan) replaceLeaving(target int) {
	leaving := func(q *Peer) bool { return q.Leaving }
	left := false
	for p.demote(leaving) || p.count(func(q *Peer) bool { return q.Voter && q.Leaving && q.ID != p.leader }) > 0 && p.demote(dead) {
		left = true
	}
	if n := p.voters(); left && n%2 == 0 && n > target {
		_ = p.demote(dead) || p.demote(anyone)
	}
}

// bringHome lets voters at home take the place of others.
func (p *plan) bringHome(target int) {
	home := func(q *Peer) bool { return q.Home }
	away := func(q *Peer) bool { return !q.Home && q.Live && q.ID != p.leader }
	if p.voters() < target {
		return
	}
	for p.count(func(q *Peer) bool { return q.Voter && away(q) }) > 0 && p.promote(home) {
		p.demote(away)
	}
}
