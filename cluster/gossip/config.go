package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Network is how sockets are made: nodeport.OS, or a network for tests.
type Network interface {
	Listen(addr string) (net.Listener, error)
	ListenPacket(addr string) (net.PacketConn, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Profile says for which delays between nodes the times are meant.
type Profile uint8

// The profiles.
const (
	OneRegion Profile = iota
	MultiRegion
)

// Timing are the times of gossip. A node that is dead is found so within about four to six probe intervals in a small cluster.
type Timing struct {
	// Probe is how often one other node is probed, ProbeTimeout how long its answer may take before others are asked to
	// probe it. Suspicion times log10(n) times Probe is how long a silent node may refute.
	Probe, ProbeTimeout time.Duration
	Suspicion           int
	// Gossip is how often news are passed on, PushPull how often everything is compared with one other node.
	Gossip, PushPull time.Duration
	// Stream bounds a connection, from dialling to its end.
	Stream time.Duration
	// Forget is how long a dead node is still told that it is thought dead; after it, nobody knows it any more.
	Forget time.Duration
	// Reclaim is how long a node must have been dead before its name is believed at another address.
	Reclaim time.Duration
	// Rejoin is how often seeds that are no members are tried; a tenth of it while nobody at all is known.
	Rejoin time.Duration
	// Loads is how often load hints are sent.
	Loads time.Duration
}

// Timing returns the times of a profile.
func (p Profile) Timing() Timing {
	t := Timing{
		Probe: 500 * time.Millisecond, ProbeTimeout: 400 * time.Millisecond, Suspicion: 3,
		Gossip: 200 * time.Millisecond, PushPull: 15 * time.Second, Stream: 5 * time.Second,
		Forget: 30 * time.Second, Reclaim: 10 * time.Second, Rejoin: 10 * time.Second, Loads: time.Second,
	}
	if p == MultiRegion {
		t.Probe, t.ProbeTimeout, t.Suspicion = time.Second, 500*time.Millisecond, 4
		t.PushPull, t.Stream = 30*time.Second, 10*time.Second
	}
	return t
}

// Config of a Gossip.
type Config struct {
	// Name of this node in the cluster, at most 128 bytes: the same after a restart, and nobody else's.
	Name string
	// Cluster is the cluster's name; nodes of another one are not heard.
	Cluster string
	// Meta is what this node says of itself. Its Incarnation may be zero: that of the first member joined is taken.
	Meta Meta
	// Keys are the keys of 32 bytes by which gossip is encrypted (primary) and read (all). KeysChanged returns a channel
	// that is closed when they change; nil: they never do.
	Keys        func() (primary []byte, all [][]byte)
	KeysChanged func() <-chan struct{}

	Network Network
	// Bind is the host:port, for tcp and udp alike, to listen on. Port 0 takes one that is free for both.
	Bind string
	// Advertise is the ip:port at which others reach this node; "" is the one bound, port 0 the port bound.
	Advertise string
	Profile   Profile
	// Timing replaces the profile's times, for tests.
	Timing *Timing

	// Seeds are the addresses (host:port) of nodes to be in touch with: those to join by and those that the table knows.
	// All addresses of a host name are tried. nil: nobody.
	Seeds func() []string
	// Resolve looks up a host name; nil asks the operating system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// Loads returns what is told to all members as load hints; nil: nothing.
	Loads func() []Load
	// OnLoad takes the hints of others. It is called from many goroutines, and must not block. nil drops them.
	OnLoad func(from Member, loads []Load)
	// OnIncarnation is told the incarnation that this node, having none, took from whom it joined. It must not block.
	OnIncarnation func(incarnation [16]byte)

	Log *slog.Logger
	Now func() time.Time
}

const keySize = 32

// Validate says what is wrong with a Config.
func (c *Config) Validate() error {
	switch {
	case c.Name == "" || len(c.Name) > maxName || !printable(c.Name):
		return fmt.Errorf("name %.150q is empty, longer than %d bytes or not printable", c.Name, maxName)
	case c.Cluster == "" || len(c.Cluster) > 255:
		return fmt.Errorf("cluster name %.300q is empty or longer than 255 bytes", c.Cluster)
	case c.Keys == nil:
		return errors.New("no keys: gossip is always encrypted")
	case c.Network == nil || c.Log == nil || c.Now == nil:
		return errors.New("network, log and clock must be given")
	case c.Profile > MultiRegion:
		return fmt.Errorf("profile %d is none", c.Profile)
	}
	t := c.timing()
	if min(t.Probe, t.ProbeTimeout, t.Gossip, t.PushPull, t.Stream, t.Forget, t.Reclaim, t.Rejoin, t.Loads) <= 0 || t.Suspicion <= 0 {
		return fmt.Errorf("a time of gossip is not set: %+v", t)
	}
	if err := c.Meta.Validate(); err != nil {
		return err
	}
	return checkKeys(c.Keys())
}

func checkKeys(primary []byte, all [][]byte) error {
	for _, k := range append([][]byte{primary}, all...) {
		if len(k) != keySize {
			return fmt.Errorf("a gossip key has %d bytes, not %d", len(k), keySize)
		}
	}
	return nil
}

func (c *Config) timing() Timing {
	if c.Timing != nil {
		return *c.Timing
	}
	return c.Profile.Timing()
}
