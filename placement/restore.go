package placement

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/trunkline-edge/trunkline/wire"
)

// ErrSnapshot is wrapped by what Restore answers for bytes that are not a whole, undamaged snapshot of a version that
// this program reads.
var ErrSnapshot = errors.New("snapshot refused")

// Restore replaces the table by the one that a snapshot describes, in one step and only after every checksum has been
// compared. On an error the table is what it was. Those who follow Changes have to look at everything again.
func (t *Table) Restore(r io.Reader) error {
	c, err := readSnapshot(r)
	if err != nil {
		return fmt.Errorf("restore table: %w", err)
	}
	t.mu.Lock()
	t.content.Store(c)
	t.history.reset(c.index)
	woken := t.advance(c.index)
	t.mu.Unlock()
	if woken != nil {
		close(woken)
	}
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
}

// restorer builds a content from sections. Apps, instances and taints are named by their place in the snapshot.
type restorer struct {
	r         io.Reader
	sum       hash.Hash
	before    []byte // the sum before the section being read
	buf       bytes.Buffer
	c         *content
	apps      []*tenant
	instances []uint32
	taints    []string
	last      byte // tag of the last section
}

func readSnapshot(r io.Reader) (*content, error) {
	s := &restorer{r: r, sum: sha256.New(), c: newContent()}
	magic := make([]byte, len(snapshotMagic))
	switch _, err := io.ReadFull(r, magic); {
	case err != nil:
		return nil, damaged("no header: %v", err)
	case string(magic[:7]) != snapshotMagic[:7]:
		return nil, damaged("not a table snapshot")
	case string(magic) != snapshotMagic:
		return nil, damaged("version %d, this program reads %d", magic[7], snapshotMagic[7])
	}
	s.sum.Write(magic)
	for s.last != sectionEnd {
		tag, payload, err := s.next()
		if err != nil {
			return nil, err
		}
		in := reader{b: payload}
		if err := s.take(tag, &in); err != nil {
			return nil, err
		}
		if in.bad || len(in.b) > 0 {
			return nil, damaged("section %d has the wrong form", tag)
		}
		s.last = tag
	}
	if n, _ := io.ReadFull(r, magic[:1]); n > 0 {
		return nil, damaged("bytes after its end")
	}
	return s.c, nil
}

// next reads one section. The payload is valid until the next call; memory is taken as bytes arrive.
func (s *restorer) next() (byte, []byte, error) {
	s.before = s.sum.Sum(s.before[:0])
	var head [5]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, nil, damaged("cut off after section %d: %v", s.last, err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxSection {
		return 0, nil, damaged("section %d of %d bytes, at most %d", head[0], n, maxSection)
	}
	s.buf.Reset()
	if m, err := io.CopyN(&s.buf, s.r, int64(n)+4); err != nil {
		return 0, nil, damaged("section %d cut off after %d of %d bytes: %v", head[0], m, n, err)
	}
	payload, tail := s.buf.Bytes()[:n], s.buf.Bytes()[n:]
	crc := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload)
	if crc != binary.BigEndian.Uint32(tail) {
		return 0, nil, damaged("section %d does not match its checksum", head[0])
	}
	s.sum.Write(head[:])
	s.sum.Write(s.buf.Bytes())
	return head[0], payload, nil
}

// take takes one section. They come in the order of their tags, lists in as many sections as they need.
func (s *restorer) take(tag byte, in *reader) error {
	list := tag >= sectionApps && tag <= sectionRequests
	if tag < s.last || tag == s.last && !list || tag > sectionEnd || s.last == 0 && tag != sectionHead {
		return damaged("section %d after section %d", tag, s.last)
	}
	switch tag {
	case sectionHead:
		return s.takeHead(in)
	case sectionNodes:
		return s.takeNodes(in)
	case sectionKeys:
		return s.takeKeys(in)
	case sectionApps:
		return s.each(in, s.takeApp)
	case sectionInstances:
		return s.each(in, s.takeInstance)
	case sectionTaints:
		return s.each(in, s.takeTaint)
	case sectionRows:
		return s.each(in, s.takeRow)
	case sectionRequests:
		return s.each(in, s.takeRequests)
	default:
		return s.takeEnd(in)
	}
}

func (s *restorer) each(in *reader, take func(*reader) error) error {
	for len(in.b) > 0 {
		if err := take(in); err != nil {
			return err
		}
	}
	return nil
}

func (s *restorer) takeHead(in *reader) error {
	index, generation := in.u64(), in.u32()
	incarnation, macKey := in.id128(), in.hash()
	name, profile, region := in.text(MaxName), in.upTo(MultiRegion), in.text(MaxRegion)
	if in.bad || index > maxIndex || generation >= 1<<24 {
		return damaged("index %d, generation %d", index, generation)
	}
	s.c.index = index
	s.c.form(ClusterInfo{name, profile, region, generation, incarnation}, macKey)
	return nil
}

func (s *restorer) takeNodes(in *reader) error {
	for range in.u32() {
		id, rec := in.text(MaxNodeID), nodeRecord{in.u32(), in.u32(), in.hash(), in.bool()}
		if _, twice := s.c.nodes[id]; twice || in.bad || len(s.c.nodes) >= maxNodes {
			return damaged("node %q", id)
		}
		s.c.nodes[id] = rec
	}
	for range in.u32() {
		o := Session{
			ID: in.node(), Node: in.text(MaxNodeID), Number: in.u32(), Boot: in.u32(), Region: in.text(MaxRegion),
			NodeAddr: in.text(MaxAddr), GossipAddr: in.text(MaxAddr), Key: in.hash(), Proto: in.u16(),
		}
		n := len(s.c.sessions)
		if in.bad || n >= maxSessions || uint64(o.ID) > s.c.index || n > 0 && s.c.sessions[n-1].ID >= o.ID {
			return damaged("node session %d", o.ID)
		}
		s.c.sessions = append(s.c.sessions, o)
	}
	return nil
}

func (s *restorer) takeKeys(in *reader) error {
	for range in.u32() {
		k := Key{ID: in.text(MaxKeyID), Public: in.hash(), Session: in.node(), Retired: int64(in.u64())}
		if _, twice := s.c.keys[k.ID]; twice || in.bad || len(s.c.keys) >= MaxKeys {
			return damaged("key %q", k.ID)
		}
		s.c.keys[k.ID] = k
	}
	return nil
}

func (s *restorer) takeApp(in *reader) error {
	id := in.app()
	st := tenantState{listed: in.bool(), deleting: in.bool(), version: in.u64(), secrets: in.secrets(), settings: in.settings()}
	st.lastLogin, st.idleSince = in.bytes(MaxLogin), in.u64()
	if in.bad || s.c.dir.find(id) != nil {
		return damaged("app %s", id)
	}
	e := s.c.addTenant(id)
	e.tenantState = st
	if st.idleSince != 0 {
		s.c.idle++
	}
	s.apps = append(s.apps, e)
	return nil
}

func (s *restorer) takeInstance(in *reader) error {
	i := &Instance{ID: in.inst()}
	app := in.u32()
	i.StoreID, i.Native, i.Incarnation = in.text(MaxStoreID), in.bool(), in.id128()
	i.Region, i.Capacity = in.text(MaxRegion), in.u32()
	i.Node, i.Gen = in.node(), wire.Gen(in.u32())
	i.Draining, i.Gone, i.Login = in.bool(), in.bool(), in.bytes(MaxLogin)
	if in.bad || int(app) >= len(s.apps) || uint64(i.ID) > s.c.index {
		return damaged("instance %d", i.ID)
	}
	e := s.apps[app]
	i.App = e.id
	_, twice := s.c.byID[i.ID]
	_, taken := s.c.byName[nameOf(i)]
	if twice || taken && !i.Gone || len(e.live)+e.ghosts >= MaxInstances {
		return damaged("instance %d is there twice", i.ID)
	}
	slot := s.c.addInstance(i)
	if i.Gone {
		e.ghosts++
	} else {
		e.live = append(e.live, slot)
	}
	s.instances = append(s.instances, slot)
	return nil
}

func (s *restorer) takeTaint(in *reader) error {
	storeID := in.text(MaxStoreID)
	if in.bad || storeID == "" {
		return damaged("taint %d", len(s.taints))
	}
	s.taints = append(s.taints, storeID)
	return nil
}

func (s *restorer) takeRow(in *reader) error {
	app := in.u32()
	r := stored{state: in.state(), epoch: in.epoch()}
	instance, flags, taint := in.u32(), rowFlags(in.upTo(uint8(allFlags))), in.u32()
	if in.bad || int(app) >= len(s.apps) || int(instance) >= len(s.instances) || int(taint) > len(s.taints) {
		return damaged("row of state %s", r.state)
	}
	e := s.apps[app]
	r.app, r.instance, r.flags = e.slot, s.instances[instance], flags
	hash := s.c.hashOf(r)
	shard := &s.c.shards[shardOf(hash)]
	if _, twice := shard.get(hash, r.app, r.state); twice {
		return damaged("state %s is there twice", r.state)
	}
	inst := s.c.instances.get(r.instance)
	if inst.App != e.id || r.epoch == 0 || r.epoch.Index() > s.c.index || r.epoch.Generation() > s.c.cluster.Generation {
		return damaged("row of state %s contradicts its app, instance or epoch", r.state)
	}
	if taint > 0 {
		r.taint = s.c.taint(s.taints[taint-1])
	}
	shard.put(s.c, r)
	s.c.rows++
	e.states++
	s.c.rowsOf[r.instance]++
	return nil
}

func (s *restorer) takeEnd(in *reader) error {
	rows, sum := in.u64(), in.hash()
	switch {
	case in.bad || !bytes.Equal(sum[:], s.before):
		return damaged("it does not match its checksum")
	case rows != uint64(s.c.rows):
		return damaged("%d rows where it says %d", s.c.rows, rows)
	}
	for slot, n := range s.c.rowsOf {
		if inst := s.c.instances.get(uint32(slot)); inst != nil && inst.Gone && n == 0 {
			return damaged("instance %d is gone and has no rows", inst.ID)
		}
	}
	return nil
}
