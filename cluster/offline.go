package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/consensus"
	"github.com/trunkline-edge/trunkline/placement"
)

// SnapshotInfo is what a saved snapshot says of itself.
type SnapshotInfo = consensus.BackupInfo

// SnapshotSave writes down the table as this node has it: elsewhere than at the leader some entries may be missing at its end.
func (n *Node) SnapshotSave(w io.Writer) (SnapshotInfo, error) {
	r := n.replica.Load()
	if r == nil {
		return SnapshotInfo{}, errors.New("save a snapshot: this node is not a member yet")
	}
	return r.Save(w)
}

// InspectSnapshot reads a saved snapshot, compares its checksums and says what is in it.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) { return consensus.Inspect(r) }

// RecoverConfig says what to recover.
type RecoverConfig struct {
	// DataDir is that of a stopped node.
	DataDir string
	// Apply does it; without, Recover only says what is there.
	Apply bool
	Log   *slog.Logger
	Now   func() time.Time
}

// RecoverReport is what a data directory has, and what was made of it.
type RecoverReport struct {
	Node    string `json:"node"`
	Server  string `json:"server"`
	Cluster string `json:"cluster"`
	// Term and Index say how far its log reaches: of several nodes, recover the one with the highest term, and of those with the
	// highest index.
	Term  uint64 `json:"term"`
	Index uint64 `json:"index"`
	// Generation is that of the cluster before, NewGeneration what it was made, 0 where nothing was done.
	Generation    uint32 `json:"generation"`
	NewGeneration uint32 `json:"new_generation,omitempty"`
	// Authority: the node has what signs certificates. Without, a new one is made and the others fetch new certificates.
	Authority bool `json:"authority"`
}

// Recover makes the only voter of a new generation of its cluster out of one stopped node, when a majority of the voters is
// lost for good. What only the lost had is gone. The other nodes, started with the data they have, notice and enter anew.
func Recover(cfg RecoverConfig) (RecoverReport, error) {
	o, err := openOffline(cfg.DataDir, cfg.Log, cfg.Now)
	if err != nil {
		return RecoverReport{}, fmt.Errorf("recover: %w", err)
	}
	defer o.dir.close()
	report, err := o.report()
	if err == nil && cfg.Apply {
		err = o.recover()
		report.NewGeneration = o.member.Generation
	}
	if err != nil {
		return report, fmt.Errorf("recover: %w", err)
	}
	return report, nil
}

// RestoreSnapshot puts the table of a saved snapshot into the data directory of a stopped node, which becomes the only
// voter of a new generation of its cluster. What was there before is gone, as after Recover. A snapshot that is not whole
// changes nothing.
func RestoreSnapshot(dataDir string, src io.Reader) (RestoreReport, error) {
	report, err := restoreSnapshot(dataDir, src)
	if err != nil {
		return RestoreReport{}, fmt.Errorf("restore a snapshot: %w", err)
	}
	return report, nil
}

// RestoreReport says what a restore has made.
type RestoreReport struct {
	Generation uint32
	// Revoked are the nodes that are shut out as they were when the snapshot was saved, Readmitted those that were shut out
	// until the restore, by what stood in the data directory, and are not any more.
	Revoked, Readmitted []string
}

func restoreSnapshot(dataDir string, src io.Reader) (report RestoreReport, err error) {
	o, err := openOffline(dataDir, nil, nil)
	if err != nil {
		return report, err
	}
	defer o.dir.close()
	f, err := os.CreateTemp(o.dir.path, ".restore-*")
	if err != nil {
		return report, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err = InspectSnapshot(io.TeeReader(src, f)); err != nil {
		return report, err
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return report, err
	}
	if err = o.recover(); err != nil {
		return report, err
	}
	return o.restore(f)
}

// offline is the data directory of a stopped node.
type offline struct {
	dir     *dataDir
	dataDir string
	member  member
	log     *slog.Logger
	now     func() time.Time
}

func openOffline(dataDir string, log *slog.Logger, now func() time.Time) (*offline, error) {
	o := &offline{dataDir: dataDir, log: log, now: now}
	if log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		o.now = time.Now
	}
	m, known, err := readMember(dataDir)
	switch {
	case err != nil:
		return nil, err
	case !known:
		return nil, fmt.Errorf("%s is not the data directory of a node: run the node once, so that it has a cluster, and stop it", dataDir)
	case m.Server == "":
		return nil, fmt.Errorf("the node of %s has no table: it was going to fetch one", dataDir)
	}
	o.member = m
	o.dir, err = openDir(dataDir)
	return o, err
}

func (o *offline) config() consensus.Config {
	return consensus.Config{
		Dir: o.dir.path, ID: o.member.Server, Addr: o.addr(), Timing: consensus.OneRegion(),
		SnapshotBytes: Default().SnapshotBytes, Log: o.log,
	}
}

// addr stands in for an address until the node runs and knows its own.
func (o *offline) addr() string {
	if o.member.Addr != "" {
		return o.member.Addr
	}
	return "127.0.0.1:" + defaultNodePort
}

func (o *offline) report() (RecoverReport, error) {
	out := RecoverReport{Node: o.member.Node, Server: o.member.Server, Cluster: o.member.Cluster, Generation: o.member.Generation}
	_, err := os.Lstat(filepath.Join(o.dataDir, nodeFolder, authorityFile))
	out.Authority = err == nil
	r, err := consensus.New(o.config(), placement.New())
	if err != nil {
		return out, err
	}
	out.Term, out.Index, err = r.Position()
	return out, errors.Join(err, r.Close())
}

// next says what the generation after one is, and notes it for the node.
func (o *offline) next(last uint32) placement.Recover {
	v := placement.Recover{Generation: max(last+1, o.member.Generation+1, generationAt(o.now())), At: o.now().Unix()}
	_, _ = rand.Read(v.Incarnation[:]) // crypto/rand never fails
	o.member.Generation, o.member.Incarnation, o.member.Recovered = v.Generation, v.Incarnation, true
	return v
}

func (o *offline) recover() error {
	voters := []consensus.Server{{ID: o.member.Server, Addr: o.addr(), Voter: true}}
	_, err := consensus.Recover(o.config(), voters, func(last placement.ClusterInfo) placement.Recover { return o.next(last.Generation) })
	if err == nil {
		err = writeMember(o.dataDir, o.member)
	}
	if err == nil { // it is of the generation before
		if err = os.Remove(filepath.Join(o.dataDir, nodeFolder, "node.crt")); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

// restore leads the cluster of one that recover has made, for as long as it takes.
func (o *offline) restore(src io.Reader) (report RestoreReport, err error) {
	table := placement.New()
	r, err := consensus.New(o.config(), table)
	if err != nil {
		return report, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	limit, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err = r.Lead(limit); err == nil {
		report.Readmitted = revokedIn(table)
		_, err = r.Restore(limit, src, func(saved, present placement.ClusterInfo) placement.Recover {
			return o.next(max(saved.Generation, present.Generation))
		})
	}
	if err == nil {
		err = writeMember(o.dataDir, o.member)
	}
	report.Generation, report.Revoked = o.member.Generation, revokedIn(table)
	report.Readmitted = slices.DeleteFunc(report.Readmitted, func(node string) bool { return slices.Contains(report.Revoked, node) })
	cancel()
	return report, errors.Join(err, <-ended)
}

func revokedIn(table *placement.Table) (nodes []string) {
	for _, info := range table.NodeInfos() {
		if info.Revoked {
			nodes = append(nodes, info.Node)
		}
	}
	return nodes
}
