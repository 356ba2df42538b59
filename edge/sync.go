package edge

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// When an instance attaches to another node than before, its new owner does not know yet which users have sessions elsewhere.
// Every node opens its own there and then says, in the same lane, that this was all. Until each living node has, the new
// owner takes nobody off a legacy instance, which knows users only.

// syncTime is how long nobody is taken off at most.
const syncTime = 5 * time.Second

// A notice is a kind byte and what the kind has: noticeHere u64 instance | u32 gen, big endian.
const (
	noticeHere     byte = 1
	noticeHereSize      = 13
)

func appendHere(b []byte, instance wire.InstanceID, gen wire.Gen) []byte {
	b = binary.BigEndian.AppendUint64(append(b, noticeHere), uint64(instance))
	return binary.BigEndian.AppendUint32(b, uint32(gen))
}

func decodeHere(b []byte) (instance wire.InstanceID, gen wire.Gen, ok bool) {
	if len(b) != noticeHereSize || b[0] != noticeHere {
		return 0, 0, false
	}
	return wire.InstanceID(binary.BigEndian.Uint64(b[1:])), wire.Gen(binary.BigEndian.Uint32(b[9:])), true
}

// syncs is what other nodes have said about instances that attached here.
type syncs struct {
	heard expiring[heardKey, struct{}]

	mu      sync.Mutex
	changed chan struct{} // closed at the next news; nil when nobody waits
}

type heardKey struct {
	node     wire.NodeSession
	instance wire.InstanceID
	gen      wire.Gen
}

const maxHeard = 100_000

// news returns a channel that is closed when something has been heard, or a node session is over.
func (s *syncs) news() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *syncs) tell() {
	s.mu.Lock()
	changed := s.changed
	s.changed = nil
	s.mu.Unlock()
	if changed != nil {
		close(changed)
	}
}

// sayWhoIsHere tells the node that an instance has attached to that all sessions of this node were opened there. At a first
// attachment nobody can have any.
func (r *Router) sayWhoIsHere(in *placement.Instance) {
	if in.Gen < 2 || in.Native || !r.elsewhere(in.Node) {
		return
	}
	var b [noticeHereSize]byte
	if err := r.links.Notify(in.Node, in.ID, appendHere(b[:0], in.ID, in.Gen)); err != nil {
		r.log.Debug("a notice could not be sent", "node", uint64(in.Node), "instance", uint64(in.ID), "error", err)
	}
}

// notified takes a notice of another node.
func (r *Router) notified(from wire.NodeSession, body []byte) {
	instance, gen, ok := decodeHere(body)
	if !ok {
		r.stats.badNotices.Add(1)
		return
	}
	r.syncs.heard.put(heardKey{from, instance, gen}, struct{}{}, time.Now().Add(2*syncTime))
	r.syncs.tell()
}

// awaitNodes returns when every living node has said whom it has in the states of an attachment, then takes off who left.
func (r *Router) awaitNodes(ctx context.Context, a *attachment) {
	timer := time.NewTimer(syncTime)
	defer timer.Stop()
	defer a.home.settle(a)
	for {
		news := r.syncs.news()
		if r.allHeard(a) {
			return
		}
		select {
		case <-news:
		case <-timer.C:
			r.stats.syncsCut.Add(1)
			return
		case <-a.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Router) allHeard(a *attachment) bool {
	for _, s := range r.table.Sessions() {
		if !r.elsewhere(s.ID) {
			continue
		}
		if _, heard := r.syncs.heard.get(heardKey{s.ID, a.home.id, a.gen}); !heard {
			return false
		}
	}
	return true
}
