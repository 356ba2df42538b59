package placement

import "sort"

// maxChanges bounds how far back Changes can tell.
const maxChanges = 1 << 16

// history is a ring of the last changes, in the order of their indices.
type history struct {
	ring  []Change
	next  int    // where the next one goes once the ring is full
	since uint64 // changes after this index are all here
}

// add appends the changes of one entry.
func (h *history) add(changes []Change) {
	for _, ch := range changes {
		if len(h.ring) < maxChanges {
			h.ring = append(h.ring, ch)
			continue
		}
		h.since = h.ring[h.next].Index
		h.ring[h.next] = ch
		h.next = (h.next + 1) % maxChanges
	}
}

// reset forgets everything: whoever asks for changes before index has to look at the whole table.
func (h *history) reset(index uint64) { *h = history{since: index} }

func (h *history) at(i int) *Change { return &h.ring[(h.next+i)%len(h.ring)] }

func (h *history) after(since uint64, dst []Change) ([]Change, bool) {
	if since < h.since {
		return dst, false
	}
	n := len(h.ring)
	for i := sort.Search(n, func(i int) bool { return h.at(i).Index > since }); i < n; i++ {
		dst = append(dst, *h.at(i))
	}
	return dst, true
}
