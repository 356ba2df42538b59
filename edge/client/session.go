package client

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// life is what the sweep knows of a session's reader.
type life = uint32

const (
	lifeSilent life = iota // waiting, and nothing was read since the last sweep
	lifeHeard              // waiting, and something was read
	lifeBusy               // not waiting: it parses, or its Seat holds it back, and the clocks stand still
)

// unreliableMark is how many bytes may wait for a client before unreliable messages to it are dropped.
const unreliableMark = 64 << 10

// session is one client connection in one state. Its reader is one goroutine that waits with a small stack and without
// a buffer; everything towards the client goes through w, from any goroutine. It implements Out.
type session struct {
	srv    *Server
	pc     *pipe.Conn // rd and w stand on it, or on TLS over it
	rd     *pipe.Reader
	w      *pipe.Writer
	seat   Seat
	native *stream     // protoWSNative, protoTCPNative
	first  *firstChunk // protoTCP
	in     frames      // protoWS, protoWSNative
	addr   netip.Addr
	app    wire.AppID // counted against the app's limit once seated
	max    int        // bytes of a message
	unread int        // bytes of the handshake that the reader still holds
	slot   int32      // place in the wheel, -1 when not there

	proto   protocol
	ack     ack  // what Registered says
	quiet   bool // TCP keepalive instead of pings
	missed  uint8
	renewed bool // the next reader goroutine takes over; the reader's own, like the next two
	handed  bool // the seat was given something since the last Drained
	reply   bool // something was queued that nobody else will flush

	life   atomic.Uint32
	grown  atomic.Bool   // the reader's stack has carried a message
	renew  atomic.Bool   // the sweep asks for a reader with a fresh stack
	closed atomic.Uint32 // the code of the first Close, 0 while open
	why    atomic.Pointer[string]
	state  wire.StateID
}

// ack is what a client is told when it is registered.
type ack uint8

const (
	ackNone  ack = iota // revisions C and E, joins of A and B
	ackEmpty            // revision D: one empty binary message
	ackState            // creates of A and B: the state's id as text
)

// Reasons for the end of a session that are no wire.Code.
const (
	whyGone   = "gone"   // the connection ended without a goodbye
	whyClient = "client" // the client said goodbye
	whyIdle   = "idle"   // nothing was heard for two pings
	whySlow   = "slow"   // it did not take what was sent to it
	whyPanic  = "panic"
	whyOwn    = "own_code" // the backend closed it with a code of its own
)

// Registered tells the client that it has arrived, in the way of its protocol.
func (s *session) Registered() {
	b := s.w.Acquire()
	switch {
	case s.closed.Load() != 0:
	case s.native != nil:
		b = s.native.appendConnected(b, s)
	case s.ack == ackEmpty:
		b = appendFrameHead(b, ws.OpBinary, 0)
	case s.ack == ackState:
		b = appendMessage(b, ws.OpText, s.state.String())
	}
	s.w.Release(b)
	if s.first != nil {
		s.first.begin(s)
	}
	s.Flush()
}

// Deliver queues one message.
func (s *session) Deliver(payload []byte, unreliable bool) {
	if s.first != nil && s.first.take(s, payload) {
		return
	}
	b := s.w.Acquire()
	if s.closed.Load() != 0 {
		s.w.Release(b)
		return
	}
	if unreliable && len(b)+s.pc.Pending() > unreliableMark {
		s.w.Release(b)
		s.srv.count.unreliable.Add(1)
		return
	}
	switch s.proto {
	case protoWS:
		b = appendMessage(b, ws.OpBinary, payload)
	case protoTCP:
		b = hathora.AppendServerFrame(pipe.Grow(b, 4+len(payload)), payload)
	default:
		b = s.native.appendData(b, s.proto, payload, unreliable)
	}
	s.w.Release(b)
}

// Acked tells a native client that its messages up to seq have been taken.
func (s *session) Acked(seq uint64) {
	if s.native == nil {
		return
	}
	s.native.acked.Store(seq)
	s.control(&wire.Frame{Type: wire.Ack, Seq: seq})
}

// control queues one native frame.
func (s *session) control(f *wire.Frame) {
	b := s.w.Acquire()
	if s.closed.Load() == 0 {
		b = s.native.append(b, s.proto, f)
	}
	s.w.Release(b)
}

// Flush sends what is queued. The outcome is left to the reader: a connection that cannot be written to ends there.
func (s *session) Flush() { _ = s.w.Flush() }

// Queued is how many bytes wait for the client.
func (s *session) Queued() int { return s.w.Queued() }

// Close tells the client why, once, and ends the connection after what is queued. A code that no close frame may carry,
// and a reason that is not text, come from a backend: the first becomes 1000, the second is mended.
func (s *session) Close(code wire.Code, reason string) {
	if !code.Sendable() {
		code = wire.CodeNormal
	}
	why := code.String()
	if !code.Known() {
		why = whyOwn // backends have thousands to choose from, and labels must be few
	}
	s.end(code, strings.ToValidUTF8(reason, "\ufffd"), why)
}

// end closes with a counted reason of its own.
func (s *session) end(code wire.Code, reason, why string) {
	if reason == "" {
		reason = code.Reason()
	}
	b := s.w.Acquire()
	if !s.closed.CompareAndSwap(0, uint32(code)) {
		s.w.Release(b)
		return
	}
	s.why.Store(&why)
	if s.native != nil {
		b = s.native.append(b, s.proto, &wire.Frame{
			Type: wire.Close, Seq: s.native.sent + 1, Code: code, Payload: []byte(reason),
		})
	}
	if s.proto == protoWS || s.proto == protoWSNative {
		b = appendClose(b, code, reason)
	}
	s.w.Release(b)
	s.w.CloseAfterFlush(s.srv.cfg.Linger)
}

// run is the reader. The chain of calls in which it waits is kept short, so that its stack stays at the 2 KiB that a
// goroutine begins with; what handles messages is called, and returns, before it waits.
func (s *session) run() {
	defer s.leave()
	if s.native != nil && !s.early() {
		return
	}
	for {
		need, ok := s.consume()
		if !ok {
			return
		}
		s.life.Store(lifeHeard)
		_, err := s.rd.Fill(need)
		if err != nil {
			if s.fresh(err) {
				return
			}
			break
		}
		s.life.Store(lifeBusy)
	}
}

// fresh hands the session to a new goroutine with a small stack when the sweep has asked for that, which is when the
// session fell silent after it was used.
func (s *session) fresh(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || !s.renew.Swap(false) {
		return false
	}
	s.renewed = true
	s.grown.Store(false)
	_ = s.pc.SetReadDeadline(time.Time{})
	return true
}

// leave ends a session: whatever happened, the Seat is left once, and the connection closed.
func (s *session) leave() {
	if r := recover(); r != nil {
		s.srv.panicked(r)
		s.end(wire.CodeInternal, "", whyPanic)
	}
	if s.renewed {
		s.renewed = false
		go s.run()
		return
	}
	s.life.Store(lifeBusy)
	s.srv.wheel.remove(s)
	s.depart()
	s.hangUp()
}

// depart tells the router, which must not take the connection with it if it panics.
func (s *session) depart() {
	defer func() {
		if r := recover(); r != nil {
			s.srv.panicked(r)
		}
	}()
	if s.seat != nil {
		s.seat.Leave()
	}
}

// hangUp waits for the client to close as well, if there was a goodbye, and gives everything back.
func (s *session) hangUp() {
	if s.closed.Load() != 0 {
		_ = s.pc.SetReadDeadline(time.Now().Add(s.srv.cfg.Linger))
		for b, err := s.rd.Buffered(), error(nil); err == nil; b, err = s.rd.Fill(1) {
			s.rd.Discard(len(b))
		}
	}
	why := s.reason()
	_ = s.pc.Close()
	s.rd.Discard(len(s.rd.Buffered()))
	s.in.release()
	if s.first != nil {
		s.first.stop()
	}
	if s.native != nil {
		s.native.release()
	}
	if s.seat != nil {
		s.srv.count.closed.add(why)
		s.srv.limits.leaveApp(s.app)
		s.srv.count.sessions[s.proto].Add(-1)
	}
	s.srv.departed(s.addr)
}

// reason is why the session ended, for the counter.
func (s *session) reason() string {
	if errors.Is(s.pc.Err(), pipe.ErrSlow) {
		return whySlow
	}
	if why := s.why.Load(); why != nil {
		return *why
	}
	return whyGone
}

// consume handles every whole message that is there and returns how many unread bytes it takes to go on; false ends
// the session.
func (s *session) consume() (need int, ok bool) {
	if s.closed.Load() != 0 {
		return 0, false
	}
	var used int
	switch s.proto {
	case protoWS, protoWSNative:
		used, need, ok = s.consumeFrames()
	case protoTCP:
		used, need, ok = s.consumeTCP()
	default:
		used, need, ok = s.consumeNative()
	}
	s.rd.Discard(used)
	s.settle()
	return need, ok && s.closed.Load() == 0
}

// settle flushes what the input has caused.
func (s *session) settle() {
	if s.handed {
		s.handed = false
		s.seat.Drained()
	}
	if s.reply {
		s.reply = false
		s.Flush()
	}
}

// down hands one message to the seat; false ends the session.
func (s *session) down(payload []byte, unreliable bool) bool {
	s.handed = true
	if !s.grown.Load() {
		s.grown.Store(true)
	}
	if err := s.seat.Down(payload, unreliable); err != nil {
		s.Close(wire.CodeGoingAway, "")
		return false
	}
	return true
}
