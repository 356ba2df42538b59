package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/certs"
	"github.com/trunkline-edge/trunkline/wire"
)

type devCommand struct {
	settings
	Nodes       int      `help:"Run this many nodes, up to 9, in this process: node 1 on 127.0.0.1, node 2 on 127.0.0.2 and so on, all on the same ports (macOS: make the addresses first, 'sudo ifconfig lo0 alias 127.0.0.2')." placeholder:"N" default:"1" group:"Node"`
	RTT         []string `name:"rtt" help:"Regions of those nodes, in turn, of us, eu and ap; the delays between them are simulated: us-eu 80ms, us-ap 150ms, eu-ap 220ms there and back." placeholder:"REGION,..." group:"Node"`
	AllowRemote bool     `help:"Let others than this machine connect. Anybody who can reach the ports can then use the node." group:"Addresses"`
}

// Run runs a node in memory on loopback until a signal ends it.
func (c *devCommand) Run(ctx context.Context, w *world) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.checkWorld(); err != nil {
		return err
	}
	if err := c.checkLoopback(); err != nil {
		return err
	}
	if err := c.checkFiles(); err != nil {
		return err
	}
	log := c.logger(w)
	pair, err := c.loadCertificate(log)
	if err != nil {
		return err
	}
	caFile := ""
	if pair == nil && c.TLS != "off" {
		authority, err := certs.NewThrowAway("", c.certificateHosts(), time.Now())
		if err != nil {
			return err
		}
		defer func() { _ = authority.Remove() }()
		pair, caFile = authority, authority.CAFile
	}
	return c.runWorld(ctx, w, pair, log, caFile)
}

// checkLoopback refuses addresses that others can reach.
func (c *devCommand) checkLoopback() error {
	if c.AllowRemote {
		return nil
	}
	for _, l := range c.listenFlags() {
		hosts, err := l.hosts(c.BindAddr)
		if err != nil {
			return err
		}
		if host, beyond := beyondLoopback(hosts); beyond {
			return misused("dev takes any app secret and hands out tokens, so it listens on loopback only, and %s names %q: leave the host out, or insist with --allow-remote", l.flag, or(host, "all addresses"))
		}
	}
	return nil
}

// certificateHosts answers what dev's certificate names besides localhost.
func (c *devCommand) certificateHosts() []string {
	var out []string
	for _, l := range c.listenFlags() {
		hosts, _ := l.hosts(c.BindAddr) // checked before
		for _, h := range hosts {
			if h.host != "" {
				out = append(out, h.host)
			}
		}
	}
	if name, err := os.Hostname(); err == nil && c.AllowRemote {
		out = append(out, name)
	}
	if c.AllowRemote {
		addrs, _ := net.InterfaceAddrs() // without them the certificate names fewer hosts
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok {
				out = append(out, ip.IP.String())
			}
		}
	}
	return out
}

// devNode is what dev adds to a node.
type devNode struct {
	caFile string
	keys   *trust.Keys                   // of a world of several nodes; nil: the node makes its own
	rtt    func(ip string) time.Duration // simulated; nil: none
	others []string                      // what else is to be said of the world, a line each
}

// greeting is what dev prints when the node is up: every address, the dev app,
// and lines to paste.
func (d *devNode) greeting(s *settings, b bound, version string) string {
	a := b.addresses()
	app := wire.AppIDOf(devSecret).String()
	host := a["client"][0]
	httpURL, wsURL := "http://"+host, "ws://"+host
	var out strings.Builder
	fmt.Fprintf(&out, "Trunkline %s is up: %s, %s.\n\n", version, nodesWord(len(d.others)), memoryWord(s.DataDir))
	line := func(name string, addresses []string, what string) {
		fmt.Fprintf(&out, "  %-8s %-40s %s\n", name, strings.Join(addresses, " "), what)
	}
	line("clients", a["client"], clientWords(s.TLS))
	line("tunnels", a["tunnel"], "backends")
	line("tcp", a["tcp"], "TCP clients")
	line("admin", a["admin"], "metrics, health, JSON API")
	for _, other := range d.others {
		fmt.Fprintf(&out, "  %s\n", other)
	}
	fmt.Fprintf(&out, "\n  app      %s\n  secret   %s\n", app, devSecret)
	if d.caFile != "" {
		fmt.Fprintf(&out, "  CA       %s\n", d.caFile)
	}
	verbFlag := ""
	if _, port, _ := net.SplitHostPort(a["admin"][0]); port != "7180" || !strings.HasPrefix(a["admin"][0], "127.0.0.1:") {
		verbFlag = " --admin http://" + a["admin"][0]
	}
	if s.TLS == "on" {
		httpURL, wsURL = "https://"+host, "wss://"+host
	}
	curl := "curl -s"
	if s.TLS == "on" && d.caFile != "" {
		curl += " --cacert " + d.caFile
	}
	fmt.Fprintf(&out, "\nShell:\n  %s -X POST %s/%s/login/anonymous\n  trunkline status%s\n  trunkline token%s\n  trunkline connect STATE%s\n", curl, httpURL, app, verbFlag, verbFlag, verbFlag)
	fmt.Fprintf(&out, "\nBrowser (console of any page):\n  ws = new WebSocket(%q); ws.onopen = () => ws.send(JSON.stringify({token: TOKEN, stateId: STATE}))\n", wsURL+"/connect/"+app)
	if s.TLS != "off" {
		ca := ""
		if d.caFile != "" {
			ca = "NODE_EXTRA_CA_CERTS=" + d.caFile + " "
		}
		fmt.Fprintf(&out, "\nNode:\n  %sCOORDINATOR_HOST=%s APP_SECRET=%s node YOUR-BACKEND.mjs\n", ca, hostOf(host), devSecret)
	}
	out.WriteString("\nCtrl-C stops it, a second one at once.\n")
	return out.String()
}

func nodesWord(others int) string {
	if others == 0 {
		return "one node"
	}
	return fmt.Sprintf("%d nodes, of which this is the first", others+1)
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	if host == "127.0.0.1" {
		return "localhost"
	}
	return host
}

func memoryWord(dir string) string {
	if dir == "" {
		return "everything in memory"
	}
	return "its data in " + dir
}

func clientWords(tls string) string {
	switch tls {
	case "on":
		return "HTTPS and WebSocket (TLS)"
	case "off":
		return "HTTP and WebSocket (no TLS)"
	}
	return "HTTP and WebSocket, TLS or plain"
}
