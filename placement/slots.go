package placement

import "sync/atomic"

// slots hands out small numbers for values, so that a row can name its app, instance and taint in 32 bits each.
// One writer; get is safe beside it and takes no lock. Number 0 is never handed out. Numbers are reused and mean
// nothing outside one content: two equal tables may number differently.
type slots[T any] struct {
	list atomic.Pointer[[]atomic.Pointer[T]]
	free []uint32
	next uint32
}

// get returns the value of slot i, nil when it has none.
func (s *slots[T]) get(i uint32) *T {
	list := s.list.Load()
	if list == nil || int(i) >= len(*list) {
		return nil
	}
	return (*list)[i].Load()
}

func (s *slots[T]) add(v *T) uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		s.set(i, v)
		return i
	}
	s.next++
	if list := s.list.Load(); list == nil || int(s.next) >= len(*list) {
		s.grow()
	}
	s.set(s.next, v)
	return s.next
}

// grow publishes a list of twice the size. A reader that still holds the old one sees the values of a moment ago.
func (s *slots[T]) grow() {
	var old []atomic.Pointer[T]
	if list := s.list.Load(); list != nil {
		old = *list
	}
	grown := make([]atomic.Pointer[T], max(16, 2*len(old)))
	for i := range old {
		grown[i].Store(old[i].Load())
	}
	s.list.Store(&grown)
}

func (s *slots[T]) set(i uint32, v *T) { (*s.list.Load())[i].Store(v) }

func (s *slots[T]) drop(i uint32) {
	s.set(i, nil)
	s.free = append(s.free, i)
}

// values returns the value of every slot by number, nil where there is none.
func (s *slots[T]) values() []*T {
	out := make([]*T, s.next+1)
	for i := range out {
		out[i] = s.get(uint32(i))
	}
	return out
}
