package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxToken is the largest token looked at, in bytes.
	MaxToken = 8 << 10
	// Leeway is how far clocks may differ when times in tokens are compared.
	Leeway = 30 * time.Second
	// DefaultTTL is how long a token lives when nothing else is said.
	DefaultTTL = 24 * time.Hour

	maxKeyID     = 128
	maxID        = 255
	maxName      = 256
	defaultCache = 1 << 16
)

// Config says how tokens are made and checked.
type Config struct {
	// Issuer is the iss of every token: the cluster's name. Required.
	Issuer string
	// KeyID names the node and its boot, see [KeyID]; at most 128 bytes. Required.
	KeyID string
	// Private signs. Required.
	Private ed25519.PrivateKey
	// TTL is how long a token lives, at least a second. Default 24 h.
	TTL time.Duration
	// MaxTTL bounds how far ahead the exp of a token may lie, whoever made it.
	// Default: the larger of TTL and 24 h.
	MaxTTL time.Duration
	// Clock tells the wall time. Required.
	Clock func() time.Time
	// Public finds the public half of a key by its kid, over all nodes. It is
	// asked for cached tokens too, so a key that is gone takes its tokens with
	// it at once. Required.
	Public func(kid string) (ed25519.PublicKey, bool)
	// CacheSize bounds how many checked tokens are remembered. Default 65,536.
	CacheSize int
}

func (c *Config) complete() error {
	switch {
	case c.Issuer == "":
		return errors.New("tokens: an issuer is required")
	case c.KeyID == "" || len(c.KeyID) > maxKeyID:
		return fmt.Errorf("tokens: the key id must have 1 to %d bytes", maxKeyID)
	case len(c.Private) != ed25519.PrivateKeySize:
		return errors.New("tokens: an Ed25519 private key is required")
	case c.Clock == nil || c.Public == nil:
		return errors.New("tokens: a clock and a way to find public keys are required")
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = max(c.TTL, DefaultTTL)
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCache
	}
	if c.TTL < time.Second || c.MaxTTL < c.TTL || c.CacheSize < 0 {
		return errors.New("tokens: the time to live must be at least 1 s and at most the maximum")
	}
	return nil
}

// Refusal is why a token was refused. It never holds anything of the token.
type Refusal uint8

// The reasons for which a token is refused.
const (
	RefusedSize      Refusal = iota // empty or larger than MaxToken
	RefusedMalformed                // not three parts, not base64, not JSON, an unknown critical header
	RefusedKey                      // no kid, or nobody has such a key
	RefusedSignature                // not EdDSA, or signed by another key
	RefusedTime                     // expired, not valid yet, or valid for too long
	RefusedClaims                   // exp, aud, iss or id missing or wrong
	refusals
)

var refusalNames = [refusals]string{"size", "malformed", "key", "signature", "time", "claims"}

// String returns the reason in one word.
func (r Refusal) String() string { return refusalNames[r] }

// Error says that the token was refused, and the reason.
func (r Refusal) Error() string { return "token refused: " + r.String() }

// Tokens makes and checks tokens. Safe for concurrent use; it owns no goroutine.
type Tokens struct {
	cfg     Config
	header  string // the encoded first part of every token made here
	parser  *jwt.Parser
	cache   *tokenCache
	minted  atomic.Uint64
	hits    atomic.Uint64
	misses  atomic.Uint64
	refused [refusals]atomic.Uint64
}

// NewTokens checks the configuration and returns the maker and checker of tokens.
func NewTokens(cfg Config) (*Tokens, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	header := appendPair([]byte(`{"alg":"EdDSA",`), "kid", cfg.KeyID)
	header = append(header, `,"typ":"JWT"}`...)
	return &Tokens{
		cfg:    cfg,
		header: base64.RawURLEncoding.EncodeToString(header),
		cache:  newTokenCache(cfg.CacheSize),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"EdDSA"}),
			jwt.WithExpirationRequired(),
			jwt.WithIssuer(cfg.Issuer),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(Leeway),
			jwt.WithTimeFunc(cfg.Clock),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// Mint returns a token for the identity in the app (64 lowercase hexadecimal
// digits). It fails if the app or the id is not well-formed, or if the token
// would be larger than [MaxToken]; an e-mail, locale or picture that is too long
// is left out.
func (t *Tokens) Mint(app string, id Identity) (string, error) {
	if !isAppID(app) {
		return "", errors.New("mint token: the app is not 64 lowercase hexadecimal digits")
	}
	if id.ID == "" || len(id.ID) > maxID || len(id.Name) > maxName {
		return "", fmt.Errorf("mint token: the id must have 1 to %d bytes, the name at most %d", maxID, maxName)
	}
	now := t.cfg.Clock()
	b := make([]byte, 0, 2048)
	b = append(b, t.header...)
	b = append(b, '.')
	b = base64.RawURLEncoding.AppendEncode(b, t.payload(app, id, now))
	signature := ed25519.Sign(t.cfg.Private, b)
	b = append(b, '.')
	b = base64.RawURLEncoding.AppendEncode(b, signature)
	if len(b) > MaxToken {
		return "", fmt.Errorf("mint token: it would have %d bytes, more than %d", len(b), MaxToken)
	}
	t.minted.Add(1)
	t.remember(b, app, id, now)
	return string(b), nil
}

// remember caches a token that was signed a moment ago: whoever logs in shows it at once, and checking a signature costs
// more than all the rest of a join.
func (t *Tokens) remember(token []byte, app string, id Identity, now time.Time) {
	e := cached{
		verified: Verified{App: app, ID: id.ID, Type: id.Type, Name: id.Name, Expires: time.Unix(now.Add(t.cfg.TTL).Unix(), 0)},
		kid:      t.cfg.KeyID,
	}
	copy(e.key[:], t.cfg.Private.Public().(ed25519.PublicKey))
	t.cache.put(sha256.Sum256(token), e)
}

// payload writes the claims as ASCII JSON whose base64 and base64url forms are
// the same (see appendText).
func (t *Tokens) payload(app string, id Identity, now time.Time) []byte {
	p := make([]byte, 0, 1024)
	p = append(p, '{')
	p = append(appendPair(p, "type", id.Type), ',')
	p = append(appendPair(p, "id", id.ID), ',')
	p = append(appendPair(p, "name", id.Name), ',')
	for _, extra := range [...]struct {
		key, value string
		max        int
	}{{"email", id.Email, 320}, {"locale", id.Locale, 64}, {"picture", id.Picture, 512}} {
		if extra.value != "" && len(extra.value) <= extra.max {
			p = append(appendPair(p, extra.key, extra.value), ',')
		}
	}
	p = append(appendPair(p, "aud", app), ',')
	p = append(appendPair(p, "iss", t.cfg.Issuer), ',')
	// One reader keeps iat in 32 bits.
	return fmt.Appendf(p, `"iat":%d,"exp":%d}`, min(now.Unix(), math.MaxInt32), now.Add(t.cfg.TTL).Unix())
}

// claims are those read back from a token.
type claims struct {
	jwt.RegisteredClaims
	Type string `json:"type"`
	User string `json:"id"`
	Name string `json:"name"`
}

// Verify checks a token and returns what it says; the error is a [Refusal]. A
// token checked before costs a hash and a look-up and no allocation. The caller
// compares App with the app that was asked for.
func (t *Tokens) Verify(token []byte) (Verified, error) {
	if len(token) == 0 || len(token) > MaxToken {
		return Verified{}, t.refuse(RefusedSize)
	}
	sum := sha256.Sum256(token)
	if e, ok := t.cache.get(sum); ok {
		return t.again(sum, &e)
	}
	t.misses.Add(1)
	var c claims
	parsed, err := t.parser.ParseWithClaims(string(token), &c, t.key)
	if err != nil {
		return Verified{}, t.refuse(refusalOf(err))
	}
	if _, critical := parsed.Header["crit"]; critical {
		return Verified{}, t.refuse(RefusedMalformed)
	}
	if len(c.Audience) != 1 || !isAppID(c.Audience[0]) || c.User == "" || len(c.User) > maxID {
		return Verified{}, t.refuse(RefusedClaims)
	}
	if c.ExpiresAt.Sub(t.cfg.Clock()) > t.cfg.MaxTTL+Leeway {
		return Verified{}, t.refuse(RefusedTime)
	}
	e := cached{
		verified: Verified{App: c.Audience[0], ID: c.User, Type: c.Type, Name: c.Name, Expires: c.ExpiresAt.Time},
		kid:      parsed.Header["kid"].(string),
	}
	key, ok := t.cfg.Public(e.kid)
	if !ok {
		return Verified{}, t.refuse(RefusedKey)
	}
	copy(e.key[:], key)
	t.cache.put(sum, e)
	return e.verified, nil
}

// again checks of a cached token what can change: its time, and that its key is
// still known.
func (t *Tokens) again(sum [32]byte, e *cached) (Verified, error) {
	if !t.cfg.Clock().Before(e.verified.Expires.Add(Leeway)) {
		t.cache.drop(sum)
		return Verified{}, t.refuse(RefusedTime)
	}
	if key, ok := t.cfg.Public(e.kid); !ok || !bytes.Equal(key, e.key[:]) {
		t.cache.drop(sum)
		return Verified{}, t.refuse(RefusedKey)
	}
	t.hits.Add(1)
	return e.verified, nil
}

// errKey says that a token's kid names no key.
var errKey = errors.New("no such key")

// key finds the key that a token says it was signed with. The kid is a map key
// and nothing else; jku, x5u, x5c and jwk are not looked at.
func (t *Tokens) key(token *jwt.Token) (any, error) {
	kid, ok := token.Header["kid"].(string)
	if !ok || kid == "" || len(kid) > maxKeyID {
		return nil, errKey
	}
	key, ok := t.cfg.Public(kid)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, errKey
	}
	return key, nil
}

func (t *Tokens) refuse(why Refusal) error {
	t.refused[why].Add(1)
	return why
}

func refusalOf(err error) Refusal {
	switch {
	case errors.Is(err, errKey):
		return RefusedKey
	case errors.Is(err, jwt.ErrTokenMalformed):
		return RefusedMalformed
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return RefusedSignature
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing), errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return RefusedClaims
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return RefusedTime
	}
	return RefusedClaims
}

// Collect emits the counters of tokens made and refused and of the cache.
func (t *Tokens) Collect(emit func(name string, value float64, labels ...string)) {
	emit("tokens_minted_total", float64(t.minted.Load()))
	emit("token_cache_hits_total", float64(t.hits.Load()))
	emit("token_cache_misses_total", float64(t.misses.Load()))
	emit("token_cache_entries", float64(t.cache.size()))
	for i := range t.refused {
		emit("tokens_refused_total", float64(t.refused[i].Load()), "reason", Refusal(i).String())
	}
}

// isAppID reports whether s is 64 lowercase hexadecimal digits.
func isAppID(s string) bool {
	if len(s) != hex.EncodedLen(sha256.Size) {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}
