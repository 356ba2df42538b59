package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestBadFrames(t *testing.T) {
	w := newWorld(t)
	long := func(n uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, n), 1, 2, 3, 4)
	}
	for name, c := range map[string]struct {
		frame []byte
		code  wire.Code
	}{
		"unmasked":                 {[]byte{0x82, 0x01, 'x'}, wire.CodeProtocol},
		"reserved bit":             {appendMasked(nil, 0xc2, []byte("x")), wire.CodeProtocol},
		"reserved opcode":          {appendMasked(nil, 0x83, []byte("x")), wire.CodeProtocol},
		"reserved control":         {appendMasked(nil, 0x8b, nil), wire.CodeProtocol},
		"fragmented control":       {appendMasked(nil, 0x09, nil), wire.CodeProtocol},
		"control of 126":           {appendMasked(nil, 0x89, make([]byte, 126)), wire.CodeProtocol},
		"continues nothing":        {appendMasked(nil, 0x80, []byte("x")), wire.CodeProtocol},
		"message within a message": {appendMasked(appendMasked(nil, 0x02, []byte("x")), 0x82, []byte("y")), wire.CodeProtocol},
		"text that is not UTF-8":   {appendMasked(nil, 0x81, []byte("\xed\xa0\x80")), wire.CodeBadData},
		"text cut in a character":  {appendMasked(appendMasked(nil, 0x01, []byte("\xe2\x82")), 0x80, []byte("x")), wire.CodeBadData},
		"2^63-1 bytes":             {long(1<<63 - 1), wire.CodeTooBig},
		"2^64-1 bytes":             {long(1<<64 - 1), wire.CodeTooBig},
		"one byte too many":        {long(1<<20 + 1), wire.CodeTooBig},
		"fragments too large":      {append(appendMasked(nil, 0x02, make([]byte, 1<<19)), append(binary.BigEndian.AppendUint64([]byte{0x80, 0xff}, 1<<19+1), 1, 2, 3, 4)...), wire.CodeTooBig},
		"1025 fragments":           {append(appendMasked(nil, 0x02, nil), bytes.Repeat(appendMasked(nil, 0x00, nil), 1024)...), wire.CodeTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			ws, s := w.joinD()
			ws.t = t
			_, _ = ws.Write(c.frame)
			ws.expectClose(c.code)
			s.left(t)
		})
	}
}

func TestGoodFrames(t *testing.T) {
	w := newWorld(t)
	c, s := w.joinD()
	c.send(0x01, "\xe2\x82")
	c.send(0x89, "are you there")
	c.expect(0x8a, "are you there")
	c.send(0x80, "\xac")
	if m := s.next(t); m != "€" {
		t.Errorf("fragments came as %q", m)
	}
	_, _ = c.Write(append(appendMasked(nil, 0x02, nil), bytes.Repeat(appendMasked(nil, 0x00, []byte("x")), 1022)...))
	c.send(0x80, "y")
	if m := s.next(t); m != strings.Repeat("x", 1022)+"y" {
		t.Errorf("1024 fragments came as %d bytes", len(m))
	}
	for _, n := range []int{0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20} {
		want := strings.Repeat("z", n)
		c.send(0x82, want)
		if m := s.next(t); m != want {
			t.Errorf("%d bytes came as %d", n, len(m))
		}
		s.out.Deliver([]byte(want), false)
		s.out.Flush()
		c.expect(0x82, want)
	}
	c.send(0x8a, "") // a pong that nobody asked for
	c.send(0x82, "still here")
	if m := s.next(t); m != "still here" {
		t.Errorf("down came %q", m)
	}
}

func TestOneReadIsOneDrained(t *testing.T) {
	w := newWorld(t)
	c, s := w.joinD()
	_, _ = c.Write(bytes.Repeat(appendMasked(nil, 0x82, []byte("x")), 8))
	for range 8 {
		s.next(t)
	}
	eventually(t, "it is drained", func() bool { return w.router.drained.get() > 0 })
	if n := w.router.drained.get(); n > 3 {
		t.Errorf("one write of eight messages was drained %d times", n)
	}
}

func TestBadHeads(t *testing.T) {
	w := newWorld(t)
	const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	room := "GET /connect/" + testApp.String() + " HTTP/1.1\r\nHost: x\r\n"
	for name, c := range map[string]struct {
		head string
		want string
	}{
		"no HTTP":            {"hello\r\n\r\n", "400"},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n\r\n", "505"},
		"PROXY v1":           {"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n" + room + upgrade + "\r\n", "400"},
		"PROXY v2":           {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + room + upgrade + "\r\n", "400"},
		"bare CR":            {room + upgrade + "A: b\rContent-Length: 3\r\n\r\n", "400"},
		"space before colon": {room + upgrade + "Content-Length : 3\r\n\r\nabc", "400"},
		"two lengths":        {room + upgrade + "Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc", "400"},
		"length and chunks":  {room + upgrade + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		"16 KiB":             {"GET / HTTP/1.1\r\nA: " + strings.Repeat("a", 16<<10), "431"},
		"101 lines":          {"GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", "431"},
		"folded line":        {"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "400"},
		"NUL":                {"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", "400"},
		"no colon":           {"GET / HTTP/1.1\r\nAbc\r\n\r\n", "400"},
		"upgrade with body":  {room + upgrade + "Content-Length: 3\r\n\r\nabc", "400"},
		"chunked upgrade":    {room + upgrade + "Transfer-Encoding: chunked\r\n\r\n", "400"},
		"no key":             {room + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", "400"},
		"short key":          {room + strings.Replace(upgrade, "dGhl", "", 1) + "\r\n", "400"},
		"old version":        {room + strings.Replace(upgrade, "13", "8", 1) + "\r\n", "426"},
		"POST":               {strings.Replace(room, "GET", "POST", 1) + upgrade + "\r\n", "405"},
		"HTTP/1.0":           {strings.Replace(room, "HTTP/1.1", "HTTP/1.0", 1) + upgrade + "\r\n", "505"},
		"no Connection":      {room + strings.Replace(upgrade, "Connection: Upgrade\r\n", "", 1) + "\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.raw(w.http)
			_, _ = io.WriteString(conn, c.head)
			answer, err := io.ReadAll(conn)
			line, _, _ := strings.Cut(string(answer), "\r\n")
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.want) {
				t.Errorf("answered %q, %v", line, err)
			}
		})
	}
}

func TestHeaderLinesOfLaterRequestsAreCounted(t *testing.T) {
	w := newWorld(t)
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("A: b\r\n", 101)+"\r\n")
	b, _ := io.ReadAll(c)
	if !strings.Contains(string(b), "HTTP/1.1 431") {
		t.Errorf("answered %q", b)
	}
}

func TestSlowHandshakesEnd(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.Handshake = 100 * time.Millisecond })
	for name, c := range map[string]struct {
		addr  net.Addr
		bytes string
		want  string
	}{
		"silent":         {w.http, "", "HTTP/1.1 408"},
		"half a head":    {w.http, "GET / HTT", "HTTP/1.1 408"},
		"silent TCP":     {w.tcp, "", ""},
		"half a hello":   {w.tcp, "TRK1", "TRK1"},
		"half a connect": {w.tcp, string(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte("b")})[:30]), "TRK1"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.raw(c.addr)
			_, _ = io.WriteString(conn, c.bytes)
			if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), c.want) {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
	t.Run("no first message", func(t *testing.T) {
		c := w.dial("/connect/" + testApp.String())
		c.t = t
		c.expectClose(wire.CodePolicy)
	})
}

func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.MaxHalfOpen = 3 })
	var silent []net.Conn
	for range 3 {
		silent = append(silent, w.raw(w.http))
	}
	eventually(t, "three are half-open", func() bool { return w.metric("client_half_open") == 3 })
	w.joinD() // the fourth is served: one that says nothing makes room
	if n := w.metric("client_refused_total", "limit", "half_open"); n != 1 {
		t.Errorf("%v were counted", n)
	}
	eventually(t, "two of three are left", func() bool { return w.metric("client_half_open") == 2 && w.metric("client_sockets") == 3 })
	for _, c := range silent {
		_ = c.Close()
	}
	eventually(t, "they are gone", func() bool { return w.metric("client_half_open") == 0 })
	w.joinD()
}

func TestConnectionsPerAddress(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.ConnsPerIP = 2 })
	w.joinD()
	w.joinD()
	c := w.raw(w.http)
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 429") {
		t.Errorf("the third was answered %q", b)
	}
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	if oc, err := other.Dial("tcp", w.http.String()); err != nil {
		t.Error(err)
	} else {
		_, status := w.request(oc, "/connect/"+testApp.String())
		if !strings.Contains(status, "101") {
			t.Errorf("another address: %s", status)
		}
		_ = oc.Close()
	}
	lifted := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.ConnsPerIP, c.LiftLoopback = 1, true })
	lifted.joinD()
	lifted.joinD()
}

func TestConnectionsPerApp(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.ConnsPerApp = 1 })
	_, s := w.joinD()
	if _, status := w.request(w.raw(w.http), "/connect/"+testApp.String()); !strings.Contains(status, "429") {
		t.Errorf("the second: %s", status)
	}
	c := w.raw(w.tcp)
	_, _ = c.Write(connectFrame(0, wire.ConnectBody{State: []byte("a"), Token: []byte(goodToken)}))
	n := &nativeClient{t: t, r: c}
	n.hello()
	if f := n.frame(); f.Type != wire.Close || f.Code != wire.CodeTryLater {
		t.Errorf("the second on TCP: %v %d", f.Type, f.Code)
	}
	s.out.Close(wire.CodeNormal, "")
	s.left(t)
	eventually(t, "its place is free", func() bool { return !w.srv.limits.appFull(testApp) })
	w.joinD()
}

func TestNeighbourhoods(t *testing.T) {
	for in, want := range map[string]string{
		"1.2.3.4": "1.2.3.4", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := neighbourhood(mustAddr(in)); got != mustAddr(want) {
			t.Errorf("%s belongs to %s, want %s", in, got, want)
		}
	}
}

func TestSlowClientIsCutAndOthersAreNot(t *testing.T) {
	w := newWorld(t)
	_, slow := w.joinD()
	c, good := w.joinD()
	chunk := make([]byte, 256<<10)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 200 { // 50 MiB, far above what sockets and queue take
		slow.out.Deliver(chunk, false)
		slow.out.Flush()
	}
	slow.left(t)
	if n := slow.out.Queued(); n > 2<<20 {
		t.Errorf("%d bytes are queued for one who was cut", n)
	}
	eventually(t, "it is counted", func() bool { return w.metric("client_closed_total", "reason", "slow") == 1 })
	good.out.Deliver([]byte("fine"), false)
	good.out.Flush()
	c.expect(0x82, "fine")
}

func TestStalledClientIsCut(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.MaxQueue, c.Stall = 64<<20, 50*time.Millisecond })
	_, s := w.joinD()
	for range 64 {
		s.out.Deliver(make([]byte, 256<<10), false)
	}
	s.out.Flush()
	s.left(t)
}

func TestUnreliableMessagesAreDroppedForAFullClient(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.MaxQueue = 64 << 20 })
	c, s := w.joinD()
	n := 0
	for ; s.out.Queued() < 2*unreliableMark; n++ {
		s.out.Deliver(make([]byte, 64<<10), false)
		s.out.Flush()
	}
	s.out.Deliver([]byte("loose"), true)
	s.out.Deliver([]byte("firm"), false)
	s.out.Flush()
	for range n {
		if _, p := c.frame(); len(p) != 64<<10 {
			t.Fatalf("got %q", p)
		}
	}
	c.expect(0x82, "firm")
	if n := w.metric("client_dropped_total"); n != 1 {
		t.Errorf("%v were counted", n)
	}
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	w := newWorld(t, func(_ *Config, _ *Deps, r *fakeRouter) {
		r.down = func(s *seat, payload []byte) error {
			if string(payload) == "boom" {
				panic("boom")
			}
			s.got <- string(payload)
			return nil
		}
		r.onJoin = func(q JoinRequest) {
			if q.User == "bomb" {
				panic("bomb")
			}
		}
	})
	bad, s := w.joinD()
	good, g := w.joinD()
	bad.send(0x82, "boom")
	bad.expectClose(wire.CodeInternal)
	s.left(t)
	c := w.dial("/connect/" + testApp.String())
	c.send(0x82, `{"stateId":"abc","token":"good.bomb.x"}`)
	if _, _, err := c.tryFrame(); err == nil {
		t.Error("a panic in Join was answered")
	}
	good.send(0x82, "fine")
	if m := g.next(t); m != "fine" {
		t.Errorf("down came %q", m)
	}
	if n := w.metric("client_panics_total"); n != 2 {
		t.Errorf("%v panics were counted", n)
	}
}

func TestPanicOfTheHandlerIsCounted(t *testing.T) {
	w := newWorld(t, func(_ *Config, d *Deps, _ *fakeRouter) {
		d.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/boom" {
				panic("boom")
			}
		})
	})
	for path, want := range map[string]string{"/boom": "", "/fine": "HTTP/1.1 200"} {
		c := w.raw(w.http)
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(b), want) || want == "" && len(b) > 0 {
			t.Errorf("%s: answered %q", path, b)
		}
	}
	if n := w.metric("client_panics_total"); n != 1 {
		t.Errorf("%v panics were counted", n)
	}
}

func TestSlowBodyIsCut(t *testing.T) {
	failed := make(chan error, 1)
	w := newWorld(t, func(c *Config, d *Deps, _ *fakeRouter) {
		c.Handshake, c.MinRate = 100*time.Millisecond, 1<<20
		d.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		})
	})
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("a body without its end was taken")
		}
	case <-time.After(wait):
		t.Fatal("a slow body is never cut")
	}
}

func TestErrorOfTheSeatEndsTheConnection(t *testing.T) {
	w := newWorld(t, func(_ *Config, _ *Deps, r *fakeRouter) {
		r.down = func(*seat, []byte) error { return fmt.Errorf("no") }
	})
	c, s := w.joinD()
	c.send(0x82, "x")
	c.expectClose(wire.CodeGoingAway)
	s.left(t)
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
