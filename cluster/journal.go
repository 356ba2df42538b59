package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A journal file begins with
//
//	8 bytes journalMagic | 16 bytes incarnation | u64 first index | u32 CRC-32C of these
//
// and goes on in records, one per batch and fsync, all integers big endian:
//
//	4 bytes recordMagic | u32 length of body | u64 index of the first entry | u32 CRC-32C of these
//	body: entries of consecutive indices, each behind its u32 length
//	u32 CRC-32C of the body
//
// A record is acknowledged to nobody before it is synced, and the next one is not written before that. So damage that
// nothing follows is a write that a crash cut off: nobody was told of it, and it is dropped. Damage that a whole record
// follows is damage to what was promised.
const (
	journalMagic  = "TRKJRNL\x01"
	recordMagic   = "\xabTR\xba"
	journalHead   = len(journalMagic) + 16 + 8 + 4
	recordHead    = len(recordMagic) + 4 + 8 + 4
	maxRecordBody = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// errDamaged is wrapped by what replay answers for a file that promises records it no longer has.
var errDamaged = errors.New("the journal is damaged")

// journal appends records to one file. One goroutine at a time.
type journal struct {
	file  *os.File
	size  int64
	first uint64 // index of the first entry it may hold
	buf   []byte
}

// newJournal writes the head of an empty file.
func newJournal(f *os.File, incarnation [16]byte, first uint64) (*journal, error) {
	head := append([]byte(journalMagic), incarnation[:]...)
	head = binary.BigEndian.AppendUint64(head, first)
	head = binary.BigEndian.AppendUint32(head, sum(head))
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, fmt.Errorf("begin journal: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("begin journal: %w", err)
	}
	return &journal{file: f, size: int64(len(head)), first: first}, nil
}

// write appends one record without syncing it. On an error the file is what it was, if that can be had.
func (j *journal) write(first uint64, entries [][]byte) error {
	b := append(j.buf[:0], recordMagic...)
	n := 0
	for _, e := range entries {
		n += 4 + len(e)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, sum(b))
	for _, e := range entries {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	b = binary.BigEndian.AppendUint32(b, sum(b[recordHead:]))
	j.buf = b
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		if terr := j.file.Truncate(j.size); terr != nil {
			return &brokenError{fmt.Errorf("write journal: %w; take it back: %w", err, terr)}
		}
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

// sync makes what was written durable. After an error nobody knows what the disk has: the file must not be used on.
func (j *journal) sync() error {
	if err := j.file.Sync(); err != nil {
		return &brokenError{fmt.Errorf("sync journal: %w", err)}
	}
	return nil
}

// brokenError says that the journal cannot be trusted any more and its writer has to stop.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// head is what a journal file says about itself.
type head struct {
	incarnation [16]byte
	first       uint64
}

func parseHead(b []byte) (head, bool) {
	if len(b) < journalHead || string(b[:8]) != journalMagic || sum(b[:32]) != binary.BigEndian.Uint32(b[32:]) {
		return head{}, false
	}
	return head{incarnation: [16]byte(b[8:24]), first: binary.BigEndian.Uint64(b[24:])}, true
}

// replay calls apply for every entry of a journal file in order and returns how many of its bytes are whole. Fewer than
// the file has: the rest is a write that was cut off. The error wraps errDamaged where a whole record follows the
// damage.
func replay(f io.Reader, apply func(index uint64, entry []byte) error) (h head, whole int64, err error) {
	b, err := io.ReadAll(f)
	if err != nil {
		return head{}, 0, fmt.Errorf("read journal: %w", err)
	}
	h, ok := parseHead(b)
	if !ok {
		if len(b) > journalHead {
			return head{}, 0, fmt.Errorf("%w: its first %d bytes are not those of a journal", errDamaged, journalHead)
		}
		return head{}, 0, nil
	}
	for at := journalHead; at < len(b); {
		first, body, n := parseRecord(b[at:])
		if n == 0 {
			if later := nextRecord(b[at+1:]); later >= 0 {
				return h, int64(at), fmt.Errorf("%w: the record at byte %d does not match its checksum, and a whole one follows at byte %d",
					errDamaged, at, at+1+later)
			}
			return h, int64(at), nil
		}
		if err := applyBody(first, body, apply); err != nil {
			return h, int64(at), fmt.Errorf("journal record at byte %d: %w", at, err)
		}
		at += n
	}
	return h, int64(len(b)), nil
}

// parseRecord returns the record that b begins with and its length, 0 if it is not whole.
func parseRecord(b []byte) (first uint64, body []byte, n int) {
	if len(b) < recordHead || string(b[:4]) != recordMagic || sum(b[:16]) != binary.BigEndian.Uint32(b[16:]) {
		return 0, nil, 0
	}
	size := int(binary.BigEndian.Uint32(b[4:]))
	if size > maxRecordBody || len(b) < recordHead+size+4 {
		return 0, nil, 0
	}
	body = b[recordHead : recordHead+size]
	if sum(body) != binary.BigEndian.Uint32(b[recordHead+size:]) {
		return 0, nil, 0
	}
	return binary.BigEndian.Uint64(b[8:]), body, recordHead + size + 4
}

// nextRecord finds the first whole record in b, -1 if there is none.
func nextRecord(b []byte) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(recordMagic))
		if i < 0 {
			return -1
		}
		at += i
		if _, _, n := parseRecord(b[at:]); n > 0 {
			return at
		}
		at++
	}
}

func applyBody(index uint64, body []byte, apply func(uint64, []byte) error) error {
	for ; len(body) > 0; index++ {
		if len(body) < 4 || len(body)-4 < int(binary.BigEndian.Uint32(body)) {
			return fmt.Errorf("%w: an entry is cut off within its record", errDamaged)
		}
		n := 4 + int(binary.BigEndian.Uint32(body))
		if err := apply(index, body[4:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}
