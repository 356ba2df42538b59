package consensus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
)

const segmentPrefix = "log-"

// recover reads all segments. A batch that is not whole at the very end of the newest one is a write that a crash cut
// off: nobody was told of it, and the next batch takes its place. Anywhere else it is ErrCorrupt, and so it is where a
// whole batch follows it, or where one bit makes it whole. (What is damaged worse in the very last batch cannot be told
// from a write cut off.)
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
		if end := at - next.padding; tornUntil(b[:min(at, len(b))], end) != end { // no checksum covers it
			return fmt.Errorf("%w at byte %d", ErrCorrupt, end)
		}
	}
	seg.used = int64(at)
	torn := tornUntil(b, at)
	if torn == at {
		return nil
	}
	if !newest || followed(b[at:]) || flipped(b[at:]) {
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

// flipped says whether b begins with a batch that is whole but for one bit. It leaves b as it was.
func flipped(b []byte) bool {
	if len(b) < batchHead {
		return false
	}
	without := func(at int, bit byte) bool {
		b[at] ^= bit
		defer func() { b[at] ^= bit }()
		return whole(b)
	}
	for i := range 8 * batchSummed { // what the checksum does not cover, and itself
		if without(i/8, 1<<(i%8)) {
			return true
		}
	}
	n := int(binary.BigEndian.Uint32(b[4:]))
	if binary.BigEndian.Uint32(b) != batchMagic || n > len(b)-batchHead {
		return false
	}
	covered := b[batchSummed : batchHead+n]
	at, bit, ok := flippedBit(covered, binary.BigEndian.Uint32(b[8:]))
	return ok && without(batchSummed+at, bit)
}

// whole says whether b begins with a batch all of whose checksums are right.
func whole(b []byte) bool {
	next, ok := readBatch(b)
	at := batchHead
	for _, size := range next.sizes {
		var l raft.Log
		ok = ok && readEntry(b[at:at+size], 0, &l) == nil
		at += size
	}
	return ok
}

// flippedBit finds the bit of b without which its CRC-32C would be sum. Flipping a bit changes the checksum by a value that
// depends on its distance from the end alone, and is another one for each.
func flippedBit(b []byte, sum uint32) (at int, bit byte, ok bool) {
	change := crc32.Checksum(b, castagnoli) ^ sum
	const byLast = crc32.Castagnoli // the change by the very last bit
	for i, d := 0, uint32(byLast); i < 8*len(b); i++ {
		if d == change {
			return len(b) - 1 - i/8, 0x80 >> (i % 8), true
		}
		carry := d & 1
		if d >>= 1; carry == 1 {
			d ^= byLast
		}
	}
	return 0, 0, false
}
