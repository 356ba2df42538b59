package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// maxMet bounds the addresses that meet remembers.
const maxMet = 64

// met are addresses of gossip that other nodes have told of themselves.
type met struct {
	mu    sync.Mutex
	addrs []string
}

func (m *met) add(addr string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.addrs, addr) {
		m.addrs = append(m.addrs, addr)
		m.addrs = m.addrs[max(0, len(m.addrs)-maxMet):]
	}
}

func (m *met) list() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.addrs)
}

// meetEvery is how often a node without a leader asks where others gossip.
const meetEvery = 5 * time.Second

// meet asks the nodes that this one can reach where they gossip, while no leader is known. When many nodes have come
// back at other addresses, what the table and raft say of them is of no use; gossip tells all of one what it knows of another.
func (n *Node) meet(ctx context.Context) error {
	for {
		if _, ok := n.Leader(); !ok {
			for _, addr := range n.addresses(ctx) {
				limit, cancel := context.WithTimeout(ctx, renewTime)
				b, err := n.client.Call(limit, addr, "", control.Gossip, nil)
				cancel()
				if f := (fields{b: b}); err == nil {
					if at := f.text(); !f.bad && at != "" {
						n.met.add(at)
					}
				}
			}
		}
		if err := sleep(ctx, meetEvery); err != nil {
			return err
		}
	}
}

// takeGossip says where this node gossips.
func (n *Node) takeGossip(context.Context, nodeport.Peer, []byte) ([]byte, error) {
	return appendText(nil, n.GossipAddr()), nil
}
