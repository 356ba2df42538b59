package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

func TestPaths(t *testing.T) {
	r := newRig(t, nil)
	app := "/" + testApp.String()
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/livez", 200, "", ""},
		{"HEAD", "/livez", 200, "", ""},
		{"GET", "/readyz", 200, "", ""},
		{"GET", "/.well-known/jwks.json", 200, "", ""},
		{"GET", app, 426, "upgrade_required", ""},
		{"GET", "/mf9g063v08f", 426, "upgrade_required", ""},
		{"GET", "/mf9g063v08f?token=abc", 426, "upgrade_required", ""},
		{"GET", "/favicon.ico", 426, "upgrade_required", ""},
		{"GET", "/connect" + app, 426, "upgrade_required", ""},
		{"GET", "/registerApp", 405, "method_not_allowed", "POST"},
		{"GET", app + "/create", 405, "method_not_allowed", "POST"},
		{"PUT", app + "/create", 405, "method_not_allowed", "POST"},
		{"DELETE", "/users/a", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", app + "/login/anonymous", 405, "method_not_allowed", "POST"},
		{"POST", "/livez", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", "/", 404, "not_found", ""},
		{"GET", app + "/login", 404, "not_found", ""},
		{"GET", app + "/x/y/z", 404, "not_found", ""},
		{"POST", "/nonsense/x/y", 404, "not_found", ""},
		{"POST", "/login/anonymous", 404, "not_found", ""},
		{"BREW", app + "/create", 405, "method_not_allowed", "POST"},
		{"GET", "/rooms/v1" + app + "/connectioninfo/", 404, "not_found", ""},
		{"GET", "/metrics/x", 404, "not_found", ""},
		{"GET", "/debug/pprof/", 404, "not_found", ""},
	} {
		w := r.do(c.method, c.path, "")
		expect(t, c.method+" "+c.path, w, c.status, c.code)
		if got := w.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
		if w.Code == 426 && w.Header().Get("Upgrade") != "websocket" {
			t.Errorf("%s %s: 426 does not say what to upgrade to", c.method, c.path)
		}
	}
	if strings.Contains(r.log.String(), "token=abc") {
		t.Error("a token in a URL was logged")
	}
}

func TestCORS(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/" + testApp.String() + "/create", "/registerApp", "/nonsense", "/auth/v1/x/login/anonymous"} {
		w := r.do("OPTIONS", path, "", "Origin", "https://game.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type")
		h := w.Header()
		if w.Code != 204 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "GET,HEAD,PUT,PATCH,POST,DELETE" ||
			h.Get("Access-Control-Allow-Headers") != "authorization,content-type" || w.Body.Len() != 0 {
			t.Errorf("%s: preflight %d %v", path, w.Code, h)
		}
		if h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials are allowed", path)
		}
	}
	if w := r.do("OPTIONS", "/registerApp", ""); w.Code != 204 || w.Header().Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("without asked headers: %d %v", w.Code, w.Header())
	}
	for _, origin := range []string{"null", "https://game.example"} {
		w := r.do("GET", "/livez", "", "Origin", origin)
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("origin %s is not welcome", origin)
		}
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t, nil)
	if w := r.do("GET", "/livez", ""); w.Body.String() != `{"status":"ok"}` {
		t.Errorf("livez %s", w.Body)
	}
	r.ready = errors.New("the node is leaving")
	w := r.do("GET", "/readyz", "")
	expect(t, "not ready", w, 503, "not_ready")
	if !strings.Contains(w.Body.String(), "the node is leaving") {
		t.Errorf("it does not say why: %s", w.Body)
	}
	expect(t, "alive all the same", r.do("GET", "/livez", ""), 200, "")
}

func TestJWKS(t *testing.T) {
	r := newRig(t, nil)
	w := r.do("GET", "/.well-known/jwks.json", "")
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["kid"] != "n1.1" || set.Keys[0]["d"] != "" {
		t.Errorf("key set %s", w.Body)
	}
	if !strings.Contains(w.Header().Get("Cache-Control"), "max-age") {
		t.Errorf("Cache-Control %q", w.Header().Get("Cache-Control"))
	}
}

func TestNewRefuses(t *testing.T) {
	good := newRig(t, nil).deps
	for name, change := range map[string]func(*Config, *Deps){
		"tokens":     func(_ *Config, d *Deps) { d.Tokens = nil },
		"ready":      func(_ *Config, d *Deps) { d.Ready = nil },
		"log":        func(_ *Config, d *Deps) { d.Log = nil },
		"limit":      func(c *Config, _ *Deps) { c.LoginsPerSecond = -1 },
		"no URL":     func(c *Config, _ *Deps) { c.PublicURL = "edge.example.com" },
		"scheme":     func(c *Config, _ *Deps) { c.PublicURL = "ftp://edge.example.com" },
		"path":       func(c *Config, _ *Deps) { c.PublicURL = "https://edge.example.com/x" },
		"user":       func(c *Config, _ *Deps) { c.PublicURL = "https://u@edge.example.com" },
		"port":       func(c *Config, _ *Deps) { c.PublicURL = "https://edge.example.com:0" },
		"characters": func(c *Config, _ *Deps) { c.PublicURL = "https://edge_example.com" },
	} {
		cfg, deps := Config{}, good
		change(&cfg, &deps)
		if _, err := New(cfg, deps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a, err := New(Config{}, good)
	if err != nil || a.cfg.LoginsPerSecond != DefaultLogins || a.cfg.Secure(&http.Request{}) {
		t.Errorf("defaults %+v, %v", a, err)
	}
}

func TestCollect(t *testing.T) {
	r := newRig(t, nil)
	r.do("GET", "/livez", "")
	r.do("GET", "/livez", "")
	r.do("GET", "/nosuch/x/y/z", "")
	r.do("OPTIONS", "/livez", "")
	r.do("POST", "/"+testApp.String()+"/create", "")
	got := map[string]float64{}
	r.Collect(func(name string, value float64, labels ...string) { got[name+" "+strings.Join(labels, " ")] = value })
	for name, want := range map[string]float64{
		"http_requests_total endpoint livez status 200":     2,
		"http_requests_total endpoint none status 404":      1,
		"http_requests_total endpoint preflight status 204": 1,
		"http_requests_total endpoint create status 403":    1,
		"http_panics_total ":                                0,
		"logins_limited_total ":                             0,
		"logins_not_kept_total ":                            0,
		"create_replayed_total ":                            0,
		"create_body_bytes ":                                0,
		"idempotency_keys ":                                 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	for name := range got {
		if strings.Contains(name, testApp.String()) {
			t.Errorf("an app is in a label: %s", name)
		}
	}
}

// dial opens a connection to a real server that serves the rig.
func dial(t *testing.T, r *rig) net.Conn {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func readAnswer(t *testing.T, conn net.Conn) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestLargeBodyIsRefusedUnread(t *testing.T) {
	r := newRig(t, nil)
	conn := dial(t, r)
	// Not one byte of the body is sent; the client asks first.
	_, err := fmt.Fprintf(conn, "POST /%s/create HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nExpect: 100-continue\r\nContent-Length: 4294967296\r\n\r\n",
		testApp, r.token(testApp, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	resp, body := readAnswer(t, conn)
	if resp.StatusCode != 413 || !resp.Close || !strings.Contains(body, "body_too_large") {
		t.Errorf("%d, close %v, %s", resp.StatusCode, resp.Close, body)
	}
}

func TestChunkedBodyIsCut(t *testing.T) {
	r := newRig(t, nil)
	r.apps.max = 100
	for _, c := range []struct {
		chunks string
		status int
	}{
		{"64\r\n" + strings.Repeat("x", 100) + "\r\n0\r\n\r\n", 200},
		{"65\r\n" + strings.Repeat("x", 101) + "\r\n0\r\n\r\n", 413},
		{"zz\r\n", 400},
	} {
		conn := dial(t, r)
		_, err := fmt.Fprintf(conn, "POST /%s/create HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s",
			testApp, r.token(testApp, "ann"), c.chunks)
		if err != nil {
			t.Fatal(err)
		}
		if resp, body := readAnswer(t, conn); resp.StatusCode != c.status {
			t.Errorf("%.10q: %d %s, want %d", c.chunks, resp.StatusCode, body, c.status)
		}
	}
}

func TestBodyProblems(t *testing.T) {
	// The deadline of a connection that is too slow, as net reports it.
	client, server := net.Pipe()
	defer func() { _, _ = client.Close(), server.Close() }()
	if err := server.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := server.Read(make([]byte, 1))
	if got := bodyProblem(err); got != problemSlow {
		t.Errorf("%v gives %v", err, got)
	}
	if got := bodyProblem(io.ErrUnexpectedEOF); got != problemBody {
		t.Errorf("a cut body gives %v", got)
	}
}

// deadlines records the read deadlines set on a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// paceOf is a body that comes in pieces of some bytes, each after a pause.
type paceOf []struct {
	pause time.Duration
	bytes int
}

func (p *paceOf) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	piece := (*p)[0]
	*p = (*p)[1:]
	time.Sleep(piece.pause)
	return copy(b, strings.Repeat("x", piece.bytes)), nil
}

func TestDeadlineMovesWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		q := httptest.NewRequest("POST", "/"+testApp.String()+"/create", &paceOf{
			{4 * time.Second, 1 << 10}, // 1 s is earned
			{0, 2 << 10},               // 2 s
			{0, 8 << 10},               // 8 s, of which 7 are too much: no pause may be longer than 10 s
			{9 * time.Second, 1},       // almost nothing
		})
		q.Header.Set("Authorization", r.token(testApp, "ann"))
		began := time.Now()
		r.ServeHTTP(w, q)
		want := []time.Duration{10 * time.Second, 11 * time.Second, 13 * time.Second, 14 * time.Second, 14*time.Second + time.Second/bodyRate}
		if w.Code != 200 || len(w.set) != len(want)+1 {
			t.Fatalf("%d, %d deadlines", w.Code, len(w.set))
		}
		for i := range want {
			if got := w.set[i].Sub(began); got != want[i] {
				t.Errorf("after %d pieces the body may take %v in all, want %v", i, got, want[i])
			}
		}
		if !w.set[len(want)].IsZero() {
			t.Error("a deadline stays for the time after the body")
		}
	})
}

func TestClientThatLeavesDuringCreate(t *testing.T) {
	r := newRig(t, nil)
	began, ended := make(chan struct{}), make(chan error, 1)
	r.rooms.create = func(ctx context.Context, _ int) (wire.StateID, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	}
	conn := dial(t, r)
	if _, err := fmt.Fprintf(conn, "POST /%s/create HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 1\r\n\r\nx", testApp, r.token(testApp, "ann")); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the create ended with %v", err)
	}
}
