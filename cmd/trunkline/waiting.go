package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// waitingRoom answers on clients' ports while the node joins its cluster and has nothing to serve clients with: health
// checks as the node would, everybody else that it is too early. One connection is one answer.
type waitingRoom struct {
	tls   *tls.Config // nil: no TLS
	plain bool        // plain HTTP is taken too
	log   *slog.Logger

	seats  chan struct{}
	cancel context.CancelFunc
	all    sync.WaitGroup
}

const (
	// waitingSeats bounds the connections at a time; more wait to be accepted.
	waitingSeats = 64
	// waitingTime bounds one connection, waitingBytes what is read of it.
	waitingTime  = 5 * time.Second
	waitingBytes = 16 << 10
)

// openWaitingRoom takes connections from the listeners until leave, after which others may: it closes none of them.
func openWaitingRoom(ctx context.Context, n *node, listeners []net.Listener) *waitingRoom {
	ctx, cancel := context.WithCancel(ctx)
	r := &waitingRoom{tls: n.tls, plain: n.settings.TLS != "on", log: n.log, seats: make(chan struct{}, waitingSeats), cancel: cancel}
	for _, ln := range listeners {
		if limited, ok := ln.(interface{ SetDeadline(t time.Time) error }); ok {
			r.all.Go(func() { r.accept(ctx, ln, limited.SetDeadline) })
		}
	}
	return r
}

// leave gives the listeners back. It may be called again.
func (r *waitingRoom) leave() {
	r.cancel()
	r.all.Wait()
}

func (r *waitingRoom) accept(ctx context.Context, ln net.Listener, limit func(time.Time) error) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = limit(time.Unix(1, 0)) // ends Accept
	})
	defer func() {
		if !stop() {
			<-woken
		}
		_ = limit(time.Time{})
	}()
	for {
		select {
		case r.seats <- struct{}{}:
		case <-ctx.Done():
			return
		}
		nc, err := ln.Accept()
		if err != nil {
			<-r.seats
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				r.log.Warn("health checks are not answered until the node has joined", "err", err)
			}
			return
		}
		r.all.Go(func() {
			defer func() { <-r.seats }()
			stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
			defer stop()
			defer func() { _ = nc.Close() }()
			_ = nc.SetDeadline(time.Now().Add(waitingTime))
			r.answer(nc)
		})
	}
}

// answer reads one request and answers it. Errors are the other end's: it is gone, or speaks no HTTP.
func (r *waitingRoom) answer(nc net.Conn) {
	early := bufio.NewReader(nc)
	first, err := early.Peek(1)
	if err != nil {
		return
	}
	var stream io.ReadWriter = struct {
		io.Reader
		io.Writer
	}{early, nc}
	switch secure := first[0] == 0x16; {
	case secure && r.tls != nil:
		c := tls.Server(peeked{nc, early}, r.tls)
		defer func() { _ = c.Close() }()
		stream = c
	case secure || !r.plain:
		return
	}
	req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(stream, waitingBytes)))
	if err != nil {
		return
	}
	_ = waitingAnswer(req).Write(stream)
}

// peeked is a connection of which some is read already.
type peeked struct {
	net.Conn
	early *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.early.Read(b) }

func waitingAnswer(req *http.Request) *http.Response {
	status, body := http.StatusServiceUnavailable, `{"code":"not_ready","message":"The node does not take clients at the moment: it has not joined its cluster yet."}`
	if req.URL.Path == "/livez" && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		status, body = http.StatusOK, `{"status":"ok"}`
	}
	h := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
	if status != http.StatusOK {
		h.Set("Retry-After", "1")
	}
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Close: true, Request: req,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}
