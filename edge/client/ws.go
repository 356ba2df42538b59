package client

import (
	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/wire"
)

// consumeFrames handles the WebSocket frames that are there.
func (s *session) consumeFrames() (used, need int, ok bool) {
	b := s.rd.Buffered()
	for {
		in, n, more, code := s.in.next(b[used:])
		switch {
		case code != 0:
			s.Close(code, "")
			return used, 0, false
		case n == 0:
			return used, more, true
		}
		used += n
		if in.op != opNothing && in.op != ws.OpPong && !s.frame(in) {
			return used, 0, false
		}
	}
}

// frame handles a message, or a control frame that is no pong; false ends the session.
func (s *session) frame(in frame) bool {
	switch {
	case in.op == ws.OpPing:
		b := s.w.Acquire()
		if s.closed.Load() == 0 {
			b = appendMessage(b, ws.OpPong, in.payload)
		}
		s.w.Release(b)
		s.reply = true
		return true
	case in.op == ws.OpClose:
		s.goodbye(in.payload)
		return false
	case s.proto == protoWS:
		return s.down(in.payload, false)
	case in.op == ws.OpText:
		s.Close(wire.CodeUnsupported, "Native frames are binary")
		return false
	}
	used, _, ok := s.nativeFrames(in.payload)
	if ok && used < len(in.payload) {
		s.Close(wire.CodeProtocol, "A message ends within a frame")
		return false
	}
	return ok
}

// goodbye answers a client's close frame.
func (s *session) goodbye(payload []byte) {
	code := parseClose(payload)
	if len(payload) > 0 && (code == wire.CodeProtocol || code == wire.CodeBadData) {
		s.Close(code, "")
		return
	}
	s.end(code, "", whyClient)
}

// ping asks a silent client whether it is there.
func (s *session) ping() {
	if s.native != nil {
		s.control(&wire.Frame{Type: wire.Heartbeat})
	} else {
		b := s.w.Acquire()
		if s.closed.Load() == 0 {
			b = appendFrameHead(b, ws.OpPing, 0)
		}
		s.w.Release(b)
	}
	s.Flush()
}
