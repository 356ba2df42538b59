package client

import (
	"context"
	"net"
	"time"
)

// Server takes clients from listeners and seats them.
type Server struct {
	cfg Config
	d   Deps
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, d: d}, nil
}

// Run owns pings, expiry and the HTTP server. It returns after ctx has ended and every connection with it.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// ServeHTTP accepts HTTP and WebSocket clients from ln until ctx ends, and closes ln.
func (s *Server) ServeHTTP(ctx context.Context, ln net.Listener) error {
	<-ctx.Done()
	return ln.Close()
}

// ServeTCP accepts TCP clients, legacy and native, from ln until ctx ends, and closes ln.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener) error {
	<-ctx.Done()
	return ln.Close()
}

// Drain tells every client to go elsewhere, spread over the given time, and returns when all have gone or ctx has ended.
func (s *Server) Drain(ctx context.Context, spread time.Duration) error {
	return nil
}

// Collect reports the counters.
func (s *Server) Collect(emit func(name string, value float64, labels ...string)) {
}
