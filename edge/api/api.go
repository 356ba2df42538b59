// Package api is the public HTTP of a node for everything that is not an
// upgrade: logins, create, the look-up of users, lobbies and connection details,
// key set and health.
//
// It refuses: a body that is larger than its endpoint takes, before reading it,
// or that falls more than 10 s behind 1 KiB/s; more than the
// allowed number of logins per address; a login that the app has not configured;
// a create without a token of that app; an Idempotency-Key used before with
// another request; a path with another method than its own. Every refusal is
// JSON, {"code","message"}: a word for programs and a sentence for people.
//
// Any web page may call it: no cookie is a credential. Tokens, secrets and bodies
// are never logged.
//
// It owns no goroutine: requests run in those of the http.Server.
package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
)

// DefaultLogins is how many logins a second an address may make.
const DefaultLogins = 20

// Config says what the endpoints hand out and how much they take.
type Config struct {
	// Listed makes registerApp refuse (--apps listed).
	Listed bool
	// PublicURL is what connection info hands out, such as
	// "https://edge.example.com:8443"; "" takes the request's Host.
	PublicURL string
	// LoginsPerSecond bounds logins per IPv4 address or IPv6 /64, with twice as
	// many at once; 0 means DefaultLogins.
	LoginsPerSecond float64
	// LiftLoopback takes the limit from loopback addresses (dev, bench).
	LiftLoopback bool
	// MaxBodies bounds the bytes of all bodies held at one time, half of them for
	// one app; 0 means 256 MiB.
	MaxBodies int64
	// Secure reports whether the request came by TLS. Default: r.TLS != nil.
	Secure func(r *http.Request) bool
}

// API is the http.Handler. It owns no goroutine.
type API struct {
	cfg      Config
	deps     Deps
	mux      *http.ServeMux
	public   *endpoint // nil: from the request
	buckets  *buckets
	attempts *attempts
	counters counters
	bodies   *budget
}

// New checks the configuration and returns the handler.
func New(cfg Config, deps Deps) (*API, error) {
	if err := deps.complete(); err != nil {
		return nil, err
	}
	if cfg.LoginsPerSecond == 0 {
		cfg.LoginsPerSecond = DefaultLogins
	}
	if cfg.MaxBodies == 0 {
		cfg.MaxBodies = 256 << 20
	}
	if cfg.LoginsPerSecond < 0 || cfg.MaxBodies < 0 {
		return nil, errors.New("api: limits must not be negative")
	}
	if cfg.Secure == nil {
		cfg.Secure = func(r *http.Request) bool { return r.TLS != nil }
	}
	a := &API{
		cfg:      cfg,
		deps:     deps,
		mux:      http.NewServeMux(),
		buckets:  newBuckets(cfg.LoginsPerSecond, 2*cfg.LoginsPerSecond),
		attempts: newAttempts(maxAttempts),
		bodies:   newBudget(cfg.MaxBodies),
	}
	if cfg.PublicURL != "" {
		public, err := parsePublicURL(cfg.PublicURL)
		if err != nil {
			return nil, err
		}
		a.public = public
	}
	a.routes()
	return a, nil
}

// routes names every endpoint with its method: without it ServeMux would find
// that patterns with the same shape conflict.
func (a *API) routes() {
	for _, r := range [...]struct {
		pattern, name string
		handle        func(http.ResponseWriter, *http.Request) error
	}{
		{"POST /registerApp", "register_app", a.registerApp},
		{"POST /{app}/login/{method}", "login", a.login},
		{"POST /{app}/create", "create", a.create},
		{"GET /users/{id}", "user", a.user},
		{"GET /{app}/users/{id}", "app_user", a.appUser},
		{"GET /.well-known/jwks.json", "jwks", a.jwks},
		{"GET /livez", "livez", a.livez},
		{"GET /readyz", "readyz", a.readyz},
		{"POST /auth/v1/{app}/login/{method}", "login", a.login},
		{"POST /lobby/v2/{app}/create", "lobby_create", a.lobbyCreate},
		{"GET /lobby/v2/{app}/list/public", "lobby_list", a.lobbyList},
		{"GET /rooms/v1/{app}/connectioninfo/{room}", "connection_info", a.connectionInfo},
		{"GET /connect/{app}", "upgrade", a.upgradeOnly},
		{"GET /{segment}", "upgrade", a.upgradeOnly},
	} {
		a.mux.Handle(r.pattern, a.endpoint(r.name, r.handle))
	}
}

// endpoint counts the answers of one endpoint and writes its refusals.
func (a *API) endpoint(name string, handle func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if v := recover(); v != nil {
				a.panicked(rec, name, v)
			}
			a.counters.add(name, rec.status)
		}()
		if err := handle(rec, r); err != nil {
			a.refuse(rec, name, err)
		}
	})
}

// panicked ends one request after a mistake of ours and goes on with the others.
// What was panicked with may hold anything of the request, so only its type and
// where it happened are logged.
func (a *API) panicked(w *recorder, name string, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	a.counters.panics.Add(1)
	a.deps.Log.Error("a request ended in a panic", "endpoint", name,
		"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
	if !w.wrote {
		writeProblem(w, problemInternal)
	}
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodOptions {
		preflight(w, r)
		a.counters.add("preflight", http.StatusNoContent)
		return
	}
	if handler, pattern := a.mux.Handler(r); pattern == "" {
		a.unmatched(w, r, handler)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// preflight lets any page send any of its headers.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	h.Set("Vary", "Access-Control-Request-Headers")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusNoContent)
}

// unmatched answers where no pattern fits: ServeMux knows whether the path or
// only the method is wrong.
func (a *API) unmatched(w http.ResponseWriter, r *http.Request, found http.Handler) {
	probe := &discard{header: http.Header{}}
	found.ServeHTTP(probe, r)
	p := problemNotFound
	if probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.header.Get("Allow"))
		p = problemMethod
	}
	a.counters.add("none", p.status)
	writeProblem(w, p)
}

// endpoint is where clients connect.
type endpoint struct {
	host      string // as in a URL: IPv6 in brackets
	port      int
	transport string // "tls" or "tcp": wss or ws
}

func parsePublicURL(s string) (*endpoint, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("public URL %q: must look like https://edge.example.com:8443", s)
	}
	secure := u.Scheme == "https" || u.Scheme == "wss"
	if !secure && u.Scheme != "http" && u.Scheme != "ws" {
		return nil, fmt.Errorf("public URL %q: the scheme must be https, http, wss or ws", s)
	}
	e, ok := parseHost(u.Host, secure)
	if !ok {
		return nil, fmt.Errorf("public URL %q: the host or port is not valid", s)
	}
	return e, nil
}

// parseHost takes apart a Host header and refuses what is no host: it is handed
// to other clients.
func parseHost(hostport string, secure bool) (*endpoint, bool) {
	e := &endpoint{host: hostport, port: 80, transport: "tcp"}
	if secure {
		e.port, e.transport = 443, "tls"
	}
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
		port, err := strconv.ParseUint(hostport[i+1:], 10, 16)
		if err != nil || port == 0 {
			return nil, false
		}
		e.host, e.port = hostport[:i], int(port)
	}
	if inner, ok := strings.CutPrefix(e.host, "["); ok {
		ip := net.ParseIP(strings.TrimSuffix(inner, "]"))
		return e, strings.HasSuffix(inner, "]") && ip != nil && ip.To4() == nil
	}
	if e.host == "" || len(e.host) > 253 {
		return nil, false
	}
	for i := range len(e.host) {
		c := e.host[i] | 0x20
		if (c < 'a' || c > 'z') && (e.host[i] < '0' || e.host[i] > '9') && e.host[i] != '.' && e.host[i] != '-' {
			return nil, false
		}
	}
	return e, true
}
