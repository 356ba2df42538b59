package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
			s.Region = c.RTT[i%len(c.RTT)]
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
