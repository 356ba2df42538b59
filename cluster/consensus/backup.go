package consensus

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// A backup is a table in a file:
//
//	magic, whose last byte is its version | u32 length of head | head, JSON | u64 length of table | table as package
//	placement writes it | SHA-256 of all that precedes
//
// Integers are big endian.
const (
	backupMagic   = "TRKSAV\x00\x01"
	maxBackupHead = 4096
)

// ErrBackup is wrapped where bytes are no whole, undamaged backup of a version that this program reads.
var ErrBackup = errors.New("backup refused")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	// SavedAt and SavedBy say when and where it was made.
	SavedAt time.Time `json:"saved_at"`
	SavedBy string    `json:"saved_by"`
	// Index and Term of the last entry that is in it.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	// Bytes is the length of the table in it.
	Bytes int64 `json:"bytes"`

	Cluster placement.ClusterInfo `json:"-"` // of the table
	Stats   placement.Stats       `json:"-"`
}

// Save writes down the table of this replica as it is now. A caller that wants everything committed asks a leader, after
// a Barrier.
func (r *Replica) Save(w io.Writer) (BackupInfo, error) {
	snap := r.machine.table.Snapshot()
	length, err := snap.WriteTo(io.Discard)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("save the table: %w", err)
	}
	info := BackupInfo{SavedAt: r.cfg.Now().UTC(), SavedBy: r.cfg.ID, Index: snap.Index, Term: r.Term(), Bytes: length}
	if err := writeBackup(w, info, snap); err != nil {
		return info, fmt.Errorf("save the table: %w", err)
	}
	return info, nil
}

func writeBackup(w io.Writer, info BackupInfo, table io.WriterTo) error {
	head, err := json.Marshal(info)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<18)
	sum := sha256.New()
	out := io.MultiWriter(b, sum)
	head = append(binary.BigEndian.AppendUint32([]byte(backupMagic), uint32(len(head))), head...)
	if _, err = out.Write(binary.BigEndian.AppendUint64(head, uint64(info.Bytes))); err == nil {
		_, err = table.WriteTo(out)
	}
	if err == nil {
		_, err = b.Write(sum.Sum(nil))
	}
	if err == nil {
		err = b.Flush()
	}
	return err
}

// Inspect reads a whole backup, compares its checksums, and says what is in it.
func Inspect(r io.Reader) (BackupInfo, error) {
	info, _, err := readBackup(r)
	return info, err
}

func readBackup(src io.Reader) (info BackupInfo, table *placement.Table, err error) {
	refuse := func(what string, err error) (BackupInfo, *placement.Table, error) {
		return info, nil, fmt.Errorf("%w: %s: %w", ErrBackup, what, err)
	}
	sum := sha256.New()
	in := summed{bufio.NewReaderSize(src, 1<<18), sum}
	start := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(in, start); err != nil {
		return refuse("no header", err)
	}
	n := binary.BigEndian.Uint32(start[len(backupMagic):])
	if magic := string(start[:len(backupMagic)]); magic != backupMagic || n > maxBackupHead {
		return refuse("not a backup that this program reads", fmt.Errorf("it begins with %q", magic))
	}
	head := make([]byte, n+8)
	if _, err := io.ReadFull(in, head); err != nil {
		return refuse("cut off in its head", err)
	}
	if err := json.Unmarshal(head[:n], &info); err != nil {
		return refuse("its head", err)
	}
	table = placement.New()
	body := &io.LimitedReader{R: in, N: int64(binary.BigEndian.Uint64(head[n:]))}
	if err := table.Restore(body); err != nil {
		return refuse("its table", err)
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want)+1)
	if n, err := io.ReadFull(in.r, got); n != len(want) || string(got[:n]) != string(want) || body.N != 0 {
		return refuse("its checksum", errors.Join(ErrCorrupt, err))
	}
	info.Cluster, info.Stats = table.Cluster(), table.Stats()
	return info, table, nil
}

// summed sums what is read.
type summed struct {
	r   *bufio.Reader
	sum hash.Hash
}

func (s summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

// Restore puts the table of a backup in the place of this cluster's, on the leader; the others get it from there. begin
// says what the new generation is, given that of the backup and that of the present: all sessions of both end. What was
// not in the backup is lost. The indices go on above both.
func (r *Replica) Restore(ctx context.Context, src io.Reader, begin func(saved, present placement.ClusterInfo) placement.Recover) (BackupInfo, error) {
	info, table, err := readBackup(src)
	if err != nil {
		return info, err
	}
	if err := anew(table, table.Index()+1, begin(info.Cluster, r.machine.table.Cluster())); err != nil {
		return info, fmt.Errorf("restore the table: %w", err)
	}
	snap := table.Snapshot()
	length, err := snap.WriteTo(io.Discard)
	if err != nil {
		return info, fmt.Errorf("restore the table: %w", err)
	}
	reader, writer := io.Pipe()
	go func() { // ends when the reader is closed
		_, err := snap.WriteTo(writer)
		writer.CloseWithError(err)
	}()
	defer reader.Close()
	err = r.ask(ctx, func(rf *raft.Raft) error {
		r.restoring.Add(1) // raft panics when it is stopped in between
		defer r.restoring.Add(-1)
		return rf.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: snap.Index, Size: length}, reader, 0)
	})
	if err != nil {
		return info, fmt.Errorf("restore the table: %w", err)
	}
	return info, nil
}

// anew applies a Recover to a table.
func anew(table *placement.Table, index uint64, begin placement.Recover) error {
	results, err := table.Apply(index, placement.AppendEntry(nil, &begin), nil)
	if err == nil && results[0].Outcome != placement.Done {
		err = fmt.Errorf("generation %d cannot follow %d (outcome %d)", begin.Generation, table.Generation(), results[0].Outcome)
	}
	return err
}
