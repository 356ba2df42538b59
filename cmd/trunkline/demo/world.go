package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// Limits of setting the world up.
const (
	startLimit   = 15 * time.Second
	answerLimit  = 64 << 10
	retryRefused = 20 * time.Millisecond
)

// backendNames are the instances that the demo starts.
var backendNames = []string{"alpha", "beta"}

// world is a coordinator, its backends and its clients.
type world struct {
	o     options
	group *child.Group
	say   func(format string, args ...any)
	began time.Time

	http     http.Client
	dev      *child.Dev
	secret   string
	app      string
	backends map[string]*child.Process
	rooms    []string
	clients  []*client
	ledger   *ledger
	moves    chan move  // rooms that answer again
	failed   chan error // clients that gave up
}

func (w *world) now() time.Duration { return time.Since(w.began) }

// build starts the processes and makes the rooms.
func (w *world) build(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var err error
	if w.dev, err = w.group.StartDev(ctx, dir, "--log-level", "warn"); err != nil {
		return err
	}
	w.say("coordinator     http://%s, backends at %s, metrics at http://%s/metrics (pid %d)", w.dev.Client, w.dev.Tunnel, w.dev.Admin, w.dev.PID())
	w.secret = rand.Text()
	sum := sha256.Sum256([]byte(w.secret))
	w.app = hex.EncodeToString(sum[:])
	for _, name := range backendNames {
		if err := w.startBackend(ctx, name); err != nil {
			return err
		}
	}
	tokens := make([]string, w.o.Clients)
	for i := range tokens {
		if tokens[i], err = w.ask(ctx, "/login/anonymous", "", "token"); err != nil {
			return err
		}
	}
	w.rooms = make([]string, w.o.Rooms)
	for i := range w.rooms {
		if w.rooms[i], err = w.ask(ctx, "/create", tokens[0], "stateId"); err != nil {
			return err
		}
	}
	w.say("rooms           %d, clients %d, each sending %v messages a second", w.o.Rooms, w.o.Clients, w.o.Rate)
	w.http.CloseIdleConnections()
	return w.newClients(tokens)
}

func (w *world) startBackend(ctx context.Context, name string) error {
	p, err := w.group.Start(ctx, child.Command{
		Name: "backend " + name, Ready: true, Env: []string{secretVariable + "=" + w.secret},
		Args: []string{"demo", "child-backend", "--tunnel", w.dev.Tunnel, "--name", name},
	})
	if err != nil {
		return err
	}
	w.backends[name] = p
	w.say("backend         %s attached (pid %d)", name, p.PID())
	return nil
}

// ask posts to the app's public API and returns one field of the answer. While the coordinator has no instance yet
// (503) it asks again.
func (w *world) ask(ctx context.Context, path, token, field string) (string, error) {
	for {
		status, answer, err := w.post(ctx, path, token)
		if err != nil {
			return "", fmt.Errorf("POST %s: %w", path, err)
		}
		if status == http.StatusServiceUnavailable {
			select {
			case <-time.After(retryRefused):
				continue
			case <-ctx.Done():
				return "", fmt.Errorf("POST %s: %w; the last answer: %s", path, ctx.Err(), bytes.TrimSpace(answer))
			}
		}
		if status/100 != 2 {
			return "", fmt.Errorf("POST %s: HTTP %d: %s", path, status, bytes.TrimSpace(answer))
		}
		var fields map[string]any
		if err := json.Unmarshal(answer, &fields); err != nil {
			return "", fmt.Errorf("POST %s: %w", path, err)
		}
		value, ok := fields[field].(string)
		if !ok {
			return "", fmt.Errorf("POST %s: no %q in the answer", path, field)
		}
		return value, nil
	}
}

func (w *world) post(ctx context.Context, path, token string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.dev.Client+"/"+w.app+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	res, err := w.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, answerLimit))
	return res.StatusCode, answer, err
}
