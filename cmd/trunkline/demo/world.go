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
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// Limits of setting the world up.
const (
	nodeCount   = 3
	startLimit  = 20 * time.Second
	answerLimit = 64 << 10
	askAgain    = 20 * time.Millisecond
)

// backendNames are the instances that the demo starts. Each is attached to the node of the same number.
var backendNames = []string{"alpha", "beta"}

// world is a cluster of nodes, backends and clients.
type world struct {
	o     options
	group *child.Group
	say   func(format string, args ...any)
	began time.Time

	http     http.Client
	nodes    []*node
	names    map[string]string // of nodes, by what clients and backends dial
	secret   string
	app      string
	backends map[string]*child.Process
	rooms    []string
	clients  []*client
	ledger   *ledger
	moves    chan move  // rooms that answer again
	failed   chan error // clients that gave up
}

// node is one process of the cluster.
type node struct {
	*child.Dev
	name   string
	killed bool
}

// url is what its clients dial.
func (n *node) url() string { return "ws://" + n.Client }

func (w *world) now() time.Duration { return time.Since(w.began) }

// build starts the processes and makes the rooms.
func (w *world) build(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := w.startNodes(ctx, dir); err != nil {
		return err
	}
	w.secret = rand.Text()
	sum := sha256.Sum256([]byte(w.secret))
	w.app = hex.EncodeToString(sum[:])
	for i, name := range backendNames {
		if err := w.startBackend(ctx, name, i); err != nil {
			return err
		}
	}
	// Any node is as good as any other: each is asked in turn, and rooms and tokens are good at all of them.
	var err error
	tokens := make([]string, w.o.Clients)
	for i := range tokens {
		if tokens[i], err = w.ask(ctx, i, "/login/anonymous", "", "token"); err != nil {
			return err
		}
	}
	w.rooms = make([]string, w.o.Rooms)
	for i := range w.rooms {
		if w.rooms[i], err = w.ask(ctx, i, "/create", tokens[0], "stateId"); err != nil {
			return err
		}
	}
	w.say("rooms           %d, clients %d, each sending %v messages a second", w.o.Rooms, w.o.Clients, w.o.Rate)
	w.http.CloseIdleConnections()
	return w.newClients(tokens)
}

// startNodes starts the cluster.
func (w *world) startNodes(ctx context.Context, dir string) error {
	all, err := w.group.StartNodes(ctx, dir, nodeCount, "--log-level", "warn")
	if err != nil {
		return err
	}
	for i, dev := range all {
		n := &node{Dev: dev, name: fmt.Sprintf("node-%d", i+1)}
		w.nodes = append(w.nodes, n)
		w.names[n.url()], w.names[n.Tunnel] = n.name, n.name
		w.say("%-15s clients at http://%s, backends at %s, metrics at http://%s/metrics (pid %d)", n.name, n.Client, n.Tunnel, n.Admin, n.PID())
	}
	return nil
}

// awaitVoters waits until the cluster can lose any one node, which takes some seconds from its start, and says who leads.
func (w *world) awaitVoters(ctx context.Context) (leader string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	defer w.http.CloseIdleConnections()
	for {
		leader, voters, err := w.agreement(ctx, w.nodes[0])
		if err == nil && leader != "" && voters == len(w.nodes) {
			return leader, nil
		}
		if !pause(ctx, askAgain) {
			return "", fmt.Errorf("the nodes did not become a cluster of %d voters: %w (%d voters, leader %q, error %v)", len(w.nodes), ctx.Err(), voters, leader, err)
		}
	}
}

// agreement asks a node's operators' port who leads the cluster and how many vote.
func (w *world) agreement(ctx context.Context, n *node) (leader string, voters int, err error) {
	status, answer, err := w.do(ctx, http.MethodGet, "http://"+n.Admin+"/v1/raft/peers", "")
	if err != nil {
		return "", 0, err
	}
	if status != http.StatusOK {
		return "", 0, fmt.Errorf("GET /v1/raft/peers: HTTP %d: %s", status, bytes.TrimSpace(answer))
	}
	var said struct {
		Leader string
		Peers  []struct{ Voter bool }
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return "", 0, fmt.Errorf("GET /v1/raft/peers: %w", err)
	}
	for _, p := range said.Peers {
		if p.Voter {
			voters++
		}
	}
	return said.Leader, voters, nil
}

// startBackend starts a backend that attaches to a node if it can, and to the others when not.
func (w *world) startBackend(ctx context.Context, name string, home int) error {
	p, err := w.group.Start(ctx, child.Command{
		Name: "backend " + name, Ready: true, Env: []string{secretVariable + "=" + w.secret},
		Args: []string{
			"demo", "child-backend", "--name", name,
			"--tunnel", strings.Join(w.addresses(home, false, func(n *node) string { return n.Tunnel }), ","),
		},
	})
	if err != nil {
		return err
	}
	w.backends[name] = p
	w.say("backend         %s attached to %s (pid %d)", name, w.names[p.Line()], p.PID())
	return nil
}

// addresses returns one address of every node, beginning with that of a certain one and going on up or down, so that
// those who lose a node do not all meet at the next.
func (w *world) addresses(home int, down bool, of func(*node) string) []string {
	step := 1
	if down {
		step = len(w.nodes) - 1
	}
	all := make([]string, len(w.nodes))
	for i := range all {
		all[i] = of(w.nodes[(home+i*step)%len(w.nodes)])
	}
	return all
}

// ask posts to the app's public API at some node and returns one field of the answer. While there is no instance yet
// (503) it asks again.
func (w *world) ask(ctx context.Context, turn int, path, token, field string) (string, error) {
	url := "http://" + w.nodes[turn%len(w.nodes)].Client + "/" + w.app + path
	for {
		status, answer, err := w.do(ctx, http.MethodPost, url, token)
		if err != nil {
			return "", fmt.Errorf("POST %s: %w", path, err)
		}
		if status == http.StatusServiceUnavailable {
			if pause(ctx, askAgain) {
				continue
			}
			return "", fmt.Errorf("POST %s: %w; the last answer: %s", path, ctx.Err(), bytes.TrimSpace(answer))
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

func (w *world) do(ctx context.Context, method, url, token string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
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

// pause waits for d; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
