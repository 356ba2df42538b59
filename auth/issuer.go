package auth

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	keysFresh    = time.Hour      // after which a new set is asked for
	keysUsable   = 24 * time.Hour // how long the last good set is used
	fetchEvery   = time.Minute    // one fetch per issuer
	maxRemember  = 256            // issuers
	fetchesPerS  = 10             // over all issuers
	maxIDTokenIn = 24 * time.Hour // how far ahead an exp may lie
)

// source says who may have issued an identity token, for whom, and where the
// keys are ("": ask the first name's discovery document).
type source struct {
	names    []string
	audience []string
	keys     string
	pinned   bool // never forgotten to make room for others
}

// issuer is the key set of one source.
type issuer struct {
	mu        sync.Mutex
	keys      map[string]issuerKey
	fetched   time.Time     // when keys were fetched; zero: never
	attempted time.Time     // when a fetch was begun last; zero: never
	fetching  chan struct{} // closed when the fetch under way has ended; nil: none
}

// issuers remembers the key sets of a bounded number of issuers.
type issuers struct {
	clock   func() time.Time
	log     *slog.Logger
	fetch   *fetcher
	limit   *rate.Limiter
	parser  *jwt.Parser
	fetches atomic.Uint64
	failed  atomic.Uint64

	mu    sync.Mutex
	known map[string]*issuer
	order []string // in the order they became known
}

func newIssuers(cfg ProvidersConfig) *issuers {
	return &issuers{
		clock: cfg.Clock,
		log:   cfg.Log,
		fetch: newFetcher(cfg.AllowHosts),
		limit: rate.NewLimiter(fetchesPerS, 2*fetchesPerS),
		known: make(map[string]*issuer),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(Leeway),
			jwt.WithTimeFunc(cfg.Clock),
		),
	}
}

// idClaims are those read from an identity token.
type idClaims struct {
	jwt.RegisteredClaims
	Party         string `json:"azp"`
	Name          string `json:"name"`
	Email         string `json:"email"`
	EmailVerified any    `json:"email_verified"` // some issuers write text
	Locale        string `json:"locale"`
	Picture       string `json:"picture"`
}

// identity is who the token is about. An e-mail that the issuer says it has not
// verified is left out.
func (c *idClaims) identity(kind, prefix string) Identity {
	id := Identity{Type: kind, ID: prefix + c.Subject, Name: c.Name, Email: c.Email, Locale: c.Locale, Picture: c.Picture}
	if c.EmailVerified == false || c.EmailVerified == "false" {
		id.Email = ""
	}
	if len(id.Name) > maxName {
		id.Name = ""
	}
	return id
}

// verify checks an identity token. Its error is ErrCredential or ErrUnavailable.
func (s *issuers) verify(ctx context.Context, src source, token string) (*idClaims, error) {
	if token == "" || len(token) > MaxToken {
		return nil, ErrCredential
	}
	var keysErr error
	var c idClaims
	_, err := s.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		// Cheap checks first: nothing is fetched for a token that cannot be good.
		if _, critical := t.Header["crit"]; critical || !s.acceptable(&c, src) {
			return nil, ErrCredential
		}
		key, err := s.key(ctx, src, kid)
		if err != nil {
			keysErr = err
			return nil, err
		}
		if t.Method.Alg() != key.alg {
			return nil, ErrCredential
		}
		return key.public, nil
	})
	if keysErr != nil {
		return nil, keysErr
	}
	if err != nil {
		return nil, ErrCredential
	}
	return &c, nil
}

// acceptable checks issuer, audience, subject and how long the token is valid.
func (s *issuers) acceptable(c *idClaims, src source) bool {
	if !slices.Contains(src.names, c.Issuer) || c.Subject == "" || len(c.Subject) > maxID-33 {
		return false
	}
	if c.ExpiresAt == nil || c.ExpiresAt.Sub(s.clock()) > maxIDTokenIn+Leeway {
		return false
	}
	accepted := func(client string) bool { return slices.Contains(src.audience, client) }
	if !slices.ContainsFunc(c.Audience, accepted) {
		return false
	}
	// A token for several must say for whom it was made.
	return len(c.Audience) == 1 || accepted(c.Party)
}

// key returns the issuer's key of that name, fetching the set when it is old or
// does not have it, at most once a minute.
func (s *issuers) key(ctx context.Context, src source, kid string) (issuerKey, error) {
	is := s.issuer(src)
	for {
		is.mu.Lock()
		now := s.clock()
		key, found := is.find(kid)
		found = found && now.Sub(is.fetched) < keysUsable
		if found && (now.Sub(is.fetched) < keysFresh || is.fetching != nil) {
			is.mu.Unlock()
			return key, nil
		}
		if wait := is.fetching; wait != nil {
			is.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return issuerKey{}, ErrUnavailable
			}
		}
		if !is.attempted.IsZero() && now.Sub(is.attempted) < fetchEvery || !s.limit.AllowN(now, 1) {
			usable := !is.fetched.IsZero() && now.Sub(is.fetched) < keysUsable
			is.mu.Unlock()
			switch {
			case found:
				return key, nil
			case usable:
				return issuerKey{}, ErrCredential
			}
			return issuerKey{}, ErrUnavailable
		}
		is.attempted, is.fetching = now, make(chan struct{})
		is.mu.Unlock()
		s.refresh(ctx, is, src)
	}
}

// find returns the key of that name; a token without one may use the only key.
func (is *issuer) find(kid string) (issuerKey, bool) {
	if kid == "" && len(is.keys) == 1 {
		for _, key := range is.keys {
			return key, true
		}
	}
	key, ok := is.keys[kid]
	return key, ok
}

// refresh fetches the set once. A client that gives up does not spoil the fetch
// for those who wait for it.
func (s *issuers) refresh(ctx context.Context, is *issuer, src source) {
	s.fetches.Add(1)
	keys, err := s.fetch.keySet(context.WithoutCancel(ctx), src.names[0], src.keys)
	if err != nil {
		s.failed.Add(1)
		s.log.Warn("cannot fetch the keys of an issuer", "issuer", capped(src.names[0]), "err", capped(err.Error()))
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	if err == nil {
		is.keys, is.fetched = keys, s.clock()
	}
	close(is.fetching)
	is.fetching = nil
}

// issuer returns the key set of a source; the one known longest makes room, so
// that many issuers that nobody needs cannot push out Google.
func (s *issuers) issuer(src source) *issuer {
	name := src.names[0] + " " + src.keys
	s.mu.Lock()
	defer s.mu.Unlock()
	if is, ok := s.known[name]; ok {
		return is
	}
	if len(s.order) >= maxRemember {
		delete(s.known, s.order[0])
		s.order = slices.Delete(s.order, 0, 1)
	}
	is := &issuer{}
	s.known[name] = is
	if !src.pinned {
		s.order = append(s.order, name)
	}
	return is
}

func (s *issuers) collect(emit func(name string, value float64, labels ...string)) {
	s.mu.Lock()
	known := len(s.known)
	s.mu.Unlock()
	emit("login_issuers", float64(known))
	emit("login_key_fetches_total", float64(s.fetches.Load()))
	emit("login_key_fetches_failed_total", float64(s.failed.Load()))
}
