package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

var app = wire.AppIDOf("faults")

const (
	creators, placers, movers, backends = 4, 3, 1, 3
	// atOnce is how many actors may wait for one node.
	atOnce = 3
	// hotStates are what placers and movers want, by turns.
	hotStates = 24
	// think is how long an actor waits between two things, at most.
	think = 50 * time.Millisecond
	// askTime is how long an actor waits for an answer, at least half of it.
	askTime = 4 * time.Second
)

// load is what is asked of the nodes while a story is told.
type load struct {
	w    *world
	stop context.CancelFunc
	all  sync.WaitGroup
	busy map[string]*atomic.Int64 // actors that wait for a node
}

func newLoad(w *world) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{w: w, stop: cancel, busy: map[string]*atomic.Int64{}}
	for _, n := range w.All() {
		l.busy[n.Name] = new(atomic.Int64)
	}
	w.t.Cleanup(l.end)
	client := 100 * w.loads
	w.loads++
	for _, part := range []struct {
		count int
		act   func(a *actor)
	}{{creators, (*actor).createOne}, {placers, (*actor).placeOne}, {movers, (*actor).moveOne}, {backends, (*actor).attachOne}} {
		for range part.count {
			client++
			a := &actor{world: w, busy: l.busy, client: client, rand: w.actor(client)}
			l.all.Go(func() { a.run(ctx, part.act) })
		}
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// actor does one thing after the other.
type actor struct {
	*world
	busy   map[string]*atomic.Int64
	client int
	rand   *rand.Rand

	backend backend
}

func (a *actor) run(ctx context.Context, act func(*actor)) {
	for ctx.Err() == nil {
		act(a)
		select {
		case <-time.After(time.Duration(a.rand.Int64N(int64(think)))):
		case <-ctx.Done():
		}
	}
}

// any returns a running member with a call to be counted down when the actor is done with it; nil if it met none. Few
// actors wait for one node, since one that is cut off answers nobody.
func (a *actor) any() (*cluster.Node, func()) {
	all := a.All()
	node := all[a.rand.IntN(len(all))]
	n, busy := node.Now(), a.busy[node.Name]
	if n == nil || n.Node() == 0 {
		return nil, nil
	}
	if busy.Add(1) > atOnce {
		busy.Add(-1)
		return nil, nil
	}
	return n, func() { busy.Add(-1) }
}

// ask asks a random node for something, and writes down what came of it.
func (a *actor) ask(e entry, do func(ctx context.Context, n *cluster.Node, e *entry) error) (entry, error) {
	n, release := a.any()
	if n == nil {
		return e, placement.ErrStopped
	}
	defer release()
	ctx, cancel := limited(askTime/2 + time.Duration(a.rand.Int64N(int64(askTime)/2)))
	defer cancel()
	e.client, e.call = a.client, a.h.now()
	err := do(ctx, n, &e)
	a.h.add(e, err)
	return e, err
}

// createOne creates a state, and perhaps has it firm, and perhaps removes it.
func (a *actor) createOne() {
	e, err := a.ask(entry{kind: create}, func(ctx context.Context, n *cluster.Node, e *entry) error {
		p, err := n.Create(ctx, placement.CreateRequest{App: app, Region: "eu"})
		e.state, e.epoch = p.State, p.Epoch
		return err
	})
	if err != nil {
		return
	}
	if a.rand.IntN(3) > 0 {
		_, _ = a.onRow(firm, e.state, e.epoch)
	}
	switch a.rand.IntN(4) {
	case 0:
		_, _ = a.onRow(release, e.state, e.epoch)
	case 1, 2:
		_, _ = a.onRow(remove, e.state, e.epoch)
	}
}

func (a *actor) onRow(kind kind, state wire.StateID, epoch wire.Epoch) (entry, error) {
	return a.ask(entry{kind: kind, state: state, expect: epoch}, func(ctx context.Context, n *cluster.Node, _ *entry) error {
		switch kind {
		case firm:
			return n.Firm(ctx, app, state, epoch)
		case release:
			return n.Release(ctx, app, state, epoch)
		default:
			return n.Remove(ctx, app, state, epoch)
		}
	})
}

func (a *actor) hot() wire.StateID { return wire.StateID(1 + a.rand.IntN(hotStates)) }

// placeOne places one of the states that all want, and sometimes removes it. Only one actor makes them firm: asked of a row
// that is, a node answers out of its own table.
func (a *actor) placeOne() {
	wanted := entry{kind: place, state: a.hot(), expect: a.h.newest()}
	e, err := a.ask(wanted, func(ctx context.Context, n *cluster.Node, e *entry) error {
		row, err := n.Place(ctx, placement.PlaceRequest{App: app, State: e.state, Region: "eu"})
		e.epoch = row.Epoch
		return err
	})
	if err != nil {
		return
	}
	switch a.rand.IntN(4) {
	case 0:
		_, _ = a.onRow(remove, e.state, e.epoch)
	case 1:
		_, _ = a.onRow(release, e.state, e.epoch)
	case 2:
		if a.client%100 == creators+1 && e.epoch > e.expect { // given just now
			_, _ = a.onRow(firm, e.state, e.epoch)
		}
	}
}

// moveOne asks the leader itself, as the holder of a certificate can, to move a state from the owner that some node's
// table names, to any instance. The table may be old, then so is what is expected.
func (a *actor) moveOne() {
	n, release := a.any()
	if n == nil {
		return
	}
	release()
	state := a.hot()
	row, ok := n.Table().Lookup(app, state)
	list := slices.DeleteFunc(n.Table().Instances(app), func(i placement.Instance) bool { return i.Gone })
	leader := leads(a.All()...)
	if !ok || len(list) == 0 || leader == nil {
		return
	}
	expect := row.Epoch
	if a.rand.IntN(4) == 0 {
		expect -= wire.Epoch(a.rand.IntN(3)) // one that it may have had
	}
	e := entry{kind: move, state: state, expect: expect, client: a.client, call: a.h.now()}
	to := list[a.rand.IntN(len(list))].ID
	epoch, err := a.holder.move(leader, &placement.Move{App: app, State: state, Expect: expect, To: to})
	e.epoch = epoch
	a.h.add(e, err)
}

// backend is an instance that an actor attaches: what it knows of it.
type backend struct {
	storeID     string
	incarnation [16]byte
	id          wire.InstanceID
	gen         wire.Gen
	node        wire.NodeSession // that holds it
	unsure      wire.Gen         // registrations of which nobody knows, since gen was known
	gone        bool             // perhaps
	turn        int
}

// attachOne attaches an instance, attaches it anew through another node, or gives it up. Nobody else touches it, so it
// can tell what must come of that: this finds requests that were done twice.
func (a *actor) attachOne() {
	b := &a.backend
	b.turn++
	switch {
	case b.incarnation == [16]byte{}:
		*b = backend{storeID: fmt.Sprintf("b%d", a.client), incarnation: [16]byte{1}}
		for i := 8; i < 16; i++ {
			b.incarnation[i] = byte(a.rand.Uint32())
		}
		a.register()
	case b.id == 0 || b.turn%7 != 0:
		a.register()
	default:
		a.giveUp()
	}
}

func (a *actor) register() {
	b := &a.backend
	n, release := a.any()
	if n == nil {
		return
	}
	defer release()
	ctx, cancel := limited(askTime)
	defer cancel()
	at, err := n.Register(ctx, placement.RegisterRequest{
		App: app, StoreID: b.storeID, Native: true, Incarnation: b.incarnation, Region: "eu",
	})
	var held *placement.HeldError
	switch {
	case errors.As(err, &held):
		a.h.fail("a native instance was refused: %v", err)
	case endOf(err) == unknown:
		b.unsure++
	case err != nil:
	case !at.Again && at.Gen != 1:
		a.h.fail("instance %d is new and has attachment %d", at.Instance, at.Gen)
	case at.Again && b.id != 0 && at.Instance == b.id && (at.Gen <= b.gen || at.Gen > b.gen+1+b.unsure):
		a.h.fail("instance %d was attached as %d, with %d attachments of which nobody knows, and now as %d",
			b.id, b.gen, b.unsure, at.Gen)
	case at.Again && b.id == 0 && at.Gen > 1+b.unsure:
		a.h.fail("instance %d was attached once, with %d attachments of which nobody knows, and has attachment %d",
			at.Instance, b.unsure, at.Gen)
	case at.Again && b.id != 0 && at.Instance != b.id && b.unsure == 0:
		a.h.fail("instance %d is now %d, which was there before", b.id, at.Instance)
	case !at.Again && b.id != 0 && !b.gone && !a.over(n, b.node):
		a.h.fail("instance %d of node session %d, which is open, was forgotten: it is now %d", b.id, b.node, at.Instance)
	}
	if err == nil {
		*b = backend{storeID: b.storeID, incarnation: b.incarnation, id: at.Instance, gen: at.Gen, node: n.Node(), turn: b.turn}
		a.attached.Add(1)
	}
}

// over says whether a node session is over.
func (a *actor) over(n *cluster.Node, session wire.NodeSession) bool {
	_, open := n.Table().Session(session)
	return !open
}

func (a *actor) giveUp() {
	b := &a.backend
	n, release := a.any()
	if n == nil {
		return
	}
	defer release()
	ctx, cancel := limited(askTime)
	defer cancel()
	err := n.Gone(ctx, b.id, b.gen)
	switch end := endOf(err); {
	case end == done:
		a.backend = backend{}
	case end == stale && b.unsure == 0:
		a.h.fail("instance %d, attached as %d, was not given up: %v", b.id, b.gen, err)
	case end == unknown:
		b.gone = true
	}
}
