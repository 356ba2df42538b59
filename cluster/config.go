package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// File is what the log needs of a file.
type File = consensus.File

// Proto is the highest version of what nodes say to each other that this program speaks, MinProto the lowest.
const (
	Proto    uint16 = 1
	MinProto uint16 = 1
)

// Config of a Node. NodeID is required.
type Config struct {
	// DataDir is where the table, this node's key and its certificate are kept; "" keeps everything in memory.
	DataDir string
	// NodeID is the stable name of this node.
	NodeID string
	// Region is this node's region.
	Region string

	// Keys are the cluster's secrets. nil makes some, kept in DataDir: a cluster of one needs nobody else to know them.
	Keys *trust.Keys
	// Join are addresses (host or host:port of the node port) of living nodes of the cluster to become a member of. Without
	// any, a node that has no data forms a cluster; one that has data goes on with it, whatever stands here.
	Join []string

	// Network is what nodes reach each other through; nil is the machine's.
	Network nodeport.Network
	// Listener is the node port, bound already; nil binds NodeAddr.
	Listener net.Listener
	// NodeAddr and GossipAddr are host:port to bind; "" is a free port of 127.0.0.1.
	NodeAddr, GossipAddr string
	// AdvertiseNode and AdvertiseGossip are host:port that other nodes dial; "" is what was bound. Port 0 is the port bound.
	AdvertiseNode, AdvertiseGossip string

	// Profile is placement.OneRegion or MultiRegion. It is settled when a cluster forms; who joins learns it.
	Profile uint8
	// MaxVoters bounds the voters, as far as this node leads; odd.
	MaxVoters int
	// Version is the program's, for people.
	Version string

	// Handlers serve the verbs of others.
	Handlers map[control.Verb]control.Handler
	// Link serves a link that another node has dialled, until conn is done with. nil refuses links.
	Link func(ctx context.Context, conn net.Conn, from wire.NodeSession)
	// Extra is what others add to this node's status; nil adds nothing.
	Extra func() json.RawMessage

	// FreeRows is how long a row stays whose instance is gone and that nobody asks for.
	FreeRows time.Duration
	// KeyRetention is how long the public key of a node's life that is over stays: longer than any token lives.
	KeyRetention time.Duration
	// SnapshotBytes is the length of log at which a snapshot is taken, which makes most of it needless.
	SnapshotBytes int64
	// Log is where rare events go; nil discards them.
	Log *slog.Logger
	// Now is the clock, with a monotonic reading; nil is time.Now.
	Now func() time.Time
	// OpenFile opens a file of the log; nil is the disk. Tests put their faults in here.
	OpenFile func(path string, size int64) (File, error)
}

// defaultNodePort is meant where an address to join has no port.
const defaultNodePort = "7947"

// Default returns the values that docs/configuration.md names, in memory and without a name.
func Default() Config {
	return Config{FreeRows: 10 * time.Minute, KeyRetention: 48 * time.Hour, SnapshotBytes: 64 << 20, MaxVoters: 5}
}

// fill gives fields that are zero their default.
func (c *Config) fill() {
	d := Default()
	if c.FreeRows == 0 {
		c.FreeRows = d.FreeRows
	}
	if c.KeyRetention == 0 {
		c.KeyRetention = d.KeyRetention
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = d.SnapshotBytes
	}
	if c.MaxVoters == 0 {
		c.MaxVoters = d.MaxVoters
	}
	if c.Network == nil {
		c.Network = nodeport.OS()
	}
	if c.NodeAddr == "" {
		c.NodeAddr = "127.0.0.1:0"
	}
	if c.GossipAddr == "" {
		c.GossipAddr = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	switch {
	case c.NodeID == "":
		return errors.New("a node needs an id")
	case len(c.NodeID) > placement.MaxNodeID:
		return fmt.Errorf("node id of %d bytes, at most %d", len(c.NodeID), placement.MaxNodeID)
	case len(c.Region) > placement.MaxRegion:
		return fmt.Errorf("region of %d bytes, at most %d", len(c.Region), placement.MaxRegion)
	case c.FreeRows < 0 || c.KeyRetention < 0 || c.SnapshotBytes < 0:
		return errors.New("a time or size of the table is negative")
	case c.MaxVoters < 0 || c.MaxVoters > 0 && c.MaxVoters%2 == 0:
		return fmt.Errorf("%d voters at most: it has to be odd, since an even number survives no more losses than one less", c.MaxVoters)
	case c.Profile > placement.MultiRegion:
		return fmt.Errorf("profile %d is none", c.Profile)
	case len(c.Join) > 0 && c.Keys == nil:
		return errors.New("who joins a cluster needs its key file")
	}
	return TimesOf(c.Profile).Validate()
}
