package consensus

import (
	"fmt"
	"testing"
	"time"
)

// quick is short, and long enough for a machine that has other things to do.
func quick() Timing {
	return Timing{400 * time.Millisecond, 400 * time.Millisecond, 400 * time.Millisecond}
}

// calm is for tests in which nobody may lose the leadership by accident.
func calm() Timing { return Timing{time.Second, time.Second, time.Second} }

// newGroup starts voters of a new cluster with a formed table.
func newGroup(t *testing.T, voters int, change func(i int, cfg *Config)) *group {
	t.Helper()
	g := &group{t: t, net: newFabric(), change: change}
	var servers []Server
	for i := range voters {
		g.add()
		servers = append(servers, Server{ID: g.ids[i], Addr: g.addrs[i]})
	}
	for i := range voters {
		p := open(t, g.config(i))
		if i == 0 {
			if err := p.Bootstrap(servers...); err != nil {
				t.Fatal(err)
			}
		}
		g.peers[i] = p.run(t)
	}
	g.leader().commit(t, form())
	return g
}

// add makes up another replica, which up starts.
func (g *group) add() int {
	i := len(g.peers)
	g.dirs = append(g.dirs, g.t.TempDir())
	g.ids = append(g.ids, fmt.Sprintf("n%d.1", i))
	g.addrs = append(g.addrs, fmt.Sprintf("a%d", i))
	g.peers = append(g.peers, nil)
	return i
}

func (g *group) config(i int) Config {
	cfg := testConfig(g.t, g.dirs[i])
	cfg.ID, cfg.Addr, cfg.Timing = g.ids[i], g.addrs[i], quick()
	h := g.net.listen(cfg.Addr, cfg.ID)
	cfg.Listener, cfg.Dial = h, h.dial
	if g.change != nil {
		g.change(i, &cfg)
	}
	return cfg
}

func (g *group) up(i int) *peer {
	g.t.Helper()
	g.peers[i] = start(g.t, g.config(i))
	return g.peers[i]
}

// down stops a replica.
func (g *group) down(i int) {
	g.t.Helper()
	if err := g.peers[i].stop(); err != nil {
		g.t.Error(err)
	}
	g.peers[i] = nil
}

// joined adds a replica to the cluster, without a vote, and starts it.
func (g *group) joined() int {
	g.t.Helper()
	i := g.add()
	p := open(g.t, g.config(i))
	if err := g.leader().AddNonvoter(g.t.Context(), g.ids[i], g.addrs[i]); err != nil {
		g.t.Fatal(err)
	}
	g.peers[i] = p.run(g.t)
	return i
}

func (g *group) index(p *peer) int {
	for i := range g.peers {
		if g.peers[i] == p {
			return i
		}
	}
	g.t.Fatal("no such replica")
	return -1
}

// leader waits for a replica that leads, but for those named.
func (g *group) leader(but ...*peer) *peer {
	g.t.Helper()
	var found *peer
	until(g.t, "a leader", func() bool {
	peers:
		for _, p := range g.peers {
			for _, b := range but {
				if p == b {
					continue peers
				}
			}
			if p != nil && p.Leading() && p.Barrier(g.t.Context()) == nil {
				found = p
				return true
			}
		}
		return false
	}, func() <-chan struct{} { return nil })
	return found
}

// follower returns a voter that does not lead.
func (g *group) follower() int {
	g.t.Helper()
	lead := g.leader()
	for i, p := range g.peers {
		if p != nil && p != lead {
			return i
		}
	}
	g.t.Fatal("no follower")
	return -1
}

// same waits until all tables are at one index, and compares them.
func (g *group) same() {
	g.t.Helper()
	lead := g.leader()
	for i, p := range g.peers {
		if p == nil {
			continue
		}
		if err := p.table.WaitIndex(g.t.Context(), lead.table.Index()); err != nil {
			g.t.Fatal(err)
		}
		// The tables may go on while they are looked at.
		until(g.t, fmt.Sprintf("the table of replica %d to be the leader's", i), func() bool {
			return sum(p.table) == sum(lead.table)
		}, p.table.Changed)
	}
}

// voters returns the ids of the voters, as the leader has them.
func (g *group) voters() (ids []string) {
	for _, s := range g.leader().Servers() {
		if s.Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
