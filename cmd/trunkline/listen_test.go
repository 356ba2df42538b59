package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loopbackSettings are settings that bind free ports of 127.0.0.1.
func loopbackSettings() *settings {
	return &settings{
		NodeID: "n1", Region: "local", BindAddr: []string{"127.0.0.1"}, ClientAddr: ":0", TunnelAddr: ":0", TCPAddr: ":0",
		GossipAddr: ":0", NodeAddr: ":0", AdminAddr: "127.0.0.1:0", TLS: "off", MaxMessage: 1 << 20, Profile: "one-region", MaxVoters: 5,
	}
}

func TestPortZeroIsOnePortOnAllHosts(t *testing.T) {
	list, err := listenFlag{name: "client", flag: "--client-addr", addr: "localhost:0"}.listen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(list)
	_, port, _ := net.SplitHostPort(list[0].Addr().String())
	if port == "0" || list[0].Addr().String() != "127.0.0.1:"+port {
		t.Errorf("bound %s", list[0].Addr())
	}
	for _, ln := range list[1:] { // a machine without ::1 has one listener
		if ln.Addr().String() != "[::1]:"+port {
			t.Errorf("bound %s beside port %s", ln.Addr(), port)
		}
	}
}

func TestMissingHosts(t *testing.T) {
	// 192.0.2.1 is kept for documentation: no machine has it.
	if _, err := (listenFlag{flag: "--client-addr", addr: "192.0.2.1:0"}).listen(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "does not have the address 192.0.2.1") {
		t.Errorf("%v", err)
	}
	list, err := listenFlag{flag: "--client-addr"}.listenOnce(t.Context(), []bindHost{{host: "192.0.2.1", optional: true}})
	if err == nil {
		closeAll(list)
		t.Error("no host was bound, and that is no error")
	}
}

func TestTakenPortNamesPortAndFlag(t *testing.T) {
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	all := []string{"--client-addr", "--tunnel-addr", "--tcp-addr", "--gossip-addr", "--node-addr", "--admin-addr"}
	for _, flag := range all {
		th := newTheatre("")
		args := []string{"dev"}
		for _, other := range all {
			if other != flag {
				args = append(args, other, "127.0.0.1:0")
			}
		}
		if status := play(t, th, append(args, flag, "127.0.0.1:"+port)...); status != exitFailed {
			t.Errorf("%s: status %d, want 1", flag, status)
		}
		if got := th.err.String(); !strings.Contains(got, "port "+port+" is taken") || !strings.Contains(got, flag) {
			t.Errorf("%s: %s", flag, got)
		}
	}
}

func TestPortsFileIsWhole(t *testing.T) {
	s := loopbackSettings()
	b, err := s.listenAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	dir := t.TempDir()
	path := filepath.Join(dir, "ports.json")
	if err := b.writePorts(path, "/tmp/ca.pem"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"client", "tunnel", "tcp", "gossip", "node", "admin"} {
		list, _ := got[name].([]any)
		if len(list) != 1 || list[0] != b[name][0].Addr().String() {
			t.Errorf("%s: %v, bound %s", name, got[name], b[name][0].Addr())
		}
	}
	if got["caFile"] != "/tmp/ca.pem" || got["pid"] != float64(os.Getpid()) {
		t.Errorf("%s", text)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("%d files are left", len(names))
	}
	if err := b.writePorts(filepath.Join(dir, "missing", "ports.json"), ""); err == nil || !strings.Contains(err.Error(), "--ports-file") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// noNetwork refuses everything: what was bound before must not come from it.
type noNetwork struct{}

func (noNetwork) Listen(string) (net.Listener, error) { return nil, errors.New("bound anew") }

func (noNetwork) ListenPacket(string) (net.PacketConn, error) { return nil, errors.New("bound anew") }

func (noNetwork) Dial(context.Context, string) (net.Conn, error) { return nil, errors.New("dialled") }

func TestBoundSocketsAreHandedOutOnce(t *testing.T) {
	s := loopbackSettings()
	b, err := s.listenAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	n := b.network(noNetwork{})
	gossip, node := b.addresses()["gossip"][0], b.addresses()["node"][0]
	for _, address := range []string{gossip, node} {
		ln, err := n.Listen(address)
		if err != nil || ln.Addr().String() != address {
			t.Fatalf("%s: %v", address, err)
		}
		if _, err := n.Listen(address); err == nil {
			t.Errorf("%s was handed out twice", address)
		}
	}
	conn, err := n.ListenPacket(gossip)
	if err != nil || conn.LocalAddr().String() != gossip {
		t.Fatalf("UDP of %s: %v", gossip, err)
	}
	if _, err := n.ListenPacket(node); err == nil {
		t.Error("the node port has UDP")
	}
	if _, err := n.Dial(t.Context(), gossip); err == nil {
		t.Error("dialled nowhere")
	}
}

func TestGossipNeedsTCPAndUDP(t *testing.T) {
	var lc net.ListenConfig
	taken, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.LocalAddr().String())
	l := listenFlag{name: "gossip", flag: "--gossip-addr", addr: "127.0.0.1:" + port, one: true}
	list, err := l.listenBoth(t.Context(), nil)
	if err == nil {
		closeAll(list)
	}
	if err == nil || !strings.Contains(err.Error(), "port "+port+" is taken (--gossip-addr)") || !strings.Contains(err.Error(), "udp") {
		t.Errorf("%v", err)
	}
}
