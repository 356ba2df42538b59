package edge

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// This file is what nodes tell each other about an instance that attached to one of them.
//
// When an instance attaches to another node than before, its new owner does not know yet which users have sessions elsewhere.
// Every node opens its own there and then says, in the same lane, that this was all. Until each living node has, the new
// owner takes nobody off a legacy instance, which knows users only.
//
// Users who left a legacy instance while it could not be told are named to the node that it attached to, and so are those
// whom it still believes to have when it comes back after its states have moved. Whoever knows of them says so, the former
// owner or a node with clients.

// syncTime is how long nobody is taken off at most.
const syncTime = 5 * time.Second

// A notice is a kind byte and what the kind has, integers big endian:
//
//	here    u64 instance | u32 gen
//	ghosts  u64 instance | any number of: u64 state, u16 length, user
const (
	noticeHere byte = iota + 1
	noticeGhosts

	noticeHereSize = 13
	ghostsHead     = 9
	ghostHead      = 10
	maxGhostUser   = link.MaxNotice - ghostsHead - ghostHead
)

// appendGhosts appends a notice of as many ghosts as it has room for, and returns the others.
func appendGhosts(b []byte, instance wire.InstanceID, ghosts []ghost) (notice []byte, rest []ghost) {
	b = binary.BigEndian.AppendUint64(append(b, noticeGhosts), uint64(instance))
	for i, g := range ghosts {
		switch {
		case len(g.user) > maxGhostUser:
			continue // no user is that long
		case len(b)+ghostHead+len(g.user) > link.MaxNotice:
			return b, ghosts[i:]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(g.state))
		b = binary.BigEndian.AppendUint16(b, uint16(len(g.user)))
		b = append(b, g.user...)
	}
	return b, nil
}

func decodeGhosts(b []byte) (instance wire.InstanceID, ghosts []ghost, ok bool) {
	if len(b) < ghostsHead || len(b) > link.MaxNotice || b[0] != noticeGhosts {
		return 0, nil, false
	}
	instance = wire.InstanceID(binary.BigEndian.Uint64(b[1:]))
	for b = b[ghostsHead:]; len(b) > 0; {
		if len(b) < ghostHead {
			return 0, nil, false
		}
		n := int(binary.BigEndian.Uint16(b[8:]))
		if len(b) < ghostHead+n {
			return 0, nil, false
		}
		ghosts = append(ghosts, ghost{wire.StateID(binary.BigEndian.Uint64(b)), string(b[ghostHead : ghostHead+n])})
		b = b[ghostHead+n:]
	}
	return instance, ghosts, true
}

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
	heard   expiring[heardKey, struct{}]
	hearing atomic.Int64 // notices of ghosts that wait for their instance

	mu      sync.Mutex
	changed chan struct{} // closed at the next news; nil when nobody waits
}

type heardKey struct {
	node     wire.NodeSession
	instance wire.InstanceID
	gen      wire.Gen
}

const (
	maxHeard   = 100_000
	maxHearing = 10_000 // more than it takes to name all whom a node keeps
)

// news returns a channel that is closed when something has been heard, an instance has attached here, or a node session is
// over.
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

// sayWhoIsHere tells the node that a legacy instance has attached to that all sessions of this node were opened there, and
// whom it had in an earlier life. At its first attachment nobody can have any.
func (r *Router) sayWhoIsHere(in *placement.Instance) {
	if in.Native || !r.elsewhere(in.Node) {
		return
	}
	key := storeKey{in.App, in.StoreID}
	if left, ok := r.ghosts.get(key); ok && (left.told != in.ID || left.node != in.Node) {
		r.sendGhosts(in.Node, in.ID, left.users)
		// They are kept: the instance may have gone on again before that node hears of it.
		r.ghosts.put(key, haunting{left.users, in.ID, in.Node}, time.Now().Add(ghostTime))
	}
	if in.Gen > 1 {
		var b [noticeHereSize]byte
		r.notify(in.Node, in.ID, appendHere(b[:0], in.ID, in.Gen))
	}
}

// layOwnGhosts does for an instance that has attached here what its registration could not: the table told of the end of
// its earlier life only now.
func (r *Router) layOwnGhosts(in *placement.Instance) {
	if in.Native || in.Node != r.node {
		return
	}
	if left, ok := r.ghosts.take(storeKey{in.App, in.StoreID}); ok {
		r.spawn(func(ctx context.Context) { r.hearGhosts(ctx, in.ID, left.users) })
	}
}

// keepGhosts remembers whom a legacy instance that is gone may still believe to have.
func (r *Router) keepGhosts(key storeKey, users []ghost) {
	if len(users) == 0 {
		return
	}
	before, _ := r.ghosts.take(key)
	users = append(slices.Clip(before.users), users...)
	r.ghosts.put(key, haunting{users: users[max(0, len(users)-maxDeparted):]}, time.Now().Add(ghostTime))
}

// sendGhosts tells the node that holds a legacy instance's tunnel who may have left.
func (r *Router) sendGhosts(node wire.NodeSession, instance wire.InstanceID, ghosts []ghost) {
	var b [link.MaxNotice]byte
	for len(ghosts) > 0 {
		var notice []byte
		notice, ghosts = appendGhosts(b[:0], instance, ghosts)
		if !r.notify(node, instance, notice) {
			return
		}
	}
}

func (r *Router) notify(node wire.NodeSession, instance wire.InstanceID, notice []byte) bool {
	err := r.links.Notify(node, instance, notice)
	if err != nil {
		r.log.Debug("a notice could not be sent", "node", uint64(node), "instance", uint64(instance), "error", err)
	}
	return err == nil
}

// notified takes a notice of another node.
func (r *Router) notified(from wire.NodeSession, body []byte) {
	if instance, gen, ok := decodeHere(body); ok {
		r.syncs.heard.put(heardKey{from, instance, gen}, struct{}{}, time.Now().Add(2*syncTime))
		r.syncs.tell()
		return
	}
	instance, ghosts, ok := decodeGhosts(body)
	if !ok {
		r.stats.badNotices.Add(1)
		return
	}
	if r.syncs.hearing.Add(1) > maxHearing {
		r.syncs.hearing.Add(-1)
		r.stats.badNotices.Add(1)
		return
	}
	r.spawn(func(ctx context.Context) {
		defer r.syncs.hearing.Add(-1)
		r.hearGhosts(ctx, instance, ghosts)
	})
}

// hearGhosts takes users off an instance that had them before, once it is here. One who has come to it since is left alone.
func (r *Router) hearGhosts(ctx context.Context, id wire.InstanceID, ghosts []ghost) {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	for {
		news := r.syncs.news()
		if h := r.home(id); h != nil && !h.remote() {
			if !h.legacy { // a native one knows sessions, and there is nothing to guess
				return
			}
			for _, g := range ghosts {
				h.noteDeparted(tunnel.Session{State: g.state, User: g.user})
			}
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
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
