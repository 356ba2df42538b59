package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/trunkline-edge/trunkline/pipe"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	sniffTime      = 5 * time.Second
	probeTime      = 3 * time.Second
	probeElsewhere = time.Second // of which the other node needs part for the way
	firstRefusal   = time.Second
	longestRefusal = 30 * time.Second
	tlsRecord      = 0x16 // first byte of a TLS handshake
	// tunnelPending is what may wait for a tunnel's socket: more than tunnel.Config.TunnelMark and a message of the
	// largest size on top.
	tunnelPending = 32 << 20
)

// Why a tunnel is refused after its registration was read. The reasons of package tunnel come before.
const (
	refusedPlain    = "plain_from"
	refusedTLS      = "tls"
	refusedApp      = "app_not_listed"
	refusedMismatch = "app_mismatch"
	refusedTaken    = "store_id_in_use"
	refusedTable    = "table"
	refusedLimit    = "limit"
	refusedShare    = "share"
	refusedDraining = "draining"
)

// ServeTunnels accepts tunnels on ln until ctx ends. tlsConfig may be nil, which leaves plain tunnels only.
func (r *Router) ServeTunnels(ctx context.Context, ln net.Listener, tlsConfig *tls.Config) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if te := net.Error(nil); errors.As(err, &te) && te.Timeout() || isTooManyFiles(err) {
				r.stats.acceptFailed.Add(1)
				select {
				case <-time.After(50 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			return fmt.Errorf("accept a tunnel: %w", err)
		}
		if reason := r.admitTunnel(nc); reason != "" {
			nc.Close()
			r.noteRefusal(nc.RemoteAddr(), reason, nil)
			continue
		}
		r.spawn(func(ctx context.Context) {
			defer r.stats.tunnelConns.Add(-1)
			r.serveTunnel(ctx, nc, tlsConfig)
		})
	}
}

// admitTunnel counts a connection, or says why there is no room for it. Where there are as many as there may be, any one
// that has not registered yet makes room: who holds connections open without a word locks no backend out.
func (r *Router) admitTunnel(nc net.Conn) (refusal string) {
	if r.draining.Load() {
		return refusedDraining
	}
	r.mu.Lock()
	var evicted net.Conn
	if r.stats.tunnelConns.Load() >= int64(r.cfg.MaxTunnels) {
		for evicted = range r.knocking {
			break
		}
		if evicted == nil {
			r.mu.Unlock()
			return refusedLimit
		}
		delete(r.knocking, evicted)
	}
	r.knocking[nc] = struct{}{}
	r.stats.tunnelConns.Add(1)
	r.mu.Unlock()
	if evicted != nil {
		evicted.Close()
		r.noteRefusal(evicted.RemoteAddr(), refusedLimit, nil)
	}
	return ""
}

// settled takes the connection off those that have not registered; false when it had to make room for another.
func (r *Router) settled(nc net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, knocking := r.knocking[nc]
	delete(r.knocking, nc)
	return knocking
}

// serveTunnel is the life of one tunnel.
func (r *Router) serveTunnel(ctx context.Context, nc net.Conn, tlsConfig *tls.Config) {
	stop := context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Now()) })
	reg, tun, reason := r.meet(ctx, nc, tlsConfig)
	stop()
	switch kept := r.settled(nc); {
	case kept && reason != "":
		r.noteRefusal(nc.RemoteAddr(), reason, nil)
	case kept:
		r.serveRegistered(ctx, reg, tun, nc.RemoteAddr())
	case reason == "":
		tun.Close(refusedLimit)
	}
}

// meet reads a registration. The connection is closed where it answers a reason. A panic of what parses strangers' bytes
// ends this connection only.
func (r *Router) meet(ctx context.Context, nc net.Conn, tlsConfig *tls.Config) (reg *tunnel.Registration, tun tunnel.Tunnel, reason string) {
	conn := pipe.NewConn(nc, pipe.Options{MaxPending: tunnelPending, Stall: r.cfg.TunnelStall})
	defer func() {
		if p := recover(); p != nil {
			conn.Close()
			reg, tun, reason = nil, nil, tunnel.ReasonPanic
			// What was panicked with may hold anything of the registration.
			r.log.Error("reading a registration panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		}
	}()
	secured, reason := r.secure(conn, tlsConfig)
	if reason != "" {
		conn.Close()
		return nil, nil, reason
	}
	cfg := r.tcfg
	cfg.Known = func(reg *tunnel.Registration) bool {
		_, refusal := r.appOf(reg)
		return refusal == ""
	}
	reg, tun, err := tunnel.Accept(ctx, secured, cfg)
	return reg, tun, tunnel.ReasonOf(err)
}

// serveRegistered is the life of a tunnel whose registration has been read.
func (r *Router) serveRegistered(ctx context.Context, reg *tunnel.Registration, tun tunnel.Tunnel, remote net.Addr) {
	app, reason := r.appOf(reg)
	if reason == "" {
		row, _ := r.table.App(app)
		if back := r.shares.take(app, row.Listed, remote); back != nil {
			defer back()
		} else {
			reason = refusedShare
		}
	}
	var a *attachment
	if reason == "" {
		r.track(tun, true)
		defer r.track(tun, false)
		a, reason = r.register(ctx, app, reg, tun)
	}
	if reason != "" {
		tun.Close(farewell(reason))
		r.noteRefusal(remote, reason, &app)
		return
	}
	a.remote = remote.String()
	r.log.Info("instance attached", "app", app.String(), "instance", uint64(a.home.id), "store", clip(a.home.store),
		"kind", tun.Kind().String(), "gen", uint32(a.gen), "remote", a.remote)
	tun.Confirm(a.home.id, a.gen)
	r.greet(a, app)
	if a.legacy {
		r.layGhosts(storeKey{app, reg.StoreID}, a)
	}
	if !r.closeOlder(ctx, a) || !a.home.attach(a) {
		tun.Close(wire.CodeTakenOver.String()) // a newer one has registered meanwhile
	}
	r.syncs.tell()
	if a.syncing.Load() {
		r.spawn(func(ctx context.Context) { r.awaitNodes(ctx, a) })
	}
	r.feed(app)
	r.detached(a, tun.Run(ctx, a))
}

// secure tells TLS from plain by the first byte, and refuses plain from where it is not welcome.
func (r *Router) secure(conn *pipe.Conn, tlsConfig *tls.Config) (_ net.Conn, refusal string) {
	conn.SetReadDeadline(time.Now().Add(sniffTime))
	first, err := conn.PeekByte()
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, tunnel.ReasonTimeout
		}
		return nil, tunnel.ReasonPeer
	}
	if first == tlsRecord && tlsConfig != nil {
		tc := tls.Server(conn, tlsConfig)
		if err := tc.HandshakeContext(r.ctx); err != nil { // within the read deadline above
			return nil, refusedTLS
		}
		_ = tc.SetReadDeadline(time.Time{})
		return tc, ""
	}
	if !r.plainWelcome(conn.RemoteAddr()) {
		return nil, refusedPlain
	}
	_ = conn.SetReadDeadline(time.Time{})
	return conn, ""
}

func (r *Router) plainWelcome(addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap()
	for _, p := range r.cfg.PlainFrom {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// register gets the instance into the table and waits until an older tunnel of the same process is out of the way.
func (r *Router) register(ctx context.Context, app wire.AppID, reg *tunnel.Registration, tun tunnel.Tunnel) (*attachment, string) {
	q := placement.RegisterRequest{
		App: app, StoreID: reg.StoreID, Native: reg.Kind == tunnel.Native, Incarnation: reg.Incarnation,
		Region: reg.Region, Capacity: reg.Capacity, Login: reg.Login,
	}
	for _, h := range reg.Holds {
		q.Holds = append(q.Holds, wire.Held(h))
	}
	if q.Region == "" {
		q.Region = r.cfg.Region
	}
	key := storeKey{app, reg.StoreID}
	for range 5 {
		before, reason := r.supersede(ctx, key, &q)
		if reason != "" {
			return nil, reason
		}
		got, err := r.placer.Register(ctx, q)
		if held := (*placement.HeldError)(nil); errors.As(err, &held) {
			q.Replace, q.ReplaceGen = held.Instance, held.Gen
			continue
		}
		if err != nil {
			r.stats.proposalFailed.Add(1)
			if r.quiet.allow("register "+app.String(), time.Now()) {
				r.log.Error("registering an instance failed", "app", app.String(), "store", clip(reg.StoreID), "error", err)
			}
			return nil, refusedTable
		}
		h := r.homeFor(got, &q)
		a := &attachment{
			router: r, home: h, tun: tun, local: tun, gen: got.Gen, legacy: !q.Native, unnamed: !reg.Named,
			ended: make(chan struct{}),
		}
		a.syncing.Store(a.legacy && got.Again && r.connects() && before != r.node)
		return a, ""
	}
	return nil, refusedTaken
}

// supersede deals with a tunnel that the same name still has here. A native one of the same incarnation is the same process:
// the newer tunnel wins. A legacy one is probed: if it is dead the newcomer takes over, if it lives the newcomer is refused,
// later each time.
//
// The tunnel may be another node's: that one is asked, and closes it when the table says so. before is the node that held it.
func (r *Router) supersede(ctx context.Context, key storeKey, q *placement.RegisterRequest) (before wire.NodeSession, refusal string) {
	in, ok := r.table.Named(key.app, key.store, q.Native, q.Incarnation)
	if !ok {
		return 0, ""
	}
	q.Replace, q.ReplaceGen = in.ID, in.Gen
	if r.elsewhere(in.Node) {
		if !q.Native && r.livesElsewhere(ctx, &in) {
			r.delayRefusal(ctx, key)
			return in.Node, refusedTaken
		}
		r.stats.takeovers.Add(1)
		return in.Node, ""
	}
	h := r.home(in.ID)
	if h == nil {
		return in.Node, ""
	}
	old := h.live.Load()
	if old == nil || old.away() {
		return in.Node, ""
	}
	if !q.Native {
		pctx, cancel := context.WithTimeout(ctx, probeTime)
		err := old.local.Probe(pctx)
		cancel()
		if err == nil {
			r.delayRefusal(ctx, key)
			return in.Node, refusedTaken
		}
	}
	r.stats.takeovers.Add(1)
	old.local.Close(wire.CodeTakenOver.String())
	select {
	case <-old.ended:
		return in.Node, ""
	case <-ctx.Done():
		return in.Node, refusedDraining
	}
}

// livesElsewhere asks the node that holds the tunnel of an instance whether it lives. No answer in time is none.
func (r *Router) livesElsewhere(ctx context.Context, in *placement.Instance) bool {
	if r.probe == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeElsewhere)
	defer cancel()
	alive, err := r.probe(ctx, in.Node, in.ID, in.Gen)
	return err == nil && alive
}

// ProbeInstance reports whether this node holds that attachment of an instance and its other end has just shown that it
// lives: the answer to another node's Deps.Probe.
func (r *Router) ProbeInstance(ctx context.Context, instance wire.InstanceID, gen wire.Gen) bool {
	h := r.home(instance)
	if h == nil {
		return false
	}
	a := h.live.Load()
	return a != nil && !a.away() && a.gen == gen && a.local.Probe(ctx) == nil
}

// delayRefusal waits 1 s, doubling to 30 s, before a second process with a living storeId is closed: old SDKs retry for ever.
func (r *Router) delayRefusal(ctx context.Context, key storeKey) {
	r.mu.Lock()
	d := max(r.refused[key], firstRefusal)
	if len(r.refused) < maxGhosts {
		r.refused[key] = min(2*d, longestRefusal)
	}
	r.mu.Unlock()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// closeOlder closes a tunnel that came to life after the registration looked for one, and waits for its reader.
func (r *Router) closeOlder(ctx context.Context, a *attachment) bool {
	old := a.home.live.Load()
	if old == nil || old.away() {
		return true
	}
	if old.gen > a.gen {
		return false
	}
	r.stats.takeovers.Add(1)
	old.local.Close(wire.CodeTakenOver.String())
	select {
	case <-old.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// homeFor returns the home of a registered instance.
func (r *Router) homeFor(got placement.Attached, q *placement.RegisterRequest) *home {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.refused, storeKey{q.App, q.StoreID})
	h := r.homes[got.Instance]
	if h == nil {
		h = newHome(r, got.Instance, q.App, q.StoreID, !q.Native, got.Gen)
		r.homes[got.Instance] = h
	}
	h.expect(got.Gen)
	return h
}

// greet sends the frame that server SDK 0.5.0 waits for, where the app's operator said so.
func (r *Router) greet(a *attachment, app wire.AppID) {
	if row, ok := r.table.App(app); ok && row.Settings.Greeting && a.legacy {
		a.local.Greet(app.String())
	}
}

// track keeps the list of tunnels that a shutdown closes.
func (r *Router) track(t tunnel.Tunnel, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.tunnels[t] = struct{}{}
	} else {
		delete(r.tunnels, t)
	}
}

func (r *Router) closeTunnels(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.tunnels {
		t.Close(reason)
	}
}

// noteRefusal counts every refusal and logs one line per reason, app and 10 s.
func (r *Router) noteRefusal(addr net.Addr, reason string, app *wire.AppID) {
	r.stats.refusedTunnels.add(reason)
	key := reason
	if app != nil {
		key += app.String()
	}
	if !r.quiet.allow(key, time.Now()) {
		return
	}
	args := []any{"reason", reason, "remote", addr.String()}
	if app != nil {
		args = append(args, "app", app.String())
	}
	r.log.Warn("tunnel refused", args...)
}

// clip bounds a name that comes from outside before it is logged.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}
