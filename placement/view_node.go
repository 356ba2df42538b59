package placement

import (
	"cmp"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

// Sessions returns the open node sessions, oldest first.
func (t *Table) Sessions() []Session {
	c, done := t.view()
	defer done()
	return slices.Clone(c.sessions)
}

// Session returns an open node session.
func (t *Table) Session(id wire.NodeSession) (Session, bool) {
	c, done := t.view()
	defer done()
	if i := c.sessionIndex(id); i >= 0 {
		return c.sessions[i], true
	}
	return Session{}, false
}

// NodeInfo returns what is known of a node that had a session or was bound to a key.
func (t *Table) NodeInfo(id string) (NodeInfo, bool) {
	c, done := t.view()
	defer done()
	rec, ok := c.nodes[id]
	if !ok {
		return NodeInfo{}, false
	}
	return rec.info(id), true
}

// NodeInfos returns what is known of all nodes, in the order of their numbers.
func (t *Table) NodeInfos() []NodeInfo {
	c, done := t.view()
	defer done()
	out := make([]NodeInfo, 0, len(c.nodes))
	for id, rec := range c.nodes {
		out = append(out, rec.info(id))
	}
	slices.SortFunc(out, func(a, b NodeInfo) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Node, b.Node))
	})
	return out
}

func (n nodeRecord) info(id string) NodeInfo {
	return NodeInfo{Node: id, Number: n.number, Boot: n.boot, Key: n.key, Revoked: n.revoked}
}

// MinProto returns the lowest of the highest protocol versions that the nodes with an open session speak: what all of
// them understand. 0 when there is no session.
func (t *Table) MinProto() uint16 {
	c, done := t.view()
	defer done()
	var lowest uint16
	for i := range c.sessions {
		if p := c.sessions[i].Proto; i == 0 || p < lowest {
			lowest = p
		}
	}
	return lowest
}

// Cluster returns what the cluster was formed as, and recovered as since.
func (t *Table) Cluster() ClusterInfo {
	c, done := t.view()
	defer done()
	return c.cluster
}

// Key returns a public key.
func (t *Table) Key(kid string) (Key, bool) {
	c, done := t.view()
	defer done()
	k, ok := c.keys[kid]
	return k, ok
}

// Keys returns all public keys in the order of their ids.
func (t *Table) Keys() []Key {
	c, done := t.view()
	defer done()
	out := make([]Key, 0, len(c.keys))
	for _, k := range c.keys {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// MACKey returns the secret made with the table; zero before it is formed.
func (t *Table) MACKey() [32]byte {
	c, done := t.view()
	defer done()
	return c.macKey
}

// Generation returns the cluster generation; 0 before the table is formed.
func (t *Table) Generation() uint32 {
	c, done := t.view()
	defer done()
	return c.cluster.Generation
}

// Incarnation returns the random name of the cluster; zero before the table is formed.
func (t *Table) Incarnation() [16]byte {
	c, done := t.view()
	defer done()
	return c.cluster.Incarnation
}
