package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/trust"
)

func TestSettingsThatMakeNoSenseAreMisuse(t *testing.T) {
	for _, tc := range []struct{ args, says string }{
		{"serve", "--tls off"},
		{"serve --tls off", "--data-dir"},
		{"serve --tls both --data-dir x", "--tls-cert"},
		{"serve --tls-cert a.pem", "belong together"},
		{"serve --tls off --tls-cert a --tls-key b", "contradict"},
		{"serve --tls maybe", "must be one of"},
		{"serve --max-message 16MiB", "15MiB"},
		{"serve --max-message 0", "15MiB"},
		{"serve --hold 45s", "below"},
		{"serve --limit-conns-per-ip=-1", "no limit"},
		{"serve --node-id Node_1", "--node-id"},
		{"serve --region EU!", "--region"},
		{"serve --plain-from 10.0.0.1", "CIDR"},
		{"serve --public-url example.com", "--public-url"},
		{"serve --public-url https://example.com/path", "--public-url"},
		{"serve --client-addr 8080", "--client-addr"},
		{"serve --client-addr :99999", "65535"},
		{"serve --client-addr example.com:1", "IP address"},
		{"serve --bind-addr example.com", "IP address"},
		{"serve --hold", "the value is missing"},
		{"serve --nonsense", "unknown flag"},
		{"dev --bind-addr 0.0.0.0", "--allow-remote"},
		{"dev --client-addr 10.0.0.1:80", "--allow-remote"},
		{"dev --admin-addr :7180", "--allow-remote"},
		{"serve --join 10.0.0.1", "--key-file"},
		{"dev --join 10.0.0.1", "trunkline keygen"},
		{"serve --join a:b --key-file x", "--join"},
		{"serve --join a:0 --key-file x", "65535"},
		{"serve --join http://a --key-file x", "--join"},
		{"serve --max-voters 4", "even number"},
		{"serve --max-voters 9", "--max-voters"},
		{"serve --profile wide", "must be one of"},
		{"serve --gossip-addr 7946", "--gossip-addr"},
		{"serve --node-addr example.com:7947", "IP address"},
		{"serve --advertise-addr 0.0.0.0", "--advertise-addr"},
		{"serve --advertise-addr a:65535", "--advertise-addr"},
		{"serve --advertise-addr a:b:c", "--advertise-addr"},
		{"dev --node-addr 10.0.0.1:7947", "--allow-remote"},
		{"dev --nodes 10", "--nodes"},
		{"dev --rtt us,eu", "--nodes"},
		{"dev --nodes 2 --rtt us,moon", "us, eu and ap"},
		{"dev --nodes 2 --rtt us --region eu", "--region"},
		{"dev --nodes 2 --bind-addr 127.0.0.9", "--bind-addr"},
		{"dev --nodes 2 --client-addr :0", "--client-addr"},
		{"dev --nodes 2 --tcp-addr 127.0.0.1:7148", "--tcp-addr"},
		{"config check --for nobody", "must be one of"},
		{"states --limit 0", "--limit"},
		{"apps set dev", "nothing to set"},
		{"where", "expected"},
		{"completion csh", "must be one of"},
		{"status --admin ftp://x", "--admin"},
		{"frobnicate", "unexpected argument"},
	} {
		th := newTheatre("")
		if status := play(t, th, strings.Fields(tc.args)...); status != exitMisuse {
			t.Errorf("%s: status %d, want 2", tc.args, status)
		}
		if got := th.err.String(); !strings.Contains(got, tc.says) || !strings.Contains(got, "--help") {
			t.Errorf("%s: says %q, want %q in it", tc.args, got, tc.says)
		}
		if th.out.String() != "" {
			t.Errorf("%s: prints to stdout: %s", tc.args, th.out.String())
		}
	}
}

func TestHelpIsDone(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {}, {"serve", "--help"}, {"dev", "-h"}} {
		th := newTheatre("")
		if status := play(t, th, args...); status != exitDone || !strings.Contains(th.out.String(), "Usage: trunkline") {
			t.Errorf("%v: status %d, %s", args, status, th.out.String())
		}
	}
	th := newTheatre("")
	if play(t, th, "dev", "--help"); !strings.Contains(th.out.String(), "Default: :8080") || !strings.Contains(th.out.String(), "$TRUNKLINE_CLIENT_ADDR") {
		t.Errorf("the help of dev lacks its default or the environment: %s", th.out.String())
	}
}

func TestConfigCheckSaysWhereSettingsComeFrom(t *testing.T) {
	file := write(t, "c.yaml", "tls: 'off'\ndata-dir: /var/lib/trunkline\n", 0o644)
	th := newTheatre("", "TRUNKLINE_REGION", "eu", "TRUNKLINE_CONFIG", file)
	if status := play(t, th, "config", "check", "--grace=2s"); status != exitDone {
		t.Fatalf("status %d: %s", status, th.err.String())
	}
	for _, want := range []string{
		"--config: from environment variable TRUNKLINE_CONFIG", "--data-dir: from " + file, "--region: from environment variable TRUNKLINE_REGION",
		"--tls: from " + file, "--grace: from the command line", "--hold: default", "The configuration is good.",
	} {
		if !strings.Contains("\n"+th.out.String(), "\n"+want+"\n") {
			t.Errorf("%q is missing:\n%s", want, th.out.String())
		}
	}
	if status := play(t, newTheatre(""), "config", "check", "--for", "dev"); status != exitDone {
		t.Errorf("dev without anything: status %d", status)
	}
}

func TestPlainFrom(t *testing.T) {
	inside := func(t *testing.T, list []string, addr string) bool {
		t.Helper()
		s := settings{PlainFrom: list}
		prefixes, err := s.plainFrom()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range prefixes {
			if p.Contains(netip.MustParseAddr(addr)) {
				return true
			}
		}
		return false
	}
	for _, tc := range []struct {
		list []string
		addr string
		want bool
	}{
		{[]string{"private"}, "127.0.0.1", true},
		{[]string{"private"}, "10.2.3.4", true},
		{[]string{"private"}, "203.0.113.1", false},
		{[]string{"private"}, "fd00::1", true},
		{[]string{"none"}, "127.0.0.1", false},
		{[]string{"all"}, "203.0.113.1", true},
		{[]string{"all"}, "2001:db8::1", true},
		{[]string{"none", "203.0.113.9/24"}, "203.0.113.1", true},
	} {
		if got := inside(t, tc.list, tc.addr); got != tc.want {
			t.Errorf("%v has %s: %v", tc.list, tc.addr, got)
		}
	}
}

func TestKeyFilesOfOthersAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660} {
		if _, err := readSecret("--admin-token-file", write(t, "token", "secret-secret-secret", mode)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		if s, err := readSecret("--x", write(t, "token", " secret-secret-secret\n", mode)); err != nil || s != "secret-secret-secret" {
			t.Errorf("mode %o: %d bytes, %v", mode, len(s), err)
		}
	}
	for name, text := range map[string]string{"empty": " \n", "huge": strings.Repeat("x", maxSecretFile+1)} {
		if _, err := readSecret("--x", write(t, "token", text, 0o600)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := readSecret("--x", t.TempDir()); err == nil {
		t.Error("a directory is taken")
	}
	if _, err := readSecret("--x", "/nowhere/at/all"); err == nil || !strings.Contains(err.Error(), "--x") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestJoinAddressesHaveAPort(t *testing.T) {
	s := settings{Join: []string{"10.0.0.1", "edge-2.example.com:79", "fd00::1", "[fd00::1]:80", "127.0.0.1:7947"}}
	want := []string{"10.0.0.1:7947", "edge-2.example.com:79", "[fd00::1]:7947", "[fd00::1]:80", "127.0.0.1:7947"}
	if got := s.joinAddrs(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBestAddressOfAMachine(t *testing.T) {
	for _, tc := range []struct{ have, want string }{
		{"127.0.0.1 ::1 10.0.0.7 192.168.1.1", "10.0.0.7"},
		{"127.0.0.1 203.0.113.5 2001:db8::1", "203.0.113.5"},
		{"127.0.0.1 203.0.113.5 fd00::1", "fd00::1"},
		{"127.0.0.1 fe80::1", "127.0.0.1"},
		{"::1 fe80::1", "::1"},
	} {
		var list []netip.Addr
		for _, text := range strings.Fields(tc.have) {
			list = append(list, netip.MustParseAddr(text))
		}
		if got := bestOf(list).String(); got != tc.want {
			t.Errorf("of %s: %s, want %s", tc.have, got, tc.want)
		}
		if got, want := dialable("[::]:7946", list), netip.AddrPortFrom(netip.MustParseAddr(tc.want), 7946).String(); got != want {
			t.Errorf("bound on all of %s: %s, want %s", tc.have, got, want)
		}
		if got := dialable("10.9.9.9:7946", list); got != "10.9.9.9:7946" {
			t.Errorf("bound on one: %s", got)
		}
	}
}

func TestAdvertisedAddresses(t *testing.T) {
	s := loopbackSettings()
	b, err := s.listenAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	boundGossip, boundNode := b["gossip"][0].Addr().String(), b["node"][0].Addr().String()
	_, gossipPort, _ := net.SplitHostPort(boundGossip)
	_, nodePort, _ := net.SplitHostPort(boundNode)
	for _, tc := range []struct{ flag, gossip, node string }{
		{"", boundGossip, boundNode},
		{"192.0.2.7", "192.0.2.7:" + gossipPort, "192.0.2.7:" + nodePort},
		{"192.0.2.7:9000", "192.0.2.7:9000", "192.0.2.7:9001"},
		{"2001:db8::7", "[2001:db8::7]:" + gossipPort, "[2001:db8::7]:" + nodePort},
		{"[2001:db8::7]:9000", "[2001:db8::7]:9000", "[2001:db8::7]:9001"},
		{"localhost:9000", "127.0.0.1:9000", "127.0.0.1:9001"},
	} {
		s.AdvertiseAddr = tc.flag
		if err := s.checkCluster(); err != nil {
			t.Errorf("%s: %v", tc.flag, err)
		}
		gossip, node, err := s.advertised(t.Context(), b)
		if err != nil || gossip != tc.gossip || node != tc.node {
			t.Errorf("%q: %s %s %v, want %s %s", tc.flag, gossip, node, err, tc.gossip, tc.node)
		}
	}
}

// dev --nodes: an address and a region for each node, and the first to join.
func TestSmallWorld(t *testing.T) {
	g, _, err := parsed(t, newTheatre(""), "dev", "--nodes", "4", "--rtt", "us,eu,ap", "--data-dir", "/d", "--ports-file", "/p")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Dev.check(), g.Dev.checkWorld(), g.Dev.checkLoopback()); err != nil {
		t.Fatal(err)
	}
	list := g.Dev.worlds()
	if len(list) != 4 {
		t.Fatalf("%d nodes", len(list))
	}
	last := list[3]
	if last.NodeID != "dev-4" || last.Region != "us" || last.BindAddr[0] != "127.0.0.4" || last.AdminAddr != "127.0.0.4:7180" || last.DataDir != "/d/dev-4" || last.PortsFile != "/p.4" {
		t.Errorf("the last node: %+v", last)
	}
	if len(list[0].Join) != 0 || !slices.Equal(last.Join, []string{"127.0.0.1:7947"}) {
		t.Errorf("joins %v and %v", list[0].Join, last.Join)
	}
	for _, tc := range []struct {
		a, b string
		want time.Duration
	}{{"us", "eu", 80}, {"eu", "us", 80}, {"us", "ap", 150}, {"ap", "eu", 220}, {"eu", "eu", 0}, {"local", "local", 0}} {
		if got := roundTrip(tc.a, tc.b); got != tc.want*time.Millisecond {
			t.Errorf("%s-%s: %v", tc.a, tc.b, got)
		}
	}
}

func TestConfigCheckReadsTheKeyFile(t *testing.T) {
	text, err := trust.Generate("shop")
	if err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{
		write(t, "cluster.key", string(text), 0o600): "", write(t, "open.key", string(text), 0o644): "chmod 600", write(t, "other.key", "something else", 0o600): "key file", "/nowhere.key": "--key-file",
	} {
		th := newTheatre("", "TRUNKLINE_KEY_FILE", file)
		want := exitFailed
		if says == "" {
			want = exitDone
		}
		if status := play(t, th, "config", "check", "--tls", "off", "--data-dir", "/d", "--join", "edge-1.example.com"); status != want || !strings.Contains(th.err.String(), says) {
			t.Errorf("%s: status %d: %s", file, status, th.err.String())
		}
	}
}
