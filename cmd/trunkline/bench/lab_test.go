package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

func startLab(t *testing.T) *lab {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g, ended := child.NewGroup(), make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return &lab{group: g, dir: t.TempDir()}
}

// Floor and proxies as processes: their CPU time is theirs, not this process's.
func TestFloorAndPeersAsProcesses(t *testing.T) {
	l := startLab(t)
	plain, err := l.startFloor(t.Context(), false, false)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := l.startFloor(t.Context(), false, true)
	if err != nil {
		t.Fatal(err)
	}
	cs := []*contender{plain, secure}
	for _, p := range []peer{haproxyPeer(), nginxPeer()} {
		c, err := l.startPeer(t.Context(), p, plain)
		if errors.Is(err, errNoPeer) {
			t.Logf("%v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	for _, c := range cs {
		conns, err := c.connect(t.Context(), 4, 64)
		if err != nil {
			t.Fatal(err)
		}
		cell, err := echoLoad(t.Context(), conns, loadConfig{window: 2, size: 64, duration: 150 * time.Millisecond}, c.meter)
		closeAll(conns)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if cell.Messages == 0 || cell.Lost != 0 {
			t.Errorf("%s: %+v", c.Name, cell)
		}
		u, err := c.meter.read(t.Context())
		if err != nil || u.RSS == 0 {
			t.Errorf("%s: %+v, %v", c.Name, u, err)
		}
	}
	if secure.endpoint.tls == nil || secure.endpoint.tls.InsecureSkipVerify {
		t.Error("the floor's certificate is checked")
	}
}

// legacyEnd is the coordinator's end of a legacy tunnel, as far as a backend sees it.
type legacyEnd struct {
	t   *testing.T
	nc  net.Conn
	buf []byte
}

func (e *legacyEnd) next() hathora.StoreFrame {
	e.t.Helper()
	for {
		body, n, err := hathora.SplitFrame(e.buf, hathora.MaxFrame)
		if err != nil {
			e.t.Fatal(err)
		}
		if n > 0 {
			e.buf = e.buf[n:]
			f, err := hathora.DecodeFromStore(body)
			if err != nil {
				e.t.Fatal(err)
			}
			return f
		}
		e.more()
	}
}

func (e *legacyEnd) more() {
	e.t.Helper()
	b := make([]byte, 4096)
	n, err := e.nc.Read(b)
	if err != nil {
		e.t.Fatal(err)
	}
	e.buf = append(e.buf, b[:n]...)
}

func TestLegacyBackendAnswers(t *testing.T) {
	const state = wire.StateID(77)
	for _, broadcast := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- runLegacyBackend(ctx, backendConfig{tunnel: ln.Addr().String(), secret: "s", storeID: "one", broadcast: broadcast}, func() {})
		}()
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		e := &legacyEnd{t: t, nc: nc}
		n := 0
		for n == 0 {
			e.more()
			if n, err = hathora.ScanRegistration(e.buf); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := hathora.ParseRegistration(e.buf[:n]); err != nil || r.AppSecret != "s" || r.StoreID != "one" {
			t.Fatalf("%+v, %v", r, err)
		}
		e.buf = e.buf[n:]
		b := hathora.AppendNewState(nil, state, "ann", nil)
		b = hathora.AppendSubscribe(b, state, "ann")
		b = hathora.AppendSubscribe(b, state, "bob")
		b = hathora.AppendMessage(b, state, "ann", []byte("hello"))
		nc.Write(b)
		want := map[string]bool{"ann": true}
		if broadcast {
			want["bob"] = true
		}
		for len(want) > 0 {
			f := e.next()
			if f.Type != hathora.SendMessage || f.State != state || string(f.Data) != "hello" || !want[string(f.User)] {
				t.Fatalf("broadcast %v: %+v", broadcast, f)
			}
			delete(want, string(f.User))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		nc.Close()
		ln.Close()
	}
}

func TestABrokenTunnelIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if nc, err := ln.Accept(); err == nil {
			nc.Close()
		}
	}()
	if err := runLegacyBackend(t.Context(), backendConfig{tunnel: ln.Addr().String()}, func() {}); err == nil {
		t.Fatal("no error")
	}
}

func TestServerTLS(t *testing.T) {
	if _, err := serverTLS(t.TempDir()+"/none.pem", "x"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error %v", err)
	}
	var cfg *tls.Config
	cfg, err := serverTLS("", "edge.example")
	if err != nil || cfg.RootCAs != nil || cfg.ServerName != "edge.example" {
		t.Fatalf("%+v, %v", cfg, err)
	}
}
