package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

const patience = 20 * time.Second

// inbox is a Receiver that keeps what it is told.
type inbox struct {
	name    string
	take    func(batch []byte) error // nil keeps text
	mu      sync.Mutex
	said    []string
	grown   chan struct{}
	room    chan struct{} // holds one
	resumed chan struct{} // likewise
	ended   chan error
}

func newInbox(name string) *inbox {
	return &inbox{
		name: name, grown: make(chan struct{}), room: make(chan struct{}, 1), resumed: make(chan struct{}, 1),
		ended: make(chan error, 8),
	}
}

func (i *inbox) note(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.said = append(i.said, text)
	close(i.grown)
	i.grown = make(chan struct{})
}

func (i *inbox) Take(batch []byte) error {
	if i.take != nil {
		return i.take(batch)
	}
	for len(batch) > 0 {
		var f wire.Frame
		body, n, err := wire.SplitFrame(batch, wire.MaxFrame)
		if err == nil {
			err = f.Decode(body)
		}
		if err != nil || n == 0 {
			return fmt.Errorf("no frame: %w", err)
		}
		i.note(string(f.Payload))
		batch = batch[n:]
	}
	return nil
}

func (i *inbox) Drained() {}

func (i *inbox) Room() {
	select {
	case i.room <- struct{}{}:
	default:
	}
}

func (i *inbox) Resumed() {
	select {
	case i.resumed <- struct{}{}:
	default:
	}
}

func (i *inbox) Ended(err error) { i.ended <- err }

// await waits until count texts were said.
func (i *inbox) await(t testing.TB, count int) []string {
	t.Helper()
	deadline := time.After(patience)
	for {
		i.mu.Lock()
		said, grown := i.said, i.grown
		i.mu.Unlock()
		if len(said) >= count {
			return said
		}
		select {
		case <-grown:
		case <-deadline:
			t.Fatalf("%s: have %d of %d: %q", i.name, len(said), count, said)
		}
	}
}

func (i *inbox) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-i.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: it does not end", i.name)
		return nil
	}
}

func frame(text string) []byte {
	return wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Channel: 1, Seq: 1, Payload: []byte(text)})
}

// accepted is a route that a node has accepted.
type accepted struct {
	*inbox
	rt   *Route
	from wire.NodeSession
}

// router is a node that accepts routes to instances below 100.
type router struct {
	*node
	routes  chan accepted
	notices *inbox
	refine  func(*inbox, *Route) // may change what a route's receiver does
}

func (w *world) router(self wire.NodeSession, change func(*Config)) *router {
	r := &router{routes: make(chan accepted, 1000), notices: newInbox("notices")}
	r.node = w.make(self, change, Deps{
		Accept: func(from wire.NodeSession, instance wire.InstanceID, gen wire.Gen, rt *Route) Receiver {
			if instance >= 100 {
				return nil
			}
			in := newInbox(fmt.Sprintf("instance %d gen %d", instance, gen))
			if r.refine != nil {
				r.refine(in, rt)
			}
			r.routes <- accepted{in, rt, from}
			return in
		},
		Notified: func(from wire.NodeSession, body []byte) { r.notices.note(fmt.Sprintf("%d: %s", from, body)) },
	})
	w.start(self, r.node)
	return r
}

func mustSend(t testing.TB, rt *Route, batch []byte) {
	t.Helper()
	if err := rt.Send(batch); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestRouteCarriesBothWaysAndEndsOnce(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	in := newInbox("e")
	rt := e.Route(2, 7, 3, in)
	mustSend(t, rt, append(frame("one"), frame("two")...))
	far := <-o.routes
	want(t, far.await(t, 2), "one", "two")
	if far.name != "instance 7 gen 3" || far.from != 1 || far.rt.Peer() != 1 || rt.Peer() != 2 || far.rt.Instance() != 7 || far.rt.Gen() != 3 {
		t.Errorf("%s from session %d", far.name, far.from)
	}
	mustSend(t, far.rt, frame("back"))
	want(t, in.await(t, 1), "back")
	other := newInbox("other")
	second := e.Route(2, 9, 1, other) // in the same lane
	mustSend(t, second, frame("x"))
	farSecond := <-o.routes
	mustSend(t, rt, frame("last"))
	rt.Close()
	if err := rt.Send(frame("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent on a closed route: %v", err)
	}
	if err := far.end(t); err != io.EOF {
		t.Errorf("the other end closed it: %v", err)
	}
	want(t, far.await(t, 3), "one", "two", "last")
	if err := far.rt.Send(frame("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent on a route that the other end has closed: %v", err)
	}
	mustSend(t, farSecond.rt, frame("still here"))
	want(t, other.await(t, 1), "still here")
	farSecond.rt.Close()
	if err := other.end(t); err != io.EOF {
		t.Errorf("closed at the far end: %v", err)
	}
	if len(in.ended)+len(far.ended)+len(other.ended)+len(farSecond.ended) > 0 {
		t.Error("an end was told twice, or to who has closed it")
	}
	if p := e.Peers(); len(p) != 1 || p[0].Routes != 0 || p[0].FramesOut != 4 || p[0].FramesIn != 2 || p[0].Lanes != 1 {
		t.Errorf("%+v", p)
	}
}

func TestRouteThatIsRefused(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	in := newInbox("e")
	rt := e.Route(2, 100, 1, in)
	mustSend(t, rt, frame("for nobody"))
	if err := in.end(t); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	if err := rt.Send(frame("late")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	rt.Close()
	next := e.Route(2, 8, 1, newInbox("next"))
	mustSend(t, next, frame("fine"))
	want(t, (<-o.routes).await(t, 1), "fine")
}

// A receiver that fails or panics ends its route and no other.
func TestReceiverThatFailsEndsItsRouteOnly(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	o.refine = func(in *inbox, rt *Route) {
		switch rt.Instance() {
		case 2:
			in.take = func([]byte) error { return errors.New("no sense") }
		case 4:
			in.take = func([]byte) error { panic("a bug") }
		}
	}
	good := newInbox("good")
	fine := e.Route(2, 6, 1, good)
	for _, instance := range []wire.InstanceID{2, 4} {
		in := newInbox(fmt.Sprint(instance))
		mustSend(t, e.Route(2, instance, 1, in), frame("x"))
		if err := in.end(t); !errors.Is(err, ErrFault) {
			t.Errorf("instance %d: %v", instance, err)
		}
	}
	mustSend(t, fine, frame("fine"))
	for range 3 {
		if far := <-o.routes; far.rt.Instance() == 6 {
			want(t, far.await(t, 1), "fine")
		} else if err := far.end(t); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the receiver that failed is told %v", err)
		}
	}
}

func TestSessionThatIsOverEndsItsRoutes(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	in := newInbox("e")
	mustSend(t, e.Route(2, 7, 1, in), frame("x"))
	far := <-o.routes
	far.await(t, 1)
	e.End(2)
	o.End(1)
	for _, i := range []*inbox{in, far.inbox} {
		if err := i.end(t); !errors.Is(err, ErrOver) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", i.name, err)
		}
	}
	sum := map[string]float64{}
	e.Collect(func(name string, v float64, labels ...string) { sum[name+fmt.Sprint(labels)] = v })
	if sum["link_frames_total[direction out]"] != 1 {
		t.Errorf("what was counted is forgotten: %v", sum)
	}
}

func TestRoutesToANodeThatHasRestarted(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	in := newInbox("e")
	mustSend(t, e.Route(2, 7, 1, in), frame("x"))
	far := <-o.routes
	far.await(t, 1)
	o.stop()
	if err := far.end(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("links that stop tell their receivers %v", err)
	}
	again := w.router(2, nil)
	w.breakAll()
	if err := in.end(t); !errors.Is(err, ErrLost) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	mustSend(t, e.Route(2, 7, 1, newInbox("again")), frame("y"))
	want(t, (<-again.routes).await(t, 1), "y")
}

func TestRouteOfLinksThatHaveStopped(t *testing.T) {
	w := newWorld(t)
	e := w.router(1, nil)
	e.stop()
	rt := e.Route(2, 7, 1, newInbox("e"))
	if err := rt.Send(frame("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	rt.Close()
	if n := rt.Pending(); n != 0 {
		t.Error(n)
	}
}

// More than a lane may keep ends its routes; those of the other lane go on.
func TestOverflowEndsTheRoutesOfTheLane(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, func(c *Config) { c.Ring = maxRecord }), w.router(2, nil)
	in, other := newInbox("e"), newInbox("other")
	rt := e.Route(2, 6, 1, in)
	mustSend(t, rt, frame("x"))
	(<-o.routes).await(t, 1)
	w.sever(true)
	var err error
	batch := bytes.Repeat(frame(string(make([]byte, 1024))), 16)
	for range 1000 {
		if err = rt.Send(batch); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrOverflow) {
		t.Fatalf("16 MiB to a node that cannot be reached: %v", err)
	}
	if err := in.end(t); !errors.Is(err, ErrOverflow) {
		t.Error(err)
	}
	w.sever(false)
	mustSend(t, e.Route(2, 7, 1, other), frame("y"))
	want(t, (<-o.routes).await(t, 1), "y")
}

// Who was told that there is no room is told when there is some, in turn.
func TestRoomComesToAllWhoWait(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	w.sever(true)
	routes, ins := make([]*Route, 8), make([]*inbox, 8)
	for i := range routes {
		ins[i] = newInbox(fmt.Sprint(i))
		routes[i] = e.Route(2, wire.InstanceID(2*i), 1, ins[i])
	}
	mustSend(t, routes[0], bytes.Repeat(frame(string(make([]byte, 1024))), 200))
	for i, rt := range routes {
		if n := rt.Pending(); n < 200<<10 {
			t.Errorf("route %d: %d bytes are pending", i, n)
		}
	}
	w.sever(false)
	for i := range routes {
		select {
		case <-ins[i].room:
		case <-time.After(patience):
			t.Fatalf("route %d waits for ever", i)
		}
	}
	_ = o
}

func TestRoutesAreToldOfAConnection(t *testing.T) {
	w := newWorld(t)
	e, _ := w.router(1, nil), w.router(2, nil)
	in := newInbox("e")
	rt := e.Route(2, 7, 1, in)
	for range 3 {
		select {
		case <-in.resumed:
		case <-time.After(patience):
			t.Fatal("the route does not hear of its connection")
		}
		if !rt.Connected() {
			t.Fatal("the route does not know of its connection")
		}
		w.sever(true)
		for rt.Connected() {
			runtime.Gosched()
		}
		w.mu.Lock()
		w.cut = false
		w.mu.Unlock()
	}
}

// A notice keeps its place among what was sent on the routes to its instance.
func TestNoticesKeepTheirPlace(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	o.refine = func(in *inbox, _ *Route) {
		in.take = func(batch []byte) error { o.notices.note(string(batch[4+2+4+8:])); return nil }
	}
	rt := e.Route(2, 7, 1, newInbox("e"))
	var all []string
	for i := range 300 {
		text := fmt.Sprint("number ", i)
		if i%3 == 0 {
			if err := e.Notify(2, 7, []byte(text)); err != nil {
				t.Fatal(err)
			}
			all = append(all, "1: "+text)
		} else {
			mustSend(t, rt, frame(text))
			all = append(all, text)
		}
		if i == 150 {
			w.breakAll()
		}
	}
	if err := e.Notify(2, 7, make([]byte, MaxNotice+1)); err == nil {
		t.Error("a notice above the maximum was taken")
	}
	if err := e.Notify(2, 7, nil); err != nil {
		t.Error(err)
	}
	want(t, o.notices.await(t, len(all)+1), append(all, "1: ")...)
}

func TestBatchOfAnySizeIsCutBetweenFrames(t *testing.T) {
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	dice := rand.New(rand.NewPCG(1, 2))
	var batch []byte
	var texts []string
	for len(batch) < 1<<20 {
		text := fmt.Sprint(len(batch), string(make([]byte, dice.IntN(30_000))))
		batch, texts = append(batch, frame(text)...), append(texts, text)
	}
	rt := e.Route(2, 7, 1, newInbox("e"))
	mustSend(t, rt, batch)
	got := (<-o.routes).await(t, len(texts))
	for i := range texts {
		if got[i] != texts[i] {
			t.Fatalf("message %d is damaged", i)
		}
	}
	for name, bad := range map[string][]byte{"half a length": {0, 0}, "a frame that is cut": frame("abc")[:9], "4 GiB": {255, 255, 255, 255, 0, 0}} {
		if rt.Send(bad) == nil {
			t.Errorf("%s was sent", name)
		}
	}
}

// load sends numbered frames over a route until enough is closed and least were sent, in batches of random size, heeding
// Pending; then one that says how many they were.
func load(rt *Route, in *inbox, dice *rand.Rand, least int, enough <-chan struct{}) error {
	var batch []byte
	for i := 0; ; i++ {
		body := make([]byte, 9+dice.IntN(1500))
		binary.BigEndian.PutUint64(body, uint64(i))
		select {
		case <-enough:
			if i >= least {
				body[8] = 1
			}
		default:
		}
		done := body[8] == 1
		batch = wire.AppendFrame(batch, &wire.Frame{Type: wire.Data, Channel: 1, Payload: body})
		if !done && dice.IntN(8) > 0 {
			continue
		}
		for rt.Pending() >= 128<<10 {
			select {
			case <-in.room:
			case <-time.After(patience):
				return errors.New("no room comes")
			}
		}
		if err := rt.Send(batch); err != nil {
			return err
		}
		if batch = batch[:0]; done {
			return nil
		}
	}
}

// unload checks what load has sent; it is a Receiver's Take, and closes done behind the last.
func unload(t *testing.T, name string, done chan struct{}) func([]byte) error {
	next := uint64(0)
	return func(batch []byte) error {
		for len(batch) > 0 {
			var f wire.Frame
			body, n, err := wire.SplitFrame(batch, wire.MaxFrame)
			if err != nil || n == 0 {
				return fmt.Errorf("no frame: %w", err)
			}
			if err := f.Decode(body); err != nil {
				return err
			}
			if got := binary.BigEndian.Uint64(f.Payload); got != next {
				t.Errorf("%s: frame %d came, want %d", name, got, next)
				return errRecord
			}
			if next++; f.Payload[8] == 1 {
				t.Logf("%s: %d frames", name, next)
				close(done)
			}
			batch = batch[n:]
		}
		return nil
	}
}

// Six routes on two lanes under load both ways while all connections break 200 times: nothing is lost, nothing comes twice,
// the order is kept.
func TestRoutesLoseNothingWhenConnectionsBreak(t *testing.T) {
	const breaks, least = 200, 2000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorld(t)
	e, o := w.router(1, nil), w.router(2, nil)
	var senders sync.WaitGroup
	broken := make(chan struct{})
	var dones []chan struct{}
	send := func(name string, rt *Route, in *inbox, n uint64) {
		senders.Go(func() {
			if err := load(rt, in, rand.New(rand.NewPCG(seed, n)), least, broken); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	const routes = 6
	down := make([]chan struct{}, routes)
	for i := range down {
		down[i] = make(chan struct{})
	}
	dones = append(dones, down...)
	o.refine = func(in *inbox, rt *Route) {
		in.take = unload(t, in.name+" down", down[rt.Instance()])
	}
	for i := range routes {
		in, done := newInbox(fmt.Sprint("e ", i)), make(chan struct{})
		in.take = unload(t, in.name+" up", done)
		dones = append(dones, done)
		rt := e.Route(2, wire.InstanceID(i), 1, in)
		send(in.name, rt, in, uint64(2*i))
	}
	for range routes {
		far := <-o.routes
		send(far.name, far.rt, far.inbox, uint64(2*far.rt.Instance()+1))
	}
	dice := rand.New(rand.NewPCG(seed, 99))
	for began := time.Now(); e.Peers()[0].Breaks < breaks && time.Since(began) < 3*patience; {
		time.Sleep(time.Duration(1+dice.IntN(8)) * time.Millisecond) // the moment of the break is random; nothing is waited for
		w.breakAll()
	}
	close(broken)
	senders.Wait()
	for i, done := range dones {
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("way %d: the last frame does not come", i)
		}
	}
	p := e.Peers()[0]
	t.Logf("%+v", p)
	if p.Breaks < breaks {
		t.Errorf("only %d connections broke: the test shows little", p.Breaks)
	}
}
