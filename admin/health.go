package admin

import (
	"io"
	"net/http"
	"slices"
)

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// Readiness is the answer to /readyz?verbose.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	out := Readiness{Ready: true, Checks: slices.Clone(s.deps.Node.Checks())}
	if s.deps.Cluster != nil {
		c := Check{Name: "cluster", OK: true}
		if err := s.deps.Cluster.Ready(); err != nil {
			c.OK, c.Detail = false, err.Error()
		}
		out.Checks = append(out.Checks, c)
	}
	for _, c := range out.Checks {
		out.Ready = out.Ready && c.OK
	}
	code := http.StatusOK
	if !out.Ready {
		code = http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("verbose") {
		answer(w, code, out)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	if out.Ready {
		_, _ = io.WriteString(w, "ready\n")
		return
	}
	_, _ = io.WriteString(w, "not ready\n")
}
