package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
)

// MaxForwarded is the most that one node answers for another: what one call between nodes carries.
const MaxForwarded = 1<<20 - 4<<10

// reads are the routes that any node answers for any other, with ?node=NAME.
func (s *Server) reads() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /readyz":            s.readyz,
		"GET /v1/status":         s.status,
		"GET /v1/instances":      s.instances,
		"GET /v1/states":         s.states,
		"GET /v1/states/{state}": s.where,
		"GET /v1/apps":           s.listApps,
		"GET /v1/apps/{app}":     s.getApp,
		"GET /v1/members":        s.withCluster(s.members),
		"GET /v1/cluster":        s.withCluster(s.clusterStatus),
		"GET /v1/raft/peers":     s.withCluster(s.peers),
		"GET /v1/keys":           s.withCluster(s.keys),
	} {
		mux.HandleFunc(pattern, h)
	}
	return mux
}

// anywhere passes a request on to the node that it names, if that is another one.
func (s *Server) anywhere(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		node := query.Get("node")
		if node == "" || node == s.cfg.NodeID {
			h.ServeHTTP(w, r)
			return
		}
		s.withCluster(func(w http.ResponseWriter, r *http.Request) {
			query.Del("node")
			path := r.URL.EscapedPath()
			if len(query) > 0 {
				path += "?" + query.Encode()
			}
			status, body, err := s.deps.Cluster.Forward(r.Context(), node, r.Method, path, nil)
			if err == nil && (status < 200 || status > 599) {
				err = fmt.Errorf("node %s answers status %d: %w", node, status, ErrUnreachable)
			}
			if err != nil {
				s.refuse(w, r, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write(body) // the client is gone: nobody is left to tell
		})(w, r)
	})
}

// Answer answers a request that another node passed on (its Cluster.Forward). The caller has made sure that it is a
// node. Only what reads is answered, by this node alone.
func (s *Server) Answer(ctx context.Context, method, path string, body []byte) (status int, answered []byte) {
	out := &bounded{head: make(http.Header), status: http.StatusOK}
	if !strings.HasPrefix(path, "/") || len(body) > 0 {
		badRequest(out, "a request between nodes is a path and has no body")
		return out.status, out.body.Bytes()
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://node"+path, http.NoBody)
	if err != nil {
		badRequest(out, "a request between nodes: %v", err)
		return out.status, out.body.Bytes()
	}
	if node := r.URL.Query().Get("node"); node != "" && node != s.cfg.NodeID {
		badRequest(out, "a request is passed on once only")
		return out.status, out.body.Bytes()
	}
	func() {
		defer s.survive(out, r)
		s.readable.ServeHTTP(out, r)
	}()
	if out.over {
		out = &bounded{head: make(http.Header)}
		answerError(out, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the answer has more than the %d bytes that one node answers for another: ask for less with limit, or ask the node itself", MaxForwarded))
	}
	return out.status, out.body.Bytes()
}

// bounded keeps an answer of at most MaxForwarded bytes.
type bounded struct {
	head   http.Header
	status int
	body   bytes.Buffer
	over   bool
}

// Header answers the header, which is not passed on.
func (b *bounded) Header() http.Header { return b.head }

// WriteHeader keeps the status.
func (b *bounded) WriteHeader(status int) { b.status = status }

// Write keeps p while there is room.
func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || b.body.Len()+len(p) > MaxForwarded; b.over {
		return 0, fmt.Errorf("more than %d bytes", MaxForwarded)
	}
	return b.body.Write(p)
}
