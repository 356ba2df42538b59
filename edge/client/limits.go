package client

import (
	"net/netip"
	"sync"

	"github.com/trunkline-edge/trunkline/wire"
)

// limits counts connections per address and sessions per app. It holds entries only for those that have some.
type limits struct {
	maxIP, maxApp int
	liftLoopback  bool

	mu   sync.Mutex
	ips  map[netip.Addr]int
	apps map[wire.AppID]int
}

func (l *limits) init(cfg Config) {
	l.maxIP, l.maxApp, l.liftLoopback = cfg.ConnsPerIP, cfg.ConnsPerApp, cfg.LiftLoopback
	l.ips, l.apps = make(map[netip.Addr]int), make(map[wire.AppID]int)
}

// neighbourhood is what counts as one address: an IPv4 address, or an IPv6 /64.
func neighbourhood(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (l *limits) counted(a netip.Addr) bool {
	return l.maxIP > 0 && a.IsValid() && !(l.liftLoopback && a.IsLoopback())
}

func (l *limits) enterIP(a netip.Addr) bool {
	if !l.counted(a) {
		return true
	}
	return enter(&l.mu, l.ips, neighbourhood(a), l.maxIP)
}

func (l *limits) leaveIP(a netip.Addr) {
	if l.counted(a) {
		leave(&l.mu, l.ips, neighbourhood(a))
	}
}

func (l *limits) enterApp(app wire.AppID) bool {
	return l.maxApp == 0 || enter(&l.mu, l.apps, app, l.maxApp)
}

func (l *limits) leaveApp(app wire.AppID) {
	if l.maxApp > 0 {
		leave(&l.mu, l.apps, app)
	}
}

// appFull says whether the app has all the sessions that it may.
func (l *limits) appFull(app wire.AppID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.maxApp > 0 && l.apps[app] >= l.maxApp
}

func enter[K comparable](mu *sync.Mutex, m map[K]int, k K, most int) bool {
	mu.Lock()
	defer mu.Unlock()
	if m[k] >= most {
		return false
	}
	m[k]++
	return true
}

func leave[K comparable](mu *sync.Mutex, m map[K]int, k K) {
	mu.Lock()
	defer mu.Unlock()
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
