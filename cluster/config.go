package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
)

// Config of a Node. NodeID is required.
type Config struct {
	// DataDir is where the table is kept, in a folder of its own; "" keeps it in memory only.
	DataDir string
	// NodeID is the stable name of this node.
	NodeID string
	// Region is this node's region.
	Region string
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
}

// Default returns the values that docs/configuration.md names, in memory and without a name.
func Default() Config {
	return Config{FreeRows: 10 * time.Minute, KeyRetention: 48 * time.Hour, SnapshotBytes: 64 << 20}
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
	}
	return nil
}
