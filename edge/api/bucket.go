package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxBuckets is how many addresses are remembered at one time.
const maxBuckets = 1 << 16

// bucket holds what an address may still do, and when that was computed.
type bucket struct {
	tokens float64
	at     time.Time
}

// buckets limits how often addresses do something: an IPv4 address or an IPv6
// /64 each has its own bucket. Full buckets are forgotten when room is needed.
type buckets struct {
	rate, burst float64

	mu sync.Mutex
	of map[netip.Prefix]bucket
}

func newBuckets(rate, burst float64) *buckets {
	return &buckets{rate: rate, burst: max(1, burst), of: make(map[netip.Prefix]bucket)}
}

// take reports whether the address may do it once more.
func (b *buckets) take(addr netip.Addr, now time.Time) bool {
	bits := 64
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = 32
	}
	who, _ := addr.Prefix(bits) // an address that is none shares one bucket
	b.mu.Lock()
	defer b.mu.Unlock()
	have, ok := b.of[who]
	if !ok {
		if len(b.of) >= maxBuckets {
			b.makeRoom(now)
		}
		have = bucket{tokens: b.burst, at: now}
	}
	have = bucket{tokens: b.filled(have, now), at: now}
	allowed := have.tokens >= 1
	if allowed {
		have.tokens--
	}
	b.of[who] = have
	return allowed
}

func (b *buckets) filled(have bucket, now time.Time) float64 {
	return min(b.burst, have.tokens+b.rate*max(0, now.Sub(have.at).Seconds()))
}

// makeRoom forgets the buckets that are full again, and some of the others if
// that is not enough, so that the next call has not to go through all of them.
func (b *buckets) makeRoom(now time.Time) {
	for who, have := range b.of {
		if b.filled(have, now) >= b.burst {
			delete(b.of, who)
		}
	}
	for who := range b.of {
		if len(b.of) <= maxBuckets-maxBuckets/8 {
			return
		}
		delete(b.of, who)
	}
}

// remote returns the address of the connection. Headers that name another are not
// looked at: anybody can write them.
func remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
