package client

import (
	"context"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// idleRouter seats everyone in the same seat.
type idleRouter struct{ seated chan struct{} }

type idleSeat struct{}

func (idleSeat) Down([]byte, bool) error { return nil }
func (idleSeat) Drained()                {}
func (idleSeat) Leave()                  {}

func (r *idleRouter) Join(_ context.Context, q JoinRequest) (Seat, *Refusal) {
	q.Out.Registered()
	r.seated <- struct{}{}
	return idleSeat{}, nil
}

func (*idleRouter) Create(context.Context, CreateRequest) (wire.StateID, *Refusal) { return 1, nil }

// memory is what the process holds for heap objects and stacks.
func memory() uint64 {
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestIdleConnectionsAreSmall joins many clients that are bare descriptors, so that all memory is the server's, and
// compares what is used per connection with what the performance goals leave to this package.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	const n, most = 2000, 4300
	router := &idleRouter{seated: make(chan struct{}, n)}
	w := newWorld(t, func(c *Config, d *Deps, _ *fakeRouter) { d.Router = router; c.ConnsPerIP = 0 })
	hello := []byte("GET /connect/" + testApp.String() + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Origin: x\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	hello = appendMasked(hello, 0x82, []byte(`{"stateId":"abc","token":"`+goodToken+`"}`))
	addr := tcpSockaddr(t, w)
	join := func() {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Skipf("too few descriptors: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		if err := syscall.Connect(fd, addr); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Write(fd, hello); err != nil {
			t.Fatal(err)
		}
		select {
		case <-router.seated:
		case <-time.After(wait):
			t.Fatal("not seated")
		}
	}
	for range 50 {
		join()
	}
	before := memory()
	for range n {
		join()
	}
	eventually(t, "handshakes end", func() bool { return w.metric("client_half_open") == 0 && w.srv.wheel.len() == n+50 })
	per := float64(memory()-before) / n
	t.Logf("%.0f bytes per idle connection", per)
	if per > most {
		t.Errorf("%.0f bytes per idle connection, want at most %d", per, most)
	}
}

func tcpSockaddr(t *testing.T, w *world) *syscall.SockaddrInet4 {
	t.Helper()
	ap, err := netip.ParseAddrPort(w.http.String())
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
}
