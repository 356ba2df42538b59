package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
)

const (
	headBuffer    = 4 << 10  // a Reader's buffer before a session
	sessionBuffer = 16 << 10 // and in one
	tlsRecord     = 0x16     // the first byte of TLS
)

// visit is a connection that has not said what it wants, or not proved that it may have it. It lives in a goroutine of
// its own, which has ended when the session begins: its stack has grown by then.
type visit struct {
	srv  *Server
	pc   *pipe.Conn
	nc   net.Conn // pc, or TLS over it
	rd   *pipe.Reader
	addr netip.Addr
	kept bool // someone else goes on with the connection, and will call departed
	web  bool // it is the HTTP server, and the visit lasts as long as the connection
}

func (v *visit) run(ctx context.Context, serve func(*visit, context.Context)) {
	defer v.srv.running.Done()
	defer v.leave()
	_ = v.pc.SetReadDeadline(time.Now().Add(v.srv.cfg.Handshake))
	serve(v, ctx)
}

func (v *visit) leave() {
	if r := recover(); r != nil {
		v.srv.panicked(r)
		v.srv.count.failed.add(whyPanic)
	}
	v.settled()
	if v.rd != nil {
		v.rd.Discard(len(v.rd.Buffered()))
	}
	if !v.web {
		v.forget()
	}
	if !v.kept {
		_ = v.pc.Close()
		v.srv.departed(v.addr)
	}
}

// forget takes the visit off the list of those to be closed at the end.
func (v *visit) forget() {
	v.srv.mu.Lock()
	defer v.srv.mu.Unlock()
	delete(v.srv.visits, v)
}

// settled says that the client has said what it wants: the rest is not up to it.
func (v *visit) settled() {
	v.srv.mu.Lock()
	delete(v.srv.half, v)
	v.srv.mu.Unlock()
}

// fail counts why a connection did not become a session.
func (v *visit) fail(reason string) { v.srv.count.failed.add(reason) }

// secure finds out by the first byte whether the client speaks TLS and does the handshake. plain says whether it may do
// without.
func (v *visit) secure(cfg *tls.Config, plain bool) (ok bool) {
	if cfg != nil {
		first, err := v.pc.PeekByte()
		if err != nil {
			v.fail("silent")
			return false
		}
		if first == tlsRecord {
			tc := tls.Server(v.pc, cfg)
			if err := tc.Handshake(); err != nil {
				v.fail("tls")
				return false
			}
			v.nc = tc
			plain = true
		}
	}
	v.rd = pipe.NewReader(v.nc, headBuffer)
	if !plain {
		v.fail("plain")
	}
	return plain
}

// bye sends what was written, then the end of the stream, and waits for the client's.
func (v *visit) bye() {
	pipe.NewWriter(v.nc).CloseAfterFlush(v.srv.cfg.Linger)
	_ = v.pc.SetReadDeadline(time.Now().Add(v.srv.cfg.Linger))
	for b, err := v.rd.Buffered(), error(nil); err == nil; b, err = v.rd.Fill(1) {
		v.rd.Discard(len(b))
	}
}

// session makes the session that the connection may become. Its Reader has larger buffers and what was read already; what
// lies in the visit's own buffer must not be touched afterwards.
func (v *visit) session(proto protocol) *session {
	s := &session{srv: v.srv, pc: v.pc, addr: v.addr, proto: proto, slot: -1}
	s.rd = pipe.NewReader(v.nc, sessionBuffer)
	s.rd.Unread(v.rd.Buffered())
	v.rd.Discard(len(v.rd.Buffered()))
	s.w = pipe.NewWriter(v.nc)
	s.life.Store(lifeBusy)
	return s
}
