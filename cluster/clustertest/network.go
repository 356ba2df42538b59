package clustertest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Path is how one direction between two hosts behaves.
type Path struct {
	// Delay is how long everything takes; Jitter is added to it in part, drawn anew each time.
	Delay, Jitter time.Duration
	// Loss is the share of packets that are lost, 0 to 1. A stream's bytes come later instead.
	Loss float64
}

// Traffic counts what one direction between two hosts carried.
type Traffic struct {
	// Packets and Bytes arrived, or will; Lost packets did not: loss, cuts, no power, nobody listening, a full queue.
	Packets, Bytes, Lost uint64
	// Streamed bytes were written to streams.
	Streamed uint64
}

// Network connects hosts.
type Network struct {
	// Patience is how long bytes of a stream may fail to arrive before it breaks; 0 is for ever. Set it before use.
	Patience time.Duration

	mu    sync.Mutex
	rand  *rand.Rand
	hosts map[string]*Host
	addrs map[netip.Addr]*Host
	rest  Path                // of paths that nobody has set
	paths map[[2]string]*path // from, to
	conns map[*stream]struct{}
}

type path struct {
	Path
	cut     bool
	traffic Traffic
}

// Defaults of the network.
const (
	patience = 30 * time.Second
	// retransmit is how much later a lost segment of a stream comes, beside two delays.
	retransmit = 200 * time.Millisecond
)

// New makes a network without hosts, on which everything arrives at once.
func New(seed uint64) *Network {
	return &Network{
		Patience: patience,
		rand:     rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)),
		hosts:    make(map[string]*Host),
		addrs:    make(map[netip.Addr]*Host),
		paths:    make(map[[2]string]*path),
		conns:    make(map[*stream]struct{}),
	}
}

// Host adds a host. It panics when the name or the address is taken or the address is none, since then the test is wrong.
func (n *Network) Host(name, addr string) *Host {
	ip := netip.MustParseAddr(addr).Unmap()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[name] != nil || n.addrs[ip] != nil {
		panic(fmt.Sprintf("clustertest: host %s or address %s is there already", name, addr))
	}
	h := &Host{
		net: n, name: name, ip: ip, up: true, next: firstPort,
		listeners: make(map[uint16]*listener), packets: make(map[uint16]*packetConn),
	}
	n.hosts[name], n.addrs[ip] = h, h
	return h
}

// SetAll says how every path behaves, from now on. A host reaches itself at once, until SetPath says something else.
func (n *Network) SetAll(p Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rest = p
	for key, known := range n.paths {
		if key[0] != key[1] {
			known.Path = p
		}
	}
}

// SetPath says how the direction from one host to another behaves, from now on.
func (n *Network) SetPath(from, to string, p Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.path(from, to).Path = p
}

// SetBoth does SetPath in both directions.
func (n *Network) SetBoth(a, b string, p Path) {
	n.SetPath(a, b, p)
	n.SetPath(b, a, p)
}

// Cut stops everything from one host to another; the other direction stays as it is.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut(from, to)
}

// Partition cuts all paths between hosts of different groups, in both directions. Hosts that no group names form one of
// their own. Paths within a group are as they were.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := func(name string) int {
		return slices.IndexFunc(groups, func(g []string) bool { return slices.Contains(g, name) })
	}
	for from := range n.hosts {
		for to := range n.hosts {
			if group(from) != group(to) {
				n.cut(from, to)
			}
		}
	}
}

// Heal mends all cuts. What streams had written into them arrives after the path's delay.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.paths {
		p.cut = false
	}
	n.release()
}

// HealPath mends one direction.
func (n *Network) HealPath(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.path(from, to).cut = false
	n.release()
}

// Break resets all streams between two hosts, as a firewall that has lost its state would. It returns how many.
func (n *Network) Break(a, b string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	broken := 0
	for s := range n.conns {
		if s.from.name == a && s.to.name == b || s.from.name == b && s.to.name == a {
			s.reset(errReset)
			broken++
		}
	}
	return broken
}

// Traffic says what the direction from one host to another has carried.
func (n *Network) Traffic(from, to string) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.path(from, to).traffic
}

// path is the direction from one host to another. The lock is held.
func (n *Network) path(from, to string) *path {
	key := [2]string{from, to}
	p := n.paths[key]
	if p == nil {
		p = new(path)
		if from != to {
			p.Path = n.rest
		}
		n.paths[key] = p
	}
	return p
}

func (n *Network) cut(from, to string) {
	n.path(from, to).cut = true
	for s := range n.conns {
		s.hold(from, to)
	}
}

// release lets what streams hold go on where nothing is in its way any more.
func (n *Network) release() {
	for s := range n.conns {
		s.release()
	}
}

// reaches says whether anything sent from one host comes to the other.
func (n *Network) reaches(from, to *Host) bool {
	return from.up && to.up && !n.path(from.name, to.name).cut
}

// arrival is when something sent now on a path arrives.
func (n *Network) arrival(p *path) time.Time {
	d := p.Delay
	if p.Jitter > 0 {
		d += time.Duration(n.rand.Int64N(int64(p.Jitter)))
	}
	return time.Now().Add(d)
}

// lost draws whether something is lost.
func (n *Network) lost(p *path) bool { return p.Loss > 0 && n.rand.Float64() < p.Loss }
