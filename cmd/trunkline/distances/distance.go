// Package distances puts delays between nodes that run on one machine, for a small world on a laptop: `trunkline dev --nodes`.
//
// Its one job is to wrap a network so that what a node sends to another arrives as late as it would between their regions.
// Each end delays what it sends by half of the round trip; a dial takes a whole one. Order is kept, nothing is lost, and
// there is no bandwidth. It refuses nothing by itself: errors are those of the network below.
//
// # Goroutines
//
// A delayed connection has one, which writes what has come due and ends with the connection. Packets wait in timers.
package distances

import (
	"context"
	"net"
	"sync"
	"time"
)

// Network is what it wraps, and what it is.
type Network interface {
	Listen(addr string) (net.Listener, error)
	ListenPacket(addr string) (net.PacketConn, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Delayed is a node's network in which others are as far away as RTT says.
type Delayed struct {
	Network
	// RTT is the round trip to whoever has the IP address; 0: at once.
	RTT func(ip string) time.Duration
}

func (d Delayed) rtt(addr net.Addr) time.Duration {
	if addr == nil {
		return 0
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return 0
	}
	return d.RTT(host)
}

// Dial connects after a round trip.
func (d Delayed) Dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := d.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	rtt := d.rtt(nc.RemoteAddr())
	timer := time.NewTimer(rtt)
	defer timer.Stop()
	select {
	case <-timer.C:
		return delay(nc, rtt/2), nil
	case <-ctx.Done():
		_ = nc.Close()
		return nil, ctx.Err()
	}
}

// Listen takes connections that answer late.
func (d Delayed) Listen(addr string) (net.Listener, error) {
	ln, err := d.Network.Listen(addr)
	if err != nil {
		return nil, err
	}
	return Listener{ln, d}, nil
}

// From dials from an address of this machine. Otherwise the system takes 127.0.0.1 for whatever is on loopback, and who is
// dialled takes the node that has that address for the one that dials.
type From struct {
	Network
	IP net.IP
}

// Dial connects by TCP.
func (f From) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: f.IP}}
	return d.DialContext(ctx, "tcp", addr)
}

// Listener wraps a listener that is bound already.
type Listener struct {
	net.Listener
	Far Delayed
}

// Accept takes the next connection.
func (l Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return delay(nc, l.Far.rtt(nc.RemoteAddr())/2), nil
}

// ListenPacket sends packets that arrive late.
func (d Delayed) ListenPacket(addr string) (net.PacketConn, error) {
	pc, err := d.Network.ListenPacket(addr)
	if err != nil {
		return nil, err
	}
	return packets{pc, d}, nil
}

type packets struct {
	net.PacketConn
	far Delayed
}

// WriteTo sends b later. That it could not be sent then is no error: packets get lost.
func (p packets) WriteTo(b []byte, addr net.Addr) (int, error) {
	wait := p.far.rtt(addr) / 2
	if wait <= 0 {
		return p.PacketConn.WriteTo(b, addr)
	}
	copied := append([]byte(nil), b...)
	time.AfterFunc(wait, func() { _, _ = p.PacketConn.WriteTo(copied, addr) })
	return len(b), nil
}

// maxUnderWay is what a connection may have on its way, in bytes; who writes more waits.
const maxUnderWay = 16 << 20

// lastWords is how long the other end of a closed connection may take for what is on its way.
const lastWords = 5 * time.Second

// conn writes late.
type conn struct {
	net.Conn
	wait time.Duration

	mu     sync.Mutex
	moved  sync.Cond
	queue  []piece
	size   int
	err    error
	closed bool
}

type piece struct {
	due  time.Time
	data []byte
}

func delay(nc net.Conn, wait time.Duration) net.Conn {
	if wait <= 0 {
		return nc
	}
	c := &conn{Conn: nc, wait: wait}
	c.moved.L = &c.mu
	go c.carry()
	return c
}

// Write puts b on its way.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.size > maxUnderWay && c.err == nil && !c.closed {
		c.moved.Wait()
	}
	switch {
	case c.err != nil:
		return 0, c.err
	case c.closed:
		return 0, net.ErrClosed
	}
	c.queue = append(c.queue, piece{time.Now().Add(c.wait), append([]byte(nil), b...)})
	c.size += len(b)
	c.moved.Broadcast()
	return len(b), nil
}

// carry writes what has come due until the connection is closed and nothing is on its way.
func (c *conn) carry() {
	defer c.Conn.Close()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.moved.Wait()
		}
		if len(c.queue) == 0 {
			c.mu.Unlock()
			return
		}
		p := c.queue[0]
		c.mu.Unlock()
		time.Sleep(time.Until(p.due))
		_, err := c.Conn.Write(p.data)
		c.mu.Lock()
		c.queue = c.queue[1:]
		c.size -= len(p.data)
		if err != nil {
			c.err, c.queue, c.closed = err, nil, true
		}
		c.moved.Broadcast()
		c.mu.Unlock()
	}
}

// Close ends the connection once what was written is on the other side. Reading ends at once.
func (c *conn) Close() error {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	c.moved.Broadcast()
	c.mu.Unlock()
	if already {
		return net.ErrClosed
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.wait + lastWords)) // of carry
	return c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// SetDeadline bounds reading; what is on its way is written whatever it says.
func (c *conn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: see SetDeadline.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
