package gossip

import (
	"context"
	"net"

	"github.com/hashicorp/memberlist"
)

// What the tests on a network, which live outside of the package, know of its inside.
const (
	KeySize    = keySize
	MaxName    = maxName
	MaxPacket  = maxPacket
	MaxStream  = maxStream
	MaxStreams = maxStreams
	Remembered = remembered
)

// AppendLoads writes a message.
func AppendLoads(dst []byte, name string, loads []Load) ([]byte, []Load) {
	return appendLoads(dst, name, loads)
}

// Keys are those in use, the primary one first.
func (g *Gossip) Keys() [][]byte { return g.ring.GetKeys() }

// OpenStreams are those that others opened.
func (g *Gossip) OpenStreams() int {
	g.transport.mu.Lock()
	defer g.transport.mu.Unlock()
	return len(g.transport.inbound)
}

// Transport is what memberlist speaks over, for who is no Gossip. It ends by its Shutdown.
func Transport(cfg Config) (memberlist.Transport, error) {
	t, err := bind(&cfg, &counts{})
	if err != nil {
		return nil, err
	}
	go func() { _ = t.accept() }()
	go func() { _ = t.read() }()
	return t, nil
}

// machine is the network of the operating system.
type machine struct{}

func (machine) Listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
func (machine) ListenPacket(addr string) (net.PacketConn, error) {
	return net.ListenPacket("udp", addr)
}

func (machine) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// Machine is machine.
type Machine = machine
