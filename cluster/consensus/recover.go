package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

const (
	snapshotFolder = "snapshots"
	wipeFile       = "wiping" // stands in a folder that is being wiped
)

// Position says how far the log of a replica reaches, committed or not: of several, the one with the highest term, and of
// those with the highest index, knows most. For one that is not run.
func (r *Replica) Position() (term, index uint64, err error) {
	list, err := r.snaps.List()
	if err != nil {
		return 0, 0, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) > 0 {
		term, index = list[0].Term, list[0].Index
	}
	last, err := r.logs.LastIndex()
	if err != nil || last <= index {
		return term, index, err
	}
	var l raft.Log
	if err := r.logs.GetLog(last, &l); err != nil {
		return 0, 0, err
	}
	return l.Term, last, nil
}

// Recover makes what one stopped replica has the beginning of a new generation of its cluster, when a majority of the
// voters is lost for good. Everything in its log counts as committed; what only the lost had is gone, and they must not
// come back with what they have. voters are those of the new generation, this one among them; begin says what it is, given
// the last. It may be repeated when it was cut off. It returns the index of the entry that begins the generation.
func Recover(cfg Config, voters []Server, begin func(last placement.ClusterInfo) placement.Recover) (index uint64, err error) {
	table := placement.New()
	r, err := New(cfg, table)
	if err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	defer r.Close()
	var conf raft.Configuration
	for _, v := range voters {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Addr)})
	}
	_, nobody := raft.NewInmemTransport(raft.ServerAddress(cfg.Addr)) // asked only to write down addresses
	if err := raft.RecoverCluster(r.config(), r.machine, r.logs, r.stable, r.snaps, nobody, conf); err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	if err := r.machine.broken(); err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	term, last, err := r.Position()
	if err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	if now, err := r.stable.GetUint64([]byte("CurrentTerm")); err == nil {
		term = max(term, now)
	}
	index = last + 1
	first := begin(table.Cluster())
	if err := anew(table, index, first); err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	entry := raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: placement.AppendEntry(nil, &first), AppendedAt: r.cfg.Now()}
	if err := r.logs.StoreLog(&entry); err != nil {
		return 0, fmt.Errorf("recover: %w", err)
	}
	return index, nil
}

// Wipe removes log, vote and snapshots from a folder that no Replica has open. Whoever goes on with it must do so under
// another id: what it had voted for is forgotten. A wipe that was cut off is finished by New.
func Wipe(dir string) error {
	mark, err := os.OpenFile(filepath.Join(dir, wipeFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("wipe the replica: %w", err)
	}
	mark.Close()
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("wipe the replica: %w", err)
	}
	return finishWipe(dir)
}

// finishWipe wipes a folder that is marked.
func finishWipe(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, wipeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	list, err2 := os.ReadDir(dir)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("wipe the replica: %w", err)
	}
	for _, e := range list {
		if name := e.Name(); name == voteFile || name == snapshotFolder || strings.HasPrefix(name, segmentPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("wipe the replica: %w", err)
			}
		}
	}
	err = syncDir(dir)
	if err == nil {
		err = os.Remove(filepath.Join(dir, wipeFile))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("wipe the replica: %w", err)
	}
	return nil
}
