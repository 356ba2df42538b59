package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/wire"
)

type stateAnswer struct {
	StateID string `json:"stateId"`
}

func TestCreateIsVerbatim(t *testing.T) {
	r := newRig(t, nil)
	path := "/" + testApp.String() + "/create"
	padded := string(append([]byte{1, 2, 3}, make([]byte, 61)...))
	for i, c := range []struct{ name, auth, kind, body string }{
		{"raw token", r.token(testApp, "ann"), "application/octet-stream", "\x01\x02\x03"},
		{"bearer", "Bearer " + r.token(testApp, "ann"), "", "\x01"},
		{"bearer, lower case", "bearer " + r.token(testApp, "ann"), "", "{"},
		{"empty", r.token(testApp, "ann"), "application/octet-stream", ""},
		{"empty form", r.token(testApp, "ann"), "application/x-www-form-urlencoded", ""},
		{"padded to 64 bytes", r.token(testApp, "ann"), "application/octet-stream", padded},
		{"as large as allowed", r.token(testApp, "ann"), "application/json", strings.Repeat("x", 1<<20)},
	} {
		w := r.do("POST", path, c.body, "Authorization", c.auth, "Content-Type", c.kind)
		expect(t, c.name, w, 200, "")
		if got := decode[stateAnswer](t, w).StateID; got != strconv.FormatInt(int64(i+1), 36) {
			t.Errorf("%s: state %q", c.name, got)
		}
		got := r.rooms.requests()[i]
		if string(got.Data) != c.body || got.User != "ann" || got.App != testApp || got.Lobby != nil || got.Region != "" {
			t.Errorf("%s: asked for %d bytes, %+v", c.name, len(got.Data), got.User)
		}
	}
	r.rooms.create = func(context.Context, int) (wire.StateID, error) { return 1<<64 - 1, nil }
	w := r.do("POST", path, "", "Authorization", r.token(testApp, "ann"))
	if got := decode[stateAnswer](t, w).StateID; got != "3w5e11264sgsf" {
		t.Errorf("the largest state is written %q", got)
	}
	if used := r.bodies.inUse(); used != 0 {
		t.Errorf("%d bytes of bodies are still held", used)
	}
}

func TestCreateRefuses(t *testing.T) {
	r := newRig(t, nil)
	path := "/" + testApp.String() + "/create"
	good := r.token(testApp, "ann")
	for name, token := range map[string]string{
		"missing":        "",
		"undecodable":    "abc",
		"legacy":         "e30.eyJpZCI6ImFsaWNlIn0=",
		"bearer only":    "Bearer ",
		"another app's":  r.token(otherApp, "ann"),
		"altered":        good[:len(good)-4] + "AAAA",
		"larger than 8K": strings.Repeat("a", auth.MaxToken+1),
	} {
		expect(t, name, r.do("POST", path, "x", "Authorization", token), 403, "forbidden")
	}
	expect(t, "no such app", r.do("POST", "/"+nobody.String()+"/create", "", "Authorization", r.token(nobody, "ann")), 404, "app_not_found")
	expect(t, "too large", r.do("POST", path, strings.Repeat("x", 1<<20+1), "Authorization", good), 413, "body_too_large")
	expect(t, "long key", r.do("POST", path, "", "Authorization", good, "Idempotency-Key", strings.Repeat("k", 65)), 400, "bad_idempotency_key")
	if n := len(r.rooms.requests()); n != 0 {
		t.Errorf("%d states were made", n)
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("create: %w", ErrNoInstance), 503, "no_instance"},
		{fmt.Errorf("create: %w", ErrTooManyStates), 429, "too_many_states"},
		{fmt.Errorf("create: %w", ErrBusy), 503, "busy"},
		{context.Canceled, 503, "shutting_down"},
		{errors.New("disk\n\x1b[31m" + strings.Repeat("x", 1000)), 500, "internal"},
	} {
		r.rooms.create = func(context.Context, int) (wire.StateID, error) { return 0, c.err }
		expect(t, c.code, r.do("POST", path, "payload-canary", "Authorization", good), c.status, c.code)
	}
	log := r.log.String()
	if strings.ContainsAny(log, "\x1b") || strings.Count(log, "\n") != 1 || len(log) > 600 {
		t.Errorf("the log is not one short quoted line: %q", log)
	}
	if strings.Contains(log, "payload-canary") || strings.Contains(log, good) {
		t.Error("the log has a payload or a token")
	}
}

// A browser sends cookies for the page of another site: they open nothing, and no page may ask for answers with them.
func TestCookiesAreNoCredential(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(testApp, "ann")
	cookie := []string{"Cookie", "token=" + token + "; Authorization=" + token, "Origin", "https://evil.example"}
	app := "/" + testApp.String()
	for name, w := range map[string]*httptest.ResponseRecorder{
		"create": r.do("POST", app+"/create", "", cookie...),
		"lobby":  r.do("POST", "/lobby/v2"+app+"/create", "{}", cookie...),
		"users":  r.do("GET", app+"/users/ann", "", cookie...),
	} {
		if w.Code != 401 && w.Code != 403 {
			t.Errorf("%s: status %d", name, w.Code)
		}
		if w.Header().Get("Access-Control-Allow-Credentials") != "" || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
	if n := len(r.rooms.requests()); n != 0 {
		t.Errorf("%d states were made", n)
	}
}

func TestIdempotencyKey(t *testing.T) {
	r := newRig(t, nil)
	create := func(user, key, body string) *httptest.ResponseRecorder {
		return r.do("POST", "/"+testApp.String()+"/create", body, "Authorization", r.token(testApp, user), "Idempotency-Key", key)
	}
	state := func(name string, w *httptest.ResponseRecorder, want string) {
		t.Helper()
		expect(t, name, w, 200, "")
		if got := decode[stateAnswer](t, w).StateID; got != want {
			t.Errorf("%s: state %s, want %s", name, got, want)
		}
	}
	longest := strings.Repeat("k", 64)
	state("first", create("ann", longest, "a"), "1")
	state("again", create("ann", longest, "a"), "1")
	expect(t, "another body", create("ann", longest, "b"), 422, "idempotency_key_reused")
	state("another user", create("bob", longest, "a"), "2")
	state("another key", create("ann", "k2", "a"), "3")
	state("no key", create("ann", "", "a"), "4")
	state("no key", create("ann", "", "a"), "5")
	w := r.do("POST", "/"+otherApp.String()+"/create", "a", "Authorization", r.token(otherApp, "ann"), "Idempotency-Key", longest)
	state("another app", w, "6")
	r.clock.add(10*time.Minute - time.Second)
	state("just before ten minutes", create("ann", longest, "a"), "1")
	r.clock.add(time.Second)
	state("after ten minutes", create("ann", longest, "a"), "7")
	if n := r.attempts.size(); n != 1 {
		t.Errorf("%d attempts remembered", n)
	}
	r.rooms.create = func(context.Context, int) (wire.StateID, error) { return 0, ErrNoInstance }
	expect(t, "fails", create("ann", "f", "a"), 503, "no_instance")
	r.rooms.create = nil
	state("a failure is not remembered", create("ann", "f", "a"), "9")
	if n := r.counters.replayed.Load(); n != 2 {
		t.Errorf("%d replays counted", n)
	}
}

func TestDuplicatesInFlightWait(t *testing.T) {
	r := newRig(t, nil)
	began, release := make(chan struct{}), make(chan struct{})
	r.rooms.create = func(ctx context.Context, n int) (wire.StateID, error) {
		close(began)
		<-release
		return wire.StateID(n), ctx.Err()
	}
	token := r.token(testApp, "ann")
	request := func(ctx context.Context) *httptest.ResponseRecorder {
		q := httptest.NewRequestWithContext(ctx, "POST", "/"+testApp.String()+"/create", strings.NewReader("a"))
		q.Header.Set("Authorization", token)
		q.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		return w
	}
	leaves, leave := context.WithCancel(context.Background())
	answers := make(chan *httptest.ResponseRecorder, 11)
	go func() { answers <- request(leaves) }()
	<-began
	leave() // whoever asked first is gone; the others still get what it made
	var started sync.WaitGroup
	for range 10 {
		started.Add(1)
		go func() {
			started.Done()
			answers <- request(context.Background())
		}()
	}
	started.Wait()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	expect(t, "a duplicate that leaves", request(gone), 503, "shutting_down")
	close(release)
	for range cap(answers) {
		w := <-answers
		expect(t, "duplicate", w, 200, "")
		if got := decode[stateAnswer](t, w).StateID; got != "1" {
			t.Errorf("state %s", got)
		}
	}
	if n := len(r.rooms.requests()); n != 1 {
		t.Errorf("%d states were made", n)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	const most = 100
	at := newAttempts(most)
	now := time.Unix(0, 0)
	key := func(i int) [32]byte { return digest([]byte(strconv.Itoa(i))) }
	made := func() (created, error) { return created{state: 7}, nil }
	for i := range most + 10 {
		if _, _, err := at.do(context.Background(), key(i), key(i), now, made); err != nil {
			t.Fatal(err)
		}
	}
	if n := at.size(); n != most || len(at.byKey) != most {
		t.Errorf("%d attempts, %d keys", n, len(at.byKey))
	}
	if _, replayed, _ := at.do(context.Background(), key(0), key(0), now, made); replayed {
		t.Error("the oldest was not forgotten")
	}
	// One in flight for long holds up nobody but itself, until all are.
	full := newAttempts(most)
	for i := range most {
		if _, first, err := full.begin(key(i), key(i), now); !first || err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := full.begin(key(-1), key(-1), now); !errors.Is(err, problemBusy) {
		t.Errorf("all in flight: %v", err)
	}
}

func TestAttemptThatPanics(t *testing.T) {
	r := newRig(t, nil)
	r.rooms.create = func(context.Context, int) (wire.StateID, error) { panic("secret-canary") }
	token := r.token(testApp, "ann")
	for range 2 {
		w := r.do("POST", "/"+testApp.String()+"/create", "", "Authorization", token, "Idempotency-Key", "k")
		expect(t, "panic", w, 500, "internal")
	}
	if n := r.counters.panics.Load(); n != 2 || r.attempts.size() != 0 {
		t.Errorf("%d panics, %d attempts left", n, r.attempts.size())
	}
	if strings.Contains(r.log.String(), "secret-canary") || !strings.Contains(r.log.String(), "ended in a panic") {
		t.Errorf("log: %s", r.log)
	}
	r.rooms.create = func(context.Context, int) (wire.StateID, error) { panic(http.ErrAbortHandler) }
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the server does not learn that the connection is to be closed")
		}
	}()
	r.do("POST", "/"+testApp.String()+"/create", "", "Authorization", token)
}

func TestLobbyCreate(t *testing.T) {
	r := newRig(t, nil)
	path := "/lobby/v2/" + testApp.String() + "/create"
	token := r.token(testApp, "ann")
	w := r.do("POST", path, `{"visibility":"public","region":"Washington_DC","initialConfig":{ "map": "a>b" }}`, "Authorization", token, "Content-Type", "application/json")
	expect(t, "client-sdk 1.3.1", w, 201, "")
	got := decode[map[string]any](t, w)
	want := map[string]any{
		"roomId": "1", "appId": testApp.String(), "region": "Washington_DC", "visibility": "public", "createdBy": "ann",
		"createdAt": "2027-01-15T08:00:00.000Z", "local": false, "shortCode": nil, "initialConfig": map[string]any{"map": "a>b"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("lobby %v\nwant  %v", got, want)
	}
	asked := r.rooms.requests()[0]
	if string(asked.Data) != `{ "map": "a>b" }` || asked.Region != "Washington_DC" || asked.User != "ann" {
		t.Errorf("asked for %q in %q by %q", asked.Data, asked.Region, asked.User)
	}
	if l := asked.Lobby; l == nil || l.State != 0 || l.Visibility != "public" || l.CreatedBy != "ann" || !l.CreatedAt.Equal(r.clock.time()) {
		t.Errorf("lobby asked for %+v", l)
	}
	w = r.do("POST", path, `{"visibility":"local"}`, "Authorization", "Bearer "+token)
	expect(t, "as little as possible", w, 201, "")
	if asked := r.rooms.requests()[1]; string(asked.Data) != "{}" || !decode[lobby](t, w).Local {
		t.Errorf("asked for %q, answered %s", asked.Data, w.Body)
	}
	first := r.do("POST", path, `{"visibility":"private"}`, "Authorization", token, "Idempotency-Key", "k")
	r.clock.add(time.Minute)
	again := r.do("POST", path, `{"visibility":"private"}`, "Authorization", token, "Idempotency-Key", "k")
	if first.Body.String() != again.Body.String() || first.Code != 201 || len(r.rooms.requests()) != 3 {
		t.Errorf("replayed %s, want %s", again.Body, first.Body)
	}
	w = r.do("POST", "/"+testApp.String()+"/create", `{"visibility":"private"}`, "Authorization", token, "Idempotency-Key", "k")
	expect(t, "the key at another endpoint", w, 422, "idempotency_key_reused")

	for _, c := range []struct {
		name, token, body string
		status            int
		code              string
	}{
		{"no token", "", `{"visibility":"public"}`, 401, "unauthorized"},
		{"another app's token", r.token(otherApp, "ann"), `{"visibility":"public"}`, 401, "unauthorized"},
		{"no body", token, "", 400, "malformed_json"},
		{"malformed", token, `{"visibility":`, 400, "malformed_json"},
		{"no visibility", token, `{}`, 400, "bad_lobby"},
		{"odd visibility", token, `{"visibility":"secret"}`, 400, "bad_lobby"},
		{"long region", token, `{"visibility":"public","region":"` + strings.Repeat("r", 65) + `"}`, 400, "bad_lobby"},
		{"odd region", token, `{"visibility":"public","region":"a\nb"}`, 400, "bad_lobby"},
		{"large config", token, `{"visibility":"public","initialConfig":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "body_too_large"},
		{"large body", token, strings.Repeat(" ", 2<<20), 413, "body_too_large"},
	} {
		expect(t, c.name, r.do("POST", path, c.body, "Authorization", c.token), c.status, c.code)
	}
	expect(t, "no such app", r.do("POST", "/lobby/v2/abc/create", "", "Authorization", token), 404, "app_not_found")
	r.rooms.create = func(context.Context, int) (wire.StateID, error) { return 0, ErrNoInstance }
	expect(t, "no instance", r.do("POST", path, `{"visibility":"public"}`, "Authorization", token), 503, "no_instance")
}

func TestLobbyList(t *testing.T) {
	r := newRig(t, nil)
	path := "/lobby/v2/" + testApp.String() + "/list/public"
	w := r.do("GET", path, "")
	expect(t, "none", w, 200, "")
	if w.Body.String() != "[]" || r.rooms.limit != 1000 {
		t.Errorf("%s, limit %d", w.Body, r.rooms.limit)
	}
	for i := range 1100 {
		r.rooms.lobbies = append(r.rooms.lobbies, Lobby{State: wire.StateID(i), Visibility: "public", Region: "London", CreatedBy: "ann", CreatedAt: time.Unix(1_700_000_000, 5e6)})
	}
	w = r.do("GET", path+"?region=London", "", "Authorization", "whatever")
	expect(t, "many", w, 200, "")
	got := decode[[]lobby](t, w)
	if len(got) != 1000 || r.rooms.region != "London" {
		t.Fatalf("%d lobbies of %q", len(got), r.rooms.region)
	}
	want := lobby{RoomID: "rr", AppID: testApp.String(), Region: "London", Visibility: "public", CreatedBy: "ann", CreatedAt: "2023-11-14T22:13:20.005Z"}
	if fmt.Sprint(got[999]) != fmt.Sprint(want) {
		t.Errorf("lobby %+v, want %+v", got[999], want)
	}
	expect(t, "odd region", r.do("GET", path+"?region=%0a", ""), 400, "bad_lobby")
	expect(t, "no such app", r.do("GET", "/lobby/v2/abc/list/public", ""), 404, "app_not_found")
}

func TestConnectionInfo(t *testing.T) {
	type info struct {
		Status, TransportType, Host, RoomID string
		Port                                int
	}
	secure := func(c *Config, _ *Deps) { c.Secure = func(*http.Request) bool { return true } }
	public := func(u string) func(*Config, *Deps) { return func(c *Config, _ *Deps) { c.PublicURL = u } }
	for _, c := range []struct {
		name   string
		change func(*Config, *Deps)
		host   string
		want   info
	}{
		{"host and port", nil, "edge.test:8080", info{Host: "edge.test", Port: 8080, TransportType: "tcp"}},
		{"host alone", nil, "edge.test", info{Host: "edge.test", Port: 80, TransportType: "tcp"}},
		{"TLS", secure, "edge.test", info{Host: "edge.test", Port: 443, TransportType: "tls"}},
		{"TLS and port", secure, "edge.test:8443", info{Host: "edge.test", Port: 8443, TransportType: "tls"}},
		{"IPv4", nil, "127.0.0.1:8080", info{Host: "127.0.0.1", Port: 8080, TransportType: "tcp"}},
		{"IPv6", nil, "[::1]:8080", info{Host: "[::1]", Port: 8080, TransportType: "tcp"}},
		{"IPv6 alone", nil, "[::1]", info{Host: "[::1]", Port: 80, TransportType: "tcp"}},
		{"public URL", public("https://edge.example.com:8443"), "evil.test:1", info{Host: "edge.example.com", Port: 8443, TransportType: "tls"}},
		{"public URL without port", public("wss://edge.example.com/"), "evil.test", info{Host: "edge.example.com", Port: 443, TransportType: "tls"}},
		{"plain public URL", public("http://edge.example.com"), "x", info{Host: "edge.example.com", Port: 80, TransportType: "tcp"}},
		{"plain public WebSocket", public("ws://[2001:db8::1]:81"), "x", info{Host: "[2001:db8::1]", Port: 81, TransportType: "tcp"}},
	} {
		r := newRig(t, c.change)
		w := r.do("GET", "/rooms/v1/"+testApp.String()+"/connectioninfo/00MF9g063v08f", "", "Host", c.host)
		expect(t, c.name, w, 200, "")
		c.want.Status, c.want.RoomID = "active", "mf9g063v08f"
		if got := decode[info](t, w); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	r := newRig(t, nil)
	r.rooms.pending = map[wire.StateID]bool{7: true}
	path := "/rooms/v1/" + testApp.String() + "/connectioninfo/"
	if w := r.do("GET", path+"7", ""); w.Body.String() != `{"status":"starting","roomId":"7"}` {
		t.Errorf("a pending state: %s", w.Body)
	}
	for _, id := range []string{"3w5e11264sgsg", "-1", "+1", "a_b", "%20", "zzzzzzzzzzzzzzzzzzzzzzzz", "é", "a%2fb"} {
		expect(t, "id "+id, r.do("GET", path+id, ""), 400, "bad_state_id")
	}
	expect(t, "zero is legal", r.do("GET", path+"0", ""), 200, "")
	expect(t, "no such app", r.do("GET", "/rooms/v1/abc/connectioninfo/7", ""), 404, "app_not_found")
	for _, host := range []string{"a b", "evil.test/x", "evil.test:99999", "evil.test:0", "evil.test:x", "[::1", "[1.2.3.4]", "[::1]x", `"><script>`, strings.Repeat("a", 254), ":80", "user@host"} {
		expect(t, "host "+host, r.do("GET", path+"8", "", "Host", host), 400, "bad_host")
	}
}

func TestRegisterApp(t *testing.T) {
	r := newRig(t, nil)
	seen := map[string]bool{}
	for _, header := range [][]string{nil, {"Content-Type", "application/x-www-form-urlencoded"}} {
		w := r.do("POST", "/registerApp", "", header...)
		expect(t, "open", w, 200, "")
		got := decode[struct{ AppID, AppSecret string }](t, w)
		if got.AppID != wire.AppIDOf(got.AppSecret).String() || auth.Secret(got.AppSecret).Weak() || seen[got.AppID] {
			t.Errorf("registered %+v", got)
		}
		if strings.Contains(r.log.String(), got.AppSecret) {
			t.Error("the secret is in the log")
		}
		seen[got.AppID] = true
	}
	listed := newRig(t, func(c *Config, _ *Deps) { c.Listed = true })
	w := listed.do("POST", "/registerApp", "")
	expect(t, "listed", w, 403, "apps_listed")
	if !strings.Contains(w.Body.String(), "trunkline apps create") {
		t.Errorf("it does not say how: %s", w.Body)
	}
}

func TestBodyBudget(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.MaxBodies = 200 << 10 })
	path := "/" + testApp.String() + "/create"
	token := r.token(testApp, "ann")
	expect(t, "over the budget", r.do("POST", path, strings.Repeat("x", 300<<10), "Authorization", token), 503, "busy")
	hold, held := make(chan struct{}), make(chan struct{})
	r.rooms.create = func(context.Context, int) (wire.StateID, error) {
		close(held)
		<-hold
		return 1, nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.do("POST", path, strings.Repeat("x", 80<<10), "Authorization", token)
	}()
	<-held
	expect(t, "while another holds most of the app's half", r.do("POST", path, strings.Repeat("x", 40<<10), "Authorization", token), 503, "busy")
	r.rooms.create = nil
	other := "/" + otherApp.String() + "/create"
	expect(t, "another app", r.do("POST", other, strings.Repeat("x", 40<<10), "Authorization", r.token(otherApp, "ann")), 200, "")
	close(hold)
	<-done
	expect(t, "when it is given back", r.do("POST", path, strings.Repeat("x", 80<<10), "Authorization", token), 200, "")
	if used := r.bodies.inUse(); used != 0 || len(r.bodies.of) != 0 {
		t.Errorf("%d bytes are still held, %d apps have some", used, len(r.bodies.of))
	}
}

func TestLobbyJSONIsOurs(t *testing.T) {
	// What the list shows comes from other clients: it must come out as text.
	r := newRig(t, nil)
	r.rooms.lobbies = []Lobby{{Region: "a", CreatedBy: `"},{"roomId":"x`}}
	w := r.do("GET", "/lobby/v2/"+testApp.String()+"/list/public", "")
	if got := decode[[]lobby](t, w); len(got) != 1 || got[0].CreatedBy != `"},{"roomId":"x` || !json.Valid(bytes.TrimSpace(w.Body.Bytes())) {
		t.Errorf("list %s", w.Body)
	}
}
