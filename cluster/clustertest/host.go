package clustertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	firstPort = 32768 // of those given to who asks for port 0
	backlog   = 128   // connections that wait for Accept
	// again is how long a dialling host waits before it repeats what got no answer.
	again = time.Second
)

var (
	errDown    = errors.New("the host is down")
	errRefused = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	errReset   = error(syscall.ECONNRESET)
	errTimeout = error(syscall.ETIMEDOUT)
	errTaken   = os.NewSyscallError("bind", syscall.EADDRINUSE)
	errForeign = os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
)

// Host is one machine of a Network, with an operating system of its own.
type Host struct {
	net  *Network
	name string
	ip   netip.Addr

	// Guarded by the network's lock.
	up        bool
	next      uint16
	listeners map[uint16]*listener
	packets   map[uint16]*packetConn
}

// Name is what the network calls the host.
func (h *Host) Name() string { return h.name }

// Addr is the host's address with a port, as text.
func (h *Host) Addr(port int) string { return net.JoinHostPort(h.ip.String(), strconv.Itoa(port)) }

// Listen takes streams at an address of this host: its own, an unspecified one or none ("10.0.0.1:7946", ":7946", port 0).
func (h *Host) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.bind(addr, func(port uint16) bool { return h.listeners[port] != nil })
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, err)}
	}
	l := &listener{host: h, addr: net.TCPAddrFromAddrPort(at)}
	h.listeners[at.Port()] = l
	return l, nil
}

// ListenPacket takes and sends packets at an address of this host, as Listen does with streams.
func (h *Host) ListenPacket(addr string) (net.PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.bind(addr, func(port uint16) bool { return h.packets[port] != nil })
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: fmt.Errorf("%s: %w", addr, err)}
	}
	c := &packetConn{host: h, addr: net.UDPAddrFromAddrPort(at)}
	h.packets[at.Port()] = c
	return c, nil
}

// bind finds the address that addr means here. The network's lock is held.
func (h *Host) bind(addr string, taken func(port uint16) bool) (netip.AddrPort, error) {
	if !h.up {
		return netip.AddrPort{}, errDown
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host != "" && host != h.name {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if ip = ip.Unmap(); ip != h.ip && !ip.IsUnspecified() && !ip.IsLoopback() {
			return netip.AddrPort{}, errForeign
		}
	}
	if port == 0 {
		port = uint64(h.free(taken))
	}
	if taken(uint16(port)) {
		return netip.AddrPort{}, errTaken
	}
	return netip.AddrPortFrom(h.ip, uint16(port)), nil
}

// free is the next port for who asks for none in particular.
func (h *Host) free(taken func(port uint16) bool) uint16 {
	for {
		port := h.next
		h.next = max(h.next+1, firstPort)
		if !taken(port) {
			return port
		}
	}
}

// find is the host at a text address as seen from this one, by name or IP; nil where there is none. The lock is held.
func (h *Host) find(addr string) (*Host, netip.AddrPort, error) {
	name, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if to := h.net.hosts[name]; to != nil {
		return to, netip.AddrPortFrom(to.ip, uint16(port)), nil
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return nil, netip.AddrPort{}, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	if ip = ip.Unmap(); ip.IsLoopback() && h.net.addrs[ip] == nil {
		ip = h.ip
	}
	return h.net.addrs[ip], netip.AddrPortFrom(ip, uint16(port)), nil
}

// Dial connects to an address, by IP or name of a host. Where nobody answers it tries until ctx ends, or for a time
// that is the network's Patience.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if h.net.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.net.Patience, errTimeout)
		defer cancel()
	}
	c, err := h.connect(ctx, addr)
	if err != nil {
		failed := &net.OpError{Op: "dial", Net: "tcp", Err: err}
		if at, parse := netip.ParseAddrPort(addr); parse == nil {
			failed.Addr = net.TCPAddrFromAddrPort(at)
		}
		return nil, failed
	}
	return c, nil
}

func (h *Host) connect(ctx context.Context, addr string) (net.Conn, error) {
	for {
		h.net.mu.Lock()
		to, at, err := h.find(addr)
		if err == nil && !h.up {
			err = errDown
		}
		var there time.Time
		if err == nil && to != nil {
			if p := h.net.path(h.name, to.name); !h.net.lost(p) {
				there = h.net.arrival(p)
			}
		}
		h.net.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if !there.IsZero() {
			if err := sleep(ctx, there); err != nil {
				return nil, err
			}
			c, back, err := h.knock(to, at)
			if c != nil || err != nil {
				return answered(ctx, c, back, err)
			}
		}
		if err := sleep(ctx, time.Now().Add(again)); err != nil {
			return nil, err
		}
	}
}

// answered waits until what the other host said is here.
func answered(ctx context.Context, c *conn, back time.Time, err error) (net.Conn, error) {
	if late := sleep(ctx, back); late != nil {
		if c != nil {
			_ = c.Close()
		}
		return nil, late
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// knock is what happens when a wish to connect is at its host: a connection, an error, or nothing at all when it got lost;
// the time is when that is known here.
func (h *Host) knock(to *Host, at netip.AddrPort) (*conn, time.Time, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.reaches(h, to) || !n.reaches(to, h) {
		return nil, time.Time{}, nil
	}
	p := n.path(to.name, h.name)
	back := n.arrival(p)
	l := to.listeners[at.Port()]
	if l == nil {
		return nil, back, errRefused
	}
	if len(l.waiting) >= backlog || n.lost(p) {
		return nil, time.Time{}, nil
	}
	from := netip.AddrPortFrom(h.ip, h.free(func(uint16) bool { return false }))
	s := newStream(n, h, to, net.TCPAddrFromAddrPort(from), l.addr)
	l.waiting = append(l.waiting, s.ends[1])
	l.changed.fire()
	return s.ends[0], back, nil
}

// Kill takes the host's power: all its sockets are gone and nobody is told.
func (h *Host) Kill() { h.end(false) }

// Crash kills the host's processes: all its sockets are gone, and its kernel resets the streams. Nothing listens until
// somebody does so again.
func (h *Host) Crash() { h.end(true) }

func (h *Host) end(kernel bool) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	h.up = kernel
	for s := range n.conns {
		s.lose(h, kernel)
	}
	for _, l := range h.listeners {
		l.end(errDown)
	}
	for _, c := range h.packets {
		c.end(errDown)
	}
}

// Start gives a killed host its power back. It has no sockets, and resets what its peers still believe in.
func (h *Host) Start() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.up = true
	h.net.release()
}

// sleep waits for a time, or fails when ctx ends before it.
func sleep(ctx context.Context, until time.Time) error {
	d := time.Until(until)
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
