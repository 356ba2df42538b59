package consensus

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// machine applies committed entries to the table. raft calls it from one goroutine.
type machine struct {
	table   *placement.Table
	grown   func(bytes int64) // told of the bytes applied since the last snapshot
	written atomic.Int64
	longest atomic.Int64 // nanoseconds that applying an entry took

	once   sync.Once
	failed chan struct{} // closed at the first entry that cannot be applied
	err    error         // why, once failed is closed
}

// answer is what became of an entry.
type answer struct {
	results []placement.Result
	err     error
}

func newMachine(table *placement.Table, grown func(int64)) *machine {
	return &machine{table: table, grown: grown, failed: make(chan struct{})}
}

// Apply applies one entry.
func (m *machine) Apply(l *raft.Log) any { return m.apply(l) }

// ApplyBatch applies entries in order; those of raft itself are none of the table's.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			out[i] = m.apply(l)
		}
	}
	return out
}

func (m *machine) apply(l *raft.Log) answer {
	select {
	case <-m.failed:
		return answer{err: m.err}
	default:
	}
	began := time.Now()
	results, err := m.table.Apply(l.Index, l.Data, nil)
	if took := int64(time.Since(began)); took > m.longest.Load() {
		m.longest.Store(took)
	}
	if err != nil {
		m.fail(fmt.Errorf("apply log entry %d: %w", l.Index, err))
	}
	m.grown(m.written.Add(int64(len(l.Data))))
	return answer{results, err}
}

func (m *machine) fail(err error) {
	m.once.Do(func() {
		m.err = err
		close(m.failed)
	})
}

// broken returns why the machine has failed, nil while it has not.
func (m *machine) broken() error {
	select {
	case <-m.failed:
		return m.err
	default:
		return nil
	}
}

// Snapshot freezes the table, which stops nobody.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return frozen{m.table.Snapshot()}, nil }

// Restore takes the table of a snapshot in place of what is here, once all of it is read and its checksums are right. One
// that is damaged is on the disk already when raft calls this: the replica must not start from it again.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := m.table.Restore(bufio.NewReaderSize(r, 1<<20)); err != nil {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		m.fail(err)
		return err
	}
	return nil
}

// frozen is a snapshot to be written down.
type frozen struct{ snap *placement.Snapshot }

// Persist writes it.
func (f frozen) Persist(sink raft.SnapshotSink) error {
	b := bufio.NewWriterSize(sink, 1<<20)
	_, err := f.snap.WriteTo(b)
	if err == nil {
		err = b.Flush()
	}
	if err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return sink.Close()
}

// Release has nothing to give back.
func (frozen) Release() {}
