package gossip

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what is thought of a member. A silent one is Live until the others have agreed that it is dead.
type State uint8

// The states.
const (
	Live State = iota
	Left       // it said goodbye
	Dead       // it does not answer
)

// String is the state as listings show it.
func (s State) String() string {
	switch s {
	case Live:
		return "live"
	case Left:
		return "left"
	case Dead:
		return "dead"
	}
	return "unknown"
}

// Member is a node as the listing has it.
type Member struct {
	Name  string
	Addr  netip.AddrPort // where gossip reaches it
	Meta  Meta
	State State
	Since time.Time     // since when it is in that state
	RTT   time.Duration // of the last probe that it answered to this node; 0: none yet
	Self  bool
}

const (
	// remembered is how long those who left or died stay in the listing, and how many of them at most.
	remembered    = 10 * time.Minute
	maxRemembered = 256
)

// listing is the members, kept from memberlist's events, since what memberlist hands out changes while it is read.
type listing struct {
	mu      sync.Mutex
	members map[string]*listed
	changed chan struct{} // closed at the next change; nil while nobody waits
}

type listed struct {
	Member
	leaving bool // it has said that it leaves
}

// update changes the listing by f, which says whether anybody has to be told.
func (l *listing) update(f func(members map[string]*listed) bool) {
	l.mu.Lock()
	var woken chan struct{}
	if f(l.members) {
		woken, l.changed = l.changed, nil
	}
	l.mu.Unlock()
	if woken != nil {
		close(woken)
	}
}

// put lists a node as live.
func (l *listing) put(m Member) {
	l.update(func(members map[string]*listed) bool {
		next := &listed{Member: m}
		if old := members[m.Name]; old != nil && old.State == Live {
			next.Since, next.RTT, next.leaving = old.Since, old.RTT, old.leaving
		}
		members[m.Name] = next
		return true
	})
}

// gone notes that a node is not there any more.
func (l *listing) gone(name string, now time.Time) {
	l.update(func(members map[string]*listed) bool {
		m := members[name]
		if m == nil || m.State != Live {
			return false
		}
		m.State, m.Since = Dead, now
		if m.leaving {
			m.State = Left
		}
		return true
	})
}

// leaving notes that a node has said goodbye.
func (l *listing) leaving(name string) (known bool) {
	l.update(func(members map[string]*listed) bool {
		m := members[name]
		if known = m != nil; known {
			m.leaving = true
		}
		if !known || m.State != Dead {
			return false
		}
		m.State = Left // the news came first
		return true
	})
	return known
}

// forget takes a node out of the listing.
func (l *listing) forget(name string) {
	l.update(func(members map[string]*listed) bool {
		_, known := members[name]
		delete(members, name)
		return known
	})
}

// prune forgets those who have been gone for long.
func (l *listing) prune(now time.Time) {
	l.update(func(members map[string]*listed) bool {
		var gone []*listed
		for _, m := range members {
			if m.State != Live {
				gone = append(gone, m)
			}
		}
		slices.SortFunc(gone, func(a, b *listed) int { return b.Since.Compare(a.Since) })
		before := len(members)
		for i, m := range gone {
			if i >= maxRemembered || now.Sub(m.Since) > remembered {
				delete(members, m.Name)
			}
		}
		return len(members) != before
	})
}

// heard notes how long a probe took; nobody waits for that.
func (l *listing) heard(name string, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.members[name]; m != nil {
		m.RTT = rtt
	}
}

func (l *listing) get(name string) (Member, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.members[name]; m != nil {
		return m.Member, true
	}
	return Member{}, false
}

func (l *listing) all() []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Member, 0, len(l.members))
	for _, m := range l.members {
		all = append(all, m.Member)
	}
	return all
}

// Members returns the listing by name: this node, those that live, and for 10 minutes those that left or died.
func (g *Gossip) Members() []Member {
	all := g.listing.all()
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Changed returns a channel that is closed at the next change of the listing. Take it before reading Members.
func (g *Gossip) Changed() <-chan struct{} {
	l := &g.listing
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// others are the members that live, without this node.
func (g *Gossip) others() []Member {
	return slices.DeleteFunc(g.listing.all(), func(m Member) bool { return m.Self || m.State != Live })
}

// node is a member as memberlist's sending methods want it: they look at name and address only.
func (m Member) node() *memberlist.Node {
	return &memberlist.Node{Name: m.Name, Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
}
