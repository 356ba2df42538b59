package logins

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A batch is "TKL1", the CRC-32C of the rest, and records: app (32), length of id
// (1), id, length of type (1), type, length of name (2), name, seen (8). A cursor
// is the store's lineage (16) and a place in its order of changes (8).
const (
	batchMagic   = "TKL1"
	batchHead    = len(batchMagic) + 4
	exportMax    = 700 // so that a batch of the longest records stays below 1 MiB
	importMax    = 4 << 20
	maxAhead     = 24 * time.Hour // how far ahead another store's clock may be
	cursorLength = 24
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errBatch   = errors.New("the batch is cut, altered or of another version")
)

// Export returns up to 700 logins (less than 1 MiB) that changed after the cursor, oldest change
// first, and the cursor to go on with. A nil cursor, or one of another store,
// starts at the beginning. A nil batch means that there is nothing new. Logins
// that are still queued come with a later call.
func (s *Store) Export(cursor []byte) (batch, next []byte, err error) {
	lineage := s.back.lineage()
	var place uint64
	if len(cursor) == cursorLength && [16]byte(cursor[:16]) == lineage {
		place = binary.BigEndian.Uint64(cursor[16:])
	}
	records, reached, err := s.back.since(place, exportMax)
	if err != nil {
		return nil, nil, fmt.Errorf("export logins: %w", err)
	}
	next = binary.BigEndian.AppendUint64(lineage[:], reached)
	if len(records) == 0 {
		return nil, next, nil
	}
	batch = append(make([]byte, 0, 128*len(records)), "TKL1\x00\x00\x00\x00"...)
	for i := range records {
		batch = appendRecord(batch, &records[i])
	}
	binary.BigEndian.PutUint32(batch[len(batchMagic):], crc32.Checksum(batch[batchHead:], castagnoli))
	return batch, next, nil
}

func appendRecord(b []byte, r *record) []byte {
	b = append(b, r.app[:]...)
	b = append(append(b, byte(len(r.id))), r.id...)
	b = append(append(b, byte(len(r.kind))), r.kind...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.name))), r.name...)
	return binary.BigEndian.AppendUint64(b, uint64(r.seen))
}

// Import merges another store's batch: of two records of one login the one seen
// later stays, so a batch may come twice and in any order. It returns how many
// changed anything. A batch that is not whole changes nothing; records that are
// too old, or dated more than a day ahead, are left out. At most 4 MiB.
func (s *Store) Import(batch []byte) (changed int, err error) {
	records, err := decodeBatch(batch)
	if err != nil {
		return 0, fmt.Errorf("import logins: %w", err)
	}
	from, to := s.cutoff(), s.cfg.Clock().Add(maxAhead).UnixMilli()
	kept := records[:0]
	for i := range records {
		if records[i].seen >= from && records[i].seen <= to {
			kept = append(kept, records[i])
		}
	}
	changed, err = s.back.write(kept)
	if err != nil {
		return 0, fmt.Errorf("import logins: %w", err)
	}
	s.imported.Add(uint64(changed))
	if changed > 0 {
		s.tell()
	}
	return changed, nil
}

func decodeBatch(b []byte) ([]record, error) {
	if len(b) < batchHead || len(b) > importMax || string(b[:len(batchMagic)]) != batchMagic {
		return nil, errBatch
	}
	sum := binary.BigEndian.Uint32(b[len(batchMagic):])
	b = b[batchHead:]
	if crc32.Checksum(b, castagnoli) != sum {
		return nil, errBatch
	}
	var out []record
	for len(b) > 0 {
		var r record
		var ok bool
		if b, ok = decodeRecord(&r, b); !ok || !r.valid() {
			return nil, errBatch
		}
		out = append(out, r)
	}
	return out, nil
}

// decodeRecord takes one record off b.
func decodeRecord(r *record, b []byte) (rest []byte, ok bool) {
	if len(b) < len(r.app) {
		return nil, false
	}
	b = b[copy(r.app[:], b):]
	if r.id, b, ok = takeText(b, 1); !ok {
		return nil, false
	}
	if r.kind, b, ok = takeText(b, 1); !ok {
		return nil, false
	}
	if r.name, b, ok = takeText(b, 2); !ok || len(b) < 8 {
		return nil, false
	}
	r.seen = int64(binary.BigEndian.Uint64(b))
	return b[8:], true
}

// takeText takes a text off b whose length has that many bytes.
func takeText(b []byte, width int) (text string, rest []byte, ok bool) {
	if len(b) < width {
		return "", nil, false
	}
	n := 0
	for _, c := range b[:width] {
		n = n<<8 | int(c)
	}
	if b = b[width:]; len(b) < n {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}
