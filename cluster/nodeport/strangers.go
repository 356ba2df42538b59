package nodeport

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// strangers are connections whose other end has shown no certificate, oldest first for each address.
type strangers struct {
	most, mostPer int

	mu   sync.Mutex
	n    int
	from map[netip.Prefix][]*Conn
}

func newStrangers(most, mostPer int) *strangers {
	return &strangers{most: most, mostPer: mostPer, from: make(map[netip.Prefix][]*Conn)}
}

// add takes c in, and returns the connection that has to go for it, if one has to.
func (s *strangers) add(c *Conn) (out *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.from[c.origin]) >= s.mostPer:
		out = s.from[c.origin][0]
	case s.n >= s.most:
		out = s.eldest()
	}
	if out != nil {
		s.drop(out)
	}
	s.n++
	s.from[c.origin] = append(s.from[c.origin], c)
	return out
}

// eldest is the oldest connection among those of the addresses that have the most. The lock is held.
func (s *strangers) eldest() *Conn {
	var out *Conn
	most := 0
	for _, list := range s.from {
		if len(list) > most || len(list) == most && list[0].number < out.number {
			out, most = list[0], len(list)
		}
	}
	return out
}

// remove takes c out, if it is still in.
func (s *strangers) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(c)
}

func (s *strangers) drop(c *Conn) {
	list := s.from[c.origin]
	i := slices.Index(list, c)
	if i < 0 {
		return
	}
	s.n--
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.from, c.origin)
		return
	}
	s.from[c.origin] = list
}

func (s *strangers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// originOf is what connections are counted by: an IPv4 address, or the network of an IPv6 one.
func originOf(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{} // all that have no such address share the places of one
	}
	ip := at.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for a number of bits that no address has
	return p
}
