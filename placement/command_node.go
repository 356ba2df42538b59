package placement

import (
	"encoding/binary"
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

// Form makes the table of a new cluster. It is the first command of every log and refused later.
type Form struct {
	Generation  uint32   // upper 24 bits of every epoch; not 0
	Incarnation [16]byte // random: tells this cluster from every other
	MACKey      [32]byte // random: signs anonymous ids, keys hashes; secret
	Name        string   // of the cluster, for people and for gossip's label; at most MaxName bytes
	Profile     uint8    // OneRegion or MultiRegion
	Region      string   // of the node that forms the cluster: its nodes are voters first
}

// Kind returns KindForm.
func (*Form) Kind() Kind { return KindForm }

func (f *Form) append(dst []byte) []byte {
	dst = appendU32(dst, f.Generation)
	dst = append(dst, f.Incarnation[:]...)
	return appendText(append(appendText(append(dst, f.MACKey[:]...), f.Name), f.Profile), f.Region)
}

func (f *Form) decode(r *reader) {
	f.Generation, f.Incarnation, f.MACKey = r.u32(), r.id128(), r.hash()
	f.Name, f.Profile, f.Region = r.text(MaxName), r.upTo(MultiRegion), r.text(MaxRegion)
}

func (f *Form) apply(c *content, _ uint64) Result {
	if c.cluster.Generation != 0 || f.Generation == 0 || f.Generation >= 1<<24 {
		return Result{Outcome: Refused}
	}
	c.form(ClusterInfo{f.Name, f.Profile, f.Region, f.Generation, f.Incarnation}, f.MACKey)
	c.note(Change{Kind: NodesChanged})
	return Result{Outcome: Done}
}

// form sets what only Recover changes again, and keys the hash of rows.
func (c *content) form(cluster ClusterInfo, macKey [32]byte) {
	c.cluster, c.macKey = cluster, macKey
	c.seed = seed{
		a: binary.LittleEndian.Uint64(macKey[:8]) ^ binary.LittleEndian.Uint64(macKey[16:24]),
		b: binary.LittleEndian.Uint64(macKey[8:16]) ^ binary.LittleEndian.Uint64(macKey[24:]),
	}
}

// OpenSession begins a life of a node. It never ends an older one of the same node: that has its own end. One index
// opens one session. The node is bound to the first key that it, or BindNode, comes with: with another one, and with
// none, it is Denied from then on, as it is while it is revoked.
type OpenSession struct {
	NodeID string
	Region string
	// NodeAddr and GossipAddr are where other nodes reach it: host:port, at most MaxAddr bytes.
	NodeAddr, GossipAddr string
	Key                  [32]byte // SHA-256 of the node's public key; zero when it has none
	Proto                uint16   // the highest protocol version it speaks
}

// Kind returns KindOpenSession.
func (*OpenSession) Kind() Kind { return KindOpenSession }

func (o *OpenSession) append(dst []byte) []byte {
	dst = appendText(appendText(dst, o.NodeID), o.Region)
	dst = appendText(appendText(dst, o.NodeAddr), o.GossipAddr)
	return appendU16(append(dst, o.Key[:]...), int(o.Proto))
}

func (o *OpenSession) decode(r *reader) {
	o.NodeID, o.Region = r.text(MaxNodeID), r.text(MaxRegion)
	o.NodeAddr, o.GossipAddr = r.text(MaxAddr), r.text(MaxAddr)
	o.Key, o.Proto = r.hash(), r.u16()
}

func (o *OpenSession) apply(c *content, index uint64) Result {
	switch {
	case o.NodeID == "":
		return Result{Outcome: Refused}
	case c.sessionAt == index:
		return Result{Outcome: Again}
	case len(c.sessions) >= maxSessions:
		return Result{Outcome: Full}
	}
	rec, outcome := c.admit(o.NodeID, o.Key)
	if outcome != Done {
		return Result{Outcome: outcome}
	}
	rec.boot++
	c.nodes[o.NodeID] = rec
	id := wire.NodeSession(index)
	c.sessionAt = index
	c.sessions = append(c.sessions, Session{
		ID: id, Node: o.NodeID, Number: rec.number, Boot: rec.boot, Region: o.Region,
		NodeAddr: o.NodeAddr, GossipAddr: o.GossipAddr, Key: o.Key, Proto: o.Proto,
	})
	c.note(Change{Kind: NodesChanged})
	return Result{Outcome: Done, Node: id}
}

// EndSession ends a life of a node: instances still attached to it are gone, its keys are retired, and its requests are
// forgotten.
type EndSession struct {
	Session wire.NodeSession
	At      int64 // wall time in Unix seconds, an input
}

// Kind returns KindEndSession.
func (*EndSession) Kind() Kind { return KindEndSession }

func (e *EndSession) append(dst []byte) []byte { return appendU64(appendU64(dst, e.Session), e.At) }

func (e *EndSession) decode(r *reader) { e.Session, e.At = r.node(), int64(r.u64()) }

func (e *EndSession) apply(c *content, _ uint64) Result {
	if c.sessionIndex(e.Session) < 0 {
		return Result{Outcome: Stale}
	}
	c.endSessions(e.At, func(s *Session) bool { return s.ID == e.Session })
	return Result{Outcome: Done}
}

// endSessions ends the sessions that are to end, as EndSession does.
func (c *content) endSessions(at int64, over func(*Session) bool) {
	ended := map[wire.NodeSession]bool{}
	c.sessions = slices.DeleteFunc(c.sessions, func(s Session) bool {
		if !over(&s) {
			return false
		}
		ended[s.ID] = true
		return true
	})
	for _, id := range c.attachedTo(ended) {
		c.leave(c.byID[id])
	}
	retired := false
	for kid, k := range c.keys {
		if ended[k.Session] {
			k.Retired, retired = max(at, 1), true
			c.keys[kid] = k
		}
	}
	for id := range ended {
		delete(c.requests, id)
	}
	c.note(Change{Kind: NodesChanged})
	if retired {
		c.note(Change{Kind: KeysChanged})
	}
}

// PutKey publishes the public half of a key that a node signs tokens with. A kid is bound to its first key.
type PutKey struct {
	ID      string
	Public  [32]byte
	Session wire.NodeSession
}

// Kind returns KindPutKey.
func (*PutKey) Kind() Kind { return KindPutKey }

func (p *PutKey) append(dst []byte) []byte {
	dst = append(appendText(dst, p.ID), p.Public[:]...)
	return appendU64(dst, p.Session)
}

func (p *PutKey) decode(r *reader) {
	p.ID, p.Public, p.Session = r.text(MaxKeyID), r.hash(), r.node()
}

func (p *PutKey) apply(c *content, _ uint64) Result {
	k, known := c.keys[p.ID]
	switch {
	case p.ID == "":
		return Result{Outcome: Refused}
	case known && k.Public != p.Public, c.sessionIndex(p.Session) < 0:
		return Result{Outcome: Stale}
	case !known && len(c.keys) >= MaxKeys:
		return Result{Outcome: Full}
	}
	c.keys[p.ID] = Key{ID: p.ID, Public: p.Public, Session: p.Session}
	c.note(Change{Kind: KeysChanged})
	return Result{Outcome: Done}
}

// RemoveKey removes a key that is retired.
type RemoveKey struct{ ID string }

// Kind returns KindRemoveKey.
func (*RemoveKey) Kind() Kind { return KindRemoveKey }

func (k *RemoveKey) append(dst []byte) []byte { return appendText(dst, k.ID) }

func (k *RemoveKey) decode(r *reader) { k.ID = r.text(MaxKeyID) }

func (k *RemoveKey) apply(c *content, _ uint64) Result {
	if key, ok := c.keys[k.ID]; !ok || key.Retired == 0 {
		return Result{Outcome: Stale}
	}
	delete(c.keys, k.ID)
	c.note(Change{Kind: KeysChanged})
	return Result{Outcome: Done}
}
