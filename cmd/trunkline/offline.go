package main

import (
	"encoding/hex"
	"io"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// offline is what verbs do without a running node: to key files, snapshots and data directories that no process has open.
type offline struct {
	// keygen answers the text of a new key file.
	keygen func(cluster string) ([]byte, error)
	// inspect reads a snapshot to its end and checks its checksum.
	inspect func(r io.Reader) (snapshotInfo, error)
	// restore puts the table of a snapshot into the data directory of a stopped node, which begins a new generation of its
	// cluster alone.
	restore func(dataDir string, r io.Reader) (restoreReport, error)
	// recover makes a stopped node that has lost the other voters the only one of a new generation.
	recover func(cfg recoverConfig) (recoverReport, error)
}

// snapshotInfo is what a snapshot file says about itself.
type snapshotInfo struct {
	Cluster     string    `json:"cluster"`
	Incarnation string    `json:"incarnation"`
	Generation  uint32    `json:"generation"`
	Term        uint64    `json:"term"`
	Index       uint64    `json:"index"`
	SavedAt     time.Time `json:"savedAt"`
	SavedBy     string    `json:"savedBy"` // server
	Bytes       int64     `json:"bytes"`   // of the table
	Apps        int       `json:"apps"`
	Instances   int       `json:"instances"`
	States      int       `json:"states"`
}

// restoreReport is what restore has made.
type restoreReport struct {
	NewGeneration uint32   `json:"newGeneration"`
	Revoked       []string `json:"revoked,omitempty"`    // shut out, as the snapshot says
	Readmitted    []string `json:"readmitted,omitempty"` // shut out until now
}

// recoverConfig is what recover is told.
type recoverConfig struct {
	DataDir string
	Apply   bool // do it, instead of only looking
}

// recoverReport is what recover found in a data directory, and what it made of it.
type recoverReport struct {
	Cluster       string `json:"cluster"`
	NodeID        string `json:"nodeId"`
	ServerID      string `json:"serverId"`
	Term          uint64 `json:"term"`
	LastIndex     uint64 `json:"lastIndex"` // of its log: how much it has of what was agreed on
	Generation    uint32 `json:"generation"`
	NewGeneration uint32 `json:"newGeneration,omitempty"` // 0 while it has only looked
	HasCAKey      bool   `json:"hasCAKey"`                // else a new one is made
}

// clusterFiles answers how package cluster does it.
func clusterFiles() offline {
	return offline{keygen: trust.Generate, inspect: inspectSnapshot, restore: restoreSnapshot, recover: recoverNode}
}

func inspectSnapshot(r io.Reader) (snapshotInfo, error) {
	i, err := cluster.InspectSnapshot(r)
	if err != nil {
		return snapshotInfo{}, err
	}
	return snapshotInfo{
		Cluster: i.Cluster.Name, Incarnation: hex.EncodeToString(i.Cluster.Incarnation[:]), Generation: i.Cluster.Generation, Term: i.Term, Index: i.Index,
		SavedAt: i.SavedAt, SavedBy: i.SavedBy, Bytes: i.Bytes, Apps: i.Stats.Apps, Instances: i.Stats.Instances, States: i.Stats.Rows,
	}, nil
}

func restoreSnapshot(dataDir string, r io.Reader) (restoreReport, error) {
	done, err := cluster.RestoreSnapshot(dataDir, r)
	return restoreReport{done.Generation, done.Revoked, done.Readmitted}, err
}

func recoverNode(cfg recoverConfig) (recoverReport, error) {
	r, err := cluster.Recover(cluster.RecoverConfig{DataDir: cfg.DataDir, Apply: cfg.Apply})
	if err != nil {
		return recoverReport{}, err
	}
	return recoverReport{
		Cluster: r.Cluster, NodeID: r.Node, ServerID: r.Server, Term: r.Term, LastIndex: r.Index, Generation: r.Generation, NewGeneration: r.NewGeneration, HasCAKey: r.Authority,
	}, nil
}
