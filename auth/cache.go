package auth

import (
	"crypto/ed25519"
	"sync"
)

// cached is a checked token without the token itself.
type cached struct {
	verified Verified
	kid      string
	key      [ed25519.PublicKeySize]byte
}

// slot is one place of the cache.
type slot struct {
	sum  [32]byte
	used bool // since the hand passed last
	cached
}

// tokenCache remembers a bounded number of checked tokens by their SHA-256. When
// it is full, a hand goes round and takes the place of the first token that was
// not used since it came by last.
type tokenCache struct {
	max int

	mu    sync.Mutex
	index map[[32]byte]int
	slots []slot
	hand  int
}

func newTokenCache(max int) *tokenCache {
	return &tokenCache{max: max, index: make(map[[32]byte]int)}
}

// get returns a copy of the token's entry.
func (c *tokenCache) get(sum [32]byte) (cached, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.index[sum]
	if !ok {
		return cached{}, false
	}
	c.slots[i].used = true
	return c.slots[i].cached, true
}

// put remembers the token, in place of another when the cache is full.
func (c *tokenCache) put(sum [32]byte, e cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.index[sum]; ok {
		return
	}
	if len(c.slots) < c.max {
		c.index[sum] = len(c.slots)
		c.slots = append(c.slots, slot{sum: sum, cached: e})
		return
	}
	for c.slots[c.hand].used {
		c.slots[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.slots)
	}
	delete(c.index, c.slots[c.hand].sum)
	c.slots[c.hand] = slot{sum: sum, cached: e}
	c.index[sum] = c.hand
	c.hand = (c.hand + 1) % len(c.slots)
}

// drop forgets the token; the last slot takes its place.
func (c *tokenCache) drop(sum [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.index[sum]
	if !ok {
		return
	}
	last := len(c.slots) - 1
	c.slots[i] = c.slots[last]
	c.index[c.slots[i].sum] = i
	c.slots[last] = slot{}
	c.slots = c.slots[:last]
	delete(c.index, sum)
	if c.hand >= last {
		c.hand = 0
	}
}

func (c *tokenCache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}
