package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// segmentSize is the length of a segment, in bytes.
const segmentSize = 16 << 20

func unixTime(ns int64) time.Time { return time.Unix(0, ns) }

// logStore keeps raft's log. It implements raft.LogStore and raft.MonotonicLogStore.
//
// After a write or a sync that failed nobody knows what the disk has, so every later write answers that error; a disk
// that has no room for another segment is tried again.
type logStore struct {
	dir  string
	open func(path string, size int64) (File, error)

	mu       sync.Mutex
	segments []*segment // oldest first
	refs     []ref      // of the entries from first on
	first    uint64     // of the oldest entry; meaningless without refs
	broken   error
	buf      []byte
	spots    []spot
	sync     func(took time.Duration) // told of every sync
	probe    *probe
}

// spot is where an entry of the batch under way will lie, from the begin of what is written.
type spot struct {
	at, size int
}

// openLog opens or makes the log of a folder.
func openLog(dir string, open func(string, int64) (File, error), synced func(time.Duration), p *probe) (*logStore, error) {
	s := &logStore{dir: dir, open: open, sync: synced, probe: p}
	if err := s.recover(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *logStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		seg.file.Close()
	}
	s.segments = nil
	if s.broken == nil {
		s.broken = os.ErrClosed
	}
}

// IsMonotonic says that there are no gaps.
func (s *logStore) IsMonotonic() bool { return true }

// FirstIndex returns the index of the oldest entry, 0 when there is none.
func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refs) == 0 {
		return 0, nil
	}
	return s.first, nil
}

// LastIndex returns the index of the newest entry, 0 when there is none.
func (s *logStore) LastIndex() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last(), nil
}

func (s *logStore) last() uint64 {
	if len(s.refs) == 0 {
		return 0
	}
	return s.first + uint64(len(s.refs)) - 1
}

// newest returns how many of the newest entries have no more bytes than given, between minTrailing and maxTrailing.
func (s *logStore) newest(bytes int64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.refs) && n < maxTrailing {
		if bytes -= int64(s.refs[len(s.refs)-1-n].size); bytes < 0 {
			return max(uint64(n), minTrailing)
		}
		n++
	}
	return maxTrailing
}

// GetLog reads an entry and compares its checksum: ErrCorrupt.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.Lock()
	if len(s.refs) == 0 || index < s.first || index > s.last() {
		s.mu.Unlock()
		return raft.ErrLogNotFound
	}
	r := s.refs[index-s.first]
	s.mu.Unlock()
	b := make([]byte, r.size)
	if _, err := r.seg.file.ReadAt(b, int64(r.at)); err != nil {
		return fmt.Errorf("read log entry %d: %w", index, err)
	}
	return readEntry(b, index, l)
}

// StoreLog stores one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are on the disk. A first index above the last one means that a
// snapshot has taken the place of all that is here.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refs) > 0 && logs[0].Index > s.last()+1 {
		if err := s.removeAll(); err != nil {
			return err
		}
	}
	for len(logs) > 0 {
		n, err := s.write(logs)
		if err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		logs = logs[n:]
	}
	return nil
}

// write writes one batch of the first n of logs; the lock is held.
func (s *logStore) write(logs []*raft.Log) (n int, err error) {
	first := logs[0].Index
	s.buf, s.spots = beginBatch(s.buf[:0]), s.spots[:0]
	for n < len(logs) && (n == 0 || len(s.buf) < maxBatch) {
		l := logs[n]
		if l.Index != first+uint64(n) {
			return 0, fmt.Errorf("entry %d follows entry %d", l.Index, first+uint64(n)-1)
		}
		if len(l.Data)+len(l.Extensions) > maxOneEntry {
			return 0, fmt.Errorf("entry %d has %d bytes, at most %d", l.Index, len(l.Data), maxOneEntry)
		}
		at := len(s.buf)
		s.buf = appendEntry(s.buf, l)
		s.spots = append(s.spots, spot{at, len(s.buf) - at})
		n++
	}
	s.buf = endBatch(s.buf, first, n)
	seg, err := s.put(first)
	if err != nil {
		return 0, err
	}
	s.cut(first)
	if len(s.refs) == 0 {
		s.first = first
	}
	base := seg.used - int64(len(s.buf))
	for _, p := range s.spots {
		s.refs = append(s.refs, ref{seg, uint32(base) + uint32(p.at), uint32(p.size)})
	}
	return n, nil
}

// put writes s.buf at the end of the log, in a new segment where the last one has no room, and syncs it.
func (s *logStore) put(first uint64) (*segment, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	var seg *segment
	if n := len(s.segments); n > 0 {
		seg = s.segments[n-1]
	}
	if seg == nil || seg.used+int64(len(s.buf)) > segmentSize {
		var err error
		if seg, err = s.begin(first); err != nil {
			return nil, err
		}
	}
	err := s.probe.during(func() error {
		if _, err := seg.file.WriteAt(s.buf, seg.used); err != nil {
			return err
		}
		began := time.Now()
		err := seg.file.Sync()
		s.sync(time.Since(began))
		return err
	})
	if err != nil {
		s.broken = fmt.Errorf("%s can no longer be trusted: %w", seg.path, err)
		return nil, s.broken
	}
	seg.used += int64(len(s.buf))
	return seg, nil
}

// begin makes a segment. Names rise even where entries are cut and written anew.
func (s *logStore) begin(first uint64) (*segment, error) {
	if n := len(s.segments); n > 0 {
		first = max(first, s.segments[n-1].first+1)
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%s%016x", segmentPrefix, first))
	f, err := s.open(path, segmentSize)
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		os.Remove(path)
		return nil, fmt.Errorf("make a segment of the log: %w", err)
	}
	seg := &segment{path: path, file: f, first: first}
	s.segments = append(s.segments, seg)
	return seg, nil
}

// cut forgets entries from index on.
func (s *logStore) cut(index uint64) {
	if len(s.refs) > 0 && index <= s.last() {
		s.refs = s.refs[:max(index, s.first)-s.first]
	}
}

// DeleteRange removes entries at the beginning, at the end, or all of them.
func (s *logStore) DeleteRange(from, to uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.refs) == 0:
		return nil
	case from <= s.first && to >= s.last():
		return s.removeAll()
	case from <= s.first:
		return s.dropUntil(to)
	case to < s.last():
		return fmt.Errorf("delete entries %d to %d of %d to %d: neither the oldest nor the newest", from, to, s.first, s.last())
	}
	s.buf = endBatch(beginBatch(s.buf[:0]), from, 0)
	if _, err := s.put(from); err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	s.cut(from)
	return nil
}

// dropUntil forgets the oldest entries and removes the segments in which no other lies. What of them stays on the disk
// is there again after a restart, which does no harm.
func (s *logStore) dropUntil(to uint64) error {
	if to >= s.first {
		s.refs = append([]ref(nil), s.refs[to-s.first+1:]...)
		s.first = to + 1
	}
	for len(s.segments) > 1 && s.segments[0] != s.refs[0].seg {
		if err := s.removeOldest(); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes every segment, oldest first, so that what a crash leaves has no gap.
func (s *logStore) removeAll() error {
	s.refs = nil
	for len(s.segments) > 0 {
		if err := s.removeOldest(); err != nil {
			return err
		}
	}
	return nil
}

func (s *logStore) removeOldest() error {
	seg := s.segments[0]
	seg.file.Close()
	if err := os.Remove(seg.path); err != nil {
		return fmt.Errorf("remove a segment of the log: %w", err)
	}
	s.segments = s.segments[1:]
	return syncDir(s.dir)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
