package nodeport

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Conn is a connection between nodes, after its handshake: what Dial, Listener and Handler hand out.
type Conn struct {
	net.Conn // the TLS connection
	raw      net.Conn
	port     *Port
	peer     Peer
	in       bool   // it was accepted here
	number   uint64 // of those accepted, in order
	origin   netip.Prefix
	reason   atomic.Uint32 // 1 + the Reason for which this end closed it
	age      *time.Timer   // closes it when it has lasted as long as it may; guarded by the port's lock
}

// PeerOf says who is at the other end of a connection that a port has handed out.
func PeerOf(c net.Conn) (Peer, bool) {
	if own, ok := c.(*Conn); ok {
		return own.peer, true
	}
	return Peer{}, false
}

// Close ends the connection; the port forgets it.
func (c *Conn) Close() error {
	c.port.forget(c)
	return c.Conn.Close()
}

// kill closes the connection at once, in whatever state it is.
func (c *Conn) kill(r Reason) {
	c.reason.CompareAndSwap(0, 1+uint32(r))
	_ = c.raw.Close() // whoever uses it learns of it
}

// mostHandshake is what a handshake may take in bytes: certificates of nodes have less than 2 KiB.
const mostHandshake = 32 << 10

var (
	errNotTLS  = &refusal{NotTLS, errors.New("no TLS handshake")}
	errTooMuch = &refusal{TooMuch, errors.New("a handshake above 32 KiB")}
)

// guard reads for a handshake: what is none is refused by its first two bytes, and it may not be long. Afterwards it
// stands aside.
type guard struct {
	net.Conn
	first bool // look at the first bytes
	open  bool // the handshake is over
	n     int
}

func (g *guard) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if g.open {
		return n, err
	}
	for i, want := range [2]byte{0x16, 0x03} { // a record of the handshake, any version of TLS
		if at := i - g.n; g.first && at >= 0 && at < n && b[at] != want {
			return 0, errNotTLS
		}
	}
	if g.n += n; g.n > mostHandshake {
		return 0, errTooMuch
	}
	return n, err
}
