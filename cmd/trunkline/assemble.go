package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/auth/logins"
	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/distances"
	"github.com/trunkline-edge/trunkline/edge"
	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
)

func (n *node) openTable(ctx context.Context) (err error) {
	s := n.settings
	cfg := cluster.Default()
	cfg.DataDir, cfg.NodeID, cfg.Region, cfg.Log = s.DataDir, s.NodeID, s.Region, n.log
	cfg.Join, cfg.MaxVoters, cfg.Version = s.joinAddrs(), s.MaxVoters, thisBuild().Version
	if s.Profile == "multi-region" {
		cfg.Profile = placement.MultiRegion
	}
	// The keys of former lives stay until the last token that they signed has expired.
	cfg.KeyRetention = max(cfg.KeyRetention, s.TokenTTL.Duration()+time.Hour)
	if cfg.Keys, err = n.keys(); err != nil {
		return err
	}
	if cfg.AdvertiseGossip, cfg.AdvertiseNode, err = s.advertised(ctx, n.bound); err != nil {
		return err
	}
	cfg.GossipAddr, cfg.NodeAddr = n.bound["gossip"][0].Addr().String(), n.bound["node"][0].Addr().String()
	cfg.Network = n.bound.network(nodeport.OS())
	if n.dev != nil && n.dev.rtt != nil {
		own := net.ParseIP(s.BindAddr[0]) // of dev --nodes
		cfg.Network = distances.Delayed{Network: distances.From{Network: cfg.Network, IP: own}, RTT: n.dev.rtt}
	}
	cfg.Handlers, cfg.Link, cfg.Extra = n.handlers(), n.serveLink, clusterView{n}.extra
	if n.table, err = cluster.Open(cfg); err != nil {
		return fmt.Errorf("open the table: %w", err)
	}
	return nil
}

// keys are the cluster's secrets: of the key file, or nil, where the node makes one for itself.
func (n *node) keys() (*trust.Keys, error) {
	switch {
	case n.settings.KeyFile != "":
		keys, err := trust.LoadKeys(n.settings.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("--key-file: %w", err)
		}
		return keys, nil
	case n.dev != nil:
		return n.dev.keys, nil
	}
	return nil, nil
}

func (n *node) openLogins(context.Context) (err error) {
	s := n.settings
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

// makeRest makes what needs the node's session and a table that has caught up.
func (n *node) makeRest() error {
	for _, step := range []func() error{n.makeTokens, n.makeEdge} {
		if err := step(); err != nil {
			return err
		}
	}
	n.joined.Store(true)
	return nil
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
	n.router, err = edge.New(cfg, edge.Deps{
		Placer: n.table, Log: n.log, Tunnel: tunnels, DialLink: n.table.DialLink, Probe: n.probe,
	})
	if err != nil {
		return err
	}
	n.endpoints, err = api.New(api.Config{
		Listed: s.Apps == "listed", PublicURL: s.PublicURL,
		LoginsPerSecond: float64(s.LimitLoginsPerIP), LiftLoopback: n.dev != nil,
	}, api.Deps{
		Tokens: n.tokens, Providers: n.people, Logins: n.logins, Apps: appRules{n}, Rooms: &rooms{Router: n.router, node: n},
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

func (n *node) makeAdmin(context.Context) (err error) {
	s := n.settings
	var token admin.Secret
	if s.AdminTokenFile != "" {
		if token, err = readSecret("--admin-token-file", s.AdminTokenFile); err != nil {
			return err
		}
	}
	view := operatorsView{n}
	n.admin, err = admin.New(admin.Config{
		Listeners: n.adminListeners(), Token: token, NodeID: s.NodeID, Pprof: s.Pprof, Version: thisBuild().Version, Log: n.log,
	}, admin.Deps{
		Node: view, Instances: view, States: view, Apps: view, Tokens: view, Cluster: clusterView{n}, Sources: n.sources(),
	})
	return err
}
