package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxPacket is above what memberlist sends (1400 bytes) and our messages.
	maxPacket = 2 << 10
	// maxStream bounds what is read from one stream, before anybody knows who sends it. All that is known of 3,000 nodes
	// fits.
	maxStream = 1 << 20
	// maxStreams bounds those that others opened.
	maxStreams = 64
	// receiveBuffer is asked of the kernel for packets.
	receiveBuffer = 1 << 20
	bindAttempts  = 10
	slowest       = time.Second // between two attempts after errors of a socket
)

var errStreamLong = fmt.Errorf("a stream has more than %d bytes", maxStream)

// transport carries memberlist's packets and streams over a Network, on one port of tcp and udp.
type transport struct {
	network   Network
	label     string
	listener  net.Listener
	packets   net.PacketConn
	bound     netip.AddrPort
	advertise netip.AddrPort
	counts    *counts
	now       func() time.Time

	taken    chan *memberlist.Packet
	accepted chan net.Conn
	life     context.Context // ends when the transport closes
	end      context.CancelFunc

	mu      sync.Mutex
	open    map[*stream]struct{}
	inbound []*stream // the oldest first
}

// bind opens the sockets. Which of tcp's free ports is free for udp as well is found by trying.
func bind(cfg *Config, counts *counts) (*transport, error) {
	t := &transport{
		network: cfg.Network, label: labelOf(cfg.Cluster), counts: counts, now: cfg.Now,
		taken: make(chan *memberlist.Packet), accepted: make(chan net.Conn), open: make(map[*stream]struct{}),
	}
	host, port, err := net.SplitHostPort(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q is not host:port: %w", cfg.Bind, err)
	}
	for attempt := 1; ; attempt++ {
		err = t.listen(host, port)
		if err == nil {
			break
		}
		if port != "0" || attempt == bindAttempts {
			return nil, err
		}
	}
	if t.advertise, err = advertised(cfg.Advertise, t.bound); err != nil {
		return nil, errors.Join(err, t.listener.Close(), t.packets.Close())
	}
	if c, ok := t.packets.(interface{ SetReadBuffer(int) error }); ok {
		_ = c.SetReadBuffer(receiveBuffer) // the kernel gives what it may
	}
	t.life, t.end = context.WithCancel(context.Background())
	return t, nil
}

func (t *transport) listen(host, port string) error {
	listener, err := t.network.Listen(net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("listen for gossip: %w", err)
	}
	bound, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return errors.Join(fmt.Errorf("listen for gossip: %w", err), listener.Close())
	}
	packets, err := t.network.ListenPacket(net.JoinHostPort(host, strconv.Itoa(int(bound.Port()))))
	if err != nil {
		return errors.Join(fmt.Errorf("listen for packets of gossip: %w", err), listener.Close())
	}
	t.listener, t.packets = listener, packets
	t.bound = netip.AddrPortFrom(bound.Addr().Unmap().WithZone(""), bound.Port())
	return nil
}

// advertised is where others reach what is bound.
func advertised(text string, bound netip.AddrPort) (netip.AddrPort, error) {
	if text == "" {
		if bound.Addr().IsUnspecified() {
			return netip.AddrPort{}, fmt.Errorf("gossip listens on all addresses (%s): one to advertise must be said", bound)
		}
		return bound, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("address %q cannot be advertised for gossip: it must be ip:port of this node", text)
	}
	port := a.Port()
	if port == 0 {
		port = bound.Port()
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), port), nil
}

// FinalAdvertiseAddr is what this node tells others.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet. Its error is what the socket says: memberlist looks at its type.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	a, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, err
	}
	if t.life.Err() != nil {
		return time.Time{}, net.ErrClosed
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap(), a.Port())))
	return t.now(), err
}

// PacketCh has the packets that came.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.taken }

// StreamCh has the streams that others opened.
func (t *transport) StreamCh() <-chan net.Conn { return t.accepted }

// DialTimeout opens a stream.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream. It has its deadline from the start, since memberlist writes to it before it sets one.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.life, timeout)
	defer cancel()
	conn, err := t.network.Dial(ctx, to.Addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(t.now().Add(timeout)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return t.admit(conn, false)
}

// Shutdown is close, for memberlist.
func (t *transport) Shutdown() error {
	t.close()
	return nil
}

// close ends the sockets and every stream.
func (t *transport) close() {
	t.end()
	_ = t.listener.Close()
	_ = t.packets.Close()
	t.mu.Lock()
	open := t.open
	t.open, t.inbound = nil, nil
	t.mu.Unlock()
	for s := range open {
		_ = s.Conn.Close()
	}
}

// accept hands streams to memberlist until the transport closes.
func (t *transport) accept() error {
	pause := pause{}
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			if !pause.wait(t.life) {
				return nil
			}
			continue
		}
		pause.reset()
		s, err := t.admit(conn, true)
		if err != nil {
			return nil
		}
		select {
		case t.accepted <- s:
		case <-t.life.Done():
			_ = s.Close()
			return nil
		}
	}
}

// read hands packets to memberlist until the transport closes.
func (t *transport) read() error {
	pause := pause{}
	buf := make([]byte, maxPacket+1)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		if err != nil {
			if !pause.wait(t.life) {
				return nil
			}
			continue
		}
		pause.reset()
		if n > maxPacket {
			t.counts.longPackets.Add(1)
			continue
		}
		if n == 0 {
			continue
		}
		if !passes(buf[:n], t.label) {
			t.counts.wrongKey.Add(1)
			continue
		}
		p := &memberlist.Packet{Buf: slices.Clone(buf[:n]), From: from, Timestamp: t.now()}
		select {
		case t.taken <- p:
		case <-t.life.Done():
			return nil
		}
	}
}

// pause waits longer after each error of a socket.
type pause struct{ last time.Duration }

func (p *pause) reset() { p.last = 0 }

// wait is false when the transport has closed.
func (p *pause) wait(life context.Context) bool {
	p.last = min(max(2*p.last, 5*time.Millisecond), slowest)
	timer := time.NewTimer(p.last)
	defer timer.Stop()
	select {
	case <-timer.C:
		return life.Err() == nil
	case <-life.Done():
		return false
	}
}

// stream is a connection that is closed with the transport, at the first error of a write, and when it brings too much.
type stream struct {
	net.Conn
	transport *transport
	left      int // bytes that may still be read
	guard     guard
}

// admit makes a connection a stream; of too many that others opened the oldest is closed.
func (t *transport) admit(conn net.Conn, inbound bool) (*stream, error) {
	s := &stream{Conn: conn, transport: t, left: maxStream}
	if inbound {
		s.guard.label = t.label
	}
	var oldest *stream
	t.mu.Lock()
	if t.open == nil {
		t.mu.Unlock()
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	t.open[s] = struct{}{}
	if inbound {
		if t.inbound = append(t.inbound, s); len(t.inbound) > maxStreams {
			oldest = t.inbound[0]
		}
	}
	t.mu.Unlock()
	if oldest != nil {
		t.counts.evicted.Add(1)
		_ = oldest.Close()
	}
	return s, nil
}

func (s *stream) Read(b []byte) (int, error) {
	if s.left == 0 {
		s.transport.counts.longStreams.Add(1)
		_ = s.Close()
		return 0, errStreamLong
	}
	n, err := s.Conn.Read(b[:min(len(b), s.left)])
	s.left -= n
	if sealed := s.guard.see(b[:n]); sealed != nil {
		s.transport.counts.wrongKey.Add(1)
		_ = s.Close()
		return 0, sealed
	}
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if err != nil {
		_ = s.Close()
	}
	return n, err
}

// Close may be called often.
func (s *stream) Close() error {
	t := s.transport
	t.mu.Lock()
	delete(t.open, s)
	if i := slices.Index(t.inbound, s); i >= 0 {
		t.inbound = slices.Delete(t.inbound, i, i+1)
	}
	t.mu.Unlock()
	return s.Conn.Close()
}
