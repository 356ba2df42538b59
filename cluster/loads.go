package cluster

import (
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/wire"
)

// loads are what instances report of themselves: hints, not in the table. Those of this node's instances are told to all
// others by gossip, since whoever leads chooses.
type loads struct {
	mu     sync.Mutex
	own    map[wire.InstanceID]report
	others map[wire.InstanceID]report
}

type report struct {
	permille uint32
	sessions uint64
	at       time.Time
}

// reportLife is how long a report counts.
const reportLife = 15 * time.Second

// maxReports bounds what is kept of others.
const maxReports = 1 << 17

// Report notes the load that an instance reports, in thousandths of what it can do, and its sessions: a hint for
// placing, forgotten after 15 s.
func (n *Node) Report(id wire.InstanceID, permille uint32, sessions uint64) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	if n.loads.own == nil {
		n.loads.own = map[wire.InstanceID]report{}
	}
	n.loads.own[id] = report{permille, sessions, n.cfg.Now()}
}

// Load returns the last report of an instance, if it is fresh.
func (n *Node) Load(id wire.InstanceID) (permille uint32, sessions uint64, ok bool) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	r, ok := n.loads.own[id]
	if other, there := n.loads.others[id]; there && (!ok || other.at.After(r.at)) {
		r, ok = other, true
	}
	if !ok || n.cfg.Now().Sub(r.at) > reportLife {
		return 0, 0, false
	}
	return r.permille, r.sessions, true
}

// ownLoads is what gossip tells others.
func (n *Node) ownLoads() []gossip.Load {
	now := n.cfg.Now()
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	var out []gossip.Load
	for id, r := range n.loads.own {
		if now.Sub(r.at) <= reportLife {
			out = append(out, gossip.Load{Instance: id, Permille: r.permille, Sessions: r.sessions})
		}
	}
	return out
}

// takeLoads takes what another node tells.
func (n *Node) takeLoads(_ gossip.Member, told []gossip.Load) {
	now := n.cfg.Now()
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	if n.loads.others == nil {
		n.loads.others = map[wire.InstanceID]report{}
	}
	for _, l := range told {
		if _, known := n.loads.others[l.Instance]; known || len(n.loads.others) < maxReports {
			n.loads.others[l.Instance] = report{l.Permille, l.Sessions, now}
		}
	}
}

// forgetReports drops what counts no more.
func (n *Node) forgetReports(now time.Time) {
	n.loads.mu.Lock()
	defer n.loads.mu.Unlock()
	for _, of := range []map[wire.InstanceID]report{n.loads.own, n.loads.others} {
		for id, r := range of {
			if now.Sub(r.at) > reportLife {
				delete(of, id)
			}
		}
	}
}
