package main

import (
	"errors"
	"io"
	"log/slog"
	"time"
)

// offline is what verbs do without a running node: to key files, snapshots and data directories that no process has open.
type offline struct {
	// keygen answers the text of a new key file.
	keygen func(cluster string) ([]byte, error)
	// inspect reads a snapshot to its end and checks its checksum.
	inspect func(r io.Reader) (snapshotInfo, error)
	// restore makes an empty data directory the first node of a new generation with the table of a snapshot.
	restore func(dataDir string, r io.Reader) error
	// recover makes a voter that has lost the others the only one. With DryRun it only looks.
	recover func(cfg recoverConfig) (recoverReport, error)
}

// snapshotInfo is what a snapshot file says about itself.
type snapshotInfo struct {
	Version     int       `json:"version"` // of the format
	Cluster     string    `json:"cluster,omitempty"`
	Incarnation string    `json:"incarnation,omitempty"`
	Generation  uint32    `json:"generation"`
	Term        uint64    `json:"term"`
	Index       uint64    `json:"index"`
	TakenAt     time.Time `json:"takenAt,omitzero"`
	Bytes       int64     `json:"bytes"`
	SHA256      string    `json:"sha256"`
	Apps        int       `json:"apps"`
	Instances   int       `json:"instances"`
	States      int       `json:"states"`
	Nodes       int       `json:"nodes"`
}

// recoverConfig is what recover is told.
type recoverConfig struct {
	DataDir string
	DryRun  bool
	Log     *slog.Logger
}

// recoverReport is what recover found in a data directory.
type recoverReport struct {
	Cluster       string         `json:"cluster,omitempty"`
	NodeID        string         `json:"nodeId"`
	ServerID      string         `json:"serverId"`
	Term          uint64         `json:"term"`
	LastIndex     uint64         `json:"lastIndex"` // of its log: what it has of what was agreed on
	SnapshotIndex uint64         `json:"snapshotIndex"`
	Generation    uint32         `json:"generation"`
	NewGeneration uint32         `json:"newGeneration"` // after recover
	HasCAKey      bool           `json:"hasCAKey"`      // else a new one is made
	States        int            `json:"states"`
	Voters        []recoverVoter `json:"voters"` // of its last configuration
}

// recoverVoter is one server of the configuration that recover found.
type recoverVoter struct {
	ServerID string `json:"serverId"`
	Addr     string `json:"address"`
	Voter    bool   `json:"voter"`
	Self     bool   `json:"self"`
}

var errNotBuilt = errors.New("this build cannot do that yet")

// clusterFiles answers how package cluster does it.
func clusterFiles() offline {
	return offline{
		keygen:  func(string) ([]byte, error) { return nil, errNotBuilt },
		inspect: func(io.Reader) (snapshotInfo, error) { return snapshotInfo{}, errNotBuilt },
		restore: func(string, io.Reader) error { return errNotBuilt },
		recover: func(recoverConfig) (recoverReport, error) { return recoverReport{}, errNotBuilt },
	}
}
