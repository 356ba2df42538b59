package nodeport

import (
	"context"
	"net"
	"time"
)

// Network is what nodes reach each other through.
type Network interface {
	Listen(addr string) (net.Listener, error)
	ListenPacket(addr string) (net.PacketConn, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// A peer without power is noticed within about 25 s by these; raft, control and links have shorter clocks of their own.
const (
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// OS is the machine's network. Nagle's algorithm is off, as Go has it.
func OS() Network {
	alive := net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}
	return machine{net.ListenConfig{KeepAliveConfig: alive}, net.Dialer{KeepAliveConfig: alive}}
}

type machine struct {
	listen net.ListenConfig
	dial   net.Dialer
}

func (m machine) Listen(addr string) (net.Listener, error) {
	return m.listen.Listen(context.Background(), "tcp", addr)
}

func (m machine) ListenPacket(addr string) (net.PacketConn, error) {
	return m.listen.ListenPacket(context.Background(), "udp", addr)
}

func (m machine) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return m.dial.DialContext(ctx, "tcp", addr)
}
