package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// nodePort is the port between nodes where --join names none.
const nodePort = "7947"

// checkCluster says what is wrong with what a node needs of other nodes.
func (s *settings) checkCluster() error {
	for _, join := range s.Join {
		if _, _, err := splitHost(join); err != nil {
			return misused("--join %q: %v: want HOST or HOST:PORT of any living node's node port", clip(join), err)
		}
	}
	if len(s.Join) > 0 && s.KeyFile == "" {
		return misused("--join needs the key file of the cluster: copy it from a node that is a member and give --key-file FILE (the first node's was made with `trunkline keygen`)")
	}
	if s.MaxVoters < 1 || s.MaxVoters > 7 || s.MaxVoters%2 == 0 {
		return misused("--max-voters %d: 1, 3, 5 or 7 (an even number survives no more failures than the odd one below)", s.MaxVoters)
	}
	if s.AdvertiseAddr == "" {
		return nil
	}
	host, port, err := splitHost(s.AdvertiseAddr)
	if err == nil && port == "65535" {
		err = fmt.Errorf("the node port is the one above and would be 65536")
	}
	if addr, parse := netip.ParseAddr(host); err == nil && parse == nil && addr.IsUnspecified() {
		err = fmt.Errorf("nobody can dial that")
	}
	if err != nil {
		return misused("--advertise-addr %q: %v: want HOST or HOST:PORT", clip(s.AdvertiseAddr), err)
	}
	return nil
}

// splitHost cuts HOST[:PORT]; an IPv6 address with a port has brackets around it. The port is "" where none is named,
// else 1 to 65535.
func splitHost(text string) (host, port string, err error) {
	host = text
	if _, parse := netip.ParseAddr(text); parse != nil {
		if h, p, split := net.SplitHostPort(text); split == nil {
			host, port = h, p
			if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
				return "", "", fmt.Errorf("the port is a number from 1 to 65535")
			}
		}
	}
	if _, parse := netip.ParseAddr(host); parse != nil && !hostName(host) {
		return "", "", fmt.Errorf("%q is no host", clip(host))
	}
	return host, port, nil
}

// hostName says whether a text can be a name in DNS.
func hostName(text string) bool {
	if text == "" || len(text) > 253 || text[0] == '-' || text[0] == '.' {
		return false
	}
	for _, c := range []byte(text) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// joinAddrs answers --join with a port everywhere. Names stay names: they are resolved at each try.
func (s *settings) joinAddrs() []string {
	var out []string
	for _, join := range s.Join {
		host, port, err := splitHost(join)
		if err != nil {
			continue // it was checked
		}
		out = append(out, net.JoinHostPort(host, cmp.Or(port, nodePort)))
	}
	return out
}

// advertised answers where other nodes reach this one: what --advertise-addr says, else what was bound, and where that
// is every address of the machine, the first private one.
func (s *settings) advertised(ctx context.Context, b bound) (gossip, node string, err error) {
	gossip, node = b["gossip"][0].Addr().String(), b["node"][0].Addr().String()
	if s.AdvertiseAddr == "" {
		mine, err := machineAddrs()
		if err != nil {
			return "", "", err
		}
		return dialable(gossip, mine), dialable(node, mine), nil
	}
	host, port, err := splitHost(s.AdvertiseAddr)
	if err != nil {
		return "", "", fmt.Errorf("--advertise-addr: %w", err)
	}
	if host, err = resolve(ctx, host); err != nil {
		return "", "", err
	}
	_, gossipPort, _ := net.SplitHostPort(gossip)
	_, nodePort, _ := net.SplitHostPort(node)
	if n, _ := strconv.Atoi(port); n > 0 {
		gossipPort, nodePort = port, strconv.Itoa(n+1)
	}
	return net.JoinHostPort(host, gossipPort), net.JoinHostPort(host, nodePort), nil
}

// resolve turns a name into an address, since gossip carries addresses.
func resolve(ctx context.Context, host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", fmt.Errorf("--advertise-addr: resolve %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return "", fmt.Errorf("--advertise-addr: %s has no address", host)
	}
	return bestOf(addrs).String(), nil
}

func machineAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

// dialable puts the best address of the machine into an address bound on all of them.
func dialable(address string, mine []netip.Addr) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !ap.Addr().IsUnspecified() || len(mine) == 0 {
		return address
	}
	return netip.AddrPortFrom(bestOf(mine), ap.Port()).String()
}

// bestOf answers the address that other nodes most likely reach: a private one, then a public one, then loopback; IPv4
// before IPv6, and the first of those that are equal.
func bestOf(addrs []netip.Addr) netip.Addr {
	rank := func(a netip.Addr) int {
		n := 0
		switch {
		case a.IsPrivate():
		case a.IsGlobalUnicast():
			n = 2
		case a.IsLoopback():
			n = 4
		default:
			n = 6 // link-local: of no use without a zone
		}
		if !a.Is4() {
			n++
		}
		return n
	}
	list := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		list[i] = a.Unmap()
	}
	return slices.MinFunc(list, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
}
