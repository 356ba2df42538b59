package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/trunkline-edge/trunkline/pipe"
)

// idleHTTP is how long a kept-alive HTTP connection may wait for its next request.
const idleHTTP = time.Minute

// http serves one connection of the HTTP port: it reads the first request's head and gives the connection to a session
// or to the HTTP server.
func (v *visit) http(ctx context.Context) {
	if !v.secure(v.srv.httpTLS, v.srv.cfg.PlainHTTP) {
		if v.rd != nil {
			v.answer(http.StatusBadRequest, "tls_required", "This port speaks TLS only.")
		}
		return
	}
	n, status := v.readHead()
	if n == 0 {
		if status != 0 {
			v.answer(status, "bad_request", "")
		}
		return
	}
	raw := v.rd.Buffered()[:n]
	var h head
	switch status := h.parse(raw); {
	case status != http.StatusOK:
		v.fail("bad_request")
		v.answer(status, "bad_request", "")
	case !h.upgrade:
		v.handOver()
	case h.body:
		v.fail("bad_request")
		v.answer(http.StatusBadRequest, "bad_request", "An upgrade has no body.")
	default:
		v.upgrade(ctx, &h, raw)
	}
}

// readHead reads until the end of the request's head and returns its size, or 0 and the status to answer with, if any.
func (v *visit) readHead() (n, status int) {
	for seen := 0; ; {
		b, err := v.rd.Fill(seen + 1)
		if len(b) > seen {
			if n := headEnd(b[:min(len(b), maxHead)], seen); n > 0 {
				return n, 0
			}
			seen = len(b)
		}
		switch {
		case seen >= maxHead:
			v.fail("head_too_big")
			return 0, http.StatusRequestHeaderFieldsTooLarge
		case errors.Is(err, os.ErrDeadlineExceeded):
			v.fail("slow")
			return 0, http.StatusRequestTimeout
		case err != nil:
			v.fail("silent")
			return 0, 0
		}
	}
}

// answer refuses a request in the form of the API's errors and ends the connection.
func (v *visit) answer(status int, code, message string) {
	if message == "" {
		message = http.StatusText(status) + "."
	}
	body := fmt.Sprintf(`{"code":%q,"message":%q}`, code, message)
	_, _ = fmt.Fprintf(v.nc, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
	v.settled()
	v.bye()
}

// switchProtocols answers the upgrade with 101, or refuses it. native is set when the client asked for our subprotocol,
// which is looked for only if offer.
func (v *visit) switchProtocols(raw []byte, offer bool) (native, ok bool) {
	up := ws.Upgrader{}
	if offer {
		up.Protocol = func(p []byte) bool { return string(p) == subprotocol }
	}
	hs, err := up.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(raw), v.nc})
	if err != nil {
		v.fail("bad_upgrade")
		v.settled()
		v.bye()
		return false, false
	}
	return hs.Protocol == subprotocol, true
}

// handOver gives the connection, with what was read, to the HTTP server.
func (v *visit) handOver() {
	c := &handed{Conn: v.nc, v: v, ahead: bytes.Clone(v.rd.Buffered())}
	v.settled()
	v.kept, v.web = true, true
	if !v.srv.handoff.give(c) {
		_ = c.Close()
	}
}

// handed is a connection of the HTTP server: first it reads what was read before.
type handed struct {
	net.Conn
	v     *visit // stays among the visits, so that it is closed with them
	ahead []byte
	once  sync.Once
}

func (c *handed) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	c.ahead = nil
	return c.Conn.Read(p)
}

// Close lets what was written reach the client.
func (c *handed) Close() error {
	c.once.Do(func() {
		if c.v.pc.Pending() > 0 {
			pipe.NewWriter(c.Conn).CloseAfterFlush(c.v.srv.cfg.Linger)
		} else {
			_ = c.Conn.Close()
		}
		c.v.forget()
		c.v.srv.departed(c.v.addr)
	})
	return nil
}

// handoff is the listener of the HTTP server.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept returns the next connection that give was called with.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is that of no socket.
func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }

// tlsKey finds the TLS state of a connection in a request's context.
type tlsKey struct{}

func (s *Server) newWeb() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.serveRequest),
		ReadHeaderTimeout: s.cfg.Handshake,
		IdleTimeout:       idleHTTP,
		MaxHeaderBytes:    maxHead - 4<<10, // net/http adds 4 KiB of its own
		ErrorLog:          slog.NewLogLogger(s.d.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if tc, ok := c.(*handed).Conn.(*tls.Conn); ok {
				state := tc.ConnectionState()
				return context.WithValue(ctx, tlsKey{}, &state)
			}
			return ctx
		},
	}
}

// serveRequest sees to what net/http does not: TLS below our own connection, header lines, the least rate of a body,
// and that a panic is counted.
func (s *Server) serveRequest(w http.ResponseWriter, r *http.Request) {
	if state, ok := r.Context().Value(tlsKey{}).(*tls.ConnectionState); ok {
		r.TLS = state
	}
	lines := 0
	for _, values := range r.Header {
		lines += len(values)
	}
	if lines > maxHeaders {
		w.Header().Set("Connection", "close")
		http.Error(w, `{"code":"bad_request","message":"Too many header lines."}`, http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	size := r.ContentLength
	if size < 0 {
		size = maxBody
	}
	allowed := s.cfg.Handshake + time.Duration(min(size, maxBody))*time.Second/time.Duration(s.cfg.MinRate)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(allowed))
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // that is how net/http compares it
				s.panicked(p)
			}
			panic(http.ErrAbortHandler)
		}
	}()
	s.d.Handler.ServeHTTP(w, r)
}

// maxBody is the largest body that a minimum rate is reckoned for; handlers have their own limits.
const maxBody = 16 << 20
