package gossip

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// hooks is what memberlist calls. Those with a Node of somebody are called under memberlist's lock (but NotifyMerge and
// NotifyPingComplete), so they call nothing of memberlist.
type hooks struct{ g *Gossip }

var errNotYet = errors.New(refusal + "this node has joined no cluster yet")

// errForeign is how a node of another incarnation is refused.
func errForeign(theirs [16]byte) error {
	return fmt.Errorf(refusal+"it is of another cluster, of incarnation %x", theirs)
}

// NotifyAlive decides whether a node may be listed with what it says of itself now.
func (h hooks) NotifyAlive(peer *memberlist.Node) error {
	g := h.g
	m, err := g.parse(peer)
	if err != nil {
		return err
	}
	ours := g.Incarnation()
	switch {
	case m.Incarnation == ours || m.Incarnation == [16]byte{}:
		return nil
	case ours == [16]byte{}:
		return errNotYet
	}
	g.foreign(peer, m.Incarnation)
	if peer.Name != g.cfg.Name {
		if old, ok := g.listing.get(peer.Name); ok && old.Meta.Incarnation != ours {
			g.listing.forget(peer.Name) // it was listed while it was of no cluster
		}
	}
	return errForeign(m.Incarnation)
}

// NotifyMerge decides, when somebody joins or is joined, whether their cluster is ours.
func (h hooks) NotifyMerge(peers []*memberlist.Node) error {
	g := h.g
	ours := g.Incarnation()
	var theirs [16]byte
	for _, p := range peers {
		if p.State != memberlist.StateAlive && p.State != memberlist.StateSuspect {
			continue
		}
		m, err := ParseMeta(p.Meta)
		if err != nil || m.Incarnation == [16]byte{} {
			continue // the first is refused by NotifyAlive, the second is of no cluster
		}
		known := ours
		if known == [16]byte{} {
			known = theirs
		}
		if known != [16]byte{} && m.Incarnation != known {
			g.foreign(p, m.Incarnation)
			return errForeign(m.Incarnation)
		}
		theirs = m.Incarnation
	}
	if ours != [16]byte{} || theirs == [16]byte{} {
		return nil
	}
	return g.adopt(theirs)
}

// parse reads what a node says of itself.
func (g *Gossip) parse(peer *memberlist.Node) (Meta, error) {
	m, err := ParseMeta(peer.Meta)
	if err == nil && (peer.Name == "" || len(peer.Name) > maxName || !printable(peer.Name)) {
		err = errors.New("name of a node is not valid")
	}
	if _, ok := addrOf(peer); err == nil && !ok {
		err = errors.New("address of a node is not valid")
	}
	if err == nil {
		return m, nil
	}
	g.counts.badMeta.Add(1)
	if suppressed, ok := g.refused.pass("metadata", g.cfg.Now()); ok {
		g.cfg.Log.Warn("gossip: a node is not listed, since what it says of itself cannot be read",
			"peer", fmt.Sprintf("%.*q", maxName, peer.Name), "bytes", len(peer.Meta), "error", err, "suppressed", suppressed)
	}
	return Meta{}, fmt.Errorf(refusal+"%w", err)
}

// foreign says, once for each cluster and hour, that a node is not of this one.
func (g *Gossip) foreign(peer *memberlist.Node, theirs [16]byte) {
	g.counts.foreign.Add(1)
	if _, ok := g.strangers.pass(string(theirs[:]), g.cfg.Now()); !ok {
		return
	}
	ours := g.Incarnation()
	addr, _ := addrOf(peer)
	g.cfg.Log.Warn("gossip: refused a node of another cluster that has the same name and key; to move that node into this "+
		"cluster, stop it, give it an empty data directory, and start it with --join and the address of a node of this cluster",
		"peer", peer.Name, "address", addr, "cluster", g.cfg.Cluster,
		"incarnation", hex.EncodeToString(ours[:]), "theirs", hex.EncodeToString(theirs[:]))
}

// adopt takes the incarnation of who was joined. Somebody else's wish to join this node gives it none.
func (g *Gossip) adopt(theirs [16]byte) error {
	if g.joining.Load() == 0 {
		return errNotYet
	}
	g.mu.Lock()
	taken := g.meta.Incarnation == [16]byte{}
	if taken {
		g.meta.Incarnation = theirs
	}
	same := g.meta.Incarnation == theirs
	g.mu.Unlock()
	if !same {
		return errForeign(theirs)
	}
	if taken {
		g.cfg.Log.Info("gossip: joined a cluster", "cluster", g.cfg.Cluster, "incarnation", hex.EncodeToString(theirs[:]))
		poke(g.unpublished)
		if g.cfg.OnIncarnation != nil {
			g.cfg.OnIncarnation(theirs)
		}
	}
	return nil
}

// NotifyJoin lists a node.
func (h hooks) NotifyJoin(n *memberlist.Node) { h.list(n) }

// NotifyUpdate lists what a node says of itself now.
func (h hooks) NotifyUpdate(n *memberlist.Node) { h.list(n) }

func (h hooks) list(n *memberlist.Node) {
	m, err := ParseMeta(n.Meta)
	addr, ok := addrOf(n)
	if err != nil || !ok {
		return // NotifyAlive has refused it
	}
	h.g.listing.put(Member{Name: n.Name, Addr: addr, Meta: m, Since: h.g.cfg.Now(), Self: n.Name == h.g.cfg.Name})
}

// NotifyLeave notes that a node left or died.
func (h hooks) NotifyLeave(n *memberlist.Node) { h.g.listing.gone(n.Name, h.g.cfg.Now()) }

// NotifyPingComplete notes how far away a node is.
func (h hooks) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	h.g.listing.heard(n.Name, rtt)
}

// AckPayload adds nothing to the answer to a probe.
func (h hooks) AckPayload() []byte { return nil }

// NodeMeta is what this node says of itself.
func (h hooks) NodeMeta(int) []byte {
	h.g.mu.Lock()
	defer h.g.mu.Unlock()
	return AppendMeta(nil, h.g.meta)
}

// NotifyMsg takes a message of another node.
func (h hooks) NotifyMsg(b []byte) {
	g := h.g
	m, err := parseMessage(b)
	if err != nil {
		g.counts.badMessage.Add(1)
		return
	}
	from, known := g.listing.get(m.name)
	if !known || from.Self {
		g.counts.unknown.Add(1)
		return
	}
	switch m.kind {
	case kindLeaving:
		g.listing.leaving(m.name)
	case kindLoads:
		g.counts.loadsTaken.Add(uint64(len(m.loads)))
		if g.cfg.OnLoad != nil && len(m.loads) > 0 {
			g.cfg.OnLoad(from, m.loads)
		}
	}
}

// GetBroadcasts adds nothing to what is gossiped: hints go straight to each member.
func (h hooks) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState adds nothing to what is compared.
func (h hooks) LocalState(bool) []byte { return nil }

// MergeRemoteState takes nothing.
func (h hooks) MergeRemoteState([]byte, bool) {}

func addrOf(n *memberlist.Node) (netip.AddrPort, bool) {
	ip, ok := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port), ok && n.Port != 0
}
