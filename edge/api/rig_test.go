package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/wire"
)

const testSecret = "s3cr3t"

var (
	testApp  = wire.AppIDOf(testSecret)
	otherApp = wire.AppIDOf("other")
	nobody   = wire.AppIDOf("nobody's")
)

// testRooms makes states 1, 2, 3 …, or does what a test says.
type testRooms struct {
	mu      sync.Mutex
	asked   []CreateRequest
	create  func(ctx context.Context, n int) (wire.StateID, error)
	lobbies []Lobby
	region  string
	limit   int
	pending map[wire.StateID]bool
}

func (r *testRooms) Create(ctx context.Context, q CreateRequest) (wire.StateID, error) {
	r.mu.Lock()
	q.Data = bytes.Clone(q.Data)
	r.asked = append(r.asked, q)
	n, create := len(r.asked), r.create
	r.mu.Unlock()
	if create != nil {
		return create(ctx, n)
	}
	return wire.StateID(n), nil
}

func (r *testRooms) Lobbies(_ wire.AppID, region string, limit int) []Lobby {
	r.region, r.limit = region, limit
	return r.lobbies
}

func (r *testRooms) Status(_ wire.AppID, state wire.StateID) bool { return !r.pending[state] }

func (r *testRooms) requests() []CreateRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]CreateRequest(nil), r.asked...)
}

// testApps allows every app but nobody.
type testApps struct {
	login auth.LoginConfig
	max   int
}

func (a *testApps) Allowed(app wire.AppID) bool       { return app != nobody }
func (a *testApps) Login(wire.AppID) auth.LoginConfig { return a.login }
func (a *testApps) MaxMessage(wire.AppID) int         { return a.max }
func (a *testApps) HasSecret(app wire.AppID, s auth.Secret) bool {
	return app == wire.AppIDOf(string(s))
}

// testLogins keeps logins by app and id.
type testLogins map[[2]string]auth.Identity

func (l testLogins) Put(app string, id auth.Identity) bool {
	id.Email, id.Locale, id.Picture = "", "", ""
	l[[2]string{app, id.ID}] = id
	return true
}

func (l testLogins) Get(app, id string) (auth.Identity, bool) {
	who, ok := l[[2]string{app, id}]
	return who, ok
}

func (l testLogins) Find(id string) (who auth.Identity, ok bool) {
	n := 0
	for k, v := range l {
		if k[1] == id {
			who = v
			n++
		}
	}
	return who, n == 1
}

type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type rig struct {
	*API
	t     *testing.T
	clock *testClock
	rooms *testRooms
	apps  *testApps
	log   *bytes.Buffer
	ready error
}

func newRig(t *testing.T, change func(*Config, *Deps)) *rig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, clock: &testClock{now: time.Unix(1_800_000_000, 0)}, rooms: &testRooms{}, apps: &testApps{max: 1 << 20}, log: &bytes.Buffer{},
	}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, os.Stderr), &slog.HandlerOptions{Level: slog.LevelDebug}))
	tokens, err := auth.NewTokens(auth.Config{
		Issuer: "test", KeyID: "n1.1", Private: private, Clock: r.clock.time,
		Public: func(kid string) (ed25519.PublicKey, bool) { return public, kid == "n1.1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	providers, err := auth.NewProviders(auth.ProvidersConfig{MACKey: [32]byte{1}, Clock: r.clock.time, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{LoginsPerSecond: 1000}
	deps := Deps{
		Tokens: tokens, Providers: providers, Logins: testLogins{}, Apps: r.apps, Rooms: r.rooms,
		Keys:  func() map[string]ed25519.PublicKey { return map[string]ed25519.PublicKey{"n1.1": public} },
		Ready: func() error { return r.ready },
		Clock: r.clock.time,
		Log:   log,
	}
	if change != nil {
		change(&cfg, &deps)
	}
	if r.API, err = New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	return r
}

// do sends one request; header is pairs of name and value.
func (r *rig) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	q := httptest.NewRequest(method, "http://edge.test:8080"+path, in)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			q.Host = header[i+1]
			continue
		}
		q.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

// token mints a token for a user of an app.
func (r *rig) token(app wire.AppID, user string) string {
	r.t.Helper()
	token, err := r.deps.Tokens.Mint(app.String(), auth.Identity{Type: auth.TypeNickname, ID: user, Name: user})
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// expect checks status and code (""": any answer that is no refusal), and that a
// refusal has a sentence.
func expect(t *testing.T, name string, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var got struct{ Code, Message string }
	_ = json.Unmarshal(w.Body.Bytes(), &got)
	if w.Code != status || got.Code != code {
		t.Errorf("%s: %d %s, want %d %q", name, w.Code, w.Body, status, code)
		return
	}
	if code != "" && (!strings.HasSuffix(got.Message, ".") || !strings.Contains(got.Message, " ") || w.Header().Get("Content-Type") != "application/json") {
		t.Errorf("%s: the refusal has no sentence: %s (%s)", name, w.Body, w.Header().Get("Content-Type"))
	}
	if retry := w.Header().Get("Retry-After"); (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && retry == "" {
		t.Errorf("%s: %d without Retry-After", name, status)
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%s: no CORS header", name)
	}
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return out
}
