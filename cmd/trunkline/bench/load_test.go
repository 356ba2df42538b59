package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// startFloor serves a floor until the test ends and returns how to reach it.
func startFloor(t *testing.T, hub, secure bool) *endpoint {
	t.Helper()
	var server *tls.Config
	e := &endpoint{path: "/", host: "floor", max: 1 << 20}
	if secure {
		cert, err := throwAwayCertificate()
		if err != nil {
			t.Fatal(err)
		}
		server = &tls.Config{Certificates: []tls.Certificate{cert}}
		e.tls = &tls.Config{InsecureSkipVerify: true}
	}
	ln, err := listenFloor(server)
	if err != nil {
		t.Fatal(err)
	}
	e.address, e.sources = ln.Addr().String(), newSources(ln.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newFloor(hub).serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e
}

func openTest(t *testing.T, e *endpoint, n int) []*conn {
	t.Helper()
	conns, err := openAll(t.Context(), n, e.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(conns) })
	return conns
}

func TestClosedLoopOverTheFloor(t *testing.T) {
	for _, c := range []struct {
		name         string
		window, size int
		secure       bool
	}{{"small", 1, 64, false}, {"window", 8, 1024, false}, {"empty", 3, 0, false}, {"big", 2, 100_000, false}, {"tls", 4, 64, true}} {
		t.Run(c.name, func(t *testing.T) {
			conns := openTest(t, startFloor(t, false, c.secure), 5)
			cfg := loadConfig{window: c.window, size: c.size, warmup: time.Millisecond, duration: 100 * time.Millisecond}
			cell, err := echoLoad(t.Context(), conns, cfg, noMeter{})
			if err != nil {
				t.Fatal(err)
			}
			if cell.Messages == 0 || cell.Lost != 0 || cell.P50 <= 0 || cell.Max < cell.P99 {
				t.Fatalf("%+v", cell)
			}
		})
	}
}

func TestOpenLoopOverTheFloor(t *testing.T) {
	conns := openTest(t, startFloor(t, false, false), 20)
	cfg := loadConfig{size: 64, rate: 50, warmup: 20 * time.Millisecond, duration: 400 * time.Millisecond}
	cell, err := echoLoad(t.Context(), conns, cfg, noMeter{})
	if err != nil {
		t.Fatal(err)
	}
	// Never faster than asked; how much slower depends on the machine, and the messages then count as late, not as few.
	if cell.Messages == 0 || cell.PerSecond > 2000 || cell.Lost != 0 || cell.Skipped != 0 || cell.P50 <= 0 {
		t.Fatalf("asked for 1000/s: %+v", cell)
	}
}

// A server that answers the upgrade and then never reads: everything sent is lost, and the run says so and ends.
func TestASilentServerEndsTheRun(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	release := make(chan struct{})
	defer close(release)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		ws.Upgrade(nc)
		<-release
	}()
	e := &endpoint{address: ln.Addr().String(), host: "silent", path: "/", sources: newSources(ln.Addr().String()), max: 100}
	conns := openTest(t, e, 1)
	cell, err := echoLoad(t.Context(), conns, loadConfig{window: 2, size: 4, duration: time.Millisecond, patience: time.Millisecond}, noMeter{})
	if err == nil || !strings.Contains(err.Error(), "no answer") || cell.Lost != 2 {
		t.Fatalf("%+v, %v", cell, err)
	}
}

func TestAnswersAreChecked(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		ws.Upgrade(nc)
		readFrame(nc)
		ws.WriteFrame(nc, ws.NewBinaryFrame([]byte("nope")))
		readFrame(nc)
	}()
	e := &endpoint{address: ln.Addr().String(), host: "liar", path: "/", sources: newSources(ln.Addr().String()), max: 100}
	conns := openTest(t, e, 1)
	_, err = echoLoad(t.Context(), conns, loadConfig{window: 1, size: 4, duration: time.Minute}, noMeter{})
	if !errors.Is(err, errAnswer) {
		t.Fatalf("error %v", err)
	}
}

func TestCloseFrameIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		ws.Upgrade(nc)
		readFrame(nc)
		ws.WriteFrame(nc, ws.NewCloseFrame(ws.NewCloseFrameBody(4002, "bad token")))
		readFrame(nc)
	}()
	e := &endpoint{
		address: ln.Addr().String(), host: "refuser", path: "/", sources: newSources(ln.Addr().String()), max: 100,
		greeting: func(int) []byte { return []byte("{}") },
	}
	_, err = openAll(t.Context(), 1, e.open)
	var closed closedError
	if !errors.As(err, &closed) || closed.code != 4002 || closed.reason != "bad token" {
		t.Fatalf("error %v", err)
	}
}

func TestAllowedConnections(t *testing.T) {
	l := Limits{Descriptors: 20000, PortsPerAddress: 28000}
	if n := l.allow(19000, true); n != 19000 || l.Met != "" {
		t.Fatalf("%d, %q", n, l.Met)
	}
	if n := l.allow(30000, true); n != 20000-spare || !strings.HasPrefix(l.Met, "descriptors") {
		t.Fatalf("%d, %q", n, l.Met)
	}
	l = Limits{Descriptors: 1 << 20, PortsPerAddress: 28000}
	if n := l.allow(30000, true); n != 30000 || l.Met != "" {
		t.Fatalf("%d, %q", n, l.Met)
	}
	if n := l.allow(30000, false); n != 28000 || !strings.HasPrefix(l.Met, "ports") {
		t.Fatalf("%d, %q", n, l.Met)
	}
	if err := limitError(&net.OpError{Err: syscall.EMFILE}); !strings.Contains(err.Error(), "descriptors") {
		t.Fatal(err)
	}
	if err := limitError(&net.OpError{Err: syscall.EADDRNOTAVAIL}); !strings.Contains(err.Error(), "ports") {
		t.Fatal(err)
	}
}

func TestSourceAddressesStayInTheirRange(t *testing.T) {
	seen := map[string]int{}
	for k := range uint64(300 * perSource) {
		ip := sourceIP(k)
		if ip[0] != 127 || ip[1] < 64 || ip[1] > 127 || ip[3] == 0 || ip[3] == 255 {
			t.Fatalf("connection %d from %v", k, ip)
		}
		seen[ip.String()]++
	}
	if len(seen) != 300 {
		t.Fatalf("%d addresses", len(seen))
	}
	if newSources("192.0.2.1:80").next() != nil || newSources("[::1]:80").next() != nil {
		t.Fatal("only 127/8 is reached from chosen addresses")
	}
}
