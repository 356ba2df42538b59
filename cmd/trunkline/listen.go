package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// listenFlag is one listener as the settings describe it.
type listenFlag struct {
	name  string // in the ports file and in status
	flag  string
	addr  string // [HOST]:PORT
	fixed bool   // --bind-addr does not apply
	one   bool   // only the first host
}

func (s *settings) listenFlags() []listenFlag {
	return []listenFlag{
		{name: "client", flag: "--client-addr", addr: s.ClientAddr},
		{name: "tunnel", flag: "--tunnel-addr", addr: s.TunnelAddr},
		{name: "tcp", flag: "--tcp-addr", addr: s.TCPAddr},
		{name: "gossip", flag: "--gossip-addr", addr: s.GossipAddr, one: true},
		{name: "node", flag: "--node-addr", addr: s.NodeAddr, one: true},
		{name: "admin", flag: "--admin-addr", addr: s.AdminAddr, fixed: true},
	}
}

// bindHost is one host to listen on. An optional one may be missing from the
// machine.
type bindHost struct {
	host     string
	optional bool
}

// hosts answers where to listen; bind is --bind-addr.
func (l listenFlag) hosts(bind []string) ([]bindHost, error) {
	host, port, err := net.SplitHostPort(l.addr)
	if err != nil {
		return nil, misused("%s %q: want HOST:PORT or :PORT", l.flag, l.addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, misused("%s %q: the port is a number from 0 to 65535", l.flag, l.addr)
	} else if n == 0 && port != "0" {
		return nil, misused("%s %q: write port 0 as 0", l.flag, l.addr)
	}
	names := []string{host}
	if host == "" && !l.fixed && len(bind) > 0 {
		names = bind
	}
	var out []bindHost
	for _, name := range names {
		switch _, err := netip.ParseAddr(name); {
		case name == "localhost":
			out = append(out, bindHost{host: "127.0.0.1"}, bindHost{host: "::1", optional: true})
		case name == "" || err == nil:
			out = append(out, bindHost{host: name})
		default:
			return nil, misused("%s: %q is no address of this machine: want an IP address or localhost (see also --bind-addr)", l.flag, clip(name))
		}
	}
	if l.one {
		out = out[:1]
	}
	return out, nil
}

func (l listenFlag) port() string {
	_, port, _ := net.SplitHostPort(l.addr)
	return port
}

// beyondLoopback answers the first host that others than this machine can reach.
func beyondLoopback(hosts []bindHost) (string, bool) {
	for _, h := range hosts {
		addr, err := netip.ParseAddr(h.host)
		if err != nil || !addr.Unmap().IsLoopback() {
			return h.host, true
		}
	}
	return "", false
}

// samePortTries bounds the search for a free port that several hosts have.
const samePortTries = 32

// listen binds all hosts of l on one port.
func (l listenFlag) listen(ctx context.Context, bind []string) ([]net.Listener, error) {
	hosts, err := l.hosts(bind)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		list, err := l.listenOnce(ctx, hosts)
		if err == nil {
			return list, nil
		}
		if l.port() != "0" || !errors.Is(err, syscall.EADDRINUSE) || try == samePortTries {
			return nil, err
		}
	}
}

func (l listenFlag) listenOnce(ctx context.Context, hosts []bindHost) (list []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(list)
		}
	}()
	var lc net.ListenConfig
	port := l.port()
	for _, h := range hosts {
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(h.host, port))
		switch {
		case err == nil:
		case h.optional && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)):
			continue
		default:
			return list, l.explain(h.host, port, err)
		}
		list = append(list, ln)
		if port == "0" {
			_, port, _ = net.SplitHostPort(ln.Addr().String())
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s %s: this machine has none of these addresses", l.flag, l.addr)
	}
	return list, nil
}

// explain says what to do about an address that could not be bound.
func (l listenFlag) explain(host, port string, err error) error {
	where := net.JoinHostPort(host, port)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %s is taken (%s): stop what listens on %s, or choose another port with %s HOST:PORT (0 takes any free one): %w", port, l.flag, where, l.flag, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %s needs privileges (%s): choose one above 1023 with %s HOST:PORT, or allow the binary with setcap cap_net_bind_service=+ep: %w", port, l.flag, l.flag, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine does not have the address %s (%s, --bind-addr): name one of its own: %w", host, l.flag, err)
	}
	return fmt.Errorf("listen on %s (%s): %w", where, l.flag, err)
}

// bound is what was bound, by listener name.
type bound map[string][]net.Listener

// listenAll binds every listener of the settings, or none.
func (s *settings) listenAll(ctx context.Context) (bound, error) {
	b := bound{}
	for _, l := range s.listenFlags() {
		listen := l.listen
		if l.name == "gossip" {
			listen = l.listenBoth
		}
		list, err := listen(ctx, s.BindAddr)
		if err != nil {
			b.close()
			return nil, err
		}
		b[l.name] = list
	}
	return b, nil
}

func (b bound) close() {
	for _, list := range b {
		closeAll(list)
	}
}

func closeAll(list []net.Listener) {
	for _, ln := range list {
		_ = ln.Close()
	}
}

// addresses answers host:port of every listener, by name.
func (b bound) addresses() map[string][]string {
	out := make(map[string][]string, len(b))
	for name, list := range b {
		for _, ln := range list {
			out[name] = append(out[name], ln.Addr().String())
		}
	}
	return out
}

// portsFile is what --ports-file holds.
type portsFile struct {
	PID    int      `json:"pid"`
	Client []string `json:"client"`
	Tunnel []string `json:"tunnel"`
	TCP    []string `json:"tcp"`
	Gossip []string `json:"gossip"`
	Node   []string `json:"node"`
	Admin  []string `json:"admin"`
	CAFile string   `json:"caFile,omitempty"` // of dev's throw-away CA
}

// writePorts writes the file in one step: who sees it sees all of it.
func (b bound) writePorts(path, caFile string) error {
	a := b.addresses()
	text, err := json.MarshalIndent(portsFile{
		PID: os.Getpid(), Client: a["client"], Tunnel: a["tunnel"], TCP: a["tcp"],
		Gossip: a["gossip"], Node: a["node"], Admin: a["admin"], CAFile: caFile,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the ports file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ports-*")
	if err != nil {
		return fmt.Errorf("write --ports-file: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write --ports-file: %w", err)
	}
	return nil
}
