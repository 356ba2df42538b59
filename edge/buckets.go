package edge

import (
	"net/netip"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// buckets limit first connections to states that the table does not know, per address (IPv4 address or IPv6 /64), user
// and app. Each map is bounded: when one is full, whoever is new to it shares a common bucket.
type buckets struct {
	liftLoopback bool

	addr tokens[netip.Prefix]
	user tokens[userKey]
	app  tokens[wire.AppID]
}

type userKey struct {
	app  wire.AppID
	user string
}

func (b *buckets) init(rate UnknownRate, liftLoopback bool) {
	b.liftLoopback = liftLoopback
	b.addr.rate, b.user.rate, b.app.rate = rate.PerAddr, rate.PerUser, rate.PerApp
}

// allow takes a token of each and reports whether all had one.
func (b *buckets) allow(app wire.AppID, s *session) bool {
	addr := s.addr.Unmap()
	if b.liftLoopback && addr.IsLoopback() {
		return true
	}
	now := time.Now()
	return b.addr.take(neighbourhood(addr), now) && b.user.take(userKey{app, s.t.User}, now) && b.app.take(app, now)
}

// neighbourhood is what counts as one address: an IPv4 address, or an IPv6 /64; the zero Prefix for the zero Addr.
func neighbourhood(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

func (b *buckets) sweep(now time.Time) {
	b.addr.sweep(now)
	b.user.sweep(now)
	b.app.sweep(now)
}

const (
	bucketKeys  = 100_000
	burstOf     = 4 * time.Second // a bucket holds this much of its rate
	bucketsKeep = 10 * time.Second
)

// tokens is a set of token buckets with one rate; a rate of 0 lifts the limit.
type tokens[K comparable] struct {
	rate float64
	mu   sync.Mutex
	m    map[K]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func (t *tokens[K]) take(k K, now time.Time) bool {
	if t.rate == 0 {
		return true
	}
	full := t.rate * burstOf.Seconds()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[K]bucket)
	}
	b, has := t.m[k]
	if !has {
		if len(t.m) >= bucketKeys {
			var shared K
			k = shared
			b, has = t.m[k]
		}
		if !has {
			b = bucket{full, now}
		}
	}
	b.left = min(full, b.left+now.Sub(b.at).Seconds()*t.rate)
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	t.m[k] = b
	return ok
}

// sweep forgets buckets that are full again.
func (t *tokens[K]) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, b := range t.m {
		if now.Sub(b.at) > bucketsKeep {
			delete(t.m, k)
		}
	}
}
