package control_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlers = map[control.Verb]control.Handler

// plain dials without TLS: who is at the other end is not what most tests are about.
type plain struct{ nodeport.Network }

func (p plain) Dial(ctx context.Context, addr, _ string, _ nodeport.Kind) (net.Conn, error) {
	return p.Network.Dial(ctx, addr)
}

func (p plain) DialAnonymous(ctx context.Context, addr string) (net.Conn, error) {
	return p.Network.Dial(ctx, addr)
}

// node serves calls at an address, as a process that can end and come again.
type node struct {
	*control.Server
	addr string
	end  func()
}

func serve(t testing.TB, network nodeport.Network, addr string, cfg control.Config, from nodeport.Peer, h handlers) *node {
	t.Helper()
	s, err := control.NewServer(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	l, err := network.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.Serve(ctx, c, from) })
		}
	})
	end := sync.OnceFunc(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	t.Cleanup(end)
	return &node{s, l.Addr().String(), end}
}

// client runs until the test ends.
func client(t testing.TB, dial control.Dialer, cfg control.Config) *control.Client {
	t.Helper()
	c, err := control.NewClient(cfg, dial)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return c
}

var known = nodeport.Peer{NodeID: "a"}

// hosts are two machines on a network in memory.
func hosts() (n *clustertest.Network, here, there *clustertest.Host) {
	n = clustertest.New(1)
	return n, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
}

// onBoth runs a test on the network in memory and on the machine's.
func onBoth(t *testing.T, f func(t *testing.T, here, there nodeport.Network)) {
	t.Run("memory", func(t *testing.T) {
		_, here, there := hosts()
		f(t, here, there)
	})
	t.Run("loopback", func(t *testing.T) { f(t, nodeport.OS(), nodeport.OS()) })
}

const anywhere = "127.0.0.1:0"

func echo(_ context.Context, _ nodeport.Peer, body []byte) ([]byte, error) { return body, nil }

// until polls what gives no event, such as a counter.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
