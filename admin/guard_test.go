package admin

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const goodToken = "0123456789abcdef0123456789abcdef"

func ask(s http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:7180"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestTokenIsAskedForEverywhereButBareHealth(t *testing.T) {
	s := newServer(t, newFakeNode(), func(c *Config) { c.Token, c.Pprof = goodToken, true })
	for _, path := range []string{"/metrics", "/readyz?verbose", "/v1/status", "/v1/apps", "/v1/instances", "/v1/states", "/debug/pprof/", "/nothing"} {
		for name, header := range map[string]string{
			"none": "", "wrong": "Bearer " + goodToken[:31] + "0", "prefix": "Bearer " + goodToken[:8], "longer": "Bearer " + goodToken + "0",
			"basic": "Basic " + goodToken, "bare": goodToken,
		} {
			if w := ask(s, "GET", path, "Authorization", header); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("GET %s with %s token: %d, want 401 with WWW-Authenticate", path, name, w.Code)
			}
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if w := ask(s, "GET", path, "Host", "edge.example.com"); w.Code != http.StatusOK {
			t.Errorf("GET %s without a token: %d, want 200", path, w.Code)
		}
	}
	for _, scheme := range []string{"Bearer ", "bearer "} {
		if w := ask(s, "GET", "/v1/status", "Authorization", scheme+goodToken, "Host", "edge.example.com"); w.Code != http.StatusOK {
			t.Errorf("the right token as %q: %d, want 200", scheme, w.Code)
		}
	}
}

// A web page whose own name was rebound to 127.0.0.1 sends that name as Host.
func TestOnlyLoopbackNamesAreAnsweredWithoutToken(t *testing.T) {
	s := newServer(t, newFakeNode(), nil)
	for host, want := range map[string]int{
		"127.0.0.1:7180": 200, "127.9.9.9": 200, "localhost": 200, "LOCALHOST:7180": 200, "[::1]:7180": 200, "[::1]": 200, "[::ffff:127.0.0.1]:1": 200,
		"evil.example": 403, "evil.example:7180": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "10.0.0.1": 403, "": 403, "[::]": 403,
	} {
		for _, path := range []string{"/v1/status", "/metrics", "/livez"} {
			if w := ask(s, "GET", path, "Host", host); w.Code != want {
				t.Errorf("GET %s with Host %q: %d, want %d", path, host, w.Code, want)
			}
		}
	}
}

// A page of another site may send a POST to localhost with the right Host.
func TestBrowsersMayNotChangeAnythingForOtherSites(t *testing.T) {
	f := newFakeNode()
	s := newServer(t, f, nil)
	for _, headers := range [][]string{
		{"Origin", "https://evil.example", "Content-Type", "application/json"},
		{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/json"},
	} {
		if w := ask(s, "POST", "/v1/apps", headers...); w.Code != http.StatusForbidden {
			t.Errorf("POST with %v: %d, want 403", headers, w.Code)
		}
	}
	if w := ask(s, "POST", "/v1/apps", "Content-Type", "text/plain"); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form's content type: %d, want 415", w.Code)
	}
	if len(f.created) != 0 {
		t.Errorf("%d apps were made", len(f.created))
	}
}

type otherAddr struct {
	net.Listener
	addr net.Addr
}

func (o otherAddr) Addr() net.Addr { return o.addr }

func TestBeyondLoopbackNeedsToken(t *testing.T) {
	ln := listenOn(t, "127.0.0.1:0")
	for _, ip := range []string{"0.0.0.0", "10.1.2.3", "::", "2001:db8::1"} {
		far := otherAddr{ln, &net.TCPAddr{IP: net.ParseIP(ip), Port: 7180}}
		cfg := Config{Listeners: []net.Listener{ln, far}, Log: slog.New(slog.DiscardHandler)}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "--admin-token-file") {
			t.Errorf("listening on %s without a token: %v, want an error that names the flag", ip, err)
		}
		cfg.Token = "short"
		if err := cfg.Validate(); err == nil {
			t.Errorf("a token of 5 bytes is taken")
		}
		cfg.Token = goodToken
		if err := cfg.Validate(); err != nil {
			t.Errorf("listening on %s with a token: %v", ip, err)
		}
	}
}

func TestPprofOnlyWhenAsked(t *testing.T) {
	if w := ask(newServer(t, newFakeNode(), nil), "GET", "/debug/pprof/heap"); w.Code != http.StatusNotFound {
		t.Errorf("pprof unasked: %d, want 404", w.Code)
	}
	s := newServer(t, newFakeNode(), func(c *Config) { c.Pprof = true })
	if w := ask(s, "GET", "/debug/pprof/heap?debug=1"); w.Code != http.StatusOK {
		t.Errorf("pprof asked for: %d, want 200", w.Code)
	}
	if w := ask(s, "GET", "/debug/pprof/cmdline"); w.Code != http.StatusNotFound {
		t.Errorf("the command line: %d, want 404", w.Code)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	s := newServer(t, newFakeNode(), nil)
	r := httptest.NewRequest("POST", "/v1/apps", io.LimitReader(spaces{}, 10<<20))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("10 MiB of JSON: %d, want 413", w.Code)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestSecretsPrintAsStars(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewJSONHandler(&b, nil))
	secret := Secret("canary-secret-value")
	log.Info("x", "secret", secret, "body", AddSecret{Secret: secret}.Secret)
	if got := b.String(); strings.Contains(got, "canary") || !strings.Contains(got, "***") {
		t.Errorf("logged %s", got)
	}
	if got := secret.String() + secret.GoString(); strings.Contains(got, "canary") {
		t.Errorf("printed %s", got)
	}
}
