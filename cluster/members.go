package cluster

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/wire"
)

// Member is a node as this one sees it: what the table says of its session, and what gossip says of its life.
type Member struct {
	Node                 string
	Number, Boot         uint32
	Session              wire.NodeSession // 0: no session is open
	Region               string
	NodeAddr, GossipAddr string
	Role                 string // voter, non-voter, joining
	Version              string
	State                string // live, suspect (gossip does not find it), left, gone (no session is open)
	Draining             bool
	Revoked              bool
	// LeaseLeft is how long its session will last if nothing more is heard of it, and Lag by how many entries its table is
	// behind: what the leader knows, negative elsewhere.
	LeaseLeft time.Duration
	Lag       int64
	RTT       time.Duration // of gossip's last probe of it; 0: none
}

// Members returns all nodes that have a session or a replica, have just left, or were revoked, by number.
func (n *Node) Members() []Member {
	heard := map[string]gossip.Member{}
	for _, m := range n.gossip.Load().Members() {
		heard[m.Name] = m
	}
	roles := n.roles()
	now, open := n.cfg.Now(), map[string]bool{}
	var out []Member
	for _, s := range n.table.Sessions() {
		m := Member{
			Node: s.Node, Number: s.Number, Boot: s.Boot, Session: s.ID, Region: s.Region, NodeAddr: s.NodeAddr, GossipAddr: s.GossipAddr,
			Role: cmp.Or(roles[s.Node], gossip.Joining.String()), State: "suspect", LeaseLeft: -1, Lag: -1,
		}
		if ago, ok := n.granter.heardOf(s.ID, now); ok {
			m.LeaseLeft, m.Lag = max(0, n.times().Dead-ago), n.lag.of(s.ID, n.table.Index())
		}
		m.hear(heard[s.Node])
		if m.State == "left" { // with no role it is not about to get one
			m.Role = roles[s.Node]
		}
		if s.ID == n.Node() {
			m.State = "live"
		}
		open[s.Node] = true
		out = append(out, m)
	}
	for _, info := range n.table.NodeInfos() {
		g, told := heard[info.Node]
		left := told && g.State == gossip.Left
		member := info.Boot > 0 && (roles[info.Node] != "" || left)
		if open[info.Node] || !member && !info.Revoked {
			continue // one that was taken out keeps its number in the table
		}
		m := Member{
			Node: info.Node, Number: info.Number, Boot: info.Boot, Role: roles[info.Node], State: "gone",
			Revoked: info.Revoked, LeaseLeft: -1, Lag: -1,
		}
		if left {
			m.State = "left"
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Session, b.Session))
	})
	return out
}

// hear adds what gossip says.
func (m *Member) hear(g gossip.Member) {
	if g.Name == "" {
		return
	}
	m.Version, m.Draining, m.RTT = g.Meta.Version, g.Meta.Draining, g.RTT
	switch {
	case g.State == gossip.Left:
		m.State = "left"
	case g.State == gossip.Live && (g.Meta.Session == m.Session || g.Meta.Session == 0):
		m.State = "live"
	}
}

// roles are what raft's configuration says of each node.
func (n *Node) roles() map[string]string {
	out := map[string]string{}
	r := n.replica.Load()
	if r == nil {
		return out
	}
	for _, s := range r.Servers() {
		role := gossip.NonVoter
		if s.Voter {
			role = gossip.Voter
		}
		out[nodeOf(s.ID)] = role.String()
	}
	return out
}

// heardAddr is where gossip says that a node's port is now. Who answers there is checked by its certificate.
func (n *Node) heardAddr(node string) (string, bool) {
	for _, m := range n.gossip.Load().Members() {
		if m.Name == node && m.State == gossip.Live && m.Meta.NodeAddr != "" {
			return m.Meta.NodeAddr, true
		}
	}
	return "", false
}

// lags are the indexes that nodes have said their tables are at, for the leader.
type lags struct {
	mu      sync.Mutex
	applied map[wire.NodeSession]uint64
}

func (l *lags) note(id wire.NodeSession, applied uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied == nil {
		l.applied = map[wire.NodeSession]uint64{}
	}
	l.applied[id] = applied
}

// of is by how many entries a node is behind, at most, -1 when that is not known.
func (l *lags) of(id wire.NodeSession, index uint64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	applied, ok := l.applied[id]
	if !ok {
		return -1
	}
	return int64(index - min(applied, index))
}

func (n *Node) collectMembers(emit func(name string, value float64, labels ...string)) {
	counts := map[string]int{"live": 0, "suspect": 0, "left": 0, "gone": 0, "revoked": 0}
	for _, m := range n.Members() {
		if m.Revoked { // as an operator wanted it
			m.State = "revoked"
		}
		counts[m.State]++
	}
	for state, c := range counts {
		emit("members", float64(c), "state", state)
	}
	live := 0
	for _, m := range n.gossip.Load().Members() {
		if m.State == gossip.Live {
			live++
		}
	}
	emit("gossip_members", float64(live))
}

func (n *Node) collectPort(emit func(name string, value float64, labels ...string)) {
	c := n.port.Counters()
	emit("node_port_open", float64(c.Open))
	emit("node_port_accepted_total", float64(c.Accepted))
	emit("node_port_dialled_total", float64(c.Dialled))
	emit("node_port_dial_failures_total", float64(c.DialFailed))
	emit("node_port_cut_total", float64(c.Cut))
	emit("node_port_aged_total", float64(c.Aged))
	c.Refused.Each(func(r nodeport.Reason, count uint64) {
		emit("node_port_refused_total", float64(count), "reason", r.String())
	})
	calls := n.client.Counters()
	emit("control_calls_total", float64(calls.Calls))
	emit("control_calls_failed_total", float64(calls.Failed+calls.NotSent+calls.Unknown))
}
