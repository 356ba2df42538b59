package tunnel

import (
	"errors"
	"runtime"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
)

// Carrier takes frames of a tunnel to the other end of it, in order, without
// loss and without doubling any. Both methods may be called from any goroutine
// and under locks, so neither blocks nor calls back.
type Carrier interface {
	// Send takes a batch of whole frames, which it copies. An error means that
	// the carrier has ended: its owner calls Over.
	Send(batch []byte) error
	// Pending is how many bytes are under way. Where it has answered 64 KiB or
	// more, states may be waiting for room: the owner calls Flush, from a
	// goroutine that holds no lock, when it has fallen below that.
	Pending() int
}

// carried is a mux whose frames somebody else carries.
type carried struct {
	*mux
	f wire.Frame // that is being taken; of the goroutine that takes
}

// carrierBelow makes a Carrier what a mux and its Writer stand on.
type carrierBelow struct{ Carrier }

// Write sends a batch.
func (c carrierBelow) Write(b []byte) (int, error) {
	if err := c.Send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close does nothing: a carrier is its owner's to close.
func (c carrierBelow) Close() error { return nil }

func (c carrierBelow) pending() int { return c.Pending() }

// crowded asks once more, so that the carrier knows that somebody waits. If it
// is not full, another goroutine is about to hand it what fills the batch.
func (c carrierBelow) crowded() bool {
	if c.Pending() >= highWater {
		return true
	}
	runtime.Gosched()
	return false
}

func newCarried(c Carrier, cfg Config) carried {
	b := carrierBelow{c}
	own := newCore(Native, pipe.NewWriter(b), cfg)
	return carried{mux: newMux(&own, b, window)}
}

// frames hands the frames of a batch to take.
func (c *carried) frames(batch []byte, take func(f *wire.Frame) error) error {
	n := 0
	for ; len(batch) > 0; n++ {
		if c.dead.Load() {
			return c.why()
		}
		body, used, err := wire.SplitFrame(batch, wire.MaxFrame)
		switch {
		case err != nil:
			return frameFault(err)
		case used == 0:
			return fail(ReasonFrame, errors.New("a batch ends within a frame"))
		}
		if err := c.f.Decode(body); err != nil {
			return frameFault(err)
		}
		if err := take(&c.f); err != nil {
			return err
		}
		batch = batch[used:]
	}
	c.cfg.Counters.in(Native, n)
	return nil
}

// why is the reason that it is over for.
func (c *carried) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// FlushUrgent is Flush, unless nothing waits but what AckSoon said. Then it
// answers true, and its caller calls Flush a little later: what is said until
// then takes them along.
func (c *carried) FlushUrgent() (later bool) {
	if c.mixed.Load() || c.urgent.Load() {
		c.Flush()
		return false
	}
	b := c.w.Acquire()
	later = len(b) > 0
	c.w.Release(b)
	return later
}

// Over ends it: the carrier has, or its owner wants no more. Nothing is sent
// from then on, and nobody is made to wait. The first call counts.
func (c *carried) Over(err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = fail(ReasonPeer, err)
	}
	if c.finish(e) {
		c.wakeAll()
	}
}

// Queued is how many bytes were said and have not been handed to a connection.
func (c *carried) Queued() int {
	b := c.w.Acquire()
	n := c.queued + len(b)
	c.w.Release(b)
	return n + c.below.pending()
}

// Done is closed when it is over.
func (c *carried) Done() <-chan struct{} { return c.done }

// Near is the end at the node that has clients, of an instance whose tunnel
// another node holds: what the coordinator's end of a native tunnel is, without
// a connection, hello, registration and heartbeats. All methods but Take may be
// called from any goroutine. Call Flush when Take has had all that came, and
// when the carrier has room again.
type Near struct {
	carried
	sink NearSink
	up   func(f *wire.Frame) error
}

// NearSink takes what comes to a Near. Load, Leaving, CloseUser and Drained are
// not called.
type NearSink interface {
	Sink
	// NotOwner says that the state is not to be had at the other node: its
	// sessions have to look for it again.
	NotOwner(state wire.StateID, epoch wire.Epoch)
}

var _ End = (*Near)(nil)

// NewNear returns the end at a node with clients. Of cfg, the marks, the sizes
// and Counters matter.
func NewNear(c Carrier, cfg Config) *Near {
	n := &Near{carried: newCarried(c, cfg)}
	n.up = n.take
	return n
}

// Line is a state's way, see [End].
func (n *Near) Line(state wire.StateID, epoch wire.Epoch) Line {
	return nativeLine{n.line(state, epoch)}
}

// Leave tells the other end that nobody is left here in a state, and forgets it
// at this one, unless something is still queued for it: then it answers false.
func (n *Near) Leave(state wire.StateID, epoch wire.Epoch) bool {
	l := n.line(state, epoch)
	b := n.w.Acquire()
	idle := l.head == len(l.queue)
	n.w.Release(b)
	if idle {
		nativeLine{l}.Released()
	}
	return idle
}

// Take hands what came, whole frames, to sink. It is for one goroutine, and does
// not flush. An error means that the carrier has to be closed.
func (n *Near) Take(batch []byte, sink NearSink) error {
	n.sink = sink
	return n.frames(batch, n.up)
}

func (n *Near) take(f *wire.Frame) error {
	if f.Type == wire.NotOwner {
		n.sink.NotOwner(f.State, f.Epoch)
		return nil
	}
	return n.takeUp(f, n.sink)
}

// Close tells the other end a reason and is over.
func (n *Near) Close(reason string) {
	n.control(&wire.Frame{Type: wire.Close, Code: codeOf(reason), Payload: []byte(reason)})
	_ = n.w.Flush()
	n.Over(fail(reason, nil))
}

// Far is the end at the node that holds the instance's tunnel: what the
// instance's end of a native tunnel is, without a connection. All methods but
// Take may be called from any goroutine.
type Far struct {
	carried
	handler Handler
	down    func(f *wire.Frame) error
}

// NewFar returns the end at the node that holds the tunnel.
func NewFar(c Carrier, cfg Config) *Far {
	f := &Far{carried: newCarried(c, cfg)}
	f.down = f.take
	return f
}

// Uplink returns a state's way to the node with the clients: the same for the
// same state and epoch until its End. Another epoch replaces it.
func (a *Far) Uplink(state wire.StateID, epoch wire.Epoch) Uplink {
	return Uplink{a.line(state, epoch)}
}

// CloseChannel answers Handler.Closed for a session whose state is gone.
func (a *Far) CloseChannel(channel uint32) { a.hangUp(channel) }

// NotOwner says that the state is not to be had here, ahead of all queues, and
// forgets it and its sessions.
func (a *Far) NotOwner(state wire.StateID, epoch wire.Epoch) {
	nativeLine{a.line(state, epoch)}.NotOwner()
}

// Take hands what came, whole frames, to h; GoAway and Drained are not called.
// It is for one goroutine, and does not flush. An error means that the carrier
// has to be closed.
func (a *Far) Take(batch []byte, h Handler) error {
	a.handler = h
	return a.frames(batch, a.down)
}

func (a *Far) take(f *wire.Frame) error { return a.takeDown(f, a.handler) }
