package clustertest

import (
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	maxPacket  = 65507
	maxWaiting = 1024 // packets on their way to one socket or waiting for their reader
)

// packet is one on its way.
type packet struct {
	data []byte
	from *net.UDPAddr
	at   time.Time
}

// packetConn takes and sends packets. All but addr is guarded by the network's lock.
type packetConn struct {
	host    *Host
	addr    *net.UDPAddr
	in      []packet // by time of arrival
	err     error
	changed signal
	read    time.Time
}

// ReadFrom waits for a packet. What does not fit into b is lost.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n := c.host.net
	for {
		n.mu.Lock()
		now := time.Now()
		err := c.err
		if err == nil && !c.read.IsZero() && !now.Before(c.read) {
			err = os.ErrDeadlineExceeded
		}
		if err != nil {
			n.mu.Unlock()
			return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: c.addr, Err: err}
		}
		until := c.read
		if len(c.in) > 0 {
			p := c.in[0]
			if !p.at.After(now) {
				c.in = c.in[1:]
				n.mu.Unlock()
				return copy(b, p.data), p.from, nil
			}
			until = earliest(until, p.at)
		}
		changed := c.changed.wait()
		n.mu.Unlock()
		await(changed, until)
	}
}

// WriteTo sends a packet and does not wait. That it gets lost is no error.
func (c *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	to, at, err := c.host.find(addr.String())
	switch {
	case c.err != nil:
		err = c.err
	case len(b) > maxPacket:
		err = os.NewSyscallError("sendto", syscall.EMSGSIZE)
	}
	if err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: c.addr, Addr: addr, Err: err}
	}
	if to == nil {
		return len(b), nil
	}
	way := n.path(c.host.name, to.name)
	there := to.packets[at.Port()]
	if there == nil || len(there.in) >= maxWaiting || !n.reaches(c.host, to) || n.lost(way) {
		way.traffic.Lost++
		return len(b), nil
	}
	way.traffic.Packets++
	way.traffic.Bytes += uint64(len(b))
	there.put(packet{append([]byte(nil), b...), c.addr, n.arrival(way)})
	return len(b), nil
}

// put adds a packet behind those that arrive no later.
func (c *packetConn) put(p packet) {
	i, _ := slices.BinarySearchFunc(c.in, p, func(a, b packet) int {
		if a.at.After(b.at) {
			return 1
		}
		return -1
	})
	c.in = slices.Insert(c.in, i, p)
	c.changed.fire()
}

// Close ends reading and writing; packets that were sent still arrive.
func (c *packetConn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.err != nil {
		return net.ErrClosed
	}
	c.end(net.ErrClosed)
	return nil
}

func (c *packetConn) end(err error) {
	c.err, c.in = err, nil
	delete(c.host.packets, uint16(c.addr.Port))
	c.changed.fire()
}

func (c *packetConn) LocalAddr() net.Addr { return c.addr }

// SetDeadline is SetReadDeadline: writing never waits.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline bounds ReadFrom, also one that is waiting.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.err != nil {
		return net.ErrClosed
	}
	c.read = t
	c.changed.fire()
	return nil
}

// SetWriteDeadline does nothing: writing never waits.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }
