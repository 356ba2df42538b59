package client

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// upgrade finds out by the URL which revision a WebSocket client speaks and goes on with it.
func (v *visit) upgrade(ctx context.Context, h *head, raw []byte) {
	r, app, room := findRoute(h.path)
	var who Verified
	switch {
	case r == routeNone:
		v.fail("not_found")
		v.answer(http.StatusNotFound, "not_found", "")
		return
	case r == routeRoom:
		var ok bool
		if who, ok = v.urlToken(h.query); !ok {
			return
		}
		app = who.App
	}
	if v.srv.limits.appFull(app) {
		v.srv.count.refused.add("per_app")
		v.answer(http.StatusTooManyRequests, "too_many_connections", "The app has as many connections as it may.")
		return
	}
	origin := h.origin
	native, ok := v.switchProtocols(raw, r == routeConnect)
	if !ok {
		return
	}
	v.rd.Discard(len(raw))
	s := v.session(protoWS)
	s.app, s.in.max = app, hathora.MaxConnect
	switch {
	case native:
		s.proto, s.in.max = protoWSNative, maxNativeMessage
		v.joinNative(ctx, s)
	case r == routeConnect:
		// Old engines' WebSocket libraries hand pings to the application; browsers do not.
		s.quiet, s.ack = !origin, ackEmpty
		v.joinD(ctx, s)
	case r == routeApp:
		v.joinABC(ctx, s)
	default:
		v.joinE(ctx, s, who, room)
	}
}

// urlToken checks the token of revision E, before the upgrade as server-sdk 1.1.0 does.
func (v *visit) urlToken(query []byte) (who Verified, ok bool) {
	token, ok := urlToken(query)
	if !ok || !v.srv.cfg.URLTokens {
		v.fail("bad_token")
		v.answer(http.StatusUnauthorized, "invalid_token", "There is no token in the URL, or none is taken from there.")
		return who, false
	}
	who, err := v.srv.verify([]byte(token))
	if err != nil {
		v.fail("bad_token")
		v.answer(http.StatusUnauthorized, "invalid_token", "The token is not valid.")
		return who, false
	}
	return who, true
}

// joinD is revision D: JSON with a state's text and a token.
func (v *visit) joinD(ctx context.Context, s *session) {
	v.greet(s, func(in frame) {
		c, err := hathora.ParseConnect(in.payload)
		if err != nil {
			v.malformed(s, err)
			return
		}
		if who, ok := v.identify(s, []byte(c.Token)); ok {
			v.joinText(ctx, s, who, c.State, "d")
		}
	})
}

// joinABC is what shares /{appID}.
func (v *visit) joinABC(ctx context.Context, s *session) {
	v.greet(s, func(in frame) {
		f, err := hathora.ParseFirst(in.op == ws.OpText, in.payload)
		if err != nil {
			v.malformed(s, err)
			return
		}
		who, ok := v.identify(s, f.Token)
		switch {
		case !ok:
		case f.Revision == 'A':
			s.rd.Discard(s.unread)
			s.in.max = s.max
			v.joinA(ctx, s, who)
		case f.Create:
			v.create(ctx, s, who, nil, "b")
		default:
			v.join(ctx, s, who, f.State, strings.ToLower(string(f.Revision)))
		}
	})
}

// malformed refuses a first message that does not parse. What can be too big in one is the token.
func (v *visit) malformed(s *session, err error) {
	if errors.Is(err, hathora.ErrTooBig) {
		v.refuse(s, wire.CodeBadToken, "")
		return
	}
	v.refuse(s, wire.CodeProtocol, "Malformed first message")
}

// joinA reads the second message of revision A: a state's text, or what to create one with.
func (v *visit) joinA(ctx context.Context, s *session, who Verified) {
	v.greet(s, func(in frame) {
		if in.op == ws.OpText {
			v.joinText(ctx, s, who, string(in.payload), "a")
			return
		}
		v.create(ctx, s, who, in.payload, "a")
	})
}

// joinE is revision E: everything was in the URL.
func (v *visit) joinE(ctx context.Context, s *session, who Verified, room string) {
	if v.admits(s, who) {
		v.joinText(ctx, s, who, room, "e")
	}
}

// greet reads one message of a WebSocket client that is not seated yet and hands it to f. It goes on only if f is
// called; the message is used up when f returns or has joined.
func (v *visit) greet(s *session, f func(frame)) {
	for {
		in, n, need, code := s.in.next(s.rd.Buffered())
		if code != 0 {
			v.refuse(s, code, "")
			return
		}
		if n == 0 {
			if _, err := s.rd.Fill(need); err != nil {
				v.silent(s)
				return
			}
			continue
		}
		switch in.op {
		case ws.OpText, ws.OpBinary:
			s.unread = n
			f(in)
			return
		case opNothing, ws.OpPong:
		default:
			if !s.frame(in) {
				v.refuse(s, wire.CodeNormal, "")
				return
			}
			s.Flush()
			s.reply = false
		}
		s.rd.Discard(n)
	}
}

// identify checks a token that came in a message.
func (v *visit) identify(s *session, token []byte) (who Verified, ok bool) {
	who, err := v.srv.verify(token)
	if err != nil || !s.app.IsZero() && who.App != s.app {
		v.refuse(s, wire.CodeBadToken, "")
		return who, false
	}
	return who, v.admits(s, who)
}

// admits takes over what a good token says, if the app is served here.
func (v *visit) admits(s *session, who Verified) bool {
	allowed, most := v.srv.d.Policy(who.App)
	if !allowed {
		v.refuse(s, wire.CodeUnknownApp, "App is not served here")
		return false
	}
	s.app, s.max = who.App, most
	return true
}

// verify checks a token and that its user can be named to a backend.
func (s *Server) verify(token []byte) (Verified, error) {
	if len(token) > hathora.MaxToken {
		return Verified{}, errBadToken
	}
	who, err := s.d.Auth.Verify(token)
	if err == nil && len(who.User) > wire.MaxUser {
		err = errBadToken
	}
	return who, err
}

// joinText joins the state that a text names.
func (v *visit) joinText(ctx context.Context, s *session, who Verified, text, revision string) {
	state, err := wire.ParseStateID(text)
	if err != nil {
		v.refuse(s, wire.CodeBadStateID, "")
		return
	}
	v.join(ctx, s, who, state, revision)
}

// create makes a state and joins it, for revisions A and B.
func (v *visit) create(ctx context.Context, s *session, who Verified, data []byte, revision string) {
	v.settled()
	state, refusal := v.srv.d.Router.Create(ctx, CreateRequest{App: who.App, User: who.User, Data: data, Addr: v.addr})
	if refusal != nil {
		v.refuse(s, refusal.Code, refusal.Reason)
		return
	}
	s.ack = ackState
	v.join(ctx, s, who, state, revision)
}

// refuse closes a session that was not seated, with a reason, and counts it.
func (v *visit) refuse(s *session, code wire.Code, reason string) {
	s.Close(code, reason)
	v.fail(s.reason())
	v.settled()
	v.kept = true
	s.hangUp()
}

// silent is for a client that has not said in time who it is.
func (v *visit) silent(s *session) {
	s.end(wire.CodePolicy, "No first message in time", "silent")
	v.refuse(s, wire.CodePolicy, "")
}

// join seats the session and lets its reader go.
func (v *visit) join(ctx context.Context, s *session, who Verified, state wire.StateID, revision string) {
	v.settled()
	if !v.srv.limits.enterApp(who.App) {
		v.srv.count.refused.add("per_app")
		v.refuse(s, wire.CodeTryLater, "Too many connections of this app")
		return
	}
	s.rd.Discard(s.unread)
	s.state = state
	if s.native == nil {
		s.in.max = s.max
	}
	s.pc.AllowPending(s.max + sessionBuffer)
	r := JoinRequest{App: who.App, State: state, User: who.User, Addr: v.addr, Next: 1, Out: s}
	if st := s.native; st != nil {
		r.Native, r.Stream, r.Next, r.Resumed = true, st.id, st.expect, st.resumed
	}
	seat, refusal := v.srv.d.Router.Join(ctx, r)
	if refusal != nil {
		v.srv.limits.leaveApp(who.App)
		v.refuse(s, refusal.Code, refusal.Reason)
		return
	}
	s.seat = seat
	_ = s.pc.SetReadDeadline(noDeadline)
	if s.quiet {
		s.pc.KeepAlive(v.srv.cfg.Ping, 3)
	}
	v.srv.count.joined.add(revision)
	v.srv.count.sessions[s.proto].Add(1)
	v.kept = true
	v.srv.wheel.add(s)
	go s.run()
}
