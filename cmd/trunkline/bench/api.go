package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answerLimit bounds the body of an API answer.
const answerLimit = 1 << 20

// apiConn is one kept-alive HTTP connection to the public API. It belongs to one goroutine. net/http's client would
// cost more than the request itself and share the two processors with the server.
type apiConn struct {
	host string
	nc   net.Conn
	br   *bufio.Reader
	out  []byte
}

// statusError is an answer other than 2xx.
type statusError struct {
	status int
	body   string
	// retryAfter is what the server asked for, 0 without.
	retryAfter time.Duration
}

// Error names the status and the beginning of the body.
func (e statusError) Error() string {
	return fmt.Sprintf("HTTP %d: %s", e.status, strings.TrimSpace(e.body))
}

func openAPI(ctx context.Context, e *endpoint) (*apiConn, error) {
	nc, err := e.dialRaw(ctx)
	if err != nil {
		return nil, err
	}
	return &apiConn{host: e.host, nc: nc, br: bufio.NewReaderSize(nc, 2048)}, nil
}

// post sends one request and returns the field of the JSON answer.
func (a *apiConn) post(path, token string, body []byte, field string) (string, error) {
	out := append(a.out[:0], "POST "...)
	out = append(out, path...)
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, a.host...)
	if token != "" {
		out = append(out, "\r\nAuthorization: "...)
		out = append(out, token...)
	}
	out = append(out, "\r\nContent-Type: application/octet-stream\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	out = append(out, "\r\n\r\n"...)
	a.out = append(out, body...)
	a.nc.SetDeadline(time.Now().Add(handshakeLimit))
	if _, err := a.nc.Write(a.out); err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	res, err := http.ReadResponse(a.br, nil)
	if err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerLimit))
	if err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	if res.StatusCode/100 != 2 {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return "", fmt.Errorf("POST %s: %w", path, statusError{res.StatusCode, string(answer), time.Duration(seconds) * time.Second})
	}
	var fields map[string]json.RawMessage
	var value string
	if err := json.Unmarshal(answer, &fields); err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	if err := json.Unmarshal(fields[field], &value); err != nil {
		return "", fmt.Errorf("POST %s: no %q in the answer: %w", path, field, err)
	}
	return value, nil
}

func (a *apiConn) login(app string) (string, error) {
	return a.post("/"+app+"/login/anonymous", "", nil, "token")
}

func (a *apiConn) create(app, token string) (string, error) {
	return a.post("/"+app+"/create", token, nil, "stateId")
}

func (a *apiConn) close() { a.nc.Close() }

// rooms makes the states and users that a run's connections join.
type rooms struct {
	endpoint *endpoint
	app      string
	perRoom  int

	tokens []string
	states []string
}

// apiParallel is how many API connections prepare a run.
const apiParallel = 8

// firstCreate is how long a server may take until it knows the backend that was just started.
const firstCreate = 15 * time.Second

// seats makes what n connections need beyond what earlier runs have made, and returns the first message of each.
// Connection i is user i mod perRoom in room i / perRoom.
func (r *rooms) seats(ctx context.Context, n int) (func(i int) []byte, error) {
	users := min(n, r.perRoom)
	states := (n + r.perRoom - 1) / r.perRoom
	if err := r.fill(ctx, &r.tokens, users, func(a *apiConn) (string, error) { return a.login(r.app) }); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	if len(r.states) == 0 {
		if err := r.createFirst(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.fill(ctx, &r.states, states, func(a *apiConn) (string, error) { return a.create(r.app, r.tokens[0]) }); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return func(i int) []byte { return connectMessage(r.states[i/r.perRoom], r.tokens[i%r.perRoom]) }, nil
}

// createFirst repeats the first create while the server has no instance yet.
func (r *rooms) createFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstCreate)
	defer cancel()
	a, err := openAPI(ctx, r.endpoint)
	if err != nil {
		return err
	}
	defer a.close()
	for {
		state, err := a.create(r.app, r.tokens[0])
		var refused statusError
		switch {
		case err == nil:
			r.states = append(r.states, state)
			return nil
		case !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable:
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no backend answers: %w", err)
		}
	}
}

// fill appends to list until it has n entries.
func (r *rooms) fill(ctx context.Context, list *[]string, n int, one func(*apiConn) (string, error)) error {
	have := len(*list)
	if have >= n {
		return nil
	}
	made := make([]string, n-have)
	var next atomic.Int64
	errs := make([]error, min(len(made), apiParallel))
	var all sync.WaitGroup
	for w := range errs {
		all.Go(func() {
			a, err := openAPI(ctx, r.endpoint)
			if err != nil {
				errs[w] = err
				return
			}
			defer a.close()
			for i := int(next.Add(1)) - 1; i < len(made) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if made[i], errs[w] = one(a); errs[w] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return err
	}
	*list = append(*list, made...)
	return nil
}

// connectMessage is revision D's first message.
func connectMessage(state, token string) []byte {
	var b bytes.Buffer
	b.WriteString(`{"stateId":"`)
	b.WriteString(state)
	b.WriteString(`","token":"`)
	b.WriteString(token)
	b.WriteString(`"}`)
	return b.Bytes()
}
