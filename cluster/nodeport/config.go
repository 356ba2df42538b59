package nodeport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Kind is what a connection is for: the first byte that its dialler writes.
type Kind uint8

const (
	Raft    Kind = 1 // between replicas of the table
	Control Kind = 2 // calls; the only one for who has no certificate
	Link    Kind = 3 // messages of clients and backends
)

func (k Kind) String() string {
	switch k {
	case Raft:
		return "raft"
	case Control:
		return "control"
	case Link:
		return "link"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Peer is the other end of a connection, as its certificate says.
type Peer struct {
	NodeID      string
	KeyHash     [32]byte
	Incarnation [16]byte
	// Remote is where the connection comes from or leads to.
	Remote net.Addr
	// TLS is the state of the connection after its handshake: what a proof is bound to.
	TLS *tls.ConnectionState
}

// Anonymous says that the other end showed no certificate.
func (p Peer) Anonymous() bool { return p.NodeID == "" }

// Handler serves a connection, which is closed when it returns. ctx ends with the port's Run.
type Handler func(ctx context.Context, conn net.Conn, peer Peer)

// Config is what a port is made from. The fields up to Peer are required, the rest have defaults (see Default).
type Config struct {
	// Listener takes the connections; the port closes it. Network dials.
	Listener net.Listener
	Network  Network
	// ServerTLS asks for a client's certificate, and checks it if there is one.
	ServerTLS *tls.Config
	// ClientTLS is for connections to a node; "" is any node.
	ClientTLS func(nodeID string) *tls.Config
	// EnrolTLS is for connections of this node while it has no certificate; nil: there are none.
	EnrolTLS *tls.Config
	// Peer says whose certificate it is that a handshake has checked. It is not asked where there is none.
	Peer func(tls.ConnectionState) (Peer, error)

	// Serve has a handler for each kind that is not taken from a Listener.
	Serve map[Kind]Handler
	// Log takes what is worth a line; nil discards.
	Log *slog.Logger
	// Now is the clock, with a monotonic reading; nil is time.Now.
	Now func() time.Time

	// Handshake bounds TLS and the kind byte of a connection that came in; DialTimeout bounds one that is made, from
	// its start to its kind byte.
	Handshake, DialTimeout time.Duration
	// AnonymousLife is how long a connection without a certificate may last.
	AnonymousLife time.Duration
	// MaxAge is how long a connection of a node lasts at most: the certificate that it was let in with is looked at again.
	// Each one ends at a time of its own in the last eighth of it, and who needs it dials anew.
	MaxAge time.Duration
	// Strangers is how many connections may be in their handshake, and how many anonymous; StrangersPerAddr is that for
	// one address.
	Strangers, StrangersPerAddr int
	// PerNode is how many connections one node may have open to this one.
	PerNode int
}

// Default returns the limits in use; what is required remains to be filled in.
func Default() Config {
	return Config{
		Handshake: 5 * time.Second, DialTimeout: 10 * time.Second, AnonymousLife: 30 * time.Second, MaxAge: time.Hour,
		Strangers: 256, StrangersPerAddr: 64, PerNode: 256,
	}
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	switch {
	case c.Listener == nil || c.Network == nil:
		return errors.New("nodeport: a listener and a network are needed")
	case c.ServerTLS == nil || c.ClientTLS == nil || c.Peer == nil:
		return errors.New("nodeport: TLS configurations and a way to tell whose certificate it is are needed")
	case c.Handshake <= 0 || c.DialTimeout <= 0 || c.AnonymousLife <= 0 || c.MaxAge <= 0:
		return errors.New("nodeport: times must be above zero")
	case c.Strangers < 1 || c.StrangersPerAddr < 1 || c.PerNode < 1:
		return errors.New("nodeport: limits of connections must be above zero")
	}
	for k, h := range c.Serve {
		if k < Raft || k > Link || h == nil {
			return fmt.Errorf("nodeport: no handler for %s is possible", k)
		}
	}
	return nil
}
