package client

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

// No cookie is a credential, so no Origin is refused: a page of another site can do nothing that it could not do without
// the visitor's browser.
func TestCookiesAreNoCredential(t *testing.T) {
	w := newWorld(t)
	for _, origin := range []string{"https://evil.example", "null", "https://" + w.http.String()} {
		headers := []string{"Origin: " + origin + "\r\n", "Cookie: token=" + goodToken + "; session=" + goodToken + "\r\n", "Authorization: Bearer " + goodToken + "\r\n"}
		c := w.dial("/connect/"+testApp.String(), headers...)
		c.send(0x82, `{"stateId":"abc"}`)
		c.expectClose(wire.CodeBadToken)
		if _, status := w.request(w.raw(w.http), "/abc", headers...); !strings.Contains(status, "401") {
			t.Errorf("Origin %s, revision E: %s", origin, status)
		}
		w.joinD(headers[0])
	}
}

// Compression is not negotiated, whatever is offered, and a compressed frame ends the connection.
func TestCompressionIsNotNegotiated(t *testing.T) {
	w := newWorld(t)
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"} {
		c, answer := w.request(w.raw(w.http), "/connect/"+testApp.String(), "Sec-WebSocket-Extensions: "+offer+"\r\n")
		if !strings.Contains(answer, "101") || strings.Contains(strings.ToLower(answer), "extensions") {
			t.Errorf("offered %s: %s", offer, answer)
		}
		c.send(0xc2, "\x00")
		c.expectClose(wire.CodeProtocol)
	}
}

// Headers and preambles that name another address change nothing: connections are counted where they come from.
func TestForgedAddressesAreNotCounted(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Deps, _ *fakeRouter) { c.ConnsPerIP = 2 })
	for i := range 2 {
		_, s := w.joinD(fmt.Sprintf("X-Forwarded-For: 203.0.113.%d\r\nForwarded: for=203.0.113.%d\r\nX-Real-IP: 203.0.113.%d\r\n", i, i, i))
		if !s.r.Addr.IsLoopback() {
			t.Errorf("a session of %v", s.r.Addr)
		}
	}
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 429") {
		t.Errorf("the third was answered %q", b)
	}
}

// An upgrade is told from a request by its head alone: fixed paths with an Upgrade are rooms of that name, paths that need
// decoding or cleaning are nothing, and no request becomes an upgrade later on its connection.
func TestUpgradesAndRequestsAreNotConfused(t *testing.T) {
	w := newWorld(t, func(_ *Config, d *Deps, _ *fakeRouter) {
		d.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	app := testApp.String()
	for path, want := range map[string]string{
		"/livez":                       "401", // a room without a token
		"/" + app + "/":                "404",
		"//" + app:                     "404",
		"/connect//" + app:             "404",
		"/connect/" + app + "/":        "404",
		"/connect/../connect/" + app:   "404",
		"/connect%2f" + app:            "401", // a room with an odd name
		"/" + app + "/create":          "404",
		"/" + app + "/login/anonymous": "404",
		"http://x/connect/" + app:      "404",
		"*":                            "404",
		"/connect/" + app + "#a":       "404",
	} {
		if _, status := w.request(w.raw(w.http), path); !strings.HasPrefix(status, "HTTP/1.1 "+want) {
			t.Errorf("%s: %s, want %s", path, status, want)
		}
	}
	w.dial("/connect%2f" + app + "?token=" + goodToken).expectClose(wire.CodeBadStateID)
	c := w.raw(w.http)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	ws, status := w.request(c, "/connect/"+app)
	if !strings.Contains(status, "418") {
		t.Errorf("the first request: %s", status)
	}
	if status := ws.head(); !strings.Contains(status, "418") {
		t.Errorf("an upgrade on a connection of the HTTP server: %s", status)
	}
}

// scribbler overwrites every buffer that nobody has before it looks at a token, as another connection would.
type scribbler struct{ fakeAuth }

func (a scribbler) Verify(token []byte) (Verified, error) {
	var taken [][]byte
	for _, size := range []int{1 << 10, 4 << 10, 16 << 10} {
		for range 16 {
			b := pipe.TakeBuffer(size)
			copy(b[:cap(b)], bytes.Repeat([]byte("good.mallory.x"), cap(b)/14))
			taken = append(taken, b)
		}
	}
	for _, b := range taken {
		pipe.ReturnBuffer(b)
	}
	return a.fakeAuth.Verify(token)
}

// A token is checked as it was sent: its bytes do not lie in a buffer that another connection may be reading into.
func TestTokensAreCheckedAsTheyWereSent(t *testing.T) {
	w := newWorld(t, func(_ *Config, d *Deps, _ *fakeRouter) { d.Auth = scribbler{} })
	app := testApp.String()
	native := string(connectFrame(0, wire.ConnectBody{State: []byte("abc"), Token: []byte(goodToken)}))
	for name, say := range map[string]func(){
		"A": func() {
			c := w.dial("/" + app)
			c.send(0x81, goodToken)
			c.send(0x81, "abc")
		},
		"C": func() {
			w.dial("/"+app).send(0x82, "\x00"+string(rune(len(goodToken)))+goodToken+"\x00\x00\x00\x00\x00\x00\x00\x07")
		},
		"D":      func() { w.dial("/connect/"+app).send(0x82, `{"stateId":"abc","token":"`+goodToken+`"}`) },
		"E":      func() { w.dial("/abc?token=" + goodToken) },
		"native": func() { w.dial("/connect/"+app, "Sec-WebSocket-Protocol: trunkline.v1\r\n").send(0x82, native) },
		"TCP":    func() { _, _ = io.WriteString(w.raw(w.tcp), native) },
		"old TCP": func() {
			h := hathora.TCPHandshake{Token: []byte(goodToken), App: []byte(app), State: 7}
			_, _ = w.raw(w.tcp).Write(h.Append(nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			for range 4 {
				say()
				if s := w.seat(); s.r.User != "alice" || s.r.App != testApp {
					t.Fatalf("seated as %q of %v", s.r.User, s.r.App)
				}
			}
		})
	}
}
