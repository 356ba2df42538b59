package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"sync/atomic"
	"syscall"
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

// node is one assembled node: every part is made, none runs.
type node struct {
	settings *settings
	log      *slog.Logger
	dev      *devNode // nil in serve
	started  time.Time
	caFile   string

	bound     bound
	cert      certificate // nil: no TLS
	tls       *tls.Config // nil: no TLS
	table     *cluster.Node
	leave     context.CancelFunc // ends the table's run
	left      chan error         // has its end
	logins    *logins.Store
	kid       string
	public    ed25519.PublicKey
	tokens    *auth.Tokens
	people    *auth.Providers
	router    *edge.Router
	tunnels   *tunnel.Counters
	endpoints *api.API
	client    *client.Server
	admin     *admin.Server

	draining atomic.Bool
}

// assemble binds every listener and makes every part. It starts nothing; on an
// error nothing stays open.
func assemble(ctx context.Context, s *settings, cert certificate, log *slog.Logger, dev *devNode) (*node, error) {
	n := &node{settings: s, log: log.With("node", s.NodeID), dev: dev, started: time.Now(), cert: cert}
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
	openStores := func() error { return n.openStores(ctx) }
	for _, step := range []func() error{openStores, n.makeTokens, n.makeEdge, n.makeAdmin} {
		if err := step(); err != nil {
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
		_ = n.runTable(canceled())
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (n *node) openStores(ctx context.Context) (err error) {
	s := n.settings
	cfg := cluster.Default()
	cfg.DataDir, cfg.NodeID, cfg.Region, cfg.Log = s.DataDir, s.NodeID, s.Region, n.log
	// The keys of former lives stay until the last token that they signed has expired.
	cfg.KeyRetention = max(cfg.KeyRetention, s.TokenTTL.Duration()+time.Hour)
	n.table, err = cluster.Open(cfg)
	if err != nil {
		return fmt.Errorf("open the table: %w", err)
	}
	if err := n.joinTable(ctx); err != nil {
		return fmt.Errorf("open the table: %w", err)
	}
	path := ""
	if s.DataDir != "" {
		path = filepath.Join(s.DataDir, "logins.db")
	}
	n.logins, err = logins.Open(path, logins.Config{Retention: s.LoginRetention.Duration(), Clock: time.Now, Log: n.log})
	if err != nil {
		return fmt.Errorf("open the logins: %w", err)
	}
	return nil
}

// joinTable runs this node's part in the cluster and waits until it is a member: what follows is made from the table.
func (n *node) joinTable(ctx context.Context) error {
	run, leave := context.WithCancel(context.WithoutCancel(ctx))
	n.leave, n.left = leave, make(chan error, 1)
	go func() { n.left <- n.table.Run(run) }()
	if err := n.table.Joined(ctx); err != nil {
		return errors.Join(err, n.runTable(canceled()))
	}
	return nil
}

// runTable waits for the end of the table's run, which it asks for when ctx ends.
func (n *node) runTable(ctx context.Context) error {
	if n.leave == nil {
		return n.table.Close()
	}
	select {
	case err := <-n.left:
		n.left <- err
		return err
	case <-ctx.Done():
		n.leave()
		err := <-n.left
		n.left <- err
		return err
	}
}

// makeTokens makes this boot's signing key. Its private half lives in memory
// only; the public one goes into the table, where the tokens of earlier boots
// find theirs.
func (n *node) makeTokens() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a signing key: %w", err)
	}
	mac := n.table.MACKey()
	n.public, n.kid = public, auth.KeyID(n.settings.NodeID, uint64(n.table.Session().Boot))
	n.tokens, err = auth.NewTokens(auth.Config{
		Issuer: issuer(mac), KeyID: n.kid, Private: private,
		TTL: n.settings.TokenTTL.Duration(), Clock: time.Now, Public: n.table.Key,
	})
	if err != nil {
		return err
	}
	n.people, err = auth.NewProviders(auth.ProvidersConfig{
		MACKey: mac, AllowHosts: n.settings.IssuerHosts, Clock: time.Now, Log: n.log,
	})
	return err
}

func (n *node) makeEdge() (err error) {
	s := n.settings
	plainFrom, err := s.plainFrom()
	if err != nil {
		return err
	}
	cfg := edge.Default()
	cfg.Region, cfg.OpenApps = s.Region, s.Apps == "open"
	cfg.InstanceWait, cfg.Hold = s.InstanceWait.Duration(), s.Hold.Duration()
	cfg.Grace, cfg.LegacyGrace = s.Grace.Duration(), s.LegacyGrace.Duration()
	cfg.TunnelStall, cfg.PlainFrom = s.TunnelStall.Duration(), plainFrom
	cfg.LiftLoopback = n.dev != nil
	tunnels := tunnel.Default()
	n.tunnels = &tunnel.Counters{}
	tunnels.Log, tunnels.Counters = n.log, n.tunnels
	if n.router, err = edge.New(cfg, edge.Deps{Placer: n.table, Log: n.log, Tunnel: tunnels}); err != nil {
		return err
	}
	n.endpoints, err = api.New(api.Config{
		Listed: s.Apps == "listed", PublicURL: s.PublicURL,
		LoginsPerSecond: float64(s.LimitLoginsPerIP), LiftLoopback: n.dev != nil,
	}, api.Deps{
		Tokens: n.tokens, Providers: n.people, Logins: n.logins, Apps: appRules{n}, Rooms: n.router,
		Keys: n.publicKeys, Ready: n.ready, Clock: time.Now, Log: n.log,
	})
	if err != nil {
		return err
	}
	clients := client.Default()
	clients.PlainHTTP, clients.PlainFrom, clients.URLTokens = s.TLS != "on", plainFrom, s.URLTokens
	clients.ConnsPerIP, clients.ConnsPerApp, clients.LiftLoopback = s.LimitConnsPerIP, s.LimitConnsPerApp.Of(descriptors()), n.dev != nil
	n.client, err = client.New(clients, client.Deps{
		Router: n.router.ForClients(), Auth: verifier{n.tokens}, Policy: appRules{n}.policy, Handler: n.endpoints, TLS: n.tls, Log: n.log,
	})
	return err
}

// descriptors answers how many files and sockets this process may have open.
func descriptors() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxInt32
	}
	return r.Cur
}

func (n *node) makeAdmin() (err error) {
	s := n.settings
	var token admin.Secret
	if s.AdminTokenFile != "" {
		if token, err = readSecret("--admin-token-file", s.AdminTokenFile); err != nil {
			return err
		}
	}
	view := operatorsView{n}
	n.admin, err = admin.New(admin.Config{
		Listeners: n.adminListeners(), Token: token, Pprof: s.Pprof, Version: thisBuild().Version, Log: n.log,
	}, admin.Deps{Node: view, Instances: view, States: view, Apps: view, Tokens: view, Sources: n.sources()})
	return err
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
)

// runNode runs a node until a signal, the end of ctx or the end of a part.
func runNode(ctx context.Context, w *world, s *settings, cert certificate, log *slog.Logger, dev *devNode) error {
	n, err := assemble(ctx, s, cert, log, dev)
	if err != nil {
		return err
	}
	run := newStages()
	cause := n.up(ctx, w, run)
	if cause == nil {
		select {
		case sig := <-w.signals:
			n.log.Info("the node is stopping; a second signal stops it at once", "signal", sig.String(), "drain", s.Drain.Duration())
		case <-ctx.Done():
		case cause = <-run.failed:
			n.log.Error("a part of the node failed; the node is stopping", "err", cause)
		}
	}
	return errors.Join(cause, n.down(context.WithoutCancel(ctx), w, run))
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
	run.start(ctx, "table", n.runTable)
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
	if files, ok := n.cert.(*certs.Reloading); ok {
		run.start(ctx, "certificates", func(ctx context.Context) error {
			ticker := time.NewTicker(certs.CheckEvery)
			defer ticker.Stop()
			return files.Run(ctx, ticker.C)
		})
	}
	// The operators' port before any client or backend: a node that does not come up can be looked at.
	run.start(ctx, "admin", n.admin.Run)
	run.start(ctx, "router", n.router.Run)
	// Backends before clients: who restarts a node wants instances to be back when clients ask for their states.
	for _, ln := range n.bound["tunnel"] {
		run.start(ctx, "tunnels", func(ctx context.Context) error { return n.router.ServeTunnels(ctx, ln, n.tls) })
	}
	run.start(ctx, "clients", n.client.Run)
	for _, ln := range n.bound["tcp"] {
		run.start(ctx, "tcp clients", func(ctx context.Context) error { return n.client.ServeTCP(ctx, ln) })
	}
	for _, ln := range n.bound["client"] {
		run.start(ctx, "http clients", func(ctx context.Context) error { return n.client.ServeHTTP(ctx, ln) })
	}
	return nil
}

// shutdown ends a node in order. The end of drain skips what waits for others.
func (n *node) shutdown(ctx, drain context.Context, run *stages) error {
	// 1. Not ready: load balancers look elsewhere before anything else changes.
	n.draining.Store(true)
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
	// 4. The parts end in the opposite order of their start: listeners of clients, clients, listeners of tunnels, the
	// router with its tunnels (whole frames are still written), the operators' port, which could be watched until here,
	// the logins that wait to be written, and last the table, because all before may still propose to it.
	end, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := run.stop(end)
	n.bound.close()
	return err
}
