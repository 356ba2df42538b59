package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const testApp = "4e738ca5563c06cfd0018299933d58db1dd8bf97f6973dc99bf6cdc64b5550bd"

// testClock is a clock that tests move by hand.
type testClock struct{ now time.Time }

func (c *testClock) time() time.Time { return c.now }

func newClock() *testClock { return &testClock{time.Unix(1_800_000_000, 0)} }

type tokenRig struct {
	*Tokens
	clock *testClock
	keys  map[string]ed25519.PublicKey
	key   ed25519.PrivateKey
}

func newTokenRig(t testing.TB, change func(*Config)) *tokenRig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rig := &tokenRig{clock: newClock(), keys: map[string]ed25519.PublicKey{"n1.1": public}, key: private}
	cfg := Config{
		Issuer:  "test-cluster",
		KeyID:   "n1.1",
		Private: private,
		Clock:   rig.clock.time,
		Public: func(kid string) (ed25519.PublicKey, bool) {
			key, ok := rig.keys[kid]
			return key, ok
		},
	}
	if change != nil {
		change(&cfg)
	}
	if rig.Tokens, err = NewTokens(cfg); err != nil {
		t.Fatal(err)
	}
	return rig
}

func mustMint(t testing.TB, tokens *Tokens, id Identity) string {
	t.Helper()
	token, err := tokens.Mint(testApp, id)
	if err != nil {
		t.Fatal(err)
	}
	tokens.cache.drop(sha256.Sum256([]byte(token))) // as a node that did not sign it would see it
	return token
}

func TestTokenSignedAMomentAgoNeedsNoSignatureCheck(t *testing.T) {
	rig := newTokenRig(t, nil)
	token, err := rig.Mint(testApp, Identity{Type: TypeNickname, ID: "abc", Name: "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	remembered, err := rig.Verify([]byte(token))
	if err != nil || rig.misses.Load() != 0 {
		t.Fatalf("%v, %d misses, want none", err, rig.misses.Load())
	}
	rig.cache.drop(sha256.Sum256([]byte(token)))
	checked, err := rig.Verify([]byte(token))
	if err != nil || checked.App != remembered.App || checked.ID != remembered.ID || checked.Name != remembered.Name ||
		checked.Type != remembered.Type || !checked.Expires.Equal(remembered.Expires) {
		t.Errorf("remembered %+v, checked %+v, %v", remembered, checked, err)
	}
}

// The readers below do what the public SDKs do with a token (protocol notes, §2.1).

func readTypeScript(token string) (map[string]any, error) {
	part := strings.Split(token, ".")[1]
	part = strings.NewReplacer("-", "+", "_", "/").Replace(part)
	raw, err := base64.StdEncoding.DecodeString(part + strings.Repeat("=", (4-len(part)%4)%4))
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(raw, &out)
}

func readRust(token string) (map[string]any, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(raw, &out)
}

func readCSharp(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) < 3 {
		return nil, errors.New("fewer than three parts")
	}
	part := parts[1]
	raw, err := base64.StdEncoding.Strict().DecodeString(part + strings.Repeat("=", (4-len(part)%4)%4))
	if err != nil {
		return nil, err
	}
	for i, c := range raw {
		if c > 0x7f {
			raw[i] = '?' // what decoding as ASCII does
		}
	}
	var typed struct {
		Type, ID, Name string
		Iat            int32
	}
	if err := json.Unmarshal(raw, &typed); err != nil {
		return nil, err
	}
	return map[string]any{"type": typed.Type, "id": typed.ID, "name": typed.Name}, nil
}

func TestTokensSuitEveryReader(t *testing.T) {
	rig := newTokenRig(t, nil)
	for _, name := range []string{
		"plain", "", "Zoë", "u😀", "a>b?c~d\x7f", "???>>>~~~", `quote " back \ slash`, "new\nline\x00\x1b[31m",
		strings.Repeat("~", 256), strings.Repeat("é", 128), "<script>&amp;",
	} {
		id := Identity{
			Type: TypeGoogle, ID: "1234567890", Name: name,
			Email: "zoë@example.org", Locale: "de>", Picture: "https://example.org/?size=~1",
		}
		token := mustMint(t, rig.Tokens, id)
		if strings.Count(token, ".") != 2 || strings.ContainsRune(token, '=') {
			t.Errorf("%q: not three unpadded parts: %s", name, token)
		}
		for reader, read := range map[string]func(string) (map[string]any, error){
			"TypeScript": readTypeScript, "Rust": readRust, "C#": readCSharp,
		} {
			got, err := read(token)
			if err != nil {
				t.Errorf("%q: %s cannot read it: %v", name, reader, err)
				continue
			}
			if got["id"] != id.ID || got["type"] != id.Type || got["name"] != name {
				t.Errorf("%q: %s reads %v", name, reader, got)
			}
		}
		v, err := rig.Verify([]byte(token))
		if err != nil || v.Name != name || v.ID != id.ID || v.Type != id.Type || v.App != testApp {
			t.Errorf("%q: verify gives %+v, %v", name, v, err)
		}
	}
}

func TestTokenClaims(t *testing.T) {
	rig := newTokenRig(t, func(c *Config) { c.TTL = 2 * time.Hour })
	token := mustMint(t, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc", Name: "n"})
	got, err := readRust(token)
	if err != nil {
		t.Fatal(err)
	}
	now := float64(rig.clock.now.Unix())
	want := map[string]any{
		"type": "anonymous", "id": "abc", "name": "n", "aud": testApp, "iss": "test-cluster",
		"iat": now, "exp": now + 7200,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("claims %v, want %v", got, want)
	}
	v, err := rig.Verify([]byte(token))
	if err != nil || !v.Expires.Equal(rig.clock.now.Add(2*time.Hour)) {
		t.Errorf("verify gives %+v, %v", v, err)
	}
}

func TestLongExtrasAreLeftOut(t *testing.T) {
	rig := newTokenRig(t, nil)
	long := strings.Repeat("x", 4096)
	token := mustMint(t, rig.Tokens, Identity{Type: TypeGoogle, ID: "1", Email: long, Locale: long, Picture: long})
	got, err := readRust(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"email", "locale", "picture"} {
		if _, ok := got[key]; ok {
			t.Errorf("%s is there", key)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	rig := newTokenRig(t, nil)
	for name, c := range map[string]struct {
		app string
		id  Identity
	}{
		"no app":         {"", Identity{ID: "a"}},
		"upper-case app": {strings.ToUpper(testApp), Identity{ID: "a"}},
		"no id":          {testApp, Identity{}},
		"long id":        {testApp, Identity{ID: strings.Repeat("a", 256)}},
		"long name":      {testApp, Identity{ID: "a", Name: strings.Repeat("a", 257)}},
	} {
		if _, err := rig.Mint(c.app, c.id); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
	huge := newTokenRig(t, func(c *Config) { c.Issuer = strings.Repeat("i", MaxToken) })
	if _, err := huge.Mint(testApp, Identity{ID: "a"}); err == nil {
		t.Error("a token larger than the limit was minted")
	}
}

func TestConfigRefused(t *testing.T) {
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	good := Config{
		Issuer: "i", KeyID: "k", Private: private, Clock: time.Now,
		Public: func(string) (ed25519.PublicKey, bool) { return nil, false },
	}
	for name, change := range map[string]func(*Config){
		"issuer":   func(c *Config) { c.Issuer = "" },
		"kid":      func(c *Config) { c.KeyID = "" },
		"long kid": func(c *Config) { c.KeyID = strings.Repeat("k", 129) },
		"key":      func(c *Config) { c.Private = nil },
		"clock":    func(c *Config) { c.Clock = nil },
		"public":   func(c *Config) { c.Public = nil },
		"ttl":      func(c *Config) { c.TTL = time.Millisecond },
		"max ttl":  func(c *Config) { c.TTL, c.MaxTTL = 2*time.Hour, time.Hour },
		"cache":    func(c *Config) { c.CacheSize = -1 },
	} {
		c := good
		change(&c)
		if _, err := NewTokens(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// forge signs any header and claims with any method.
func forge(t *testing.T, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	for k, v := range header {
		if v == nil {
			delete(token.Header, k)
			continue
		}
		token.Header[k] = v
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerifyRefuses(t *testing.T) {
	rig := newTokenRig(t, nil)
	_, otherKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := rig.clock.now.Unix()
	with := func(changes ...any) map[string]any {
		c := map[string]any{
			"type": "anonymous", "id": "abc", "name": "n", "aud": testApp, "iss": "test-cluster",
			"iat": now, "exp": now + 3600,
		}
		for i := 0; i < len(changes); i += 2 {
			c[changes[i].(string)] = changes[i+1]
			if changes[i+1] == nil {
				delete(c, changes[i].(string))
			}
		}
		return c
	}
	kid := map[string]any{"kid": "n1.1"}
	good := forge(t, jwt.SigningMethodEdDSA, rig.key, kid, with())
	if _, err := rig.Verify([]byte(good)); err != nil {
		t.Fatalf("the good one is refused: %v", err)
	}
	claims := func(changes ...any) string {
		return forge(t, jwt.SigningMethodEdDSA, rig.key, kid, with(changes...))
	}
	header := func(h map[string]any) string {
		return forge(t, jwt.SigningMethodEdDSA, rig.key, h, with())
	}
	parts := strings.Split(good, ".")
	// The public key as an HMAC key: the classic confusion.
	confused := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"n1.1"}`)) + "." + parts[1]
	mac := hmac.New(sha256.New, rig.keys["n1.1"])
	mac.Write([]byte(confused))
	confused += "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))

	for name, c := range map[string]struct {
		token string
		want  Refusal
	}{
		"empty":                {"", RefusedSize},
		"1 MiB":                {strings.Repeat("a", 1<<20), RefusedSize},
		"8 KiB and one":        {strings.Repeat("a", MaxToken+1), RefusedSize},
		"no dots":              {"abc", RefusedMalformed},
		"two parts":            {parts[0] + "." + parts[1], RefusedMalformed},
		"four parts":           {good + ".a", RefusedMalformed},
		"padding":              {parts[0] + "." + parts[1] + "=." + parts[2], RefusedMalformed},
		"legacy unsigned":      {"e30.eyJpZCI6ImFsaWNlIn0.x", RefusedSignature},
		"alg none":             {forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, with()), RefusedSignature},
		"HS256, public key":    {confused, RefusedSignature},
		"HS256":                {forge(t, jwt.SigningMethodHS256, []byte("secret"), kid, with()), RefusedSignature},
		"RS256":                {forge(t, jwt.SigningMethodRS256, rsaKey, kid, with()), RefusedSignature},
		"another's key":        {forge(t, jwt.SigningMethodEdDSA, otherKey, kid, with()), RefusedSignature},
		"signature stripped":   {parts[0] + "." + parts[1] + ".", RefusedSignature},
		"claims changed":       {parts[0] + "." + strings.Split(claims("id", "eve"), ".")[1] + "." + parts[2], RefusedSignature},
		"no kid":               {header(map[string]any{"kid": nil}), RefusedKey},
		"kid a number":         {header(map[string]any{"kid": 7}), RefusedKey},
		"kid unknown":          {header(map[string]any{"kid": "n2.1"}), RefusedKey},
		"kid a path":           {header(map[string]any{"kid": "../../dev/null"}), RefusedKey},
		"kid SQL":              {header(map[string]any{"kid": "x' OR '1'='1"}), RefusedKey},
		"kid long":             {header(map[string]any{"kid": strings.Repeat("k", 200)}), RefusedKey},
		"jku does not help":    {forge(t, jwt.SigningMethodEdDSA, otherKey, map[string]any{"kid": "n2.1", "jku": "http://127.0.0.1:1/keys"}, with()), RefusedKey},
		"x5u does not help":    {forge(t, jwt.SigningMethodEdDSA, otherKey, map[string]any{"kid": "n1.1", "x5u": "http://127.0.0.1:1/cert"}, with()), RefusedSignature},
		"jwk does not help":    {forge(t, jwt.SigningMethodEdDSA, otherKey, map[string]any{"kid": "n1.1", "jwk": map[string]any{"kty": "OKP"}}, with()), RefusedSignature},
		"critical header":      {header(map[string]any{"kid": "n1.1", "crit": []string{"b64"}}), RefusedMalformed},
		"no exp":               {claims("exp", nil), RefusedClaims},
		"expired":              {claims("exp", now-61), RefusedTime},
		"exp beyond 24 h":      {claims("exp", now+24*3600+61), RefusedTime},
		"exp in the year 9999": {claims("exp", 253402300799), RefusedTime},
		"exp text":             {claims("exp", "soon"), RefusedMalformed},
		"nbf later":            {claims("nbf", now+61), RefusedTime},
		"iat later":            {claims("iat", now+61), RefusedTime},
		"no iss":               {claims("iss", nil), RefusedClaims},
		"another cluster":      {claims("iss", "other"), RefusedClaims},
		"no aud":               {claims("aud", nil), RefusedClaims},
		"two aud":              {claims("aud", []string{testApp, testApp}), RefusedClaims},
		"aud no app":           {claims("aud", "everybody"), RefusedClaims},
		"no id":                {claims("id", nil), RefusedClaims},
		"long id":              {claims("id", strings.Repeat("a", 256)), RefusedClaims},
	} {
		v, err := rig.Verify([]byte(c.token))
		if err != c.want {
			t.Errorf("%s: %+v, %v, want %v", name, v, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "abc") {
			t.Errorf("%s: the error tells of the token: %v", name, err)
		}
	}
	for name, token := range map[string]string{
		"expired within the leeway": claims("exp", now-20),
		"nbf within the leeway":     claims("nbf", now+20),
		"jku ignored":               header(map[string]any{"kid": "n1.1", "jku": "http://127.0.0.1:1/keys"}),
		"aud as a list of one":      claims("aud", []string{testApp}),
	} {
		if _, err := rig.Verify([]byte(token)); err != nil {
			t.Errorf("%s: refused: %v", name, err)
		}
	}
}

func TestCacheForgetsTimeAndKeys(t *testing.T) {
	rig := newTokenRig(t, nil)
	token := []byte(mustMint(t, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc"}))
	for range 2 {
		if _, err := rig.Verify(token); err != nil {
			t.Fatal(err)
		}
	}
	if hits := rig.hits.Load(); hits != 1 {
		t.Errorf("%d hits, want 1", hits)
	}
	public := rig.keys["n1.1"]
	delete(rig.keys, "n1.1")
	if _, err := rig.Verify(token); err != RefusedKey {
		t.Errorf("key gone: %v", err)
	}
	rig.keys["n1.1"] = public
	if _, err := rig.Verify(token); err != nil {
		t.Errorf("key back: %v", err)
	}
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	rig.keys["n1.1"] = other
	if _, err := rig.Verify(token); err != RefusedKey {
		t.Errorf("key replaced: %v", err)
	}
	if _, err := rig.Verify(token); err != RefusedSignature {
		t.Errorf("key replaced, not cached: %v", err)
	}
	rig.keys["n1.1"] = public
	if _, err := rig.Verify(token); err != nil {
		t.Fatal(err)
	}
	rig.clock.now = rig.clock.now.Add(24*time.Hour + Leeway)
	if _, err := rig.Verify(token); err != RefusedTime {
		t.Errorf("expired in the cache: %v", err)
	}
	if n := rig.cache.size(); n != 0 {
		t.Errorf("%d tokens left in the cache", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newTokenCache(4)
	sum := func(i int) [32]byte { return sha256.Sum256([]byte(strconv.Itoa(i))) }
	for i := range 4 {
		c.put(sum(i), cached{kid: strconv.Itoa(i)})
	}
	c.put(sum(3), cached{kid: "again"})
	c.get(sum(0)) // used: the hand passes it
	c.put(sum(4), cached{kid: "4"})
	if _, ok := c.get(sum(0)); !ok {
		t.Error("a used token was evicted")
	}
	if _, ok := c.get(sum(1)); ok {
		t.Error("the unused token is still there")
	}
	for i := range 100 {
		c.put(sum(i), cached{kid: strconv.Itoa(i)})
		if c.size() > 4 {
			t.Fatalf("%d tokens", c.size())
		}
		if e, ok := c.get(sum(i)); !ok || i > 4 && e.kid != strconv.Itoa(i) {
			t.Fatalf("token %d: %+v %v", i, e, ok)
		}
	}
	for i := range 100 {
		c.drop(sum(i))
	}
	if c.size() != 0 || len(c.index) != 0 {
		t.Errorf("%d slots, %d in the index after dropping all", c.size(), len(c.index))
	}
	for i := range 10 {
		c.put(sum(i), cached{})
	}
	if c.size() != 4 {
		t.Errorf("%d tokens after refilling", c.size())
	}
}

func TestVerifyHitAllocatesNothing(t *testing.T) {
	rig := newTokenRig(t, nil)
	token := []byte(mustMint(t, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc", Name: "n"}))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := rig.Verify(token); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a token in the cache", n)
	}
}

func TestJWKS(t *testing.T) {
	rig := newTokenRig(t, nil)
	rig.keys[`odd"kid>`] = rig.keys["n1.1"]
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(JWKS(rig.keys), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 || set.Keys[0]["kid"] != "n1.1" || set.Keys[1]["kid"] != `odd"kid>` {
		t.Fatalf("keys %v", set.Keys)
	}
	x, err := base64.RawURLEncoding.DecodeString(set.Keys[0]["x"])
	if err != nil || string(x) != string(rig.keys["n1.1"]) || set.Keys[0]["crv"] != "Ed25519" || set.Keys[0]["alg"] != "EdDSA" {
		t.Errorf("key %v, %v", set.Keys[0], err)
	}
	// The set must be one that our own reader of issuers' keys understands.
	if keys, err := parseKeys(JWKS(rig.keys)); err != nil || len(keys) != 2 {
		t.Errorf("parsed back: %v, %v", keys, err)
	}
	if string(JWKS(nil)) != `{"keys":[]}` {
		t.Errorf("empty set: %s", JWKS(nil))
	}
	if KeyID("node-a", 7) != "node-a.7" {
		t.Error(KeyID("node-a", 7))
	}
}

func TestTokensCollect(t *testing.T) {
	rig := newTokenRig(t, nil)
	token := []byte(mustMint(t, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc"}))
	_, _ = rig.Verify(token)
	_, _ = rig.Verify(token)
	_, _ = rig.Verify(nil)
	got := map[string]float64{}
	rig.Collect(func(name string, value float64, labels ...string) {
		got[name+strings.Join(labels, " ")] = value
	})
	for name, want := range map[string]float64{
		"tokens_minted_total": 1, "token_cache_hits_total": 1, "token_cache_misses_total": 1,
		"token_cache_entries": 1, "tokens_refused_totalreason size": 1, "tokens_refused_totalreason key": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

func BenchmarkVerifyCached(b *testing.B) {
	rig := newTokenRig(b, nil)
	token := []byte(mustMint(b, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc", Name: "n"}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rig.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	// The same key every time, so that what was found once means the same again.
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	rig := newTokenRig(f, func(c *Config) { c.Private = key })
	rig.keys["n1.1"] = key.Public().(ed25519.PublicKey)
	good := mustMint(f, rig.Tokens, Identity{Type: TypeAnonymous, ID: "abc", Name: "Zoë"})
	parts := strings.Split(good, ".")
	f.Add([]byte(good))
	f.Add([]byte("e30.eyJpZCI6ImFsaWNlIn0.x"))
	f.Add([]byte(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."))
	f.Add([]byte(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":{}}`)) + "." + parts[1] + "." + parts[2]))
	f.Add([]byte(parts[0] + ".bnVsbA." + parts[2]))
	f.Add([]byte("..."))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, token []byte) {
		v, err := rig.Verify(token)
		if err == nil && string(token) != good {
			// Nobody else has the key.
			t.Fatalf("accepted %q as %+v", token, v)
		}
		if _, ok := err.(Refusal); err != nil && !ok {
			t.Fatalf("the error is a %T", err)
		}
	})
}
