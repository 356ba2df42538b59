package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"

	"github.com/hashicorp/raft"
)

// The log lies in segments, files of segmentSize that are laid out in advance, so that a sync has no metadata to write.
// A segment is a row of batches, each what one call of StoreLogs or DeleteRange wrote:
//
//	u32 magic | u32 length of the body | u32 CRC-32C of all that follows it | u64 index of the first entry |
//	u32 number of entries | body | zeros to a multiple of 8
//
// and the body a row of entries:
//
//	u32 CRC-32C of all that follows it | u64 term | u8 type | u64 Unix nanoseconds | u32 length of extensions |
//	u32 length of data | extensions | data
//
// Integers are big endian. A batch that begins at or below the last index takes the place of everything from there on;
// one without entries only cuts. Nothing is ever written twice in a place.
const (
	batchMagic  = 0x544c4231 // TLB1
	batchHead   = 24
	batchSummed = 12 // where the checksum of a batch begins to cover it
	batchAlign  = 8
	entryHead   = 29
	maxBatch    = 4 << 20 // bytes of a body, but for one entry alone
	maxOneEntry = 1 << 20 // data and extensions of an entry; the table allows less
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped where bytes that had been synced do not have their checksum: the replica must not serve what it
// has, and fetch everything anew.
var ErrCorrupt = errors.New("checksum mismatch")

// File is what the log needs of a file; tests put a failing or a slow one in its place.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// segment is one file of the log.
type segment struct {
	path  string
	file  File
	first uint64 // its name; no entry in it that counts is below
	used  int64
}

// ref is where an entry lies.
type ref struct {
	seg  *segment
	at   uint32
	size uint32
}

// appendEntry appends one entry to a body.
func appendEntry(dst []byte, l *raft.Log) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, l.Term)
	dst = append(dst, byte(l.Type))
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Extensions)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Data)))
	dst = append(append(dst, l.Extensions...), l.Data...)
	binary.BigEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

// entrySize returns the length of the entry that b begins with, 0 when there is none of an allowed size.
func entrySize(b []byte) int {
	if len(b) < entryHead {
		return 0
	}
	ext, data := binary.BigEndian.Uint32(b[21:]), binary.BigEndian.Uint32(b[25:])
	if ext > maxOneEntry || data > maxOneEntry || int(ext+data) > len(b)-entryHead {
		return 0
	}
	return entryHead + int(ext+data)
}

// readEntry fills l from the bytes of a whole entry, which it keeps.
func readEntry(b []byte, index uint64, l *raft.Log) error {
	if entrySize(b) != len(b) || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return fmt.Errorf("log entry %d: %w", index, ErrCorrupt)
	}
	ext := int(binary.BigEndian.Uint32(b[21:]))
	*l = raft.Log{Index: index, Term: binary.BigEndian.Uint64(b[4:]), Type: raft.LogType(b[12]), Data: b[entryHead+ext:]}
	if ext > 0 {
		l.Extensions = b[entryHead : entryHead+ext]
	}
	if at := int64(binary.BigEndian.Uint64(b[13:])); at != 0 {
		l.AppendedAt = unixTime(at)
	}
	return nil
}

// beginBatch appends a head whose fields endBatch fills in.
func beginBatch(dst []byte) []byte { return append(dst, make([]byte, batchHead)...) }

// endBatch completes the batch that dst is: count entries from index first on.
func endBatch(dst []byte, first uint64, count int) []byte {
	b := dst
	binary.BigEndian.PutUint32(b, batchMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-batchHead))
	binary.BigEndian.PutUint64(b[12:], first)
	binary.BigEndian.PutUint32(b[20:], uint32(count))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[batchSummed:], castagnoli))
	for len(dst)%batchAlign != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// batch is one batch as read back.
type batch struct {
	first uint64
	sizes []int // of its entries, in order
	size  int   // of the whole, padding included

	padding int
}

// readBatch reads the batch that b begins with; ok is false where there is none, or one whose checksum is wrong.
func readBatch(b []byte) (out batch, ok bool) {
	if len(b) < batchHead || binary.BigEndian.Uint32(b) != batchMagic {
		return out, false
	}
	n := int(binary.BigEndian.Uint32(b[4:]))
	if n > len(b)-batchHead || binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[batchSummed:batchHead+n], castagnoli) {
		return out, false
	}
	out.first = binary.BigEndian.Uint64(b[12:])
	count := int(binary.BigEndian.Uint32(b[20:]))
	body := b[batchHead : batchHead+n]
	for range count {
		size := entrySize(body)
		if size == 0 {
			return out, false
		}
		out.sizes = append(out.sizes, size)
		body = body[size:]
	}
	out.padding = -(batchHead + n) & (batchAlign - 1)
	out.size = batchHead + n + out.padding
	return out, len(body) == 0
}

// openDisk opens a file of the log and, when it is new, lays it out.
func openDisk(path string, size int64) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	have, err := private(f)
	if err == nil && have < size {
		err = allocate(f, size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return diskFile{f}, nil
}

// private refuses a file that others may read, since the table holds secrets, and returns its size.
func private(f *os.File) (int64, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case !st.Mode().IsRegular():
		return 0, fmt.Errorf("%s is not a plain file", f.Name())
	case st.Mode().Perm()&0o077 != 0:
		return 0, fmt.Errorf("%s holds secrets and others may use it (mode %04o): chmod 600 %s", f.Name(), st.Mode().Perm(), f.Name())
	}
	return st.Size(), nil
}

// diskFile is a File on a disk.
type diskFile struct{ *os.File }

// Sync writes what was written, without the times of the file: its length never changes.
func (f diskFile) Sync() error { return datasync(f.File) }
