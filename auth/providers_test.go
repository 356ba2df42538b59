package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
	ecKey  = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(kid string, k *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
}

func ecJWK(t testing.TB, kid, crv string, k *ecdsa.PublicKey) map[string]any {
	raw, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := (len(raw) - 1) / 2
	return map[string]any{"kty": "EC", "kid": kid, "crv": crv, "x": b64(raw[1 : 1+half]), "y": b64(raw[1+half:])}
}

// testIssuer is an OpenID issuer on loopback.
type testIssuer struct {
	*httptest.Server
	host    string
	fetches atomic.Int32
	mu      sync.Mutex
	keys    []map[string]any
	answer  http.HandlerFunc // instead of the key set
}

func (i *testIssuer) set(keys ...map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.answer = keys, nil
}

func (i *testIssuer) fail(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func newTestIssuer(t testing.TB) *testIssuer {
	i := &testIssuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		answer, keys := i.answer, i.keys
		i.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	i.host = strings.TrimPrefix(i.URL, "http://")
	i.set(rsaJWK("r1", &rsaKey().PublicKey))
	return i
}

type providerRig struct {
	*Providers
	clock *testClock
	log   *bytes.Buffer
}

func newProviderRig(t testing.TB, issuer *testIssuer) *providerRig {
	t.Helper()
	rig := &providerRig{clock: newClock(), log: &bytes.Buffer{}}
	cfg := ProvidersConfig{MACKey: [32]byte{1}, Clock: rig.clock.time, Log: slog.New(slog.NewTextHandler(rig.log, nil))}
	if issuer != nil {
		cfg.AllowHosts, cfg.GoogleKeys = []string{issuer.host}, issuer.URL+"/keys"
	}
	var err error
	if rig.Providers, err = NewProviders(cfg); err != nil {
		t.Fatal(err)
	}
	return rig
}

// idToken signs an identity token; changes are pairs of claim and value, nil takes
// the claim away.
func (r *providerRig) idToken(t testing.TB, method jwt.SigningMethod, key any, kid string, changes ...any) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": "https://accounts.google.com", "aud": "client", "sub": "1234567890", "name": "Ann",
		"email": "ann@example.org", "email_verified": true, "locale": "de", "picture": "https://example.org/a",
		"iat": r.clock.now.Unix(), "exp": r.clock.now.Add(time.Hour).Unix(),
	}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
		if changes[i+1] == nil {
			delete(claims, changes[i].(string))
		}
	}
	token := jwt.NewWithClaims(method, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *providerRig) google(token string) (Identity, error) {
	return r.Login(context.Background(), LoginRequest{
		Method: TypeGoogle, Config: LoginConfig{Configured: true, Google: []string{"client", "client2"}}, IDToken: token,
	})
}

func TestAnonymous(t *testing.T) {
	rig := newProviderRig(t, nil)
	shape := regexp.MustCompile(`^[a-z]+\.[a-z]+\.[a-z]+$`)
	config := LoginConfig{Configured: true, Anonymous: true, Separator: "."}
	seen := map[string]bool{}
	for range 200 {
		id, err := rig.Login(context.Background(), LoginRequest{Method: TypeAnonymous, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[0-9a-z]{18}$`).MatchString(id.ID) || !shape.MatchString(id.Name) || id.Type != TypeAnonymous || seen[id.ID] {
			t.Fatalf("identity %+v, seen %v", id, seen[id.ID])
		}
		seen[id.ID] = true
		got, ok := rig.Anonymous(id.ID, ".")
		if !ok || got != id {
			t.Fatalf("looked up %+v, %v, want %+v", got, ok, id)
		}
		if got, _ := rig.Anonymous(id.ID, "-"); got.Name != strings.ReplaceAll(id.Name, ".", "-") {
			t.Fatalf("with another separator %q, want %q with -", got.Name, id.Name)
		}
		for _, forged := range []string{
			id.ID[:17], id.ID + "0", "", strings.ToUpper(id.ID), id.ID[:17] + string(base36[(strings.IndexByte(base36, id.ID[17])+1)%36]),
			string(base36[(strings.IndexByte(base36, id.ID[0])+1)%36]) + id.ID[1:],
		} {
			if _, ok := rig.Anonymous(forged, "-"); ok && forged != id.ID {
				t.Fatalf("%q passes for an id (made from %q)", forged, id.ID)
			}
		}
	}
	other, err := NewProviders(ProvidersConfig{MACKey: [32]byte{2}, Clock: time.Now, Log: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for id := range seen {
		if _, ok := other.Anonymous(id, "-"); ok {
			passed++
		}
	}
	if passed > 1 {
		t.Errorf("%d ids of another key pass", passed)
	}
}

func TestWordsAreDistinctAndPlain(t *testing.T) {
	for _, list := range [][]string{adjectives[:], colours[:], animals[:]} {
		seen := map[string]bool{}
		for _, w := range list {
			if seen[w] || !regexp.MustCompile(`^[a-z]+$`).MatchString(w) {
				t.Errorf("word %q", w)
			}
			seen[w] = true
		}
	}
}

func TestNickname(t *testing.T) {
	rig := newProviderRig(t, nil)
	login := func(name string) (Identity, error) {
		return rig.Login(context.Background(), LoginRequest{Method: TypeNickname, Nickname: name})
	}
	a, err := login("Zoë")
	if err != nil || a.Type != TypeNickname || a.Name != "Zoë" || len(a.ID) != 13 {
		t.Errorf("%+v, %v", a, err)
	}
	b, _ := login("Zoë")
	if a.ID == b.ID {
		t.Error("two logins have one id")
	}
	if c, err := login(""); err != nil || strings.Count(c.Name, "-") != 2 {
		t.Errorf("without a name: %+v, %v", c, err)
	}
	for _, bad := range []string{strings.Repeat("x", MaxNickname+1), "\xff"} {
		if _, err := login(bad); !errors.Is(err, ErrCredential) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLoginNotConfigured(t *testing.T) {
	rig := newProviderRig(t, nil)
	for _, method := range []string{"google", "email", "acme", "", "nosuch"} {
		if _, err := rig.Login(context.Background(), LoginRequest{Method: method}); !errors.Is(err, ErrLoginDisabled) {
			t.Errorf("%q: %v", method, err)
		}
	}
}

func TestProvidersConfigRefused(t *testing.T) {
	for name, cfg := range map[string]ProvidersConfig{
		"key":   {Clock: time.Now, Log: slog.Default()},
		"clock": {MACKey: [32]byte{1}, Log: slog.Default()},
		"log":   {MACKey: [32]byte{1}, Clock: time.Now},
	} {
		if _, err := NewProviders(cfg); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
}

func TestProvidersCollect(t *testing.T) {
	issuer := newTestIssuer(t)
	rig := newProviderRig(t, issuer)
	_, _ = rig.Login(context.Background(), LoginRequest{Method: TypeAnonymous})
	_, _ = rig.Login(context.Background(), LoginRequest{Method: TypeGoogle})
	_, _ = rig.google("x")
	issuer.fail(http.NotFound)
	_, _ = rig.google(rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1"))
	got := map[string]float64{}
	rig.Collect(func(name string, value float64, labels ...string) { got[name+strings.Join(labels, " ")] = value })
	for name, want := range map[string]float64{
		"logins_totaloutcome done": 1, "logins_totaloutcome disabled": 1, "logins_totaloutcome refused": 1, "logins_totaloutcome unavailable": 1,
		"login_issuers": 1, "login_key_fetches_total": 1, "login_key_fetches_failed_total": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}
