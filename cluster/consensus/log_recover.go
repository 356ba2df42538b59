package consensus

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const segmentPrefix = "log-"

// recover reads all segments. A batch that is not whole at the very end of the newest one is a write that a crash cut
// off: nobody was told of it, and the next batch takes its place. Anywhere else it is ErrCorrupt, and so it is where a
// whole batch follows it. (A bit that flips in the very last batch cannot be told from a write cut off; the other
// replicas have what it held.)
func (s *logStore) recover() error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list the log: %w", err)
	}
	for _, e := range list { // sorted, and every name has as many digits
		digits, found := strings.CutPrefix(e.Name(), segmentPrefix)
		if !found {
			continue
		}
		first, err := strconv.ParseUint(digits, 16, 64)
		if err != nil {
			return fmt.Errorf("%s is no segment of the log: %w", e.Name(), err)
		}
		path := filepath.Join(s.dir, e.Name())
		f, err := s.open(path, segmentSize)
		if err != nil {
			return fmt.Errorf("open the log: %w", err)
		}
		s.segments = append(s.segments, &segment{path: path, file: f, first: first})
	}
	for i, seg := range s.segments {
		if err := s.readSegment(seg, i == len(s.segments)-1); err != nil {
			return fmt.Errorf("read %s: %w", seg.path, err)
		}
	}
	return nil
}

func (s *logStore) readSegment(seg *segment, newest bool) error {
	b := make([]byte, segmentSize)
	if n, err := seg.file.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	} else {
		b = b[:n]
	}
	at := 0
	for {
		next, ok := readBatch(b[at:])
		if !ok {
			break
		}
		if err := s.replay(seg, at, &next); err != nil {
			return err
		}
		at += next.size
	}
	seg.used = int64(at)
	torn := tornUntil(b, at)
	if torn == at {
		return nil
	}
	if !newest || followed(b[at:]) {
		return fmt.Errorf("%w at byte %d", ErrCorrupt, at)
	}
	// What is left of the write is wiped, so that it is never taken for a batch behind the next one.
	if _, err := seg.file.WriteAt(make([]byte, torn-at), int64(at)); err != nil {
		return err
	}
	return seg.file.Sync()
}

// replay adds a batch to the index of entries.
func (s *logStore) replay(seg *segment, at int, b *batch) error {
	if len(s.refs) > 0 && b.first > s.last()+1 {
		return fmt.Errorf("%w: entry %d follows entry %d", ErrCorrupt, b.first, s.last())
	}
	s.cut(b.first)
	if len(s.refs) == 0 {
		s.first = b.first
	}
	at += batchHead
	for _, size := range b.sizes {
		s.refs = append(s.refs, ref{seg, uint32(at), uint32(size)})
		at += size
	}
	return nil
}

// tornUntil returns the end of what is not zero behind at, or at.
func tornUntil(b []byte, at int) int {
	for i := len(b); i > at; i-- {
		if b[i-1] != 0 {
			return i
		}
	}
	return at
}

// followed says whether a whole batch lies somewhere in b: then what b begins with was synced before it.
func followed(b []byte) bool {
	for at := batchAlign; at < len(b); at += batchAlign {
		if _, ok := readBatch(b[at:]); ok {
			return true
		}
	}
	return false
}
