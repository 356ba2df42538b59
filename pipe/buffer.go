package pipe

import "sync"

// Buffer classes. The pools hold array pointers, because those fit an
// interface without an allocation of their own.
const (
	class1K   = 1 << 10
	class4K   = 4 << 10
	class16K  = 16 << 10
	class64K  = 64 << 10
	class256K = 256 << 10
	class1M   = 1 << 20
)

var (
	pool1K   = sync.Pool{New: func() any { return new([class1K]byte) }}
	pool4K   = sync.Pool{New: func() any { return new([class4K]byte) }}
	pool16K  = sync.Pool{New: func() any { return new([class16K]byte) }}
	pool64K  = sync.Pool{New: func() any { return new([class64K]byte) }}
	pool256K = sync.Pool{New: func() any { return new([class256K]byte) }}
	pool1M   = sync.Pool{New: func() any { return new([class1M]byte) }}
)

// TakeBuffer returns an empty buffer with room for at least n bytes. Up to
// 1 MiB it comes from a pool; above that it is made and left to the collector.
// The contents between len and cap are arbitrary.
func TakeBuffer(n int) []byte {
	switch {
	case n <= class1K:
		return pool1K.Get().(*[class1K]byte)[:0]
	case n <= class4K:
		return pool4K.Get().(*[class4K]byte)[:0]
	case n <= class16K:
		return pool16K.Get().(*[class16K]byte)[:0]
	case n <= class64K:
		return pool64K.Get().(*[class64K]byte)[:0]
	case n <= class256K:
		return pool256K.Get().(*[class256K]byte)[:0]
	case n <= class1M:
		return pool1M.Get().(*[class1M]byte)[:0]
	}
	return make([]byte, 0, n)
}

// ReturnBuffer gives a buffer back; the caller must not touch it afterwards.
// A buffer that append has moved to memory of another size is simply dropped,
// and nil is allowed. It must start where TakeBuffer's did.
func ReturnBuffer(b []byte) {
	switch cap(b) {
	case class1K:
		pool1K.Put((*[class1K]byte)(b[:class1K]))
	case class4K:
		pool4K.Put((*[class4K]byte)(b[:class4K]))
	case class16K:
		pool16K.Put((*[class16K]byte)(b[:class16K]))
	case class64K:
		pool64K.Put((*[class64K]byte)(b[:class64K]))
	case class256K:
		pool256K.Put((*[class256K]byte)(b[:class256K]))
	case class1M:
		pool1M.Put((*[class1M]byte)(b[:class1M]))
	}
}

// Grow returns b with room for n more bytes. When it has to move them it takes
// a buffer at least twice as large from the pool and returns the old one, so
// callers that grow before they append make no garbage up to 1 MiB.
func Grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	moved := append(TakeBuffer(max(len(b)+n, 2*cap(b))), b...)
	ReturnBuffer(b)
	return moved
}
