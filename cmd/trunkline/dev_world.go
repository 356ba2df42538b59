package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// maxDevNodes keeps a small world small.
const maxDevNodes = 9

// roundTrips are the simulated times between regions of --rtt, there and back. Within a region there is no delay.
var roundTrips = map[[2]string]time.Duration{
	{"eu", "us"}: 80 * time.Millisecond,
	{"ap", "us"}: 150 * time.Millisecond,
	{"ap", "eu"}: 220 * time.Millisecond,
}

// roundTrip answers the simulated time between two regions, there and back.
func roundTrip(a, b string) time.Duration {
	if a > b {
		a, b = b, a
	}
	return roundTrips[[2]string{a, b}]
}

// checkWorld says what is wrong with --nodes and --rtt.
func (c *devCommand) checkWorld() error {
	if c.Nodes < 1 || c.Nodes > maxDevNodes {
		return misused("--nodes %d: from 1 to %d", c.Nodes, maxDevNodes)
	}
	for _, region := range c.RTT {
		if !slices.Contains([]string{"us", "eu", "ap"}, region) {
			return misused("--rtt %q: the regions are us, eu and ap, with commas between", clip(region))
		}
	}
	if c.Nodes == 1 {
		if len(c.RTT) > 0 {
			return misused("--rtt simulates delays between nodes: say how many with --nodes N")
		}
		return nil
	}
	if len(c.RTT) > 0 && c.Region != "local" {
		return misused("--rtt and --region contradict each other: leave one of them out")
	}
	if c.AllowRemote || !slices.Equal(c.BindAddr, []string{"localhost"}) {
		return misused("--nodes %d puts node 1 on 127.0.0.1, node 2 on 127.0.0.2 and so on: leave --bind-addr and --allow-remote out", c.Nodes)
	}
	if len(c.Join) > 0 {
		return misused("--nodes %d makes a world of its own: leave --join out", c.Nodes)
	}
	for _, l := range c.listenFlags() {
		if host := strings.TrimSuffix(l.addr, ":"+l.port()); host != "" && host != "localhost" || l.port() == "0" {
			return misused("%s %s: with --nodes %d every node has an address of its own and the same ports: give :PORT", l.flag, l.addr, c.Nodes)
		}
	}
	return nil
}

// worlds answers the settings of each node of --nodes: node i is on 127.0.0.i, all on the same ports, in the regions of
// --rtt in turn. All but the first join the first.
func (c *devCommand) worlds() []settings {
	if c.Nodes == 1 {
		return []settings{c.settings}
	}
	var out []settings
	for i := range c.Nodes {
		s := c.settings
		host := fmt.Sprintf("127.0.0.%d", i+1)
		s.NodeID = fmt.Sprintf("%s-%d", c.NodeID, i+1)
		s.BindAddr = []string{host}
		s.AdminAddr = host + ":" + listenFlag{addr: s.AdminAddr}.port()
		if len(c.RTT) > 0 {
			s.Region, s.Profile = c.RTT[i%len(c.RTT)], "multi-region"
		}
		if s.DataDir != "" {
			s.DataDir = filepath.Join(s.DataDir, s.NodeID)
		}
		if s.PortsFile != "" && i > 0 {
			s.PortsFile = fmt.Sprintf("%s.%d", s.PortsFile, i+1)
		}
		if i > 0 {
			s.Join = []string{"127.0.0.1:" + listenFlag{addr: s.NodeAddr}.port()}
		}
		out = append(out, s)
	}
	return out
}

// runWorld runs every node of --nodes in this process until a signal ends them all, or one of them fails.
func (c *devCommand) runWorld(ctx context.Context, w *world, cert certificate, log *slog.Logger, caFile string) error {
	all := c.worlds()
	if len(all) == 1 {
		return runNode(ctx, w, &all[0], cert, log, &devNode{caFile: caFile})
	}
	keys := trust.NewKeys("dev")
	regions := make(map[string]string, len(all))
	var others []string
	for _, s := range all {
		regions[s.BindAddr[0]] = s.Region
	}
	for _, s := range all[1:] {
		others = append(others, fmt.Sprintf("%-8s %-40s %s", s.NodeID, s.BindAddr[0], "region "+s.Region))
	}
	g, ctx := errgroup.WithContext(ctx)
	var signals []chan os.Signal
	for i := range all {
		s, own := &all[i], *w
		dev := &devNode{caFile: caFile, keys: keys, others: others}
		if len(c.RTT) > 0 {
			dev.rtt = func(ip string) time.Duration { return roundTrip(s.Region, regions[ip]) }
		}
		told := make(chan os.Signal, 2)
		signals, own.signals = append(signals, told), told
		if i > 0 {
			own.stdout = io.Discard // the first one says where everything is
		}
		g.Go(func() error { return runNode(ctx, &own, s, cert, log, dev) })
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-w.signals:
				for _, told := range signals {
					select {
					case told <- sig:
					default: // it has got two already
					}
				}
			case <-ended:
				return
			}
		}
	}()
	err := g.Wait()
	close(ended)
	return err
}
