package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	headTimeout     = 5 * time.Second
	bodyTimeout     = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	closingTimeout  = 2 * time.Second // for requests in progress when Run ends
	maxHeadBytes    = 16 << 10
	maxBodyBytes    = 64 << 10
	maxScrapes      = 4 // scrapes in progress
	maxConnsPerPort = 256
)

// Config is what the port needs besides what it lists.
type Config struct {
	// Listeners are bound by the caller, so that it can name the flag when a port
	// is taken. Run closes them. TLS, where wanted, is already around them.
	Listeners []net.Listener
	// Token is what a request must bear; empty: no token, loopback only.
	Token Secret
	// NodeID is the name of the node whose port this is: a request that names another one is passed on.
	NodeID string
	// Pprof serves /debug/pprof/.
	Pprof bool
	// Version goes into the metric trunkline_build_info.
	Version string
	Log     *slog.Logger
}

// Validate says what is wrong with a Config.
func (c *Config) Validate() error {
	if len(c.Listeners) == 0 {
		return errors.New("admin: no listener")
	}
	if c.Log == nil {
		return errors.New("admin: no logger")
	}
	if c.Token != "" && len(c.Token) < 16 {
		return errors.New("admin: the token of --admin-token-file is shorter than 16 bytes: make one with `openssl rand -base64 32`")
	}
	if c.Token != "" {
		return nil
	}
	for _, ln := range c.Listeners {
		if !loopback(ln.Addr()) {
			return fmt.Errorf("admin: %s is not a loopback address: give --admin-token-file FILE, or listen on localhost", ln.Addr())
		}
	}
	return nil
}

// Deps are what the port lists and changes.
type Deps struct {
	Node      Node
	Instances Instances
	States    States
	Apps      Apps
	Tokens    Tokens
	// Cluster may be nil: what needs one is then answered with 501.
	Cluster Cluster
	Sources []Source
}

// Server is the operators' port.
type Server struct {
	cfg     Config
	deps    Deps
	metrics *prometheus.Registry
	// readable answers what any node answers for any other, handler everything.
	readable http.Handler
	handler  http.Handler
}

// New checks the configuration and builds the port; it starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Node == nil || deps.Instances == nil || deps.States == nil || deps.Apps == nil || deps.Tokens == nil {
		return nil, errors.New("admin: a dependency is missing")
	}
	s := &Server{cfg: cfg, deps: deps}
	var err error
	if s.metrics, err = newRegistry(cfg.Version, deps.Sources); err != nil {
		return nil, err
	}
	s.readable = s.reads()
	s.handler = s.guard(s.routes())
	return s, nil
}

// ServeHTTP answers one request, checks included.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run serves until ctx ends, lets requests in progress finish for two seconds,
// and closes the listeners.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, ln := range s.cfg.Listeners {
		g.Go(func() error {
			if err := server.Serve(newCapped(ln, maxConnsPerPort)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("admin: serve %s: %w", ln.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTimeout)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			return server.Close()
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.livez)
	mux.Handle("GET /readyz", s.anywhere(s.readable))
	mux.Handle("GET /metrics", s.scrape())
	mux.Handle("GET /v1/", s.anywhere(s.readable))
	mux.HandleFunc("POST /v1/apps", s.createApp)
	mux.HandleFunc("PATCH /v1/apps/{app}", s.setApp)
	mux.HandleFunc("DELETE /v1/apps/{app}", s.deleteApp)
	mux.HandleFunc("POST /v1/apps/{app}/secrets", s.addSecret)
	mux.HandleFunc("DELETE /v1/apps/{app}/secrets/{id}", s.removeSecret)
	mux.HandleFunc("POST /v1/apps/{app}/tokens", s.mintToken)
	mux.HandleFunc("POST /v1/leave", s.withCluster(s.leave))
	mux.HandleFunc("DELETE /v1/members/{node}", s.withCluster(s.forceRemove))
	mux.HandleFunc("POST /v1/members/{node}/revoke", s.withCluster(s.revoke))
	mux.HandleFunc("GET /v1/snapshot", s.withCluster(s.snapshot))
	mux.HandleFunc("POST /v1/keys", s.withCluster(s.addKey))
	mux.HandleFunc("POST /v1/keys/{id}/use", s.withCluster(s.useKey))
	mux.HandleFunc("DELETE /v1/keys/{id}", s.withCluster(s.dropKey))
	if s.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // argv is nobody's business
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}
