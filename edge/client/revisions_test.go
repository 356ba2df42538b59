package client

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

const origin = "Origin: https://game.example\r\n"

func TestRevisionDIsAcknowledgedByOneEmptyBinaryMessage(t *testing.T) {
	w := newWorld(t)
	for _, first := range []byte{0x81, 0x82} { // text is taken as well
		c := w.dial("/connect/"+testApp.String(), origin)
		c.send(first, `{ "token": "`+goodToken+`", "stateId": "00ABC" }`)
		c.expect(0x82, "")
		s := w.seat()
		if s.r.App != testApp || s.r.State.String() != "abc" || s.r.User != "alice" || s.r.Native || s.r.Next != 1 || !s.r.Addr.IsLoopback() {
			t.Errorf("joined as %+v", s.r)
		}
		s.out.Deliver([]byte("hello"), false)
		s.out.Flush()
		c.expect(0x82, "hello")
		c.send(0x81, "text becomes bytes")
		c.send(0x82, "")
		if m := s.next(t); m != "text becomes bytes" {
			t.Errorf("down came %q", m)
		}
		if m := s.next(t); m != "" {
			t.Errorf("down came %q, want the empty message", m)
		}
	}
}

func TestWritesBeforeTheAcknowledgementAreQueued(t *testing.T) {
	hold := make(chan struct{})
	w := newWorld(t, func(_ *Config, _ *Deps, r *fakeRouter) { r.onJoin = func(JoinRequest) { <-hold } })
	c := w.raw(w.http)
	b := []byte("GET /connect/" + testApp.String() + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	b = appendMasked(b, 0x82, []byte(`{"stateId":"abc","token":"`+goodToken+`"}`))
	b = appendMasked(b, 0x82, []byte("one"))
	b = appendMasked(b, 0x82, []byte("two"))
	if _, err := c.Write(b); err != nil { // all in one segment
		t.Fatal(err)
	}
	close(hold)
	s := w.seat()
	if a, b := s.next(t), s.next(t); a != "one" || b != "two" {
		t.Errorf("down came %q and %q", a, b)
	}
}

func TestRevisionA(t *testing.T) {
	w := newWorld(t)
	c := w.dial("/" + testApp.String())
	c.send(0x81, goodToken)
	c.send(0x81, "ABC")
	s := w.seat()
	s.out.Deliver([]byte("first"), false)
	s.out.Flush()
	c.expect(0x82, "first") // a join is not answered

	c = w.dial("/" + testApp.String())
	c.send(0x81, goodToken)
	c.send(0x82, "init")
	c.expect(0x81, "zzz")
	if r := <-w.router.created; string(r.Data) != "init" || r.User != "alice" || r.App != testApp {
		t.Errorf("created with %+v", r)
	}
	if s := w.seat(); s.r.State.String() != "zzz" {
		t.Errorf("joined %v", s.r.State)
	}
}

func TestRevisionsBAndC(t *testing.T) {
	w := newWorld(t)
	for _, f := range []hathora.First{
		{Revision: 'B', Token: []byte(goodToken), State: 7},
		{Revision: 'C', Token: []byte(goodToken), State: 7},
	} {
		c := w.dial("/" + testApp.String())
		c.send(0x82, string(f.Append(nil)))
		s := w.seat()
		if s.r.State != 7 {
			t.Errorf("%c joined %v", f.Revision, s.r.State)
		}
		s.out.Deliver([]byte("first"), false)
		s.out.Flush()
		c.expect(0x82, "first") // and no acknowledgement before
	}
	c := w.dial("/" + testApp.String())
	create := hathora.First{Revision: 'B', Token: []byte(goodToken), Create: true}
	c.send(0x82, string(create.Append(nil)))
	c.expect(0x81, "zzz")
	w.seat()
}

func TestRevisionE(t *testing.T) {
	w := newWorld(t)
	c := w.dial("/AbC?token=" + goodToken)
	s := w.seat()
	if s.r.App != testApp || s.r.State.String() != "abc" {
		t.Errorf("joined %+v", s.r)
	}
	s.out.Deliver([]byte("first"), false)
	s.out.Flush()
	c.expect(0x82, "first")
	for path, want := range map[string]string{
		"/abc":                            "401",
		"/abc?token=bad":                  "401",
		"/abc?token=":                     "401",
		"/abc?token=x&token=" + goodToken: "401",
		"/a/b/c":                          "404",
		"/connect/nonsense":               "404",
		"/connect/" + strings.ToUpper(testApp.String()): "404",
	} {
		if _, status := w.request(w.raw(w.http), path); !strings.Contains(status, want) {
			t.Errorf("%s: %s, want %s", path, status, want)
		}
	}
	w.dial("/not-base-36?token=" + goodToken).expectClose(wire.CodeBadStateID)

	closed := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.URLTokens = false })
	if _, status := closed.request(closed.raw(closed.http), "/abc?token="+goodToken); !strings.Contains(status, "401") {
		t.Errorf("url tokens are off, but: %s", status)
	}
}

func TestRefusedHandshakesHaveCodesAndReasons(t *testing.T) {
	w := newWorld(t, func(_ *Config, d *Deps, _ *fakeRouter) {
		policy := d.Policy
		d.Policy = func(app wire.AppID) (bool, int) {
			_, most := policy(app)
			return app != otherApp, most
		}
	})
	connect, app := "/connect/"+testApp.String(), "/"+testApp.String()
	for name, c := range map[string]struct {
		path, message string
		first         byte
		code          wire.Code
	}{
		"bad token":         {connect, `{"stateId":"abc","token":"x"}`, 0x82, 4002},
		"no token":          {connect, `{"stateId":"abc"}`, 0x82, 4002},
		"other app":         {connect, `{"stateId":"abc","token":"other.bob.x"}`, 0x82, 4002},
		"not served":        {"/connect/" + otherApp.String(), `{"stateId":"abc","token":"other.bob.x"}`, 0x82, wire.CodeUnknownApp},
		"no state":          {connect, `{"token":"` + goodToken + `"}`, 0x82, 4003},
		"not base 36":       {connect, `{"stateId":"a-b","token":"` + goodToken + `"}`, 0x82, 4003},
		"overflow":          {connect, `{"stateId":"3w5e11264sgsg","token":"` + goodToken + `"}`, 0x82, 4003},
		"no JSON":           {connect, `hello`, 0x82, wire.CodeProtocol},
		"huge":              {connect, strings.Repeat(" ", hathora.MaxConnect+1), 0x82, wire.CodeTooBig},
		"A bad token":       {app, "nonsense", 0x81, 4002},
		"C bad token":       {app, "\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x01", 0x82, 4002},
		"no revision":       {app, "\x09", 0x82, wire.CodeProtocol},
		"user too long":     {connect, `{"stateId":"abc","token":"good.` + strings.Repeat("u", wire.MaxUser+1) + `.x"}`, 0x82, 4002},
		"token too large":   {connect, `{"stateId":"abc","token":"` + strings.Repeat("u", hathora.MaxToken+1) + `"}`, 0x82, 4002},
		"A token too large": {app, strings.Repeat("u", hathora.MaxToken+1), 0x81, 4002},
		"C token too large": {app, "\x00\xc0\x01" + strings.Repeat("u", hathora.MaxToken+1), 0x82, 4002},
		"token of 1 MiB":    {connect, strings.Repeat("u", 1<<20), 0x82, wire.CodeTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			ws := w.dial(c.path)
			ws.t = t
			ws.send(c.first, c.message)
			ws.expectClose(c.code)
		})
	}
}

func TestRefusalOfTheRouterReachesTheClient(t *testing.T) {
	w := newWorld(t, func(_ *Config, _ *Deps, r *fakeRouter) { r.refuse = &Refusal{Code: wire.CodeNoInstance} })
	c := w.dial("/connect/" + testApp.String())
	c.send(0x82, `{"stateId":"abc","token":"`+goodToken+`"}`)
	if reason := c.expectClose(4001); reason != "No available stores" {
		t.Errorf("reason %q", reason)
	}
}

func TestCloseByTheBackend(t *testing.T) {
	w := newWorld(t)
	c, s := w.joinD()
	s.out.Deliver([]byte("last words"), false)
	s.out.Close(wire.CodeStateNotFound, "")
	c.expect(0x82, "last words")
	if reason := c.expectClose(4000); reason != "State not found" {
		t.Errorf("reason %q", reason)
	}
	s.left(t)
	_ = c.Close()
	eventually(t, "the session ends", func() bool { return w.metric("client_closed_total", "reason", "state_not_found") == 1 })
	s.out.Deliver([]byte("too late"), false) // and nothing happens
	s.out.Flush()
}

// A backend may ask for any code and reason: the client gets a close frame that RFC 6455 allows.
func TestCloseByTheBackendIsACloseFrame(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		code, want   wire.Code
		reason, told string
	}{
		{0, wire.CodeNormal, "bye", "bye"},
		{1005, wire.CodeNormal, "", "Closed"},
		{1006, wire.CodeNormal, "", "Closed"},
		{1015, wire.CodeNormal, "", "Closed"},
		{999, wire.CodeNormal, "", "Closed"},
		{65_535, wire.CodeNormal, "", "Closed"},
		{4100, 4100, "no \xff\xfetext", "no \ufffdtext"},
		{4100, 4100, strings.Repeat("é", 100), strings.Repeat("é", 61)},
	} {
		ws, s := w.joinD()
		s.out.Close(c.code, c.reason)
		s.out.Deliver([]byte("too late"), false)
		s.out.Flush()
		if told := ws.expectClose(c.want); told != c.told {
			t.Errorf("%d %q: the client was told %q", c.code, c.reason, told)
		}
		s.left(t)
	}
	// However many codes backends have, they are one label: none pushes out another reason.
	for code := range 2 * maxTally {
		ws, s := w.joinD()
		s.out.Close(wire.Code(4600+code), "")
		ws.expectClose(wire.Code(4600 + code))
		_ = ws.Close()
	}
	ws, s := w.joinD()
	s.out.Close(wire.CodeRestart, "")
	ws.expectClose(wire.CodeRestart)
	_ = ws.Close()
	eventually(t, "all are counted", func() bool {
		return w.metric("client_closed_total", "reason", "own_code") == 2*maxTally+2 && w.metric("client_closed_total", "reason", "restart") == 1
	})
}

func TestCloseByTheClient(t *testing.T) {
	w := newWorld(t)
	for payload, want := range map[string]wire.Code{
		"":                 wire.CodeNormal,
		"\x03\xe8":         wire.CodeNormal,
		"\x0f\xa4bye":      4004,
		"\x03":             wire.CodeProtocol,
		"\x03\xee":         wire.CodeProtocol, // 1006 must not be sent
		"\x03\xe8\xff\xfe": wire.CodeBadData,
	} {
		c, s := w.joinD()
		c.send(0x88, payload)
		c.expectClose(want)
		s.left(t)
	}
	c, s := w.joinD()
	_ = c.Close()
	s.left(t)
	eventually(t, "it is counted", func() bool { return w.metric("client_closed_total", "reason", "gone") == 1 })
}

func TestEverythingElseGoesToTheHTTPServer(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		resp, err := http.Post("http://"+w.http.String()+"/x", "text/plain", strings.NewReader(strings.Repeat("body", 5000)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if len(b) != 20_000 {
			t.Errorf("echoed %d bytes", len(b))
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestLegacyTCP(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) {
		c.FirstWait, c.FirstPause = time.Minute, 400*time.Millisecond
	})
	hello := hathora.TCPHandshake{Token: []byte(goodToken), App: []byte(testApp.String()), State: 7}
	read := func(c io.Reader, n int) string {
		t.Helper()
		b := make([]byte, n)
		if n, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("read %q: %v", b[:n], err)
		}
		return string(b)
	}
	t.Run("first message raw", func(t *testing.T) {
		c := w.raw(w.tcp)
		_, _ = c.Write(hathora.AppendClientData(hello.Append(nil), []byte("early")))
		s := w.seat()
		if m := s.next(t); m != "early" || s.r.State != 7 {
			t.Errorf("%q to %v", m, s.r.State)
		}
		s.out.Deliver([]byte("\x00snapshot"), false)
		s.out.Deliver([]byte("hi"), false)
		s.out.Flush()
		chunk := make([]byte, 100)
		n, _ := c.Read(chunk)
		if string(chunk[:n]) != "\x00snapshot" {
			t.Errorf("first chunk %q", chunk[:n])
		}
		if got := read(c, 6); got != "\x00\x00\x00\x02hi" {
			t.Errorf("then %q", got)
		}
		_, _ = c.Write(hathora.AppendClientPong(nil))
		_, _ = c.Write(hathora.AppendClientData(nil, nil))
		if m := s.next(t); m != "" {
			t.Errorf("empty message came as %q", m)
		}
		s.out.Close(wire.CodeStateNotFound, "")
		if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
			t.Errorf("at the end %q %v", b, err)
		}
		s.left(t)
	})
	t.Run("first message framed", func(t *testing.T) {
		c := w.raw(w.tcp)
		_, _ = c.Write(hello.Append(nil))
		s := w.seat()
		s.out.Deliver([]byte("{}"), false)
		s.out.Flush()
		chunk := make([]byte, 100)
		if n, _ := c.Read(chunk); string(chunk[:n]) != "\x00" {
			t.Errorf("first chunk %q", chunk[:n])
		}
		if got := read(c, 6); got != "\x00\x00\x00\x02{}" {
			t.Errorf("then %q", got)
		}
	})
	t.Run("backend silent", func(t *testing.T) {
		w := newWorld(t)
		c := w.raw(w.tcp)
		_, _ = c.Write(hello.Append(nil))
		s := w.seat()
		if got := read(c, 1); got != "\x00" {
			t.Errorf("first chunk %q", got)
		}
		s.out.Deliver(nil, false)
		s.out.Flush()
		if got := read(c, 4); got != "\x00\x00\x00\x00" {
			t.Errorf("then %q", got)
		}
	})
	for name, b := range map[string][]byte{
		"short token": (&hathora.TCPHandshake{Token: []byte("short"), App: []byte(testApp.String())}).Append(nil),
		"bad token":   (&hathora.TCPHandshake{Token: []byte(strings.Repeat("x", 40)), App: []byte(testApp.String())}).Append(nil),
		"bad app":     (&hathora.TCPHandshake{Token: []byte(goodToken), App: []byte("app")}).Append(nil),
		"huge frame":  append(hello.Append(nil), 0x7f, 0xff, 0xff, 0xff),
		"bad kind":    append(hello.Append(nil), 0, 0, 0, 1, 9),
		"empty frame": append(hello.Append(nil), 0, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			c := w.raw(w.tcp)
			_, _ = c.Write(b)
			if b, err := io.ReadAll(c); err != nil || len(b) > 0 && string(b) != "\x00" {
				t.Errorf("got %q %v", b, err)
			}
		})
	}
}

// nativeClient reads native frames off a stream.
type nativeClient struct {
	t *testing.T
	r io.Reader
}

func (n *nativeClient) hello() wire.Hello {
	n.t.Helper()
	b := make([]byte, wire.HelloSize)
	if _, err := io.ReadFull(n.r, b); err != nil {
		n.t.Fatal(err)
	}
	h, _, err := wire.ParseHello(b)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

func (n *nativeClient) frame() wire.Frame {
	n.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(n.r, size[:]); err != nil {
		n.t.Fatalf("no frame came: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	var f wire.Frame
	if _, err := io.ReadFull(n.r, b); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Decode(b); err != nil {
		n.t.Fatal(err)
	}
	return f
}

// wsStream makes the payloads of a WebSocket's messages one stream.
type wsStream struct {
	c *wsConn
	b string
}

func (s *wsStream) Read(p []byte) (int, error) {
	for s.b == "" {
		first, payload, err := s.c.tryFrame()
		if err != nil {
			return 0, err
		}
		if first == 0x82 {
			s.b = payload
		} else {
			return 0, io.EOF
		}
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func connectFrame(flags wire.Flags, body wire.ConnectBody) []byte {
	b := wire.AppendHello(nil, wire.OurHello())
	return wire.AppendFrame(b, &wire.Frame{Type: wire.Connect, Flags: flags, Payload: body.Append(nil)})
}

func TestNative(t *testing.T) {
	w := newWorld(t)
	body := wire.ConnectBody{App: testApp, Stream: wire.StreamID{1}, Next: 1, State: []byte("ABC"), Token: []byte(goodToken)}
	data := func(seq uint64, payload string) []byte {
		return wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Seq: seq, Payload: []byte(payload)})
	}
	type conn struct {
		n    *nativeClient
		send func([]byte)
	}
	open := map[string]func(*testing.T, []byte) conn{
		"tcp": func(t *testing.T, hello []byte) conn {
			c := w.raw(w.tcp)
			send := func(b []byte) { _, _ = c.Write(b) }
			send(hello)
			return conn{&nativeClient{t: t, r: c}, send}
		},
		"ws": func(t *testing.T, hello []byte) conn {
			c := w.dial("/connect/"+testApp.String(), "Sec-WebSocket-Protocol: other, trunkline.v1\r\n")
			send := func(b []byte) { c.send(0x82, string(b)) }
			send(hello)
			return conn{&nativeClient{t: t, r: &wsStream{c: c}}, send}
		},
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			c := open(t, append(connectFrame(0, body), data(1, "early")...))
			if h := c.n.hello(); h.Min != 1 || h.Max != 1 {
				t.Errorf("answered %+v", h)
			}
			f := c.n.frame()
			var connected wire.ConnectedBody
			if err := connected.Decode(f.Payload); f.Type != wire.Connected || err != nil {
				t.Fatalf("answered %v %v", f.Type, err)
			}
			if connected.State.String() != "abc" || connected.Next != 1 || connected.Down != 1 {
				t.Errorf("connected %+v", connected)
			}
			s := w.seat()
			if !s.r.Native || s.r.Stream != body.Stream || s.r.Next != 1 {
				t.Errorf("joined %+v", s.r)
			}
			if m := s.next(t); m != "early" {
				t.Errorf("first down %q", m)
			}

			c.send(data(1, "again")) // dropped
			if f := c.n.frame(); f.Type != wire.Ack {
				t.Errorf("answered %v", f.Type)
			}
			c.send(data(3, "gap"))
			if f := c.n.frame(); f.Type != wire.Expected || f.Seq != 2 {
				t.Errorf("answered %v %d", f.Type, f.Seq)
			}
			long := strings.Repeat("x", wire.MaxFragment) + strings.Repeat("y", 100)
			c.send(wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Flags: wire.More, Seq: 2, Size: uint32(len(long)), Payload: []byte(long[:wire.MaxFragment])}))
			c.send(wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Flags: wire.Cont, Seq: 2, Payload: []byte(long[wire.MaxFragment:])}))
			if m := s.next(t); m != long {
				t.Errorf("the long message came as %d bytes", len(m))
			}
			s.out.Acked(2)
			s.out.Flush()
			if f := c.n.frame(); f.Type != wire.Ack || f.Seq != 2 {
				t.Errorf("got %v %d", f.Type, f.Seq)
			}
			c.send(wire.AppendFrame(nil, &wire.Frame{Type: wire.Heartbeat, Seq: 9}))
			if f := c.n.frame(); f.Type != wire.HeartbeatAck || f.Seq != 9 {
				t.Errorf("got %v %d", f.Type, f.Seq)
			}

			s.out.Deliver([]byte("up"), false)
			s.out.Deliver([]byte(long), false)
			s.out.Deliver([]byte("loose"), true)
			s.out.Flush()
			if f := c.n.frame(); f.Type != wire.Data || f.Seq != 1 || string(f.Payload) != "up" {
				t.Errorf("got %v %d %q", f.Type, f.Seq, f.Payload)
			}
			f = c.n.frame()
			g := c.n.frame()
			if f.Flags != wire.More || f.Size != uint32(len(long)) || g.Flags != wire.Cont || g.Seq != 2 || string(f.Payload)+string(g.Payload) != long {
				t.Errorf("fragments %+v %+v", f.Flags, g.Flags)
			}
			if f := c.n.frame(); f.Flags != wire.Unreliable || f.Seq != 3 {
				t.Errorf("got %v %d", f.Flags, f.Seq)
			}
			s.out.Close(wire.CodeStateNotFound, "gone")
			if f := c.n.frame(); f.Type != wire.Close || f.Seq != 4 || f.Code != 4000 || string(f.Payload) != "gone" {
				t.Errorf("got %v %d %d %q", f.Type, f.Seq, f.Code, f.Payload)
			}
			s.left(t)

			resumed := body
			resumed.Next, resumed.Seen = 10, 5
			c = open(t, connectFrame(wire.Resumed, resumed))
			c.n.hello()
			f = c.n.frame()
			if err := connected.Decode(f.Payload); err != nil || connected.Next != 10 || connected.Down != 6 {
				t.Errorf("resumed as %+v %v", connected, err)
			}
			if f := c.n.frame(); f.Type != wire.Gap || f.Seq != 6 || f.Index != 6 {
				t.Errorf("got %v %d %d", f.Type, f.Seq, f.Index)
			}
			if s := w.seat(); !s.r.Resumed || s.r.Next != 10 {
				t.Errorf("joined %+v", s.r)
			}
			c.send(wire.AppendFrame(nil, &wire.Frame{Type: wire.Close, Seq: 10, Code: wire.CodeNormal}))
			if f := c.n.frame(); f.Type != wire.Close || f.Code != wire.CodeNormal {
				t.Errorf("got %v %d", f.Type, f.Code)
			}

			for name, bad := range map[string]struct {
				bytes []byte
				code  wire.Code
			}{
				"version":  {append(wire.AppendHello(nil, wire.Hello{Min: 9, Max: 9}), connectFrame(0, body)[wire.HelloSize:]...), wire.CodeVersion},
				"token":    {connectFrame(0, wire.ConnectBody{App: testApp, State: []byte("abc"), Token: []byte("bad")}), 4002},
				"state":    {connectFrame(0, wire.ConnectBody{App: testApp, State: []byte("a b"), Token: []byte(goodToken)}), 4003},
				"app":      {connectFrame(0, wire.ConnectBody{App: otherApp, State: []byte("abc"), Token: []byte(goodToken)}), 4002},
				"type":     {append(wire.AppendHello(nil, wire.OurHello()), data(1, "x")...), wire.CodeProtocol},
				"no frame": {append(wire.AppendHello(nil, wire.OurHello()), 0, 0, 0, 0), wire.CodeProtocol},
			} {
				c := open(t, bad.bytes)
				c.n.hello()
				if f := c.n.frame(); f.Type != wire.Close || f.Code != bad.code || len(f.Payload) == 0 {
					t.Errorf("%s: got %v %d %q", name, f.Type, f.Code, f.Payload)
				}
			}
			for name, bad := range map[string]struct {
				bytes []byte
				code  wire.Code
			}{
				"channel":  {wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Channel: 1, Seq: 1}), wire.CodeProtocol},
				"type":     {wire.AppendFrame(nil, &wire.Frame{Type: wire.StateAccept}), wire.CodeProtocol},
				"too big":  {wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Flags: wire.More, Seq: 1, Size: 2 << 20}), wire.CodeTooBig},
				"cont":     {wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Flags: wire.Cont, Seq: 1, Payload: []byte("x")}), wire.CodeProtocol},
				"no frame": {[]byte{0, 0, 0, 0}, wire.CodeProtocol},
				"length":   {[]byte{0xff, 0xff, 0xff, 0xff}, wire.CodeProtocol},
			} {
				c := open(t, connectFrame(0, body))
				c.n.hello()
				c.n.frame()
				s := w.seat()
				c.send(bad.bytes)
				if f := c.n.frame(); f.Type != wire.Close || f.Code != bad.code {
					t.Errorf("%s: got %v %d", name, f.Type, f.Code)
				}
				s.left(t)
			}
		})
	}
}
