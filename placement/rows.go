package placement

import (
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	shardBits  = 10
	shardCount = 1 << shardBits
	rowWords   = 4 // 32 bytes: two rows to a cache line
	minRows    = 8
)

// The four words of a row. An epoch of 0 marks an empty place.
const (
	wordState = iota
	wordEpoch
	wordRefs // app slot << 32 | instance slot
	wordMore // taint slot << 8 | flags
)

type rowFlags uint8

const (
	flagPending rowFlags = 1 << iota
	flagTentative

	allFlags = flagPending | flagTentative
)

// stored is a row as the shards keep it.
type stored struct {
	state    wire.StateID
	epoch    wire.Epoch
	app      uint32
	instance uint32
	taint    uint32
	flags    rowFlags
}

// shard is one of the 1,024 parts of the rows: an open-addressing table with linear probing in one block of words
// without pointers. There is one writer. Readers take no lock: version is odd while words are being changed, and who
// saw it change reads again. A block that was replaced (grown, or copied because a snapshot reads it) is never written
// again, so whoever still reads it sees the rows of a moment ago.
type shard struct {
	version atomic.Uint64
	words   atomic.Pointer[[]uint64]
	used    int  // the writer's
	shared  bool // the writer's: a snapshot reads words, so copy before changing
}

// seed keys the hash of rows: states are chosen by clients, and whoever could aim at one shard could slow it down.
type seed struct{ a, b uint64 }

// hash mixes a state with the first bytes of its app's id. It is the same on every node, so that snapshots are.
func (s seed) hash(app uint64, state wire.StateID) uint64 {
	hi, lo := bits.Mul64(uint64(state)^s.a, app^s.b|1)
	hi, lo = bits.Mul64(hi^lo^s.b, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func shardOf(hash uint64) int { return int(hash >> (64 - shardBits)) }

// home returns the place among n where a row with this hash belongs.
func home(hash uint64, n int) int {
	hi, _ := bits.Mul64(hash<<shardBits, uint64(n))
	return int(hi)
}

// load reads the row at place i. Its fields may belong to different moments unless version stood still.
func load(words []uint64, i int) stored {
	w := words[i*rowWords : i*rowWords+rowWords : i*rowWords+rowWords]
	refs := atomic.LoadUint64(&w[wordRefs])
	more := atomic.LoadUint64(&w[wordMore])
	return stored{
		state:    wire.StateID(atomic.LoadUint64(&w[wordState])),
		epoch:    wire.Epoch(atomic.LoadUint64(&w[wordEpoch])),
		app:      uint32(refs >> 32),
		instance: uint32(refs),
		taint:    uint32(more >> 8),
		flags:    rowFlags(more),
	}
}

func store(words []uint64, i int, r stored) {
	w := words[i*rowWords : i*rowWords+rowWords : i*rowWords+rowWords]
	atomic.StoreUint64(&w[wordState], uint64(r.state))
	atomic.StoreUint64(&w[wordEpoch], uint64(r.epoch))
	atomic.StoreUint64(&w[wordRefs], uint64(r.app)<<32|uint64(r.instance))
	atomic.StoreUint64(&w[wordMore], uint64(r.taint)<<8|uint64(r.flags))
}

// search finds the row of (app, state) in words, or the empty place where its run ends.
func search(words []uint64, hash uint64, app uint32, state wire.StateID) (place int, row stored, ok bool) {
	n := len(words) / rowWords
	i := home(hash, n)
	for range n {
		w := words[i*rowWords : i*rowWords+rowWords : i*rowWords+rowWords]
		if atomic.LoadUint64(&w[wordEpoch]) == 0 {
			return i, stored{}, false
		}
		if atomic.LoadUint64(&w[wordState]) == uint64(state) && uint32(atomic.LoadUint64(&w[wordRefs])>>32) == app {
			return i, load(words, i), true
		}
		if i++; i == n {
			i = 0
		}
	}
	return -1, stored{}, false
}

func (s *shard) block() []uint64 {
	if p := s.words.Load(); p != nil {
		return *p
	}
	return nil
}

// peek returns the row of (app, state) and the version it was read at; it stands if settled(version) afterwards.
func (s *shard) peek(hash uint64, app uint32, state wire.StateID) (row stored, ok bool, version uint64) {
	version = s.version.Load()
	if words := s.block(); words != nil && version&1 == 0 {
		_, row, ok = search(words, hash, app, state)
	}
	return row, ok, version
}

// settled reports whether nothing has been changed since version, nor was being changed then.
func (s *shard) settled(version uint64) bool { return version&1 == 0 && s.version.Load() == version }

// yield is called between tries of a reader: the writer may have been interrupted in the middle of a change.
func yield(try int) {
	if try >= 16 {
		runtime.Gosched()
	}
}

// get returns the row of (app, state). The writer's.
func (s *shard) get(hash uint64, app uint32, state wire.StateID) (stored, bool) {
	words := s.block()
	if words == nil {
		return stored{}, false
	}
	_, row, ok := search(words, hash, app, state)
	return row, ok
}

// put adds or replaces a row.
func (s *shard) put(c *content, r stored) {
	hash := c.hashOf(r)
	words := s.own()
	place, _, found := -1, stored{}, false
	if words != nil {
		place, _, found = search(words, hash, r.app, r.state)
	}
	if !found {
		if n := len(words) / rowWords; 4*(s.used+1) > 3*n {
			words = s.resize(c, max(minRows, n+n/2))
			place, _, _ = search(words, hash, r.app, r.state)
		}
		s.used++
	}
	s.version.Add(1)
	store(words, place, r)
	s.version.Add(1)
}

// remove takes a row out and closes the hole, so that no run is interrupted.
func (s *shard) remove(c *content, gone stored) {
	words := s.own()
	place, _, ok := search(words, c.hashOf(gone), gone.app, gone.state)
	if !ok {
		return
	}
	n := len(words) / rowWords
	s.version.Add(1)
	hole := place
	for i := (place + 1) % n; ; i = (i + 1) % n {
		r := load(words, i)
		if r.epoch == 0 {
			break
		}
		at := home(c.hashOf(r), n)
		if (i-at+n)%n >= (i-hole+n)%n { // its home is not between the hole and where it is
			store(words, hole, r)
			hole = i
		}
	}
	store(words, hole, stored{})
	s.version.Add(1)
	if s.used--; n > 4*minRows && 4*s.used < n {
		s.resize(c, n/2)
	}
}

// own returns the block for changing it in place.
func (s *shard) own() []uint64 {
	words := s.block()
	if s.shared {
		words = slices.Clone(words)
		s.words.Store(&words)
		s.shared = false
	}
	return words
}

// resize moves the rows to a new block of n places.
func (s *shard) resize(c *content, n int) []uint64 {
	old := s.block()
	words := make([]uint64, n*rowWords)
	for i := range len(old) / rowWords {
		if r := load(old, i); r.epoch != 0 {
			place, _, _ := search(words, c.hashOf(r), r.app, r.state)
			store(words, place, r)
		}
	}
	s.words.Store(&words)
	s.shared = false
	return words
}

// each calls f for every row of a block that is not being written.
func each(words []uint64, f func(stored)) {
	for i := range len(words) / rowWords {
		if r := load(words, i); r.epoch != 0 {
			f(r)
		}
	}
}
