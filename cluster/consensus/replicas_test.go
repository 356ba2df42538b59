package consensus

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// The leader is killed again and again under proposals: nothing that was answered is lost, and the tables stay the same.
func TestNothingAnsweredIsLostWithTheLeader(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, nil)
	node := g.leader().commit(t, &placement.OpenSession{NodeID: "n"})[0].Node
	inst := g.leader().commit(t, &placement.Register{App: wire.AppID{1}, StoreID: "s", Node: node})[0].Instance
	var answered []wire.StateID
	next := wire.StateID(1)
	const rounds = 8
	for range rounds {
		lead := g.leader()
		stopped := make(chan struct{})
		half := make(chan struct{})
		go func() { // proposes until the leader is gone
			defer close(stopped)
			for i := range 20 {
				results, err := lead.Propose([][]byte{placement.AppendEntry(nil, &placement.Create{App: wire.AppID{1}, State: next, Instance: inst})})
				if err == nil && results[0].Outcome == placement.Done {
					answered = append(answered, next)
				}
				next++
				if i == 10 {
					close(half)
				}
			}
		}()
		<-half
		i := g.index(lead)
		g.down(i)
		<-stopped
		g.leader()
		g.up(i)
	}
	g.same()
	if len(answered) < 10*rounds {
		t.Errorf("only %d of %d proposals were answered", len(answered), 20*rounds)
	}
	for _, s := range answered {
		if _, ok := g.leader().table.Lookup(wire.AppID{1}, s); !ok {
			t.Errorf("state %s was answered and is lost", s)
		}
	}
}

// A replica that was away for long has what it missed soon after it is back.
func TestReplicaThatWasAwayCatchesUpAtOnce(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, nil)
	lead := g.leader()
	away := g.follower()
	g.down(away)
	for i := range 60 { // so that there is something to send all the time
		lead.commit(t, &placement.OpenSession{NodeID: strconv.Itoa(i)})
		time.Sleep(100 * time.Millisecond)
	}
	begun := time.Now()
	p := g.up(away)
	if err := p.table.WaitIndex(t.Context(), lead.table.Index()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// All replicas are stopped at once and started again: the same table, and indices go on.
func TestAllReplicasStartAgain(t *testing.T) {
	g := newGroup(t, 3, nil)
	g.leader().fill(t, 50)
	g.same()
	rows, index := g.leader().table.Stats(), g.leader().table.Index()
	for i := range g.peers {
		g.down(i)
	}
	for i := range g.peers {
		g.up(i)
	}
	lead := g.leader()
	g.same()
	if lead.table.Stats() != rows {
		t.Error("the table is another one")
	}
	if r := lead.commit(t, &placement.OpenSession{NodeID: "late"}); uint64(r[0].Node) <= index {
		t.Errorf("index %d after %d", r[0].Node, index)
	}
}

// A follower that was away for longer than the log reaches back gets a snapshot and then what followed it.
func TestFollowerFarBehindGetsASnapshot(t *testing.T) {
	g := newGroup(t, 3, nil)
	away := g.follower()
	g.down(away)
	lead := g.leader()
	lead.fill(t, 6000)
	lead.snapshot()
	if n := lead.counts.snapshots.Load(); n != 1 {
		t.Fatalf("%d snapshots", n)
	}
	lead.commit(t, &placement.OpenSession{NodeID: "later"})
	g.up(away)
	g.same()
	if n, err := g.peers[away].snaps.List(); err != nil || len(n) == 0 {
		t.Errorf("it got no snapshot: %v", err)
	}
	g.down(away)
	g.up(away)
	g.same()
}

func TestLeadershipIsHandedOver(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	lead := g.leader()
	to := g.follower()
	if err := lead.TransferLeadership(t.Context(), g.ids[to]); err != nil {
		t.Fatal(err)
	}
	until(t, "the successor", g.peers[to].Leading, g.peers[to].Changed)
	until(t, "the old leader to hear of it", func() bool {
		id, addr, ok := lead.Leader()
		return ok && id == g.ids[to] && addr == g.addrs[to]
	}, lead.Changed)
	if _, err := lead.Propose([][]byte{placement.AppendEntry(nil)}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("the old leader answers a proposal with %v", err)
	}
	if err := lead.TransferLeadership(t.Context(), ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower hands over: %v", err)
	}
	if err := g.peers[to].TransferLeadership(t.Context(), "nobody"); err == nil {
		t.Error("nobody leads")
	}
}

// The life of a replica: without a vote, with one, without, gone; and it comes back and disturbs nobody.
func TestReplicaJoinsIsPromotedDemotedAndRemoved(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	g.leader().fill(t, 100)
	late := g.joined()
	g.same()
	lead, ctx := g.leader(), t.Context()
	step := func(err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got := g.voters(); !slices.Equal(got, want) {
			t.Fatalf("voters %v, want %v", got, want)
		}
	}
	a, b, c, d := g.ids[0], g.ids[1], g.ids[2], g.ids[late]
	step(nil, a, b, c)
	step(lead.Promote(ctx, d), a, b, c, d)
	step(lead.Promote(ctx, d), a, b, c, d)
	step(lead.Demote(ctx, d), a, b, c)
	step(lead.Promote(ctx, d), a, b, c, d)
	if err := lead.Promote(ctx, "nobody"); err == nil {
		t.Error("a replica that is not there was promoted")
	}
	if err := g.peers[late].Remove(ctx, a); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower removes a replica: %v", err)
	}

	// It is removed while nobody can tell it, so it believes that it is a voter still.
	g.net.cut(g.addrs[late], true)
	step(lead.Remove(ctx, d), a, b, c)
	term := lead.Term()
	g.net.cut(g.addrs[late], false)
	time.Sleep(4 * calm().Election) // what must not happen has no event to wait for
	if !lead.Leading() || lead.Term() != term {
		t.Errorf("the leader of term %d is in term %d, leading: %v", term, lead.Term(), lead.Leading())
	}
	if id, _, ok := g.peers[late].Leader(); ok {
		t.Errorf("the removed replica follows %s", id)
	}
	g.down(late)

	// With what it had forgotten and another id, it is welcome at its old address.
	if err := Wipe(g.dirs[late]); err != nil {
		t.Fatal(err)
	}
	g.ids[late] = "n3.2"
	if err := lead.AddNonvoter(ctx, g.ids[late], g.addrs[late]); err != nil {
		t.Fatal(err)
	}
	g.up(late)
	g.same()
}

// A leader that is removed stops leading, and goes on running until its owner ends it.
func TestLeaderThatIsRemovedStepsDown(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	lead := g.leader()
	if err := lead.Remove(t.Context(), lead.cfg.ID); err != nil {
		t.Fatal(err)
	}
	next := g.leader(lead)
	until(t, "the old leader to stop", func() bool { return !lead.Leading() }, lead.Changed)
	next.commit(t, &placement.OpenSession{NodeID: "n"})
	select {
	case <-lead.ended:
		t.Errorf("it ended with %v", lead.err)
	default:
	}
}

// A replica that comes back at another address is found there once the configuration has it, or Resolve says so.
func TestReplicaMovesToAnotherAddress(t *testing.T) {
	if raced {
		t.Skip("hashicorp/raft 1.8.0 has a data race where a server's address changes: its issue 681")
	}
	t.Parallel()
	var moved sync.Map
	g := newGroup(t, 3, func(_ int, cfg *Config) {
		cfg.Timing = calm()
		cfg.Resolve = func(id string) (string, bool) {
			addr, ok := moved.Load(id)
			if !ok {
				return "", false
			}
			return addr.(string), true
		}
	})
	for _, how := range []string{"voter", "non-voter", "resolved"} {
		who, lead := g.follower(), g.leader()
		if how == "non-voter" {
			if err := lead.Demote(t.Context(), g.ids[who]); err != nil {
				t.Fatal(err)
			}
		}
		before := g.voters()
		g.down(who)
		lead.commit(t, &placement.OpenSession{NodeID: "n"})
		g.addrs[who] = "of the " + how
		g.up(who)
		if how == "resolved" {
			moved.Store(g.ids[who], g.addrs[who])
		} else if err := lead.SetAddress(t.Context(), g.ids[who], g.addrs[who]); err != nil {
			t.Fatal(err)
		}
		g.same()
		if after := g.voters(); !slices.Equal(before, after) {
			t.Errorf("voters %v became %v with an address", before, after)
		}
	}
}

func TestTickIsCommittedEverywhereAndChangesNothing(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	lead := g.leader()
	before := lead.table.Stats()
	first, err := lead.Tick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := lead.Tick(t.Context())
	if err != nil || second <= first {
		t.Fatalf("tick %d after %d, %v", second, first, err)
	}
	for _, p := range g.peers {
		if err := p.table.WaitIndex(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	if after := lead.table.Stats(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	if _, err := g.peers[g.follower()].Tick(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower's tick: %v", err)
	}
	if lead.LastIndex() < second || lead.CommitIndex() < second || lead.AppliedIndex() < second {
		t.Errorf("last %d, committed %d, applied %d after tick %d", lead.LastIndex(), lead.CommitIndex(), lead.AppliedIndex(), second)
	}
}

// A leader that reaches no majority cannot get a tick committed, and says so.
func TestLeaderWithoutAMajorityGetsNoTick(t *testing.T) {
	g := newGroup(t, 3, nil)
	lead := g.leader()
	g.net.cut(g.addrs[g.index(lead)], true)
	if _, err := lead.Tick(t.Context()); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("it was answered with %v", err)
	}
	next := g.leader(lead)
	next.commit(t, &placement.OpenSession{NodeID: "n"})
	g.net.cut(g.addrs[g.index(lead)], false)
	g.same()
}

func TestLeaderKnowsWhomItReaches(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	lead, gone := g.leader(), g.follower()
	if at := lead.Contact(g.ids[gone]); time.Since(at) > time.Second {
		t.Errorf("a living follower was last heard of at %v", at)
	}
	g.net.cut(g.addrs[gone], true)
	until(t, "the leader to miss it", func() bool {
		at := lead.Contact(g.ids[gone])
		return !at.IsZero() && time.Since(at) > 300*time.Millisecond
	}, lead.Changed)
	g.net.cut(g.addrs[gone], false)
	until(t, "the leader to hear of it again", func() bool { return time.Since(lead.Contact(g.ids[gone])) < 100*time.Millisecond }, lead.Changed)
	if at := g.peers[gone].Contact(lead.cfg.ID); !at.IsZero() {
		t.Errorf("a follower has contacts: %v", at)
	}
	if at := g.peers[gone].LastContact(); at.IsZero() {
		t.Error("a follower never heard of its leader")
	}
}
