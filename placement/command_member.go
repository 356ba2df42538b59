package placement

// admit returns the record of a node that comes with a key, zero when it has none, as it is to be kept. Outcomes beside
// Done: Denied, Full.
func (c *content) admit(id string, key [32]byte) (nodeRecord, Outcome) {
	rec, known := c.nodes[id]
	switch {
	case !known && len(c.nodes) >= maxNodes:
		return rec, Full
	case !known:
		rec.number = uint32(len(c.nodes)) + 1
	case rec.revoked, rec.key != [32]byte{} && rec.key != key:
		return rec, Denied
	}
	rec.key = key
	return rec, Done
}

// endNode ends all sessions of a node.
func (c *content) endNode(id string, at int64) {
	c.endSessions(at, func(s *Session) bool { return s.Node == id })
}

// BindNode binds a node to its key before it gets a certificate: Denied if it is bound to another one or revoked.
type BindNode struct {
	NodeID string
	Key    [32]byte // SHA-256 of the node's public key; not zero
}

// Kind returns KindBindNode.
func (*BindNode) Kind() Kind { return KindBindNode }

func (b *BindNode) append(dst []byte) []byte { return append(appendText(dst, b.NodeID), b.Key[:]...) }

func (b *BindNode) decode(r *reader) { b.NodeID, b.Key = r.text(MaxNodeID), r.hash() }

func (b *BindNode) apply(c *content, _ uint64) Result {
	if b.NodeID == "" || b.Key == [32]byte{} {
		return Result{Outcome: Refused}
	}
	rec, outcome := c.admit(b.NodeID, b.Key)
	if outcome == Done && rec != c.nodes[b.NodeID] {
		c.nodes[b.NodeID] = rec
		c.note(Change{Kind: NodesChanged})
	}
	return Result{Outcome: outcome}
}

// Revoke shuts a node out: its sessions end, and it gets no other until it is unbound. It stays bound to its key.
// Stale: nobody knows the node.
type Revoke struct {
	NodeID string
	At     int64 // wall time in Unix seconds, an input
}

// Kind returns KindRevoke.
func (*Revoke) Kind() Kind { return KindRevoke }

func (v *Revoke) append(dst []byte) []byte { return appendU64(appendText(dst, v.NodeID), v.At) }

func (v *Revoke) decode(r *reader) { v.NodeID, v.At = r.text(MaxNodeID), int64(r.u64()) }

func (v *Revoke) apply(c *content, _ uint64) Result {
	rec, known := c.nodes[v.NodeID]
	if !known {
		return Result{Outcome: Stale}
	}
	rec.revoked = true
	c.nodes[v.NodeID] = rec
	c.endNode(v.NodeID, v.At)
	return Result{Outcome: Done}
}

// Unbind removes a node by force: its sessions end, and it is neither bound to a key nor revoked any more. Its number
// and its count of lives stay, since they name keys and connections. Stale: nobody knows the node.
type Unbind struct {
	NodeID string
	At     int64 // wall time in Unix seconds, an input
}

// Kind returns KindUnbind.
func (*Unbind) Kind() Kind { return KindUnbind }

func (u *Unbind) append(dst []byte) []byte { return appendU64(appendText(dst, u.NodeID), u.At) }

func (u *Unbind) decode(r *reader) { u.NodeID, u.At = r.text(MaxNodeID), int64(r.u64()) }

func (u *Unbind) apply(c *content, _ uint64) Result {
	rec, known := c.nodes[u.NodeID]
	if !known {
		return Result{Outcome: Stale}
	}
	rec.key, rec.revoked = [32]byte{}, false
	c.nodes[u.NodeID] = rec
	c.endNode(u.NodeID, u.At)
	return Result{Outcome: Done}
}

// Recover begins a new generation of a cluster whose log may have lost its end: all sessions end, so all rows are free,
// epochs given from here on are above all older ones, and nodes of the old incarnation are strangers. Stale: the
// generation is not higher than the present one.
type Recover struct {
	Generation  uint32
	Incarnation [16]byte // random; neither zero nor the present one
	At          int64    // wall time in Unix seconds, an input
}

// Kind returns KindRecover.
func (*Recover) Kind() Kind { return KindRecover }

func (v *Recover) append(dst []byte) []byte {
	return appendU64(append(appendU32(dst, v.Generation), v.Incarnation[:]...), v.At)
}

func (v *Recover) decode(r *reader) {
	v.Generation, v.Incarnation, v.At = r.u32(), r.id128(), int64(r.u64())
}

func (v *Recover) apply(c *content, _ uint64) Result {
	switch {
	case v.Generation <= c.cluster.Generation:
		return Result{Outcome: Stale}
	case v.Generation >= 1<<24 || v.Incarnation == [16]byte{} || v.Incarnation == c.cluster.Incarnation:
		return Result{Outcome: Refused}
	}
	c.cluster.Generation, c.cluster.Incarnation = v.Generation, v.Incarnation
	c.endSessions(v.At, func(*Session) bool { return true })
	return Result{Outcome: Done}
}
