package edge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// tunnelPort serves the Router's tunnel port on a socket until the test ends.
func tunnelPort(t *testing.T, change func(*Config)) (*Router, func() net.Conn) {
	t.Helper()
	return tunnelPortTLS(t, change, nil)
}

func tunnelPortTLS(t *testing.T, change func(*Config), tlsConfig *tls.Config) (*Router, func() net.Conn) {
	t.Helper()
	w := newWorld(t, change, newFakePlacer(t))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- w.r.Run(ctx) }()
	go func() { ended <- w.r.ServeTunnels(ctx, ln, tlsConfig) }()
	t.Cleanup(func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return w.r, func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatal("waited in vain: ", what)
		}
	}
}

// refusals is how often tunnels were refused for a reason.
func (r *Router) refusals(reason string) (count uint64) {
	r.stats.refusedTunnels.each(func(name string, n uint64) {
		if name == reason {
			count = n
		}
	})
	return count
}

// With as many connections on the tunnel port as there may be, one that has not registered makes room for the next; those
// that have registered stay, and when all have, the next is refused.
func TestConnectionsThatSayNothingMakeRoom(t *testing.T) {
	const most = 4
	r, dial := tunnelPort(t, func(c *Config) { c.MaxTunnels = most })
	for range most {
		dial()
	}
	eventually(t, "the port to be full", func() bool { return r.stats.tunnelConns.Load() == most })
	for i := range most {
		text, err := json.Marshal(map[string]string{"appSecret": "secret", "storeId": string(rune('a' + i))})
		if err != nil {
			t.Fatal(err)
		}
		conn := dial()
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the backend to be attached", func() bool { return len(r.table.Instances(wire.AppIDOf("secret"))) == i+1 })
	}
	eventually(t, "only backends to be left", func() bool { return r.stats.tunnelConns.Load() == most })
	if n := r.refusals(refusedLimit); n != most {
		t.Errorf("%d connections made room, want %d", n, most)
	}
	if _, err := io.ReadAll(dial()); err != nil {
		t.Logf("the connection that found no room ended with %v", err)
	}
	eventually(t, "a refusal", func() bool { return r.refusals(refusedLimit) == most+1 })
	if n := r.stats.tunnelConns.Load(); n != most {
		t.Errorf("%d connections are counted, %d are there", n, most)
	}
}

// A tunnel without TLS is taken only from where the operator said.
func TestPlainTunnelsAreTakenFromListedNetworksOnly(t *testing.T) {
	for name, networks := range map[string][]netip.Prefix{
		"none": nil, "others": {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0")},
	} {
		t.Run(name, func(t *testing.T) {
			r, dial := tunnelPort(t, func(c *Config) { c.PlainFrom = networks })
			conn := dial()
			if _, err := io.WriteString(conn, `{"appSecret":"secret","storeId":"a"}`); err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(conn) // its end, or a reset
			eventually(t, "a refusal", func() bool { return r.refusals(refusedPlain) == 1 })
			if n := len(r.table.Instances(wire.AppIDOf("secret"))); n != 0 {
				t.Errorf("%d instances were attached", n)
			}
		})
	}
}

// A node that goes away refuses tunnels, and counts none of them as open.
func TestDrainingNodeRefusesTunnels(t *testing.T) {
	r, dial := tunnelPort(t, nil)
	r.Drain()
	if _, err := io.ReadAll(dial()); err != nil {
		t.Logf("the connection ended with %v", err)
	}
	eventually(t, "a refusal", func() bool { return r.refusals(refusedDraining) == 1 })
	if n := r.stats.tunnelConns.Load(); n != 0 {
		t.Errorf("%d connections are counted, none is there", n)
	}
}

// deaf is a backend that nothing is said to but the end.
type deaf struct{ tunnel.Handler }

func (deaf) Drained() {}

// A native backend is told by a code when trying again is in vain: its secret opens no app, or a newer connection of the
// same process, or of its clone, has taken its place.
func TestNativeBackendsAreToldToStop(t *testing.T) {
	attach := func(conn net.Conn) (*tunnel.Attachment, error) {
		reg := tunnel.Registration{Kind: tunnel.Native, Secret: "secret", StoreID: "s1", Incarnation: [16]byte{1}}
		return tunnel.Attach(context.Background(), conn, &reg, nil, tunnel.Default())
	}
	told := func(err error) wire.Code {
		var code *tunnel.CodeError
		if !errors.As(err, &code) {
			t.Fatalf("no code but %v", err)
		}
		return code.Code
	}
	_, dial := tunnelPort(t, func(c *Config) { c.OpenApps = false })
	_, err := attach(dial())
	if code := told(err); code != wire.CodeUnknownApp {
		t.Errorf("an app that is not listed: code %d", code)
	}

	r, dial := tunnelPort(t, nil)
	older, err := attach(dial())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- older.Run(context.Background(), deaf{}) }()
	newer, err := attach(dial())
	if err != nil {
		t.Fatal(err)
	}
	if code := told(<-ended); code != wire.CodeTakenOver {
		t.Errorf("the older connection: code %d", code)
	}
	if newer.Instance() != older.Instance() || newer.Gen() <= older.Gen() {
		t.Errorf("instance %d gen %d follows instance %d gen %d", newer.Instance(), newer.Gen(), older.Instance(), older.Gen())
	}
	if n := r.stats.takeovers.Load(); n != 1 {
		t.Errorf("%d takeovers were counted", n)
	}
}

// One port takes legacy registrations in the clear and inside TLS; from where plain tunnels are not welcome, TLS still is.
func TestTunnelPortTellsTLSFromPlain(t *testing.T) {
	certificates := httptest.NewTLSServer(nil)
	defer certificates.Close()
	server := &tls.Config{Certificates: certificates.TLS.Certificates}
	trust := certificates.Client().Transport.(*http.Transport).TLSClientConfig
	client := &tls.Config{RootCAs: trust.RootCAs, ServerName: "example.com"}
	const registration = `{"appSecret":"` + secret + `","storeId":"s1"}`
	app := wire.AppIDOf(secret)

	r, dial := tunnelPortTLS(t, nil, server)
	plain := dial()
	if _, err := plain.Write([]byte(registration)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plain instance", func() bool { return len(r.table.Instances(app)) == 1 })
	secure := tls.Client(dial(), client)
	if _, err := secure.Write([]byte(`{"appSecret":"` + secret + `","storeId":"s2"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the instance behind TLS", func() bool { return len(r.table.Instances(app)) == 2 })

	far := func(c *Config) { c.PlainFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	r, dial = tunnelPortTLS(t, far, server)
	plain = dial()
	if _, err := plain.Write([]byte(registration)); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Read(make([]byte, 1)); err == nil {
		t.Error("a plain tunnel from elsewhere was served")
	}
	eventually(t, "the refusal", func() bool { return r.refusals(refusedPlain) == 1 })
	secure = tls.Client(dial(), client)
	if _, err := secure.Write([]byte(registration)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the instance behind TLS", func() bool { return len(r.table.Instances(app)) == 1 })
}

// One app, and where apps are anybody's one address, gets its share of the node's tunnels and no more; what ends makes room.
func TestNobodyFillsTheTunnelPortAlone(t *testing.T) {
	r, dial := tunnelPort(t, func(c *Config) { c.TunnelsPerApp, c.TunnelsPerAddr = 2, 3 })
	attach := func(secret, store string) net.Conn {
		conn := dial()
		if _, err := fmt.Fprintf(conn, `{"appSecret":%q,"storeId":%q}`, secret, store); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	instances := func(secret string) int { return len(r.table.Instances(wire.AppIDOf(secret))) }
	attach("one", "a")
	leaving := attach("one", "b")
	eventually(t, "two instances of the app", func() bool { return instances("one") == 2 })
	attach("one", "c")
	eventually(t, "the app's third to be refused", func() bool { return r.refusals(refusedShare) == 1 })
	attach("two", "a")
	eventually(t, "the address's third to be taken", func() bool { return instances("two") == 1 })
	attach("three", "a")
	eventually(t, "the address's fourth to be refused", func() bool { return r.refusals(refusedShare) == 2 })
	leaving.Close()
	eventually(t, "room again", func() bool { attach("three", "a"); return instances("three") == 1 })
}

// An app that an operator listed is nobody's but its own: its backends may share an address as they like.
func TestListedAppsShareAnAddress(t *testing.T) {
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	var s shares
	s.init(&Config{TunnelsPerApp: 3, TunnelsPerAddr: 1})
	for i := range 3 {
		if s.take(wire.AppIDOf("listed"), true, remote) == nil {
			t.Fatalf("tunnel %d of a listed app was refused", i+1)
		}
	}
	if s.take(wire.AppIDOf("listed"), true, remote) != nil {
		t.Error("a listed app got more than an app's share")
	}
	back := s.take(wire.AppIDOf("open"), false, remote)
	if back == nil || s.take(wire.AppIDOf("other"), false, remote) != nil {
		t.Error("want one tunnel of an unlisted app from this address")
	}
	if back(); len(s.addrs) != 0 || len(s.apps) != 1 {
		t.Errorf("%d addresses and %d apps are still counted", len(s.addrs), len(s.apps))
	}
}
