package client

import (
	"sync"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// consumeTCP handles the frames of the legacy TCP protocol that are there.
func (s *session) consumeTCP() (used, need int, ok bool) {
	b := s.rd.Buffered()
	for {
		body, n, err := hathora.SplitFrame(b[used:], s.max+5)
		if err != nil {
			s.Close(wire.CodeTooBig, "")
			return used, 0, false
		}
		if n == 0 {
			size, _ := hathora.FrameSize(b[used:])
			return used, max(size, 4), true
		}
		used += n
		kind, payload, err := hathora.DecodeClientFrame(body)
		if err != nil {
			s.Close(wire.CodeProtocol, "")
			return used, 0, false
		}
		if kind == hathora.ClientData && !s.down(payload, false) {
			return used, 0, false
		}
	}
}

// firstChunk governs the beginning of the stream to a legacy TCP client, whose SDK takes the first chunk that it reads
// for one message without a frame (hathora.FirstChunk): nothing is written until there is a first message or FirstWait
// is over, then that alone, then nothing for FirstPause, then frames.
type firstChunk struct {
	mu    sync.Mutex
	phase firstPhase
	later []byte // frames that wait for the end of the pause; pooled
	timer func() bool
}

type firstPhase uint8

const (
	firstAwait firstPhase = iota // nothing has been written
	firstPause                   // the first chunk is out
	firstOver
)

// begin starts the wait for the first message.
func (f *firstChunk) begin(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == firstAwait && f.timer == nil {
		f.timer = s.srv.d.Clock.AfterFunc(s.srv.cfg.FirstWait, func() { f.open(s, nil) })
	}
}

// take reports whether it has dealt with a message: written it, or kept it for the end of the pause. Otherwise the
// stream is in its normal course.
func (f *firstChunk) take(s *session, message []byte) bool {
	if f.open(s, message) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase == firstOver {
		return false
	}
	if len(f.later)+len(message) > max(s.srv.cfg.MaxQueue, s.max) {
		defer s.end(wire.CodeSlow, "", whySlow)
		return true
	}
	f.later = hathora.AppendServerFrame(pipe.Grow(f.later, 4+len(message)), message)
	return true
}

// open writes the first chunk if that has not been done: message itself or, in its place, a zero. sent says that the
// message is on its way.
func (f *firstChunk) open(s *session, message []byte) (sent bool) {
	f.mu.Lock()
	if f.phase != firstAwait {
		f.mu.Unlock()
		return false
	}
	f.phase = firstPause
	if f.timer != nil {
		f.timer()
	}
	f.timer = s.srv.d.Clock.AfterFunc(s.srv.cfg.FirstPause, func() { f.finish(s) })
	f.mu.Unlock()

	chunk, sent := hathora.FirstChunk(message)
	b := s.w.Acquire()
	if s.closed.Load() == 0 {
		b = append(pipe.Grow(b, len(chunk)), chunk...)
	}
	s.w.Release(b)
	s.Flush()
	return sent
}

// finish ends the pause and releases what was kept.
func (f *firstChunk) finish(s *session) {
	f.mu.Lock()
	f.phase = firstOver
	b := s.w.Acquire()
	if s.closed.Load() == 0 {
		b = append(pipe.Grow(b, len(f.later)), f.later...)
	}
	s.w.Release(b)
	pipe.ReturnBuffer(f.later)
	f.later = nil
	f.mu.Unlock()
	s.Flush()
}

// stop ends the timer with the session.
func (f *firstChunk) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer()
	}
}
