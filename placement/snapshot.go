package placement

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

// A snapshot begins with snapshotMagic, whose last byte is its version, and goes on in sections, each
//
//	u8 tag | u32 length | payload | u32 CRC-32C of tag, length and payload
//
// of which the last, sectionEnd, carries the number of rows and the SHA-256 of all bytes before it. Equal tables have
// equal snapshots: everything is written in the order of its ids, rows in that of their shards.
const (
	snapshotMagic = "TRKTBL\x00\x01"
	maxSection    = 64 << 20
)

const (
	sectionHead byte = iota + 1
	sectionNodes
	sectionKeys
	sectionApps
	sectionInstances
	sectionTaints
	sectionRows
	sectionRequests
	sectionEnd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot is the table as of one index. Writing it down needs no lock and stops nobody.
type Snapshot struct {
	Index uint64

	head      []byte
	sessions  []Session
	nodes     map[string]nodeRecord
	keys      []Key
	tenants   []frozenTenant // by slot, id zero where there is none
	instances []*Instance    // by slot
	taints    []*string      // by slot
	blocks    [shardCount]*block
	rows      int
	requests  []frozenRequests // oldest session first
}

type frozenTenant struct {
	tenantState
	id wire.AppID
	ok bool
}

// Snapshot freezes the table for writing it down, for any goroutine. It takes time in the order of the number of shards, apps and
// instances, not of rows: a part of the rows is copied when it is next changed.
func (t *Table) Snapshot() *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.content.Load()
	s := &Snapshot{
		Index: c.index, head: c.appendHead(nil), sessions: slices.Clone(c.sessions),
		nodes: make(map[string]nodeRecord, len(c.nodes)), keys: make([]Key, 0, len(c.keys)),
		instances: c.instances.values(), taints: c.taints.values(), rows: c.rows,
	}
	for id, n := range c.nodes {
		s.nodes[id] = n
	}
	for _, k := range c.keys {
		s.keys = append(s.keys, k)
	}
	slices.SortFunc(s.keys, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	for _, e := range c.tenants.values() {
		var f frozenTenant
		if e != nil {
			f = frozenTenant{tenantState: e.tenantState, id: e.id, ok: true}
		}
		s.tenants = append(s.tenants, f)
	}
	s.requests = c.freezeRequests()
	for i := range c.shards {
		s.blocks[i] = c.shards[i].block.Load()
		c.shards[i].shared = true
	}
	return s
}

func (c *content) appendHead(dst []byte) []byte {
	dst = appendU32(appendU64(dst, c.index), c.cluster.Generation)
	dst = append(append(dst, c.cluster.Incarnation[:]...), c.macKey[:]...)
	return appendText(append(appendText(dst, c.cluster.Name), c.cluster.Profile), c.cluster.Region)
}

// WriteTo writes the snapshot down. It may be called again, with the same bytes as a result.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	o := &sectionWriter{w: w, sum: sha256.New()}
	o.write([]byte(snapshotMagic))
	o.section(sectionHead, s.head)
	o.section(sectionNodes, s.appendNodes(nil))
	o.section(sectionKeys, s.appendKeys(nil))
	apps := s.writeApps(o)
	instances := s.writeInstances(o, apps)
	taints := s.writeTaints(o)
	s.writeRows(o, apps, instances, taints)
	s.writeRequests(o)
	end := o.sum.Sum(binary.BigEndian.AppendUint64(nil, uint64(s.rows)))
	o.section(sectionEnd, end)
	if o.err != nil {
		return o.n, fmt.Errorf("write table snapshot: %w", o.err)
	}
	return o.n, nil
}

// Hash returns the SHA-256 of the bytes that a snapshot has now: equal for equal tables, so for replicas of one log that
// have applied the same of it. It reads every row, beside whoever changes them, for any goroutine.
func (t *Table) Hash() [32]byte { return t.Snapshot().Sum() }

// Sum returns the SHA-256 of the snapshot's bytes: equal for equal tables.
func (s *Snapshot) Sum() [32]byte {
	h := sha256.New()
	_, _ = s.WriteTo(h) // a hash takes everything
	return [32]byte(h.Sum(nil))
}

func (s *Snapshot) appendNodes(dst []byte) []byte {
	ids := make([]string, 0, len(s.nodes))
	for id := range s.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	dst = appendU32(dst, uint32(len(ids)))
	for _, id := range ids {
		n := s.nodes[id]
		dst = appendU32(appendU32(appendText(dst, id), n.number), n.boot)
		dst = appendBool(append(dst, n.key[:]...), n.revoked)
	}
	dst = appendU32(dst, uint32(len(s.sessions)))
	for _, o := range s.sessions {
		dst = appendText(appendU64(dst, o.ID), o.Node)
		dst = appendText(appendU32(appendU32(dst, o.Number), o.Boot), o.Region)
		dst = append(appendText(appendText(dst, o.NodeAddr), o.GossipAddr), o.Key[:]...)
		dst = appendU16(dst, int(o.Proto))
	}
	return dst
}

func (s *Snapshot) appendKeys(dst []byte) []byte {
	dst = appendU32(dst, uint32(len(s.keys)))
	for _, k := range s.keys {
		dst = append(appendText(dst, k.ID), k.Public[:]...)
		dst = appendU64(appendU64(dst, k.Session), k.Retired)
	}
	return dst
}

// order sorts the slots that are in use and returns them with the place of each, so that the rest of the snapshot can
// name them.
func order(n int, used func(int) bool, compare func(a, b int) int) (slots []int, place []uint32) {
	for i := range n {
		if used(i) {
			slots = append(slots, i)
		}
	}
	slices.SortFunc(slots, compare)
	place = make([]uint32, n)
	for i, slot := range slots {
		place[slot] = uint32(i)
	}
	return slots, place
}

// perSection bounds what one section of a list carries, so that the bytes taken at once are bounded.
const perSection = 1024

func (s *Snapshot) writeApps(o *sectionWriter) []uint32 {
	slots, place := order(
		len(s.tenants),
		func(i int) bool { return s.tenants[i].ok },
		func(a, b int) int { return bytes.Compare(s.tenants[a].id[:], s.tenants[b].id[:]) },
	)
	for part := range slices.Chunk(slots, perSection) {
		b := o.buffer()
		for _, slot := range part {
			e := &s.tenants[slot]
			b = appendBool(appendBool(append(b, e.id[:]...), e.listed), e.deleting)
			b = appendSettings(appendSecrets(appendU64(b, e.version), e.secrets), &e.settings)
			b = appendU64(appendText(b, e.lastLogin), e.idleSince)
		}
		o.section(sectionApps, b)
	}
	return place
}

func (s *Snapshot) writeInstances(o *sectionWriter, apps []uint32) []uint32 {
	app := map[wire.AppID]uint32{}
	for slot := range s.tenants {
		if s.tenants[slot].ok {
			app[s.tenants[slot].id] = apps[slot]
		}
	}
	slots, place := order(
		len(s.instances),
		func(i int) bool { return s.instances[i] != nil },
		func(a, b int) int { return cmp.Compare(s.instances[a].ID, s.instances[b].ID) },
	)
	for part := range slices.Chunk(slots, perSection) {
		b := o.buffer()
		for _, slot := range part {
			i := s.instances[slot]
			b = appendText(appendU32(appendU64(b, i.ID), app[i.App]), i.StoreID)
			b = append(appendBool(b, i.Native), i.Incarnation[:]...)
			b = appendU32(appendText(b, i.Region), i.Capacity)
			b = appendU32(appendU64(b, i.Node), i.Gen)
			b = appendText(appendBool(appendBool(b, i.Draining), i.Gone), i.Login)
		}
		o.section(sectionInstances, b)
	}
	return place
}

func (s *Snapshot) writeTaints(o *sectionWriter) []uint32 {
	slots, place := order(
		len(s.taints),
		func(i int) bool { return s.taints[i] != nil },
		func(a, b int) int { return strings.Compare(*s.taints[a], *s.taints[b]) },
	)
	for part := range slices.Chunk(slots, perSection) {
		b := o.buffer()
		for _, slot := range part {
			b = appendText(b, *s.taints[slot])
		}
		o.section(sectionTaints, b)
	}
	return place
}

// writeRows writes a section per shard that has rows. A row is
//
//	u32 app | u64 state | u64 epoch | u32 instance | u8 flags | u32 taint, 0 none, else place + 1
func (s *Snapshot) writeRows(o *sectionWriter, apps, instances, taints []uint32) {
	var rows []stored
	for _, b := range s.blocks {
		rows = rows[:0]
		b.each(func(r stored) { rows = append(rows, r) })
		if len(rows) == 0 {
			continue
		}
		slices.SortFunc(rows, func(a, b stored) int {
			return cmp.Or(cmp.Compare(apps[a.app], apps[b.app]), cmp.Compare(a.state, b.state))
		})
		out := o.buffer()
		for _, r := range rows {
			out = appendU64(appendU64(appendU32(out, apps[r.app]), r.state), r.epoch)
			out = append(appendU32(out, instances[r.instance]), byte(r.flags))
			var taint uint32
			if r.taint != 0 {
				taint = taints[r.taint] + 1
			}
			out = appendU32(out, taint)
		}
		o.section(sectionRows, out)
	}
}

// sectionWriter writes sections, sums all bytes, and keeps the first error.
type sectionWriter struct {
	w   io.Writer
	sum hash.Hash
	n   int64
	err error
	buf []byte
}

// buffer returns room for one payload, to be given to section before the next call.
func (o *sectionWriter) buffer() []byte { return o.buf[:0] }

func (o *sectionWriter) section(tag byte, payload []byte) {
	o.buf = payload
	head := binary.BigEndian.AppendUint32([]byte{tag}, uint32(len(payload)))
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	o.write(head)
	o.write(payload)
	o.write(binary.BigEndian.AppendUint32(nil, crc))
}

func (o *sectionWriter) write(p []byte) {
	if o.err != nil {
		return
	}
	o.sum.Write(p)
	n, err := o.w.Write(p)
	o.n += int64(n)
	o.err = err
}
