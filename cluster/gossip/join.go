package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// joiners is how many seeds are tried at once, so that some that do not answer do not hold up the others.
const joiners = 8

// rejoin keeps this node in touch with its seeds.
func (g *Gossip) rejoin(ctx context.Context) error {
	for {
		g.listing.prune(g.cfg.Now())
		if g.cfg.Seeds != nil && !g.left.Load() {
			g.seek(ctx)
		}
		pause := g.timing.Rejoin
		if len(g.others()) == 0 {
			pause /= 10
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// seek joins the seeds that are no members.
func (g *Gossip) seek(ctx context.Context) {
	addrs, err := g.missing(ctx)
	if len(addrs) == 0 && err == nil {
		return
	}
	failures := make([]error, len(addrs))
	var group errgroup.Group
	group.SetLimit(joiners)
	for i, addr := range addrs {
		group.Go(func() error {
			failures[i] = g.join(addr)
			return nil
		})
	}
	_ = group.Wait()
	err = errors.Join(err, errors.Join(failures...))
	if err == nil || ctx.Err() != nil || len(g.others()) > 0 {
		return
	}
	if suppressed, ok := g.lonely.pass("", g.cfg.Now()); ok {
		g.cfg.Log.Warn("gossip: none of the addresses to join lets this node in; it goes on trying",
			"addresses", len(addrs), "error", err, "suppressed", suppressed)
	}
}

// missing are the addresses of seeds that no living member has. A node of no cluster misses all: it has to join one.
func (g *Gossip) missing(ctx context.Context) ([]netip.AddrPort, error) {
	had := map[netip.AddrPort]bool{g.transport.advertise: true, g.transport.bound: true}
	if g.Incarnation() != [16]byte{} {
		for _, m := range g.others() {
			had[m.Addr] = true
		}
	}
	var addrs []netip.AddrPort
	var errs []error
	for _, seed := range g.cfg.Seeds() {
		found, err := g.resolve(ctx, seed)
		if err != nil {
			errs = append(errs, err)
		}
		for _, a := range found {
			if !had[a] {
				had[a] = true
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, errors.Join(errs...)
}

// resolve finds all addresses of a seed.
func (g *Gossip) resolve(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(seed)
	if err != nil {
		return nil, fmt.Errorf("address to join: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("address to join %q has no port", seed)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(port))}, nil
	}
	look := g.cfg.Resolve
	if look == nil {
		look = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, g.timing.Stream)
	defer cancel()
	ips, err := look(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up an address to join: %w", err)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return addrs, nil
}

func (g *Gossip) join(addr netip.AddrPort) error {
	g.joining.Add(1)
	defer g.joining.Add(-1)
	_, err := g.list.Join([]string{addr.String()})
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ") // memberlist makes a list of it
	if _, reason, ok := strings.Cut(text, addr.String()+": "); ok {
		text = reason
	}
	switch {
	case strings.Contains(text, "no installed keys"), strings.Contains(text, "encryption is"):
		return fmt.Errorf("%s has no key of ours: is its key file the same? (%s)", addr, text)
	case strings.HasSuffix(text, "EOF"):
		return fmt.Errorf("%s closes the connection: is its key file of the same cluster? (%s)", addr, text)
	}
	return fmt.Errorf("%s: %s", addr, text)
}
