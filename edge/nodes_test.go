package edge

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// nodes are several Routers in one bubble, each with a table of its own that follows one log, and links between them.
type nodes struct {
	t      *testing.T
	list   []*world
	cancel []context.CancelFunc
	done   []chan error

	mu    sync.Mutex
	over  map[int]bool    // that were stopped
	down  map[[2]int]bool // by who dials and who is dialled
	conns map[[2]int][]net.Conn
}

var errNoWay = errors.New("no way to that node")

// inNodes runs f with n nodes; those of them that it does not stop are stopped afterwards, and nothing may be left.
func inNodes(t *testing.T, n int, change func(*Config), f func(c *nodes, w []*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &nodes{t: t, over: make(map[int]bool), down: make(map[[2]int]bool), conns: make(map[[2]int][]net.Conn)}
		first := newFakePlacer(t)
		placers := []*fakePlacer{first}
		for len(placers) < n {
			placers = append(placers, first.another())
		}
		first.hold(false)
		for _, p := range placers {
			p.hold(false)
		}
		for i, p := range placers {
			c.list = append(c.list, newWorldWith(t, change, p, Deps{DialLink: c.dialer(i), Probe: c.prober()}))
		}
		for i := range c.list {
			c.run(i)
		}
		synctest.Wait()
		f(c, c.list)
		for i := range c.list {
			c.stop(i)
		}
	})
}

func (c *nodes) run(i int) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	c.list[i].ctx = ctx
	c.cancel, c.done = append(c.cancel, cancel), append(c.done, done)
	go func() { done <- c.list[i].r.Run(ctx) }()
}

// stop ends a Router and waits for it.
func (c *nodes) stop(i int) {
	c.mu.Lock()
	over := c.over[i]
	c.over[i] = true
	c.mu.Unlock()
	if over {
		return
	}
	c.cancel[i]()
	if err := <-c.done[i]; err != nil {
		c.t.Error(err)
	}
}

// dies stops a node and ends its session, as its lease would.
func (c *nodes) dies(i int) {
	c.stop(i)
	p := c.list[(i+1)%len(c.list)].placer
	p.apply(&placement.EndSession{Session: c.list[i].placer.node})
	synctest.Wait()
}

func (c *nodes) indexOf(node wire.NodeSession) int {
	for i, w := range c.list {
		if w.placer.node == node {
			return i
		}
	}
	return -1
}

func (c *nodes) dialer(from int) func(context.Context, wire.NodeSession) (net.Conn, error) {
	return func(_ context.Context, node wire.NodeSession) (net.Conn, error) {
		to := c.indexOf(node)
		c.mu.Lock()
		if to < 0 || c.down[[2]int{from, to}] || c.over[to] {
			c.mu.Unlock()
			return nil, errNoWay
		}
		near, far := net.Pipe()
		c.conns[[2]int{from, to}] = append(c.conns[[2]int{from, to}], near, far)
		c.mu.Unlock()
		self := c.list[from].placer.node
		go c.list[to].r.ServeLink(context.Background(), far, self)
		return near, nil
	}
}

func (c *nodes) isOver(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over[i]
}

func (c *nodes) prober() func(context.Context, wire.NodeSession, wire.InstanceID, wire.Gen) (bool, error) {
	return func(ctx context.Context, node wire.NodeSession, id wire.InstanceID, gen wire.Gen) (bool, error) {
		i := c.indexOf(node)
		if i < 0 || c.isOver(i) {
			<-ctx.Done()
			return false, ctx.Err()
		}
		return c.list[i].r.ProbeInstance(ctx, id, gen), nil
	}
}

// cut ends the connections that one node has made to another, and lets it make no more while down.
func (c *nodes) cut(from, to int, down bool) {
	c.mu.Lock()
	key := [2]int{from, to}
	conns := c.conns[key]
	c.conns[key], c.down[key] = nil, down
	c.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
}

// settle lets pauses of the order of a lane's acknowledgement pass.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}
