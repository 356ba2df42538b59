package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
)

// guard lets a request through when its sender may ask at all: see the package
// documentation for the rules.
func (s *Server) guard(next http.Handler) http.Handler {
	var browser http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.survive(w, r)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if err := browser.Check(r); err != nil {
			answerError(w, http.StatusForbidden, "cross_origin", "this port does not answer requests that a browser sends for another site")
			return
		}
		if s.cfg.Token != "" {
			if !publicHealth(r) && !bears(r, s.cfg.Token) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="trunkline"`)
				answerError(w, http.StatusUnauthorized, "unauthorized", "this node asks for a token: give the verbs --admin-token-file FILE, or send Authorization: Bearer")
				return
			}
		} else if !loopbackName(r.Host) {
			answerError(w, http.StatusForbidden, "bad_host", "without a token this port answers only to localhost, 127.x.y.z or [::1] in the Host header")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
}

// survive turns a panic of one request into an answer: the node goes on.
func (s *Server) survive(w http.ResponseWriter, r *http.Request) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		s.cfg.Log.Error("a panic in an operator's request", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		answerError(w, http.StatusInternalServerError, "internal", "the node made a mistake; its log has more")
	}
}

// publicHealth says whether r is one of the two checks that load balancers make
// and that tell nothing but yes or no.
func publicHealth(r *http.Request) bool {
	return r.Method == http.MethodGet && (r.URL.Path == "/livez" || r.URL.Path == "/readyz" && r.URL.RawQuery == "")
}

// bears compares digests, so that neither the time nor the length tells anything.
func bears(r *http.Request, token Secret) bool {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// loopbackName says whether a Host header names this machine to itself. Any name
// but localhost could be a stranger's that resolves to 127.0.0.1.
func loopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func loopback(addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// capped closes connections beyond a number at once, so that a runaway script
// cannot take the process's descriptors.
type capped struct {
	net.Listener
	slots chan struct{}
}

func newCapped(ln net.Listener, n int) *capped {
	return &capped{Listener: ln, slots: make(chan struct{}, n)}
}

// Accept answers the next connection for which there is room.
func (c *capped) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case c.slots <- struct{}{}:
			return &cappedConn{Conn: conn, release: sync.OnceFunc(func() { <-c.slots })}, nil
		default:
			_ = conn.Close()
		}
	}
}

type cappedConn struct {
	net.Conn
	release func()
}

// Close closes the connection and gives its slot back.
func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
