package edge

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// Deps are what a Router stands on. The first three are required.
type Deps struct {
	Placer Placer
	Log    *slog.Logger
	// Tunnel is how tunnels are accepted.
	Tunnel tunnel.Config

	// DialLink connects to the port for links of another node session, and makes sure that it is that one. nil: this node
	// is alone, and what is on other nodes is out of reach.
	DialLink func(ctx context.Context, to wire.NodeSession) (net.Conn, error)
	// Probe asks another node whether the tunnel of an instance lives there. nil: nobody can be asked, so none does.
	Probe func(ctx context.Context, node wire.NodeSession, instance wire.InstanceID, gen wire.Gen) (alive bool, err error)
	// Links is how links behave; nil is link.Default.
	Links *link.Config
}

// Router knows where each frame goes next. It implements client.Router for sessions and api.Rooms for the HTTP endpoints.
type Router struct {
	cfg    Config
	log    *slog.Logger
	placer Placer
	table  *placement.Table
	node   wire.NodeSession
	name   string // NodeID
	tcfg   tunnel.Config
	links  *link.Links // nil: this node is alone
	probe  func(ctx context.Context, node wire.NodeSession, instance wire.InstanceID, gen wire.Gen) (alive bool, err error)

	rooms   roomMap
	conns   atomic.Uint64 // counter of ConnIDs
	stats   stats
	creates creates
	lobbies lobbies
	earlier []placement.Instance // that were there before this Router
	denied  expiring[roomKey, struct{}]
	ghosts  expiring[storeKey, haunting]
	buckets buckets
	shares  shares
	quiet   quiet // limits log lines that anybody outside can cause
	syncs   syncs
	lost    holdBack

	draining atomic.Bool
	placing  chan struct{} // paces placements after an instance has gone

	mu        sync.Mutex
	homes     map[wire.InstanceID]*home
	hungry    map[wire.AppID]map[*room]struct{} // rooms that wait for any instance of their app
	tentative map[roomKey]tentativeRow          // tentative rows without sessions
	proposed  map[proposal]struct{}             // changes of rows that are under way
	refused   map[storeKey]time.Duration        // delay of the next close of a second process with one storeId
	tunnels   map[tunnel.Tunnel]struct{}
	knocking  map[net.Conn]struct{} // connections on the tunnel port that have not registered yet

	ctx  context.Context // ends with Run
	stop context.CancelFunc

	spawning sync.Mutex // so that nothing is spawned once Run waits
	wg       sync.WaitGroup
}

// storeKey names an instance across its lives.
type storeKey struct {
	app   wire.AppID
	store string
}

// tentativeRow is a row to remove unless somebody comes back.
type tentativeRow struct {
	epoch wire.Epoch
	until time.Time
}

const (
	placementsAtOnce = 64
	maxGhosts        = 10_000
	ghostTime        = 10 * time.Minute
	maxDenied        = 100_000
)

// New returns a Router that has started nothing.
func New(cfg Config, deps Deps) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	r := &Router{
		cfg: cfg, log: deps.Log, placer: deps.Placer, table: deps.Placer.Table(), node: deps.Placer.Node(), tcfg: deps.Tunnel,
		probe:     deps.Probe,
		earlier:   deps.Placer.Table().AllInstances(),
		placing:   make(chan struct{}, placementsAtOnce),
		homes:     make(map[wire.InstanceID]*home),
		hungry:    make(map[wire.AppID]map[*room]struct{}),
		tentative: make(map[roomKey]tentativeRow),
		proposed:  make(map[proposal]struct{}),
		refused:   make(map[storeKey]time.Duration),
		tunnels:   make(map[tunnel.Tunnel]struct{}),
		knocking:  make(map[net.Conn]struct{}),
	}
	r.rooms.init()
	r.denied.max, r.ghosts.max, r.syncs.heard.max = maxDenied, maxGhosts, maxHeard
	if s, ok := r.table.Session(r.node); ok {
		r.name = s.Node
	}
	r.buckets.init(cfg.UnknownRate, cfg.LiftLoopback)
	r.shares.init(&r.cfg)
	r.creates.init()
	r.lobbies.init(cfg.MaxLobbies, func(app wire.AppID, state wire.StateID) bool {
		_, ok := r.table.Lookup(app, state)
		return ok
	})
	r.ctx, r.stop = context.WithCancel(context.Background())
	if deps.DialLink == nil {
		return r, nil
	}
	lanes := link.Default()
	if deps.Links != nil {
		lanes = *deps.Links
	}
	var err error
	r.links, err = link.New(lanes, link.Deps{
		Self: r.node, Dial: deps.DialLink, Accept: r.accept, Notified: r.notified, Log: deps.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	return r, nil
}

// ServeLink takes a connection that another node session has made to the port for links. It returns when the connection
// belongs to its lane, or was refused and closed.
func (r *Router) ServeLink(ctx context.Context, nc net.Conn, from wire.NodeSession) {
	if r.links == nil {
		nc.Close()
		return
	}
	if err := r.links.Serve(ctx, nc, from); err != nil && ctx.Err() == nil && r.quiet.allow("link", time.Now()) {
		r.log.Warn("a connection of a link was refused", "node", uint64(from), "error", err)
	}
}

// Run gives the instances that an earlier life of this node left behind their grace, follows the table, keeps the links to
// other nodes, sweeps tentative rows, and returns when ctx has ended and every goroutine of the Router has.
func (r *Router) Run(ctx context.Context) error {
	since := r.table.Index()
	r.adopt()
	r.spawn(func(ctx context.Context) { r.watch(ctx, since) })
	if r.links != nil {
		r.spawn(func(ctx context.Context) { _ = r.links.Run(ctx) }) // always nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.spawning.Lock()
			r.stop()
			r.spawning.Unlock()
			r.closeTunnels("node is stopping")
			r.wg.Wait()
			return nil
		case now := <-tick.C:
			r.sweep(now)
		}
	}
}

// spawn runs f in a goroutine that Run waits for.
func (r *Router) spawn(f func(ctx context.Context)) {
	r.spawning.Lock()
	defer r.spawning.Unlock()
	if r.ctx.Err() == nil {
		r.wg.Go(func() { f(r.ctx) })
	}
}

// adopt makes a home, with its grace running, for every instance of an earlier life of this node: it has just begun to
// listen. Where there are other nodes, their leases decide when that life is over.
func (r *Router) adopt() {
	alone := true
	for _, s := range r.table.Sessions() {
		alone = alone && (s.ID == r.node || s.Node == r.name)
	}
	for _, in := range r.earlier {
		if !alone && in.Node != r.node {
			continue
		}
		h := newHome(r, in.ID, in.App, in.StoreID, !in.Native, in.Gen)
		r.mu.Lock()
		if _, known := r.homes[in.ID]; !known {
			r.homes[in.ID] = h
			r.mu.Unlock()
			r.startGrace(h, in.Gen)
			continue
		}
		r.mu.Unlock()
	}
	r.earlier = nil
}

// Drain refuses new sessions and asks everybody to go elsewhere: native instances by a go-away, clients by a close that
// tells them to reconnect.
func (r *Router) Drain() {
	r.draining.Store(true)
	r.mu.Lock()
	tunnels := make([]tunnel.Tunnel, 0, len(r.tunnels))
	for t := range r.tunnels {
		tunnels = append(tunnels, t)
	}
	r.mu.Unlock()
	for _, t := range tunnels {
		t.GoAway()
	}
	for _, rm := range r.rooms.all() {
		for _, s := range rm.all() {
			s.close(wire.CodeRestart, "node is going away, reconnect", true)
		}
	}
}

// Ready says why the node cannot serve, or nil.
func (r *Router) Ready() error {
	if r.draining.Load() {
		return errDraining
	}
	return nil
}

// acquire returns the room of the state, made when there is none; each acquire needs its release.
func (r *Router) acquire(key roomKey) *room {
	sh := r.rooms.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	rm := sh.rooms[key]
	if rm == nil {
		rm = &room{roomKey: key, router: r, wake: make(chan struct{}, 1)}
		sh.rooms[key] = rm
	}
	rm.refs++
	return rm
}

// release gives the room up. The last one out takes it off the map, and notes a tentative row for removal.
func (r *Router) release(rm *room) {
	sh := r.rooms.shard(rm.roomKey)
	sh.mu.Lock()
	rm.refs--
	over := rm.refs == 0
	if over {
		delete(sh.rooms, rm.roomKey)
		rm.gone.Store(true)
	}
	sh.mu.Unlock()
	if !over {
		return
	}
	rm.mu.Lock()
	h, a, epoch, line := rm.home, rm.att, rm.epoch, rm.line
	rm.mu.Unlock()
	if h != nil {
		h.unbind(rm, a, epoch)
		if a != nil && a.legacy && line != nil { // a native line keeps its credit for as long as the instance has the state
			line.End()
		}
	}
	rm.poke()
	if rm.tentative.Load() && r.minds(rm.roomKey) {
		r.noteTentative(rm.roomKey, epoch)
	}
}

// minds says whether it is this node that proposes changes of a state's row: it holds the tunnel, or nobody does.
func (r *Router) minds(key roomKey) bool {
	if !r.connects() {
		return true
	}
	row, ok := r.table.Lookup(key.app, key.state)
	return ok && !r.elsewhere(row.Node)
}

// newSession numbers the session of a join.
func (r *Router) newSession(rm *room, q *client.JoinRequest) *session {
	s := &session{router: r, room: rm, out: q.Out, addr: q.Addr, native: q.Native, index: -1}
	s.sent = max(q.Next, 1) - 1
	s.acked.Store(s.sent)
	s.t = tunnel.Session{
		State: q.State, Conn: wire.ConnID{Node: r.node, Seq: r.conns.Add(1)}, Stream: q.Stream, User: q.User, Resumed: q.Resumed,
	}
	if s.t.Stream == (wire.StreamID{}) {
		_, _ = rand.Read(s.t.Stream[:]) // never fails since Go 1.24
	}
	return s
}

// Join seats a client in its state, waiting at most Config.InstanceWait for an instance.
func (r *Router) Join(ctx context.Context, q client.JoinRequest) (client.Seat, *client.Refusal) {
	if r.draining.Load() {
		return nil, &client.Refusal{Code: wire.CodeRestart, Reason: "node is going away, reconnect"}
	}
	key := roomKey{q.App, q.State}
	if _, denied := r.denied.get(key); denied {
		return nil, refuse(wire.CodeStateNotFound)
	}
	rm := r.acquire(key)
	s := r.newSession(rm, &q)
	if refusal := r.seat(ctx, rm, s); refusal != nil {
		r.release(rm)
		r.stats.refused.Add(1)
		return nil, refusal
	}
	r.stats.sessions.Add(1)
	r.stats.joins.Add(1)
	return s, nil
}

// seat waits until the room lives and opens the session there.
func (r *Router) seat(ctx context.Context, rm *room, s *session) *client.Refusal {
	var timeout <-chan time.Time
	var seen *client.Refusal
	rm.mu.Lock()
	rm.joiners++
	defer func() {
		rm.mu.Lock()
		rm.joiners--
		rm.mu.Unlock()
	}()
	seen = rm.refusal
	for rm.phase != phaseLive || rm.att.stalled.Load() {
		if rm.refusal != nil && rm.refusal != seen {
			refusal := rm.refusal
			rm.mu.Unlock()
			return refusal
		}
		if rm.phase == phaseWaiting && !rm.seeking {
			if _, known := r.table.Lookup(rm.app, rm.state); !known && !r.buckets.allow(rm.app, s) {
				rm.mu.Unlock()
				r.stats.unknownLimited.Add(1)
				return &client.Refusal{Code: wire.CodeTryLater, Reason: "too many connections to unknown states, try later"}
			}
			if !time.Now().Before(rm.notBefore) && r.bindNow(rm) {
				continue
			}
			rm.seekLocked()
		}
		wait := rm.changedLocked()
		rm.mu.Unlock()
		if timeout == nil {
			timer := time.NewTimer(r.cfg.InstanceWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-wait:
		case <-timeout:
			r.stats.noInstance.Add(1)
			return refuse(wire.CodeNoInstance)
		case <-ctx.Done():
			return refuse(wire.CodeGoingAway)
		case <-r.ctx.Done():
			return refuse(wire.CodeRestart)
		}
		rm.mu.Lock()
	}
	rm.addLocked(s)
	rm.openLocked(s)
	tun := rm.att.tun
	rm.mu.Unlock()
	tun.Flush()
	s.out.Flush()
	return nil
}

// bindNow makes the room live without a goroutine when its row and its instance's tunnel are there, which is what nearly
// every join meets. The caller holds rm.mu, which is let go in between.
func (r *Router) bindNow(rm *room) bool {
	rm.mu.Unlock()
	defer rm.mu.Lock()
	row, ok := r.table.Lookup(rm.app, rm.state)
	if !ok || row.Pending || row.Free {
		return false
	}
	h := r.homeOf(&row)
	if h == nil {
		return false
	}
	rm.tentative.Store(row.Tentative)
	r.forgetTentative(rm.roomKey)
	return h.bind(rm, row.Epoch)
}

// home returns what this node knows of the instance, or nil.
func (r *Router) home(id wire.InstanceID) *home {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.homes[id]
}

// forgetTentative takes a state off the list of rows to remove: somebody came back.
func (r *Router) forgetTentative(key roomKey) {
	r.mu.Lock()
	delete(r.tentative, key)
	r.mu.Unlock()
}

func refuse(code wire.Code) *client.Refusal {
	return &client.Refusal{Code: code, Reason: code.Reason()}
}
