package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// This file is the side of the node that holds a tunnel: other nodes' sessions are guests in its rooms.

const (
	// resumeTime is how long guests keep their seats after their route has ended while their node lives: it comes back.
	resumeTime = 2 * time.Second
	// maxArrivals and maxArrivalBytes bound what may wait here for one node: credit keeps an honest one far below.
	maxArrivals     = 100_000
	maxArrivalBytes = 64 << 20
	// ackDelay is how long acknowledgements wait for an answer to go with: alone they take a record of their own, and a
	// write and a read of it.
	ackDelay = time.Millisecond
)

// peer is a route that another node has opened to an instance whose tunnel is here. It is the route's Receiver and the
// Handler of what comes on it. A state that it has business in is a party.
type peer struct {
	router   *Router
	node     wire.NodeSession
	instance wire.InstanceID
	gen      wire.Gen
	rt       *link.Route
	far      *tunnel.Far
	sent     atomic.Uint64 // numbers what goes to single sessions; the other end only groups fragments by it
	waiting  atomic.Int64  // bytes of arrivals that wait
	arrivals atomic.Int64
	over     atomic.Bool // the route has ended
	flushes  atomic.Bool // somebody will flush

	mu      sync.Mutex
	parties map[wire.StateID]*party
	guests  map[uint32]*session // by the channel of the route

	touched touched // by the lane's reader
	acks    *time.Timer
	acking  atomic.Bool // acks is set
}

// party is the guests that one node has in one state.
type party struct {
	peer  *peer
	app   wire.AppID // set when the first of it is seated
	state wire.StateID
	epoch wire.Epoch
	up    tunnel.Uplink
	voice session // stands on lists of sessions to flush, for all of them

	// Guarded by the lock of the room.

	seated, joined int
	round          uint64

	mu       sync.Mutex
	queue    []arrival // what waits, in order
	draining bool      // somebody sees to the queue
	over     bool      // sent away: what still arrives is for nobody
}

// accept takes a route of another node. Who may have what on it is decided per state.
func (r *Router) accept(from wire.NodeSession, instance wire.InstanceID, gen wire.Gen, rt *link.Route) link.Receiver {
	if r.ctx.Err() != nil {
		return nil
	}
	p := &peer{
		router: r, node: from, instance: instance, gen: gen, rt: rt,
		parties: make(map[wire.StateID]*party), guests: make(map[uint32]*session),
	}
	p.far = tunnel.NewFar(rt, r.tcfg)
	p.acks = time.AfterFunc(time.Hour, p.acknowledge)
	p.acks.Stop()
	r.stats.peers.Add(1)
	return p
}

// Take hands down what the node sends.
func (p *peer) Take(batch []byte) error {
	p.router.stats.linkUp.Add(1)
	return p.far.Take(batch, p)
}

// Drained flushes what the batch has caused.
func (p *peer) Drained() {
	p.touched.flush()
	if p.far.FlushUrgent() && !p.acking.Swap(true) {
		p.acks.Reset(ackDelay)
	}
}

// acknowledge sends what has waited for an answer to go with.
func (p *peer) acknowledge() {
	p.acking.Store(false)
	p.far.Flush()
}

// Room goes on sending.
func (p *peer) Room() { p.far.Flush() }

// Resumed is for the end that has clients to hold.
func (p *peer) Resumed() {}

// Ended takes the guests out of their rooms: at once if their node is over, else when it has had time to come back.
func (p *peer) Ended(err error) {
	if !p.over.Swap(true) {
		p.end(err)
	}
}

func (p *peer) end(err error) {
	p.router.stats.peers.Add(-1)
	p.acks.Stop()
	p.far.Over(err)
	p.router.spawn(func(ctx context.Context) {
		if p.awaitReturn(ctx) {
			p.leave()
		}
	})
}

// awaitReturn waits until the node is over or has had time to open its sessions again; false: this node is stopping.
func (p *peer) awaitReturn(ctx context.Context) bool {
	timer := time.NewTimer(resumeTime)
	defer timer.Stop()
	for {
		news := p.router.syncs.news()
		if _, open := p.router.table.Session(p.node); !open {
			return true
		}
		select {
		case <-news:
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// leave ends all that the node has here.
func (p *peer) leave() {
	p.mu.Lock()
	parties, guests := p.parties, p.guests
	p.parties, p.guests = make(map[wire.StateID]*party), make(map[uint32]*session)
	p.mu.Unlock()
	for _, pt := range parties {
		pt.end()
	}
	for _, s := range guests {
		p.unseat(s, wire.CodeGoingAway)
	}
	for _, pt := range parties {
		p.router.orphanCreate(pt)
	}
}

// unseat takes one guest out of its room, if it is in one, and tells the instance.
func (p *peer) unseat(s *session, code wire.Code) {
	p.mu.Lock()
	rm := s.room
	p.mu.Unlock()
	if rm != nil && rm.remove(s, code, true) {
		p.router.stats.guests.Add(-1)
		p.router.release(rm)
	}
}

// party returns the party of a state in an epoch; nil when there is a newer one.
func (p *peer) party(state wire.StateID, epoch wire.Epoch) *party {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt := p.parties[state]
	if pt != nil && pt.epoch > epoch {
		return nil
	}
	if pt == nil || pt.epoch < epoch || pt.isOver() {
		pt = &party{peer: p, state: state, epoch: epoch, up: p.far.Uplink(state, epoch)}
		pt.voice.out = voice{p}
		p.parties[state] = pt
	}
	return pt
}

// guest returns the session of a channel, or nil.
func (p *peer) guest(channel uint32) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.guests[channel]
}

// drop forgets a channel.
func (p *peer) drop(channel uint32) {
	p.mu.Lock()
	delete(p.guests, channel)
	p.mu.Unlock()
}

// forget drops a party and all its channels: it was sent away, or has left.
func (p *peer) forget(pt *party) {
	p.mu.Lock()
	if p.parties[pt.state] == pt {
		delete(p.parties, pt.state)
	}
	for ch, s := range p.guests {
		if s.party == pt {
			delete(p.guests, ch)
		}
	}
	p.mu.Unlock()
	pt.end()
}

// Open seats a guest.
func (p *peer) Open(t tunnel.Session) {
	pt := p.party(t.State, t.Epoch)
	if pt == nil {
		p.router.stats.notOwnerSaid.Add(1)
		p.far.NotOwner(t.State, t.Epoch)
		return
	}
	s := &session{router: p.router, party: pt, channel: t.Channel, native: true, index: -1, t: t}
	s.sent = max(t.Next, 1) - 1
	s.acked.Store(s.sent)
	s.out = guestOut{s}
	p.mu.Lock()
	p.guests[t.Channel] = s
	p.mu.Unlock()
	pt.take(arrival{kind: arriveOpen, s: s})
}

// Data passes a guest's message on.
func (p *peer) Data(channel uint32, seq uint64, payload []byte, unreliable bool) {
	if s := p.guest(channel); s != nil {
		s.party.take(arrival{kind: arriveData, s: s, seq: seq, payload: payload, unreliable: unreliable})
	}
}

// Closed ends a guest's session.
func (p *peer) Closed(channel uint32, seq uint64, code wire.Code) {
	if s := p.guest(channel); s != nil {
		s.party.take(arrival{kind: arriveClose, s: s, seq: seq, code: code})
	}
}

// NewState passes a new state on to its instance.
func (p *peer) NewState(state wire.StateID, epoch wire.Epoch, user, data []byte) {
	if pt := p.party(state, epoch); pt != nil {
		pt.take(arrival{kind: arriveNew, user: string(user), payload: data})
		return
	}
	p.far.Uplink(state, epoch).Refuse(wire.CodeTryLater, "")
}

// NotOwner takes a created state back.
func (p *peer) NotOwner(state wire.StateID, epoch wire.Epoch) {
	p.mu.Lock()
	pt := p.parties[state]
	p.mu.Unlock()
	if pt == nil || pt.epoch != epoch {
		return
	}
	p.router.disownCreate(pt)
	p.forget(pt)
}

// Released says that the node has nobody left in a state. What it sent before is still on its way.
func (p *peer) Released(state wire.StateID, epoch wire.Epoch) {
	p.mu.Lock()
	pt := p.parties[state]
	if pt != nil && pt.epoch == epoch {
		delete(p.parties, state)
	}
	p.mu.Unlock()
	p.far.Uplink(state, epoch).End()
	if pt != nil && pt.epoch == epoch {
		pt.take(arrival{kind: arriveEnd})
	}
}

// GoAway does not come on routes.
func (p *peer) GoAway() {}

// guestOut is a guest's client: it is at the other end of the route.
type guestOut struct{ s *session }

func (guestOut) Registered() {}

func (o guestOut) Deliver(payload []byte, unreliable bool) {
	o.s.party.up.ToSession(o.s.channel, o.s.party.peer.sent.Add(1), payload, unreliable)
}

func (o guestOut) Acked(seq uint64) { o.s.party.up.AckSoon(o.s.channel, seq) }

func (o guestOut) Flush() { o.s.party.peer.flush() }

func (o guestOut) Queued() int { return 0 }

// Close tells the other node to close its client. The session has left its room.
func (o guestOut) Close(code wire.Code, reason string) {
	p := o.s.party.peer
	o.s.party.up.CloseSession(o.s.channel, p.sent.Load()+1, code, reason)
	p.far.Flush()
	p.drop(o.s.channel)
	p.router.stats.guests.Add(-1)
	p.router.release(o.s.room)
}

// flush sends what was said to the node. One that takes nothing any more loses its route: it opens its sessions again when
// it can, and so learns that it has missed something.
func (p *peer) flush() {
	p.far.Flush()
	// One largest message may wait, and no state of it has come to where package tunnel drops.
	if cfg := &p.router.tcfg; p.far.Queued() > cfg.MaxMessage+cfg.TunnelMark/2 {
		p.cut()
	}
}

// flushSoon is flush for who holds a lock.
func (p *peer) flushSoon() {
	if p.flushes.Swap(true) {
		return
	}
	p.router.spawn(func(context.Context) {
		p.flushes.Store(false)
		p.flush()
	})
}

// cut gives the route up from this end.
func (p *peer) cut() {
	if p.over.Swap(true) {
		return
	}
	p.router.stats.overrun.Add(1)
	p.rt.Close() // the Receiver hears nothing of it
	p.end(errOverrun)
}

// voice is the out of what stands for a whole party on a list of sessions to flush.
type voice struct{ p *peer }

func (voice) Registered()             {}
func (voice) Deliver([]byte, bool)    {}
func (voice) Acked(uint64)            {}
func (v voice) Flush()                { v.p.flush() }
func (voice) Queued() int             { return 0 }
func (voice) Close(wire.Code, string) {}

// touch puts the party on a list of what is to be flushed.
func (pt *party) touch(dirty []*session) []*session {
	if !pt.voice.upDirty.Swap(true) {
		dirty = append(dirty, &pt.voice)
	}
	return dirty
}

// verdict is what the own table says about a state that another node asks for.
type verdict uint8

const (
	verdictForeign verdict = iota // it is not here
	verdictBehind                 // this node's table does not know yet
	verdictOurs
)

// judge compares what another node believes with the own table, which has the last word.
func (r *Router) judge(p *peer, state wire.StateID, epoch wire.Epoch) (*home, placement.Row, verdict) {
	switch {
	case epoch.Generation() != r.table.Generation():
		r.stats.staleSaid.Add(1)
		return nil, placement.Row{}, verdictForeign
	case epoch.Index() > r.table.Index():
		return nil, placement.Row{}, verdictBehind
	}
	in, ok := r.table.Instance(p.instance)
	if ok && p.gen > in.Gen {
		return nil, placement.Row{}, verdictBehind
	}
	if !ok || in.Gone || in.Node != r.node {
		return nil, placement.Row{}, verdictForeign
	}
	row, ok := r.table.Lookup(in.App, state)
	if !ok || row.Instance != in.ID || row.Epoch != epoch || row.Free {
		r.stats.staleSaid.Add(1)
		return nil, placement.Row{}, verdictForeign
	}
	return r.makeHome(&in), row, verdictOurs
}
