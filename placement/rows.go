package placement

import (
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/wire"
)

const (
	shardBits  = 10
	shardCount = 1 << shardBits
	rowWords   = 4 // 32 bytes: two rows to a cache line
	groupRows  = 8 // rows that share one word of marks
)

// The four words of a row.
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

// block is an open-addressing table without pointers. Each group of 8 places has a word of 8 marks, one byte each: 0
// for an empty place, else 8 bits of the hash. A row lies in its home group or, if that is full, in the next one that
// has room. A search runs through the marks, which are few enough to stay in the processor's caches, and as a rule
// touches one row only: the right one. Who looks up many states in a row then waits for memory once, not in turn.
type block struct {
	marks []uint64
	rows  []uint64
}

func newBlock(groups int) *block {
	words := make([]uint64, groups*(groupRows*rowWords+1)) // rows first: none lies across two cache lines
	n := groups * groupRows * rowWords
	return &block{rows: words[:n:n], marks: words[n:]}
}

// shard is one of the 1,024 parts of the rows. There is one writer. Readers take no lock: version is odd while the
// block is being changed, and who saw it change reads again. A block that was replaced (grown, or copied because a
// snapshot reads it) is never written again, so whoever still reads it sees the rows of a moment ago.
type shard struct {
	version atomic.Uint64
	block   atomic.Pointer[block]
	used    int  // the writer's
	shared  bool // the writer's: a snapshot reads the block, so copy before changing
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

// home returns the group among n where a row with this hash belongs.
func home(hash uint64, n int) int {
	hi, _ := bits.Mul64(hash<<shardBits, uint64(n))
	return int(hi)
}

// mark is what the marks keep of a hash: bits that neither shardOf nor home depend on much, never 0.
func mark(hash uint64) uint64 { return max(hash&0xff, 1) }

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// zeroBytes has the high bit set of every byte of w that is 0. Above the lowest such byte it may be wrong.
func zeroBytes(w uint64) uint64 { return (w - lowBits) &^ w & highBits }

// load reads the row at a place. Its fields may belong to different moments unless the version stood still.
func (b *block) load(place int) stored {
	w := b.rows[place*rowWords : place*rowWords+rowWords : place*rowWords+rowWords]
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

func (b *block) store(place int, m uint64, r stored) {
	w := b.rows[place*rowWords : place*rowWords+rowWords : place*rowWords+rowWords]
	atomic.StoreUint64(&w[wordState], uint64(r.state))
	atomic.StoreUint64(&w[wordEpoch], uint64(r.epoch))
	atomic.StoreUint64(&w[wordRefs], uint64(r.app)<<32|uint64(r.instance))
	atomic.StoreUint64(&w[wordMore], uint64(r.taint)<<8|uint64(r.flags))
	at, shift := &b.marks[place/groupRows], place%groupRows*8
	atomic.StoreUint64(at, *at&^(0xff<<shift)|m<<shift)
}

// search finds the row of (app, state).
func (b *block) search(hash uint64, app uint32, state wire.StateID) (place int, row stored, ok bool) {
	n := len(b.marks)
	g := home(hash, n)
	for range n {
		marks := atomic.LoadUint64(&b.marks[g])
		for found := zeroBytes(marks ^ mark(hash)*lowBits); found != 0; found &= found - 1 {
			place = g*groupRows + bits.TrailingZeros64(found)/8
			if row = b.load(place); row.state == state && row.app == app && row.epoch != 0 {
				return place, row, true
			}
		}
		if zeroBytes(marks) != 0 {
			break
		}
		if g++; g == n {
			g = 0
		}
	}
	return 0, stored{}, false
}

// vacant returns the first empty place from the home group on. There must be one.
func (b *block) vacant(hash uint64) int {
	n := len(b.marks)
	for g := home(hash, n); ; g = (g + 1) % n {
		if empty := zeroBytes(b.marks[g]); empty != 0 {
			return g*groupRows + bits.TrailingZeros64(empty)/8
		}
	}
}

// each calls f for every row of a block that is not being written.
func (b *block) each(f func(stored)) {
	if b == nil {
		return
	}
	for place := range len(b.marks) * groupRows {
		if b.marks[place/groupRows]>>(place%groupRows*8)&0xff != 0 {
			f(b.load(place))
		}
	}
}

// peek returns the row of (app, state) and the version it was read at; it stands if settled(version) afterwards.
func (s *shard) peek(hash uint64, app uint32, state wire.StateID) (row stored, ok bool, version uint64) {
	version = s.version.Load()
	if b := s.block.Load(); b != nil && version&1 == 0 {
		_, row, ok = b.search(hash, app, state)
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

// get returns the row of (app, state). The writer's, as all below.
func (s *shard) get(hash uint64, app uint32, state wire.StateID) (stored, bool) {
	b := s.block.Load()
	if b == nil {
		return stored{}, false
	}
	_, row, ok := b.search(hash, app, state)
	return row, ok
}

// put adds or replaces a row.
func (s *shard) put(c *content, r stored) {
	hash := c.hashOf(r)
	b := s.own()
	place, _, found := b.search(hash, r.app, r.state)
	if !found {
		if groups := len(b.marks); 8*(s.used+1) > 7*groups*groupRows {
			b = s.resize(c, groups+(groups+1)/2)
		}
		place = b.vacant(hash)
		s.used++
	}
	s.version.Add(1)
	b.store(place, mark(hash), r)
	s.version.Add(1)
}

// remove takes a row out. If its group was full, a row further on that had to pass it takes the place, and so on.
func (s *shard) remove(c *content, gone stored) {
	b := s.own()
	hole, _, ok := b.search(c.hashOf(gone), gone.app, gone.state)
	if !ok {
		return
	}
	n := len(b.marks)
	s.version.Add(1)
	for full := zeroBytes(b.marks[hole/groupRows]) == 0; full; {
		place, ok := b.follower(c, hole/groupRows)
		if !ok {
			break
		}
		r := b.load(place)
		full = zeroBytes(b.marks[place/groupRows]) == 0
		b.store(hole, mark(c.hashOf(r)), r)
		hole = place
	}
	b.store(hole, 0, stored{})
	s.version.Add(1)
	if s.used--; n > 4 && 3*s.used < n*groupRows {
		s.resize(c, n/2)
	}
}

// follower finds a row beyond a full group that a search reaches through that group only.
func (b *block) follower(c *content, group int) (place int, ok bool) {
	n := len(b.marks)
	for g := (group + 1) % n; g != group; g = (g + 1) % n {
		for i := range groupRows {
			if b.marks[g]>>(i*8)&0xff == 0 {
				continue
			}
			at := home(c.hashOf(b.load(g*groupRows+i)), n)
			if (g-at+n)%n >= (g-group+n)%n {
				return g*groupRows + i, true
			}
		}
		if zeroBytes(b.marks[g]) != 0 {
			break
		}
	}
	return 0, false
}

// own returns the block for changing it in place.
func (s *shard) own() *block {
	b := s.block.Load()
	switch {
	case b == nil:
		b = newBlock(1)
	case s.shared:
		fresh := newBlock(len(b.marks))
		copy(fresh.marks, b.marks)
		copy(fresh.rows, b.rows)
		b = fresh
	default:
		return b
	}
	s.block.Store(b)
	s.shared = false
	return b
}

// resize moves the rows to a new block.
func (s *shard) resize(c *content, groups int) *block {
	b := newBlock(groups)
	s.block.Load().each(func(r stored) {
		hash := c.hashOf(r)
		b.store(b.vacant(hash), mark(hash), r)
	})
	s.block.Store(b)
	s.shared = false
	return b
}
