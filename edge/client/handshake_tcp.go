package client

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

var (
	noDeadline  time.Time
	errBadToken = errors.New("token or its user is too long")
)

// tcp serves one connection of port 7148.
func (v *visit) tcp(ctx context.Context) {
	if !v.secure(v.srv.tcpTLS, v.srv.plainFrom(v.addr)) {
		return
	}
	b, err := v.rd.Fill(len(wire.Magic))
	if err != nil {
		v.fail("silent")
		return
	}
	if string(b[:len(wire.Magic)]) == wire.Magic {
		v.joinNative(ctx, v.session(protoTCPNative))
		return
	}
	for need := 1; ; need = len(b) + 1 {
		if b, err = v.rd.Fill(need); err != nil {
			v.fail("silent")
			return
		}
		h, n, err := hathora.ParseTCPHandshake(b)
		if err != nil || n > 0 && len(h.Token) < hathora.MinToken || n == 0 && len(b) > hathora.MaxTCPHandshake {
			v.fail("bad_request")
			return
		}
		if n > 0 {
			v.joinTCP(ctx, h, n)
			return
		}
	}
}

// joinTCP seats a client of the legacy TCP protocol, which has no close codes: whatever is wrong, the connection ends.
func (v *visit) joinTCP(ctx context.Context, h hathora.TCPHandshake, n int) {
	app, err := wire.ParseAppID(string(h.App))
	token := bytes.Clone(h.Token) // the session has a buffer of its own; the one that h lies in goes to somebody else
	s := v.session(protoTCP)
	s.unread, s.quiet, s.first = n, true, &firstChunk{}
	if err != nil {
		v.refuse(s, wire.CodeBadToken, "")
		return
	}
	s.app = app
	if who, ok := v.identify(s, token); ok {
		v.join(ctx, s, who, h.State, "tcp")
	}
}

// plainFrom says whether an address may do without TLS on port 7148.
func (s *Server) plainFrom(addr netip.Addr) bool {
	for _, p := range s.cfg.PlainFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// joinNative reads hello and Connect frame, on either kind of connection.
func (v *visit) joinNative(ctx context.Context, s *session) {
	s.native = &stream{answer: wire.OurHello()}
	if s.proto == protoWSNative {
		v.greet(s, func(in frame) {
			n := v.connect(ctx, s, in.payload, true)
			if n == 0 {
				v.refuse(s, wire.CodeProtocol, "The first message has no whole Connect frame")
			}
		})
		return
	}
	for need := wire.HelloSize + 4; ; need++ {
		b, err := s.rd.Fill(need)
		if err != nil {
			v.silent(s)
			return
		}
		if n := v.connect(ctx, s, b, false); n > 0 {
			return
		}
		need = max(need, len(b))
	}
}

// connect takes hello and Connect frame from b and goes on with them. It returns how many bytes they take, or 0 when
// more are needed. whole says that b is a message: what follows in it is kept.
func (v *visit) connect(ctx context.Context, s *session, b []byte, whole bool) (n int) {
	var f wire.Frame
	var body wire.ConnectBody
	hello, k, err := wire.ParseHello(b)
	if err == nil && k == 0 {
		return 0
	}
	if err == nil {
		var frame []byte
		if frame, n, err = wire.SplitFrame(b[k:], wire.MaxFrame); err == nil && n == 0 {
			return 0
		}
		if err == nil {
			err = f.Decode(frame)
		}
	}
	if err == nil && f.Type != wire.Connect {
		err = wire.ErrType
	}
	if err == nil {
		err = body.Decode(f.Payload)
	}
	n += k
	answer, mismatch := wire.OurHello().Answer(hello)
	switch {
	case errors.Is(err, wire.ErrVersion) || err == nil && mismatch != nil:
		v.refuse(s, wire.CodeVersion, "")
		return max(n, 1)
	case err != nil:
		v.refuse(s, wire.CodeProtocol, err.Error())
		return max(n, 1)
	}
	s.native.answer = answer
	if whole {
		s.native.early = append(s.native.early, b[n:]...)
	} else {
		s.unread = n
	}
	v.connectAs(ctx, s, &body, f.Flags&wire.Resumed != 0)
	return n
}

// connectAs checks what a Connect frame says and joins.
func (v *visit) connectAs(ctx context.Context, s *session, body *wire.ConnectBody, resumed bool) {
	if !body.App.IsZero() {
		if !s.app.IsZero() && s.app != body.App {
			v.refuse(s, wire.CodeBadToken, "Two apps are named")
			return
		}
		s.app = body.App
	}
	who, ok := v.identify(s, body.Token)
	if !ok {
		return
	}
	st := s.native
	st.id, st.user, st.resumed, st.expect = body.Stream, who.User, resumed, max(body.Next, 1)
	if resumed {
		st.sent = body.Seen
	}
	st.expiresAt(who.Expires)
	v.joinText(ctx, s, who, string(body.State), "native")
}
