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
}

// Kind returns KindForm.
func (*Form) Kind() Kind { return KindForm }

func (f *Form) append(dst []byte) []byte {
	dst = appendU32(dst, f.Generation)
	dst = append(dst, f.Incarnation[:]...)
	return append(dst, f.MACKey[:]...)
}

func (f *Form) decode(r *reader) {
	f.Generation, f.Incarnation, f.MACKey = r.u32(), r.id128(), r.hash()
}

func (f *Form) apply(c *content, _ uint64) Result {
	if c.generation != 0 || f.Generation == 0 || f.Generation >= 1<<24 {
		return Result{Outcome: Refused}
	}
	c.form(f.Generation, f.Incarnation, f.MACKey)
	c.note(Change{Kind: NodesChanged})
	return Result{Outcome: Done}
}

// form sets what never changes again, and keys the hash of rows.
func (c *content) form(generation uint32, incarnation [16]byte, macKey [32]byte) {
	c.generation, c.incarnation, c.macKey = generation, incarnation, macKey
	c.seed = seed{
		a: binary.LittleEndian.Uint64(macKey[:8]) ^ binary.LittleEndian.Uint64(macKey[16:24]),
		b: binary.LittleEndian.Uint64(macKey[8:16]) ^ binary.LittleEndian.Uint64(macKey[24:]),
	}
}

// OpenSession begins a life of a node. It never ends an older one of the same node: that has its own end. One index
// opens one session.
type OpenSession struct {
	NodeID string
	Region string
}

// Kind returns KindOpenSession.
func (*OpenSession) Kind() Kind { return KindOpenSession }

func (o *OpenSession) append(dst []byte) []byte {
	return appendText(appendText(dst, o.NodeID), o.Region)
}

func (o *OpenSession) decode(r *reader) { o.NodeID, o.Region = r.text(MaxNodeID), r.text(MaxRegion) }

func (o *OpenSession) apply(c *content, index uint64) Result {
	if o.NodeID == "" {
		return Result{Outcome: Refused}
	}
	id := wire.NodeSession(index)
	if c.sessionAt == index {
		return Result{Outcome: Again}
	}
	rec, known := c.nodes[o.NodeID]
	if len(c.sessions) >= maxSessions || !known && len(c.nodes) >= maxNodes {
		return Result{Outcome: Full}
	}
	if !known {
		rec.number = uint32(len(c.nodes)) + 1
	}
	rec.boot++
	c.sessionAt = index
	c.nodes[o.NodeID] = rec
	c.sessions = append(c.sessions, Session{ID: id, Node: o.NodeID, Number: rec.number, Boot: rec.boot, Region: o.Region})
	c.note(Change{Kind: NodesChanged})
	return Result{Outcome: Done, Node: id}
}

// EndSession ends a life of a node: instances still attached to it are gone, and its keys are retired.
type EndSession struct {
	Session wire.NodeSession
	At      int64 // wall time in Unix seconds, an input
}

// Kind returns KindEndSession.
func (*EndSession) Kind() Kind { return KindEndSession }

func (e *EndSession) append(dst []byte) []byte { return appendU64(appendU64(dst, e.Session), e.At) }

func (e *EndSession) decode(r *reader) { e.Session, e.At = r.node(), int64(r.u64()) }

func (e *EndSession) apply(c *content, _ uint64) Result {
	i := c.sessionIndex(e.Session)
	if i < 0 {
		return Result{Outcome: Stale}
	}
	c.sessions = slices.Delete(c.sessions, i, i+1)
	for _, id := range c.attachedTo(e.Session) {
		c.leave(c.byID[id])
	}
	retired := false
	for kid, k := range c.keys {
		if k.Session == e.Session {
			k.Retired, retired = max(e.At, 1), true
			c.keys[kid] = k
		}
	}
	c.note(Change{Kind: NodesChanged})
	if retired {
		c.note(Change{Kind: KeysChanged})
	}
	return Result{Outcome: Done}
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
