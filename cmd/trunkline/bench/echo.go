package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// devSecret is the secret of `trunkline dev`'s own app, which a backend for a running coordinator serves by default.
const devSecret = "dev-secret"

// secureName tells a contender with TLS apart in tables that have both.
const secureName = " TLS"

// attach finds or starts the coordinator and its backend.
func (b *bench) attach(ctx context.Context, broadcast bool) (s *server, app string, err error) {
	cfg := backendConfig{broadcast: broadcast, native: b.o.Native}
	if b.o.Target == "" {
		b.say("starting a coordinator and its backend")
		if s, err = b.lab.startServer(ctx); err != nil {
			return nil, "", err
		}
	} else {
		if s, err = b.remote(); err != nil || b.o.App != "" {
			return s, b.o.App, err
		}
		if cfg.secret = os.Getenv(secretVariable); cfg.secret == "" {
			cfg.secret = devSecret
		}
	}
	app, err = b.lab.startBackend(ctx, s, cfg)
	return s, app, err
}

// remote describes the running coordinator of --target.
func (b *bench) remote() (*server, error) {
	u, err := url.Parse(b.o.Target)
	if err != nil {
		return nil, err
	}
	s := &server{client: u.Host, tunnel: b.o.Tunnel, admin: strings.TrimSuffix(b.o.Admin, "/"), meter: noMeter{}}
	if u.Port() == "" {
		s.client += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	if s.admin == "" {
		b.note("without --admin, CPU and memory of the coordinator are not known and are 0 here")
	} else {
		s.meter = newAdminMeter(s.admin)
	}
	if u.Scheme == "https" {
		if s.secure, err = serverTLS(b.o.CA, u.Hostname()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// local says whether the floor can be compared with the server: both are on this machine.
func (b *bench) local(s *server) bool { return b.o.Target == "" || newSources(s.client).spread }

// line collects who takes turns: the floor first, where it is of use, then the coordinator, then peers.
func (b *bench) line(ctx context.Context, hub bool, perRoom int) ([]*contender, error) {
	s, app, err := b.attach(ctx, hub)
	if err != nil {
		return nil, err
	}
	own, err := s.contender("trunkline", app, perRoom, b.o.TLS)
	if err != nil {
		return nil, err
	}
	if !b.local(s) {
		b.note("the coordinator is not on this machine, so there is no floor beside it")
		return []*contender{own}, nil
	}
	base, err := b.lab.startFloor(ctx, hub, b.o.TLS)
	if err != nil {
		return nil, err
	}
	cs := []*contender{base, own}
	if b.o.Nodes > 1 {
		several, err := b.cluster(ctx, b.o.Nodes, perRoom, backendConfig{broadcast: hub, native: b.o.Native}, b.o.TLS)
		if err != nil {
			return nil, err
		}
		cs = append(cs, several)
	}
	if !b.o.Peers {
		return cs, nil
	}
	peers, err := b.peers(ctx, base)
	return append(cs, peers...), err
}

// peers starts the proxies that this machine has, in front of a plain floor.
func (b *bench) peers(ctx context.Context, base *contender) ([]*contender, error) {
	if base.endpoint.tls != nil {
		plain, err := b.lab.startFloor(ctx, false, false)
		if err != nil {
			return nil, err
		}
		base = plain
		b.note("HAProxy and nginx are measured without TLS")
	}
	var out []*contender
	for _, p := range []peer{haproxyPeer(), nginxPeer()} {
		c, err := b.lab.startPeer(ctx, p, base)
		if errors.Is(err, errNoPeer) {
			b.note("%s is not installed and was left out", p.name)
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (b *bench) echo(ctx context.Context) error {
	cs, err := b.line(ctx, false, b.o.PerRoom)
	if err != nil {
		return err
	}
	if b.report.Results, err = b.rounds(ctx, "echo", cs, b.echoRound(b.o)); err != nil {
		return err
	}
	b.report.Ratios = ratiosTo(b.report.Results, 0)
	if b.o.Rate == 0 {
		b.note("closed loop: a message leaves when an answer has come, so latencies do not show what waited outside; see --rate")
	}
	b.compareNodes()
	return b.profile(ctx, cs[b.measured(len(cs))], b.echoRound(b.o))
}

func (b *bench) fanout(ctx context.Context) error {
	cs, err := b.line(ctx, true, b.o.Conns)
	if err != nil {
		return err
	}
	if b.report.Results, err = b.rounds(ctx, "fanout", cs, b.fanRound(b.o)); err != nil {
		return err
	}
	b.report.Ratios = ratiosTo(b.report.Results, 0)
	b.compareNodes()
	return b.profile(ctx, cs[b.measured(len(cs))], b.fanRound(b.o))
}

// measured is which of n contenders a profile is of: the cluster, where there is one, else the single node.
func (b *bench) measured(n int) int {
	if b.o.Nodes > 1 {
		return 2
	}
	return min(1, n-1)
}

// compareNodes adds what several nodes do over what one does.
func (b *bench) compareNodes() {
	if r := b.report.Results; b.o.Nodes > 1 {
		b.report.Ratios = append(b.report.Ratios, compare(r[2], r[1]))
		b.note("CPU of %d nodes is that of all their processes", b.o.Nodes)
	}
}

// connectionsFor is what of the wished connections can be had, with a line of progress when it is less.
func (b *bench) connectionsFor(wish int, c *contender) int {
	n := b.report.Limits.allow(wish, c.endpoint.sources.spread)
	if n < wish {
		b.say("%d connections asked, %d possible: %s", wish, n, b.report.Limits.Met)
	}
	return n
}

// trackSources notes how many source addresses a contender was reached from.
func (b *bench) trackSources(c *contender) {
	b.report.Limits.SourceAddresses = max(b.report.Limits.SourceAddresses, c.endpoint.sources.addresses())
}

// named gives an error the benchmark's part it happened in.
func named(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}
