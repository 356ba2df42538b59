package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// joinLimit is how long a cluster may take until all its nodes take clients.
const joinLimit = 60 * time.Second

// startNodes starts a cluster of n nodes, seen as one server: backends attach to the first node and clients come to the
// last, so every frame crosses the link between the two. Nodes between them only vote.
func (l *lab) startNodes(ctx context.Context, n int, stored bool) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	start := l.group.StartNodes
	if stored {
		start = l.group.StartStoredNodes
	}
	devs, err := start(ctx, l.dir, n, "--pprof", "--log-level", "warn")
	if err != nil {
		return nil, err
	}
	first, last := devs[0], devs[n-1]
	for _, d := range devs {
		if err := awaitReady(ctx, d); err != nil {
			return nil, err
		}
	}
	s, err := l.serverOf(last)
	if err != nil || n == 1 {
		return s, err
	}
	s.tunnel, s.owner = first.Tunnel, "http://"+first.Admin
	meters := make(nodesMeter, n)
	for i, d := range devs {
		meters[i] = devMeter(d)
	}
	s.meter = meters
	return s, nil
}

// awaitReady asks a node until it says that it takes clients.
func awaitReady(ctx context.Context, d *child.Dev) error {
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	last := errors.New("it does not answer")
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.Admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			last = fmt.Errorf("HTTP %d", res.StatusCode)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.Done():
			return fmt.Errorf("a node ended before it was ready; it said: %s", d.Tail())
		case <-ctx.Done():
			return fmt.Errorf("a node is not ready: %w: %w; it said: %s", ctx.Err(), last, d.Tail())
		}
	}
}

// nodesName is what a cluster is called in tables beside a single node.
func nodesName(n int) string { return fmt.Sprintf("trunkline, %d nodes", n) }

// cluster starts a cluster with a backend at its first node, ready for clients at its last.
func (b *bench) cluster(ctx context.Context, nodes, perRoom int, cfg backendConfig, secure bool) (*contender, error) {
	b.say("starting a cluster of %d nodes", nodes)
	s, err := b.lab.startNodes(ctx, nodes, false)
	if err != nil {
		return nil, err
	}
	app, err := b.lab.startBackend(ctx, s, cfg)
	if err != nil {
		return nil, err
	}
	return s.contender(nodesName(nodes), app, perRoom, secure)
}
