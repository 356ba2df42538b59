package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// gossipSocket is TCP and UDP on one port.
type gossipSocket struct {
	net.Listener
	packets net.PacketConn
}

// Close closes both.
func (g *gossipSocket) Close() error { return errors.Join(g.Listener.Close(), g.packets.Close()) }

// listenBoth binds TCP and UDP on one port. With port 0 it looks for one that both have.
func (l listenFlag) listenBoth(ctx context.Context, bind []string) ([]net.Listener, error) {
	for try := 1; ; try++ {
		list, err := l.listen(ctx, bind)
		if err != nil {
			return nil, err
		}
		var lc net.ListenConfig
		packets, err := lc.ListenPacket(ctx, "udp", list[0].Addr().String())
		if err == nil {
			return []net.Listener{&gossipSocket{list[0], packets}}, nil
		}
		host, port, _ := net.SplitHostPort(list[0].Addr().String())
		closeAll(list)
		if l.port() != "0" || !errors.Is(err, syscall.EADDRINUSE) || try == samePortTries {
			return nil, l.explain(host, port, fmt.Errorf("udp: %w", err))
		}
	}
}

// underNetwork is what a network between nodes can do.
type underNetwork interface {
	Listen(addr string) (net.Listener, error)
	ListenPacket(addr string) (net.PacketConn, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// boundNetwork hands out sockets that were bound before, each once, so that whoever binds gossip and the node port by
// address gets what listenAll has bound and named the flags of. Everything else goes to the network below.
type boundNetwork struct {
	underNetwork

	mu      sync.Mutex
	streams map[string]net.Listener
	packets map[string]net.PacketConn
}

// network answers under with the sockets of gossip and the node port in it.
func (b bound) network(under underNetwork) *boundNetwork {
	n := &boundNetwork{underNetwork: under, streams: make(map[string]net.Listener), packets: make(map[string]net.PacketConn)}
	for _, name := range []string{"gossip", "node"} {
		for _, ln := range b[name] {
			address := ln.Addr().String()
			if both, ok := ln.(*gossipSocket); ok {
				n.packets[address] = both.packets
				ln = both.Listener
			}
			n.streams[address] = ln
		}
	}
	return n
}

// Listen answers the listener that was bound at addr, the first time.
func (n *boundNetwork) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	ln, ok := n.streams[addr]
	delete(n.streams, addr)
	n.mu.Unlock()
	if ok {
		return ln, nil
	}
	return n.underNetwork.Listen(addr)
}

// ListenPacket answers the socket that was bound at addr, the first time.
func (n *boundNetwork) ListenPacket(addr string) (net.PacketConn, error) {
	n.mu.Lock()
	conn, ok := n.packets[addr]
	delete(n.packets, addr)
	n.mu.Unlock()
	if ok {
		return conn, nil
	}
	return n.underNetwork.ListenPacket(addr)
}
