package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestGoogle(t *testing.T) {
	issuer := newTestIssuer(t)
	rig := newProviderRig(t, issuer)
	sign := func(changes ...any) string {
		return rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1", changes...)
	}
	want := Identity{Type: TypeGoogle, ID: "1234567890", Name: "Ann", Email: "ann@example.org", Locale: "de", Picture: "https://example.org/a"}
	for name, token := range map[string]string{
		"issuer with scheme":    sign(),
		"issuer without scheme": sign("iss", "accounts.google.com"),
		"second client":         sign("aud", "client2"),
		"two clients, azp":      sign("aud", []string{"client", "x"}, "azp", "client"),
		"no kid, one key":       rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), ""),
	} {
		if got, err := rig.google(token); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, unverified := range []any{false, "false"} {
		if got, err := rig.google(sign("email_verified", unverified)); err != nil || got.Email != "" {
			t.Errorf("an e-mail that is not verified: %+v, %v", got, err)
		}
	}
	if got, err := rig.google(sign("name", strings.Repeat("n", 300))); err != nil || got.Name != "" {
		t.Errorf("a long name: %+v, %v", got, err)
	}
	if n := issuer.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestGoogleRefuses(t *testing.T) {
	issuer := newTestIssuer(t)
	rig := newProviderRig(t, issuer)
	otherKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(changes ...any) string {
		return rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1", changes...)
	}
	now := rig.clock.now.Unix()
	critical := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": googleIssuers[0], "aud": "client", "sub": "1", "exp": now + 60,
	})
	critical.Header["kid"], critical.Header["crit"] = "r1", []string{"b64"}
	criticalToken, err := critical.SignedString(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rig.google(sign()); err != nil {
		t.Fatalf("the good one is refused: %v", err)
	}
	for name, token := range map[string]string{
		"empty":           "",
		"too large":       strings.Repeat("a", MaxToken+1),
		"garbage":         "a.b.c",
		"other issuer":    sign("iss", "https://accounts.google.com.evil.example"),
		"no issuer":       sign("iss", nil),
		"other audience":  sign("aud", "other"),
		"no audience":     sign("aud", nil),
		"two, no azp":     sign("aud", []string{"client", "other"}),
		"two, other azp":  sign("aud", []string{"client", "other"}, "azp", "other"),
		"no subject":      sign("sub", nil),
		"long subject":    sign("sub", strings.Repeat("1", 250)),
		"no exp":          sign("exp", nil),
		"expired":         sign("exp", now-61),
		"exp far away":    sign("exp", now+48*3600),
		"nbf later":       sign("nbf", now+61),
		"iat later":       sign("iat", now+61),
		"wrong key":       rig.idToken(t, jwt.SigningMethodRS256, otherKey, "r1"),
		"HS256 confusion": rig.idToken(t, jwt.SigningMethodHS256, rsaKey().N.Bytes(), "r1"),
		"none":            rig.idToken(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "r1"),
		"other RSA alg":   rig.idToken(t, jwt.SigningMethodRS512, rsaKey(), "r1"),
		"unknown kid":     rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r2"),
		"critical header": criticalToken,
	} {
		if got, err := rig.google(token); !errors.Is(err, ErrCredential) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestCustomIssuers(t *testing.T) {
	issuer := newTestIssuer(t)
	rig := newProviderRig(t, issuer)
	edPublic, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ec384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ps := rsaJWK("ps", &rsaKey().PublicKey)
	ps["alg"] = "PS256"
	issuer.set(
		rsaJWK("r1", &rsaKey().PublicKey), ecJWK(t, "e1", "P-256", &ecKey().PublicKey), ecJWK(t, "e2", "P-384", &ec384.PublicKey), ps,
		map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(edPublic)},
	)
	for name, jwks := range map[string]string{"by discovery": "", "by address": issuer.URL + "/keys"} {
		config := LoginConfig{Configured: true, OIDC: map[string]OIDCLogin{"acme": {Issuer: issuer.URL, Audience: []string{"game"}, JWKS: jwks}}}
		login := func(token string) (Identity, error) {
			return rig.Login(context.Background(), LoginRequest{Method: "acme", Config: config, IDToken: token})
		}
		for _, c := range []struct {
			method jwt.SigningMethod
			key    any
			kid    string
		}{
			{jwt.SigningMethodRS256, rsaKey(), "r1"},
			{jwt.SigningMethodES256, ecKey(), "e1"},
			{jwt.SigningMethodES384, ec384, "e2"},
			{jwt.SigningMethodPS256, rsaKey(), "ps"},
			{jwt.SigningMethodEdDSA, edKey, "ed"},
		} {
			got, err := login(rig.idToken(t, c.method, c.key, c.kid, "iss", issuer.URL, "aud", "game"))
			if err != nil || got.ID != "acme:1234567890" || got.Type != "acme" {
				t.Errorf("%s, %s: %+v, %v", name, c.kid, got, err)
			}
		}
		if _, err := login(rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1", "aud", "game")); !errors.Is(err, ErrCredential) {
			t.Errorf("%s: Google's token at another issuer: %v", name, err)
		}
		if _, err := login(rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "", "iss", issuer.URL, "aud", "game")); !errors.Is(err, ErrCredential) {
			t.Errorf("%s: no kid and many keys: %v", name, err)
		}
	}
}

func TestKeyRotationAndOutage(t *testing.T) {
	issuer := newTestIssuer(t)
	rig := newProviderRig(t, issuer)
	sign := func(kid string) string { return rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), kid) }
	step := func(name, kid string, want error, fetches int32) {
		t.Helper()
		_, err := rig.google(sign(kid))
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if n := issuer.fetches.Load(); n != fetches {
			t.Errorf("%s: %d fetches, want %d", name, n, fetches)
		}
	}
	step("first", "r1", nil, 1)
	for range 20 {
		step("an unknown key within the minute", "r2", ErrCredential, 1)
	}
	rig.clock.now = rig.clock.now.Add(fetchEvery)
	step("an unknown key a minute later", "r2", ErrCredential, 2)
	issuer.set(rsaJWK("r1", &rsaKey().PublicKey), rsaJWK("r2", &rsaKey().PublicKey))
	rig.clock.now = rig.clock.now.Add(fetchEvery)
	step("the new key is there", "r2", nil, 3)

	issuer.fail(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	rig.clock.now = rig.clock.now.Add(keysFresh)
	step("old keys, issuer down", "r2", nil, 4)
	step("not asked again at once", "r1", nil, 4)
	rig.clock.now = rig.clock.now.Add(22 * time.Hour)
	step("23 h after the last good set", "r1", nil, 5)
	rig.clock.now = rig.clock.now.Add(time.Hour)
	step("24 h after the last good set", "r1", ErrUnavailable, 6)
	issuer.set(rsaJWK("r3", &rsaKey().PublicKey))
	rig.clock.now = rig.clock.now.Add(fetchEvery)
	step("a key that was withdrawn", "r1", ErrCredential, 7)
	step("the one that is there", "r3", nil, 7)
	if lines := strings.Count(rig.log.String(), "\n"); lines != 3 {
		t.Errorf("%d log lines for 3 failed fetches:\n%s", lines, rig.log)
	}
}

func TestBadKeySets(t *testing.T) {
	raw := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	weak, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak.N = new(big.Int).Rsh(weak.N, 1100)
	tiny, err := json.Marshal(map[string]any{"keys": []any{rsaJWK("r1", &weak.PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newTestIssuer(t) // with keys that would do
	for name, answer := range map[string]http.HandlerFunc{
		"empty":          raw(""),
		"not JSON":       raw("<html>"),
		"no keys":        raw(`{"keys":[]}`),
		"weak RSA":       raw(string(tiny)),
		"secret key":     raw(`{"keys":[{"kty":"oct","kid":"r1","k":"AAAA"}]}`),
		"for encrypting": raw(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","kid":"r1","x":"` + b64(make([]byte, 32)) + `"}]}`),
		"64 KiB":         raw(strings.Repeat(" ", maxKeySet+1)),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/keys", http.StatusFound)
		},
		"404": http.NotFound,
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
	} {
		issuer := newTestIssuer(t)
		issuer.fail(answer)
		rig := newProviderRig(t, issuer)
		_, err := rig.google(rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1"))
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if n := issuer.fetches.Load(); n != 1 {
			t.Errorf("%s: %d fetches", name, n)
		}
	}
}

func TestParseKeysSkipsOddOnes(t *testing.T) {
	good := rsaJWK("r1", &rsaKey().PublicKey)
	with := func(key, value string) map[string]any {
		k := rsaJWK("bad", &rsaKey().PublicKey)
		k[key] = value
		return k
	}
	ec := func(key, value string) map[string]any {
		k := ecJWK(t, "bad", "P-256", &ecKey().PublicKey)
		k[key] = value
		return k
	}
	keys := []map[string]any{
		good, with("e", "AA"), with("e", "AQAA"), with("e", ""), with("e", "_____w"), with("e", "AQABAQAB"), with("n", "!!"),
		with("alg", "HS256"), with("alg", "none"), with("kid", strings.Repeat("k", 300)), with("kty", "XYZ"), with("crv", "P-256"),
		ec("x", "AA"), ec("y", "!!"), ec("x", b64(make([]byte, 32))), ec("crv", "P-521"), ec("alg", "RS256"),
		{"kty": "OKP", "crv": "Ed25519", "kid": "bad", "x": "AA"},
		{"kty": "OKP", "crv": "X25519", "kid": "bad", "x": b64(make([]byte, 32))},
	}
	for range maxKeys {
		keys = append(keys, with("kty", "XYZ"))
	}
	late := rsaJWK("late", &rsaKey().PublicKey)
	raw, err := json.Marshal(map[string]any{"keys": append(keys, late)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseKeys(raw)
	if err != nil || len(got) != 1 || got["r1"].alg != "RS256" {
		t.Errorf("parsed %v, %v", got, err)
	}
	for _, alg := range []string{"RS384", "RS512", "PS256"} {
		k := rsaJWK("a", &rsaKey().PublicKey)
		k["alg"] = alg
		raw, _ := json.Marshal(map[string]any{"keys": []any{k}})
		if got, err := parseKeys(raw); err != nil || got["a"].alg != alg {
			t.Errorf("%s: %v, %v", alg, got, err)
		}
	}
}

func TestDiscoveryIsChecked(t *testing.T) {
	for name, doc := range map[string]string{
		"another issuer":               `{"issuer":"https://other.example","jwks_uri":"https://other.example/keys"}`,
		"no keys":                      `{"issuer":"ISSUER"}`,
		"keys in a file":               `{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`,
		"keys on loopback, not listed": `{"issuer":"ISSUER","jwks_uri":"https://127.0.0.2:1/keys"}`,
		"plain HTTP, not listed":       `{"issuer":"ISSUER","jwks_uri":"http://192.0.2.1/keys"}`,
		"not JSON":                     `x`,
	} {
		var server *httptest.Server
		server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.ReplaceAll(doc, "ISSUER", server.URL))
		}))
		rig := newProviderRig(t, &testIssuer{Server: server, host: strings.TrimPrefix(server.URL, "http://")})
		_, err := rig.Login(context.Background(), LoginRequest{
			Method:  "acme",
			Config:  LoginConfig{Configured: true, OIDC: map[string]OIDCLogin{"acme": {Issuer: server.URL, Audience: []string{"game"}}}},
			IDToken: rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1", "iss", server.URL, "aud", "game"),
		})
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

func TestLocalAddressesAreRefused(t *testing.T) {
	for ip, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "169.254.169.254": true, "fe80::1": true, "0.0.0.0": true,
		"0.1.2.3": true, "::": true, "::ffff:127.0.0.1": true, "::ffff:169.254.169.254": true, "64:ff9b::7f00:1": true,
		"64:ff9b::a9fe:a9fe": true, "2002:7f00:1::": true, "fd00:ec2::254": true, "224.0.0.1": true, "ff02::1": true,
		"8.8.8.8": false, "10.0.0.1": false, "192.168.1.1": false, "2001:db8::1": false, "64:ff9b::808:808": false, "fd00::1": false,
	} {
		if got := isLocal(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: local %v", ip, got)
		}
	}
	if refuseLocal("tcp", "[fe80::1%eth0]:443", nil) == nil || refuseLocal("tcp", "what", nil) == nil {
		t.Error("dialled")
	}
	if err := refuseLocal("tcp", "192.0.2.1:443", nil); err != nil {
		t.Error(err)
	}
	// A name that resolves to loopback is caught when it is dialled.
	f := newFetcher(nil)
	for _, address := range []string{"https://localhost:1/", "https://127.0.0.1:1/", "https://[::1]:1/"} {
		if _, err := f.get(context.Background(), address); err == nil || !strings.Contains(err.Error(), "refused unless listed") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"http://192.0.2.1/", "http://192.0.2.1:443/", "http://a b/", "https://[::1"} {
		if _, err := f.get(context.Background(), address); err == nil {
			t.Errorf("%s: fetched", address)
		}
	}
}

func TestListedHosts(t *testing.T) {
	f := newFetcher([]string{"ID.internal", "[::1]", "::2", "127.0.0.1:8443", "[::3]:1"})
	for _, at := range []string{"id.internal:443", "id.internal:80", "[::1]:443", "[::2]:80", "127.0.0.1:8443", "[::3]:1"} {
		if !f.allowed[at] {
			t.Errorf("%s is not allowed", at)
		}
	}
	if len(f.allowed) != 8 || f.allowed["127.0.0.1:443"] {
		t.Errorf("allowed %v", f.allowed)
	}
}

func TestSlowIssuerIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	issuer := newTestIssuer(t)
	t.Cleanup(func() { close(release) })
	issuer.fail(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	rig := newProviderRig(t, issuer)
	if got := rig.issuers.fetch.timeout; got != 5*time.Second {
		t.Errorf("an issuer has %v", got)
	}
	rig.issuers.fetch.timeout = 20 * time.Millisecond
	if _, err := rig.google(rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an issuer that does not answer: %v", err)
	}
	if !strings.Contains(rig.log.String(), "deadline exceeded") {
		t.Errorf("log: %s", rig.log)
	}
}

func TestOneFetchForMany(t *testing.T) {
	issuer := newTestIssuer(t)
	asked, release := make(chan struct{}), make(chan struct{})
	body, err := json.Marshal(map[string]any{"keys": []any{rsaJWK("r1", &rsaKey().PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	issuer.fail(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		_, _ = w.Write(body)
	})
	rig := newProviderRig(t, issuer)
	token := rig.idToken(t, jwt.SigningMethodRS256, rsaKey(), "r1")
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			_, err := rig.google(token)
			results <- err
		}()
	}
	<-asked
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := rig.Login(gone, LoginRequest{Method: TypeGoogle, Config: LoginConfig{Google: []string{"client"}}, IDToken: token}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("one who does not wait: %v", err)
	}
	close(release)
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := issuer.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestIssuersAreBounded(t *testing.T) {
	rig := newProviderRig(t, nil)
	google := rig.issuers.issuer(source{names: googleIssuers, keys: "g", pinned: true})
	first := rig.issuers.issuer(source{names: []string{"0"}})
	for i := range 2 * maxRemember {
		rig.issuers.issuer(source{names: []string{fmt.Sprint(i)}})
	}
	if n := len(rig.issuers.known); n != maxRemember+1 {
		t.Errorf("%d issuers remembered", n)
	}
	if rig.issuers.issuer(source{names: googleIssuers, keys: "g", pinned: true}) != google {
		t.Error("Google was forgotten")
	}
	if rig.issuers.issuer(source{names: []string{"0"}}) == first {
		t.Error("the oldest was not forgotten")
	}
}

func TestFetchesAreLimitedOverAllIssuers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newProviderRig(t, nil) // nothing listed: every fetch fails at once
		for i := range 100 {
			_, err := rig.issuers.key(context.Background(), source{names: []string{fmt.Sprintf("http://i%d.invalid", i)}}, "k")
			if !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if n := rig.issuers.fetches.Load(); n != 2*fetchesPerS {
			t.Errorf("%d fetches at once, want %d", n, 2*fetchesPerS)
		}
	})
}
