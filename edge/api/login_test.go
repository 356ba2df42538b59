package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/wire"
)

type tokenAnswer struct {
	Token string `json:"token"`
}

func TestLoginBodies(t *testing.T) {
	r := newRig(t, nil)
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, method, kind, body string
		status                   int
		code, nickname           string
	}{
		{"axios, empty form", "anonymous", form, "", 200, "", ""},
		{"no content type", "anonymous", "", "", 200, "", ""},
		{"{}", "anonymous", "", "{}", 200, "", ""},
		{"{} as JSON", "anonymous", "application/json", "{}", 200, "", ""},
		{"{} as a form", "anonymous", form, "{}", 200, "", ""},
		{"null", "anonymous", "application/json", "null", 200, "", ""},
		{"odd content type", "anonymous", ";;;", "{}", 200, "", ""},
		{"malformed", "anonymous", "application/json", "{", 400, "malformed_json", ""},
		{"garbage", "anonymous", "text/plain", "hello", 400, "malformed_json", ""},
		{"too large", "anonymous", "application/json", strings.Repeat(" ", maxLoginBody+1), 413, "body_too_large", ""},
		{"TypeScript", "nickname", "application/json", `{"nickname":"Zoë"}`, 200, "", "Zoë"},
		{"with charset", "nickname", "application/json; charset=utf-8", `{"nickname":"a"}`, 200, "", "a"},
		{"no content type", "nickname", "", `{"nickname":"a"}`, 200, "", "a"},
		{"C# and Rust, no body", "nickname", "", "", 200, "", "*"},
		{"empty form", "nickname", form, "", 200, "", "*"},
		{"{}", "nickname", "", "{}", 200, "", "*"},
		{"form", "nickname", form, "nickname=a%20b", 200, "", "a b"},
		{"broken form", "nickname", form, "nickname=%zz", 400, "malformed_json", ""},
		{"extra keys", "nickname", "application/json", `{"nickname":"a","x":[1]}`, 200, "", "a"},
		{"number", "nickname", "application/json", `{"nickname":7}`, 400, "malformed_json", ""},
		{"list", "nickname", "application/json", `["a"]`, 400, "malformed_json", ""},
		{"two values", "nickname", "application/json", `{"nickname":"a"}{}`, 400, "malformed_json", ""},
		{"long", "nickname", "application/json", `{"nickname":"` + strings.Repeat("x", 129) + `"}`, 400, "bad_nickname", ""},
		{"google", "google", "application/json", `{"idToken":"x"}`, 404, "login_disabled", ""},
		{"email", "email", "application/json", `{"didToken":"x"}`, 404, "login_disabled", ""},
		{"unknown", "acme", "", "", 404, "login_disabled", ""},
	} {
		for _, path := range []string{"/" + testApp.String() + "/login/", "/auth/v1/" + testApp.String() + "/login/"} {
			name := c.method + ", " + c.name + ", " + path[:6]
			var header []string
			if c.kind != "" {
				header = []string{"Content-Type", c.kind}
			}
			w := r.do("POST", path+c.method, c.body, header...)
			expect(t, name, w, c.status, c.code)
			if c.status != 200 || w.Code != 200 {
				continue
			}
			v, err := r.deps.Tokens.Verify([]byte(decode[tokenAnswer](t, w).Token))
			if err != nil || v.App != testApp.String() || v.Type != c.method {
				t.Errorf("%s: token says %+v, %v", name, v, err)
			}
			if c.nickname != "" && c.nickname != "*" && v.Name != c.nickname || v.Name == "" {
				t.Errorf("%s: name %q", name, v.Name)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: a token may be cached", name)
			}
		}
	}
}

func TestLoginApps(t *testing.T) {
	r := newRig(t, nil)
	for name, path := range map[string]string{
		"not allowed": "/" + nobody.String() + "/login/anonymous",
		"upper case":  "/" + strings.ToUpper(testApp.String()) + "/login/anonymous",
		"short":       "/abc/login/anonymous",
		"cloud":       "/auth/v1/abc/login/anonymous",
	} {
		expect(t, name, r.do("POST", path, ""), 404, "app_not_found")
	}
}

// provided answers google logins.
type provided struct {
	Providers
	id  auth.Identity
	err error
	got auth.LoginRequest
}

func (p *provided) Login(_ context.Context, q auth.LoginRequest) (auth.Identity, error) {
	p.got = q
	return p.id, p.err
}

func TestLoginConfigured(t *testing.T) {
	p := &provided{}
	r := newRig(t, func(_ *Config, d *Deps) { p.Providers, d.Providers = d.Providers, p })
	r.apps.login = auth.LoginConfig{Configured: true, Google: []string{"client"}}
	path := "/" + testApp.String() + "/login/"
	for _, method := range []string{"anonymous", "nickname"} {
		expect(t, method, r.do("POST", path+method, ""), 404, "login_disabled")
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{nil, 200, ""},
		{auth.ErrCredential, 401, "invalid_credential"},
		{auth.ErrUnavailable, 503, "issuer_unavailable"},
		{auth.ErrLoginDisabled, 404, "login_disabled"},
		{context.DeadlineExceeded, 503, "shutting_down"},
		{http.ErrBodyNotAllowed, 500, "internal"},
	} {
		p.id, p.err = auth.Identity{Type: "google", ID: "42", Name: "Ann", Email: "ann@example.org"}, c.err
		w := r.do("POST", path+"google", `{"idToken":"the-token"}`)
		expect(t, fmt.Sprint(c.err), w, c.status, c.code)
		if p.got.IDToken != "the-token" || p.got.Method != "google" {
			t.Errorf("%v: asked for %+v", c.err, p.got)
		}
	}
	if who, ok := r.deps.Logins.Get(testApp.String(), "42"); !ok || who.Name != "Ann" || who.Email != "" {
		t.Errorf("the store has %+v, %v", who, ok)
	}
	// An identity that cannot be put into a token is our mistake.
	p.id, p.err = auth.Identity{Type: "google"}, nil
	expect(t, "no id", r.do("POST", path+"google", `{"idToken":"the-token"}`), 500, "internal")
	if strings.Contains(r.log.String(), "the-token") || strings.Contains(r.log.String(), "ann@example.org") {
		t.Errorf("the log tells too much: %s", r.log)
	}
}

// full is a login store without room.
type full struct{ Logins }

func (full) Put(string, auth.Identity) bool { return false }

func TestLoginWithoutRoomInTheStore(t *testing.T) {
	r := newRig(t, func(_ *Config, d *Deps) { d.Logins = full{d.Logins} })
	expect(t, "login", r.do("POST", "/"+testApp.String()+"/login/nickname", `{"nickname":"a"}`), 200, "")
	if r.counters.unkept.Load() != 1 {
		t.Error("not counted")
	}
}

func TestLoginLimit(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.LoginsPerSecond = 2 })
	path := "/" + testApp.String() + "/login/anonymous"
	from := func(addr, path string) *httptest.ResponseRecorder {
		q := httptest.NewRequest("POST", path, nil)
		q.RemoteAddr = addr
		// Headers that name another address change nothing.
		q.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", r.clock.time().Second()))
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		return w
	}
	for range 4 {
		expect(t, "within the burst", from("192.0.2.1:1000", path), 200, "")
	}
	expect(t, "beyond it", from("192.0.2.1:1001", path), 429, "too_many_requests")
	expect(t, "registerApp too", from("192.0.2.1:1001", "/registerApp"), 429, "too_many_requests")
	expect(t, "IPv4 in IPv6 is the same", from("[::ffff:192.0.2.1]:1", path), 429, "too_many_requests")
	expect(t, "a neighbour", from("192.0.2.2:1000", path), 200, "")
	for i := range 4 {
		expect(t, "one /64", from(fmt.Sprintf("[2001:db8::%d]:1", i), path), 200, "")
	}
	expect(t, "one /64, beyond", from("[2001:db8::ffff]:1", path), 429, "too_many_requests")
	expect(t, "another /64", from("[2001:db8:0:1::1]:1", path), 200, "")
	r.clock.add(time.Second)
	expect(t, "a second later", from("192.0.2.1:1000", path), 200, "")
	expect(t, "a second later", from("192.0.2.1:1000", path), 200, "")
	expect(t, "a second later, beyond", from("192.0.2.1:1000", path), 429, "too_many_requests")
	for range 4 {
		from("127.0.0.1:1", path)
	}
	expect(t, "loopback is limited too", from("127.0.0.1:1", path), 429, "too_many_requests")

	lifted := newRig(t, func(c *Config, _ *Deps) { c.LoginsPerSecond, c.LiftLoopback = 2, true })
	r = lifted
	for range 50 {
		expect(t, "lifted", from("127.0.0.1:1", path), 200, "")
		expect(t, "lifted", from("[::1]:1", path), 200, "")
	}
}

func TestBucketsAreBounded(t *testing.T) {
	b := newBuckets(1, 2)
	now := time.Unix(0, 0)
	for i := range maxBuckets + 1000 {
		b.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if len(b.of) > maxBuckets {
			t.Fatalf("%d buckets", len(b.of))
		}
	}
	// All full again: room is made without forgetting those in use.
	now = now.Add(time.Minute)
	for i := range maxBuckets {
		b.take(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(b.of) > maxBuckets {
		t.Errorf("%d buckets", len(b.of))
	}
	if !b.take(netip.Addr{}, now) || b.take(netip.AddrFrom4([4]byte{11, 0, 255, 255}), now.Add(-time.Hour)) == false {
		t.Error("an address that is none, or a clock that goes back, is refused")
	}
}

func TestUsers(t *testing.T) {
	r := newRig(t, nil)
	login := func(app wire.AppID, method, body string) auth.Verified {
		w := r.do("POST", "/"+app.String()+"/login/"+method, body)
		v, err := r.deps.Tokens.Verify([]byte(decode[tokenAnswer](t, w).Token))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	nick := login(testApp, "nickname", `{"nickname":"Zoë"}`)
	r.apps.login = auth.LoginConfig{Configured: true, Anonymous: true, Separator: "."}
	anon := login(testApp, "anonymous", "")
	r.deps.Logins.Put(testApp.String(), auth.Identity{Type: "google", ID: "both", Name: "A", Email: "canary@example.org"})
	r.deps.Logins.Put(otherApp.String(), auth.Identity{Type: "google", ID: "both", Name: "B"})

	check := func(name, path string, want profile, header ...string) {
		t.Helper()
		w := r.do("GET", path, "", header...)
		expect(t, name, w, 200, "")
		if got := decode[profile](t, w); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s: the e-mail is told", name)
		}
	}
	nickProfile := profile{Type: "nickname", ID: nick.ID, Name: "Zoë"}
	check("nickname", "/users/"+nick.ID, nickProfile)
	check("anonymous", "/users/"+anon.ID, profile{Type: "anonymous", ID: anon.ID, Name: strings.ReplaceAll(anon.Name, ".", "-")})
	for name, id := range map[string]string{
		"two apps": "both", "unknown": "nosuch", "forged": anon.ID[:17] + "!", "odd": "%00%0a%1b", "slash": "a%2fb",
	} {
		expect(t, name, r.do("GET", "/users/"+id, ""), 404, "user_not_found")
	}
	expect(t, "long", r.do("GET", "/users/"+strings.Repeat("x", 256), ""), 400, "bad_user_id")

	perApp := "/" + testApp.String() + "/users/"
	secret := []string{"Authorization", testSecret}
	check("secret", perApp+nick.ID, nickProfile, secret...)
	check("secret as a bearer", perApp+nick.ID, nickProfile, "Authorization", "Bearer "+testSecret)
	check("token", perApp+nick.ID, nickProfile, "Authorization", r.token(testApp, "any"))
	check("anonymous, the app's separator", perApp+anon.ID, profile{Type: "anonymous", ID: anon.ID, Name: anon.Name}, secret...)
	check("known to two", perApp+"both", profile{Type: "google", ID: "both", Name: "A"}, secret...)
	expect(t, "unknown", r.do("GET", perApp+"nosuch", "", secret...), 404, "user_not_found")
	expect(t, "long", r.do("GET", perApp+strings.Repeat("x", 256), "", secret...), 400, "bad_user_id")
	expect(t, "no app", r.do("GET", "/abc/users/both", "", secret...), 404, "app_not_found")
	for name, value := range map[string]string{
		"nothing": "", "another secret": "other", "another app's token": r.token(otherApp, "any"), "garbage": "a.b.c", "1 MiB": strings.Repeat("x", 1<<20),
	} {
		for _, id := range []string{nick.ID, "nosuch"} { // the same whether the user is there or not
			expect(t, name, r.do("GET", perApp+id, "", "Authorization", value), 401, "unauthorized")
		}
	}
}
