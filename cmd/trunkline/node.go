package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/auth/logins"
	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/certs"
	"github.com/trunkline-edge/trunkline/edge"
	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// holdLimit is what edge takes for the time after which a silent client is gone.
const holdLimit = 45 * time.Second

// node is one life of a node. What needs no place in the cluster is made at once, the rest when the node has joined.
type node struct {
	settings *settings
	log      *slog.Logger
	dev      *devNode // nil in serve
	started  time.Time
	caFile   string

	bound  bound
	cert   certificate // nil: no TLS
	tls    *tls.Config // nil: no TLS
	table  *cluster.Node
	logins *logins.Store
	admin  *admin.Server
	left   chan struct{} // closed when an operator has taken this node out of the cluster

	// joined says that what follows is made. Who is asked before looks at it first.
	joined    atomic.Bool
	kid       string
	public    ed25519.PublicKey
	tokens    *auth.Tokens
	people    *auth.Providers
	router    *edge.Router
	tunnels   *tunnel.Counters
	endpoints *api.API
	client    *client.Server

	draining atomic.Bool
	leaving  sync.Once
}

// assemble binds every listener and makes what needs no place in the cluster. It starts nothing; on an error nothing
// stays open.
func assemble(ctx context.Context, s *settings, cert certificate, log *slog.Logger, dev *devNode) (*node, error) {
	n := &node{settings: s, log: log.With("node", s.NodeID), dev: dev, started: time.Now(), cert: cert, left: make(chan struct{})}
	if dev != nil {
		n.caFile = dev.caFile
	}
	if cert != nil {
		n.tls = certs.ServerConfig(cert.Certificate)
	}
	if err := n.make(ctx); err != nil {
		n.discard()
		return nil, err
	}
	return n, nil
}

// make makes the parts in the order in which each needs the one before.
func (n *node) make(ctx context.Context) (err error) {
	// The ports come first: when one is taken, nothing on disk has been touched.
	if n.bound, err = n.settings.listenAll(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{n.openTable, n.openLogins, n.makeAdmin} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// discard gives up what assemble opened.
func (n *node) discard() {
	n.bound.close()
	if n.logins != nil {
		_ = n.logins.Close()
	}
	if n.table != nil {
		_ = n.table.Close()
	}
}

// errForced is the end of a node that got a second signal.
var errForced = errors.New("stopped at once by a second signal: not every client was told")

const (
	// sameSignal is the time within which a second signal is taken for the first:
	// supervisors send one to the process and one to its group.
	sameSignal = 200 * time.Millisecond
	// stopTimeout bounds how long the parts may take to end after the drain,
	// forceTimeout how long after a second signal.
	stopTimeout  = 10 * time.Second
	forceTimeout = 2 * time.Second
	// handOverTimeout bounds how long another node may take to lead.
	handOverTimeout = 3 * time.Second
)

// runNode runs a node until a signal, the end of ctx or the end of a part. Where the cluster has ended the node's session
// (it was cut off for too long, or removed), the node begins a new life.
func runNode(ctx context.Context, w *world, s *settings, cert certificate, log *slog.Logger, dev *devNode) error {
	return w.relive(ctx, log.With("node", s.NodeID), func() (told bool, err error) { return runLife(ctx, w, s, cert, log, dev) })
}

// runLife is one life of a node. told says that it was to end: by a signal, ctx, or an operator.
func runLife(ctx context.Context, w *world, s *settings, cert certificate, log *slog.Logger, dev *devNode) (told bool, err error) {
	n, err := assemble(ctx, s, cert, log, dev)
	if err != nil {
		return false, err
	}
	run := newStages()
	rising, cancel := context.WithCancel(ctx)
	defer cancel()
	risen := make(chan error, 1)
	go func() { risen <- n.up(rising, w, run) }()
	var cause error
	for ended := false; !ended; {
		told = true
		select {
		case err := <-risen:
			told = false
			if ended = err != nil; ended {
				cause = err
			}
			risen = nil
			continue
		case sig := <-w.signals:
			n.log.Info("the node is stopping; a second signal stops it at once", "signal", sig.String(), "drain", s.Drain.Duration())
		case <-n.left:
			n.log.Info("the node has left the cluster and is stopping", "drain", s.Drain.Duration())
		case <-ctx.Done():
		case cause = <-run.failed:
			told = n.table.Left() // it comes back only when an operator starts it
			n.log.Error("a part of the node failed; the node is stopping", "err", cause)
		}
		ended = true
	}
	cancel()
	if risen != nil {
		<-risen // it starts nothing more
	}
	err = n.down(context.WithoutCancel(ctx), w, run)
	if cause == nil || errors.Is(err, cause) { // once is enough
		return told, err
	}
	return told, errors.Join(cause, err)
}

// up starts the node and tells whoever waits for it.
func (n *node) up(ctx context.Context, w *world, run *stages) error {
	if err := n.start(ctx, run); err != nil {
		return err
	}
	if file := n.settings.PortsFile; file != "" {
		if err := n.bound.writePorts(file, n.caFile); err != nil {
			return err
		}
	}
	if n.dev != nil {
		_, _ = io.WriteString(w.stdout, n.dev.greeting(n.settings, n.bound, thisBuild().Version))
	}
	n.log.Info("the node is up", "version", thisBuild().Version, "region", n.settings.Region, "addresses", n.bound.addresses())
	return nil
}

// down ends a node in order, at once when a second signal comes.
func (n *node) down(ctx context.Context, w *world, run *stages) error {
	drain, force := context.WithCancel(ctx)
	defer force()
	begun := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- n.shutdown(ctx, drain, run) }()
	for {
		select {
		case err := <-ended:
			n.log.Info("the node has stopped")
			return err
		case <-w.signals:
			if time.Since(begun) < sameSignal {
				continue
			}
		}
		force()
		timer := time.NewTimer(forceTimeout)
		defer timer.Stop()
		select {
		case err := <-ended:
			return errors.Join(errForced, err)
		case <-timer.C:
			return errForced
		}
	}
}

// start starts the parts in the order in which each needs the one before.
func (n *node) start(ctx context.Context, run *stages) error {
	// The table first: everything proposes to it.
	run.start(ctx, "table", n.table.Run)
	// The operators' port before anything else: a node that does not come up can be looked at.
	run.start(ctx, "admin", n.admin.Run)
	// Load balancers are answered from here on, clients once there is something to serve them with.
	room := openWaitingRoom(ctx, n, n.bound["client"])
	defer room.leave()
	if err := n.table.Joined(ctx); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := n.makeRest(); err != nil {
		return err
	}
	// Then what this boot signs with, so that no token is handed out that others cannot check.
	if err := n.table.PutKey(ctx, n.kid, n.public); err != nil {
		return fmt.Errorf("publish the signing key: %w", err)
	}
	if n.dev != nil && n.settings.Apps == "listed" {
		id := wire.AppIDOf(devSecret)
		if err := n.table.PutApp(ctx, id, id, placement.AppSettings{}); err != nil && !errors.Is(err, placement.ErrAppExists) {
			return fmt.Errorf("make the dev app: %w", err)
		}
	}
	run.start(ctx, "logins", n.logins.Run)
	run.start(ctx, "logins of others", func(ctx context.Context) error { return n.logins.Follow(ctx, n.loginPeers) })
	if files, ok := n.cert.(*certs.Reloading); ok {
		run.start(ctx, "certificates", func(ctx context.Context) error {
			ticker := time.NewTicker(certs.CheckEvery)
			defer ticker.Stop()
			return files.Run(ctx, ticker.C)
		})
	}
	run.start(ctx, "router", n.router.Run)
	// Backends before clients: who restarts a node wants instances to be back when clients ask for their states.
	for _, ln := range n.bound["tunnel"] {
		run.start(ctx, "tunnels", func(ctx context.Context) error { return n.router.ServeTunnels(ctx, ln, n.tls) })
	}
	run.start(ctx, "clients", n.client.Run)
	for _, ln := range n.bound["tcp"] {
		run.start(ctx, "tcp clients", func(ctx context.Context) error { return n.client.ServeTCP(ctx, ln) })
	}
	room.leave()
	for _, ln := range n.bound["client"] {
		run.start(ctx, "http clients", func(ctx context.Context) error { return n.client.ServeHTTP(ctx, ln) })
	}
	return nil
}

// shutdown ends a node in order. The end of drain skips what waits for others.
func (n *node) shutdown(ctx, drain context.Context, run *stages) error {
	// 1. Not ready: load balancers look elsewhere before anything else changes.
	n.draining.Store(true)
	if n.joined.Load() {
		n.drain(drain)
	}
	// 4. Leadership goes to another node and gossip learns that this one is gone, while all of it still works: nobody has
	// to find out by waiting.
	over, cancel := context.WithTimeout(ctx, handOverTimeout)
	if err := n.table.HandOver(over); err != nil {
		n.log.Warn("leadership could not be handed over", "err", err)
	}
	cancel()
	// 5. The parts end in the opposite order of their start: listeners of clients, clients, listeners of tunnels, the
	// router with its tunnels (whole frames are still written) and links, the logins that wait to be written, the operators'
	// port, which could be watched until here, and last the table, because all before may still propose to it.
	end, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := run.stop(end)
	n.bound.close()
	// Where the node never joined, nothing has run that closes them, and the next life in this process needs them.
	return errors.Join(err, n.logins.Close())
}

// drain lets sessions and tunnels leave.
func (n *node) drain(drain context.Context) {
	// 2. Clients are told to come back elsewhere, spread over half the time, so that they do not arrive there all at
	// once. Tunnels stay up meanwhile: who is still here is still served.
	length := n.settings.Drain.Duration()
	told, cancel := context.WithTimeout(drain, length)
	if err := n.client.Drain(told, length/2); err != nil && told.Err() == nil {
		n.log.Warn("clients could not be told to leave", "err", err)
	}
	cancel()
	// 3. Native instances are told to attach elsewhere; no new session or tunnel is taken. After the clients, because an
	// instance that leaves takes its states along.
	n.router.Drain()
}
