package edge

import (
	"net"
	"net/netip"
	"sync"

	"github.com/trunkline-edge/trunkline/wire"
)

// shares keeps one tenant from filling the node: it counts the registered tunnels of each app and, for apps that no
// operator listed, of each address, where anybody could make as many apps as he likes. It holds entries only for those
// that have some.
type shares struct {
	perApp, perAddr int
	liftLoopback    bool

	mu    sync.Mutex
	apps  map[wire.AppID]int
	addrs map[netip.Prefix]int
}

func (s *shares) init(cfg *Config) {
	s.perApp, s.perAddr, s.liftLoopback = cfg.TunnelsPerApp, cfg.TunnelsPerAddr, cfg.LiftLoopback
	s.apps, s.addrs = make(map[wire.AppID]int), make(map[netip.Prefix]int)
}

// take counts a tunnel, or answers nil when its app or its address has all that it may. What it answers gives it back.
func (s *shares) take(app wire.AppID, listed bool, remote net.Addr) (back func()) {
	from := addrOf(remote)
	addr, byAddr := neighbourhood(from), !listed && from.IsValid() && !(s.liftLoopback && from.IsLoopback())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps[app] >= s.perApp || byAddr && s.addrs[addr] >= s.perAddr {
		return nil
	}
	s.apps[app]++
	if byAddr {
		s.addrs[addr]++
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.apps[app]--; s.apps[app] == 0 {
			delete(s.apps, app)
		}
		if !byAddr {
			return
		}
		if s.addrs[addr]--; s.addrs[addr] == 0 {
			delete(s.addrs, addr)
		}
	}
}

// addrOf is the address of a connection without its port; the zero Addr where it has none.
func addrOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
