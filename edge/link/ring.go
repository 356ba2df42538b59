package link

// ring keeps what was written and not yet acknowledged. Positions count all bytes ever written to the stream.
type ring struct {
	buf   []byte
	head  int    // of the oldest byte in buf
	acked uint64 // position of the oldest byte
	end   uint64 // position after the newest
}

const ringLeast = 16 << 10

func (r *ring) len() int { return int(r.end - r.acked) }

// write appends p; the caller has compared with the limit.
func (r *ring) write(p []byte) {
	if len(p) == 0 {
		return
	}
	if need := r.len() + len(p); need > len(r.buf) {
		r.grow(need)
	}
	at := (r.head + r.len()) % len(r.buf)
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.end += uint64(len(p))
}

func (r *ring) grow(need int) {
	size := max(2*len(r.buf), ringLeast)
	for size < need {
		size *= 2
	}
	buf := make([]byte, size)
	r.read(buf[:r.len()], r.acked)
	r.buf, r.head = buf, 0
}

// read copies bytes from a position on; they are there.
func (r *ring) read(p []byte, from uint64) {
	if len(p) == 0 {
		return
	}
	at := (r.head + int(from-r.acked)) % len(r.buf)
	n := copy(p, r.buf[at:])
	copy(p[n:], r.buf)
}

// ack forgets what is before a position.
func (r *ring) ack(to uint64) {
	n := int(to - r.acked)
	r.acked = to
	if r.len() == 0 {
		r.head = 0
		return
	}
	r.head = (r.head + n) % len(r.buf)
}

// rest gives memory back when nothing is kept in it.
func (r *ring) rest() {
	if r.len() == 0 {
		r.buf, r.head = nil, 0
	}
}
