package consensus

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
)

// fabric carries connections between replicas of one test, and cuts them.
type fabric struct {
	mu    sync.Mutex
	hosts map[string]*host
}

type host struct {
	f        *fabric
	addr     string
	id       string // who answers there
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
	cut      bool
	conns    map[net.Conn]bool
}

var errUnreachable = errors.New("unreachable")

func newFabric() *fabric { return &fabric{hosts: map[string]*host{}} }

// listen makes addr answer for id.
func (f *fabric) listen(addr, id string) *host {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &host{f: f, addr: addr, id: id, incoming: make(chan net.Conn), closed: make(chan struct{}), conns: map[net.Conn]bool{}}
	if old := f.hosts[addr]; old != nil {
		h.cut = old.cut
	}
	f.hosts[addr] = h
	return h
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.incoming:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *host) Addr() net.Addr { return address(h.addr) }

// dial connects h with another, which must be who is expected there.
func (h *host) dial(ctx context.Context, addr, id string) (net.Conn, error) {
	h.f.mu.Lock()
	to := h.f.hosts[addr]
	if to == nil || to.cut || h.cut || to.id != id {
		h.f.mu.Unlock()
		return nil, errUnreachable
	}
	near, far := net.Pipe()
	for _, c := range []net.Conn{near, far} {
		h.conns[c], to.conns[c] = true, true
	}
	h.f.mu.Unlock()
	select {
	case to.incoming <- far:
		return near, nil
	case <-to.closed:
	case <-ctx.Done():
	}
	return nil, errUnreachable
}

// cut separates an address from all others, or joins it again.
func (f *fabric) cut(addr string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hosts[addr]
	h.cut = cut
	if cut {
		for c := range h.conns {
			c.Close()
		}
		clear(h.conns)
	}
}

// group are replicas of one cluster, 0 to n-1, of which the first few begin as its voters.
type group struct {
	t      *testing.T
	net    *fabric
	dirs   []string
	ids    []string
	addrs  []string
	peers  []*peer
	change func(i int, cfg *Config)
}
