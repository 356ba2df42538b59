package consensus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// errNotFound is what raft takes for a key that was never set; it compares the text.
var errNotFound = errors.New("not found")

// voteFile keeps the term and whom this replica voted for. It has the same record twice, each in a block of its own:
//
//	u32 CRC-32C of all that follows it | u32 length of the text | text, JSON
//
// A change is written and synced to the first block, then to the second, in place: it needs no room on a full disk, and
// where a crash cuts it off one block is whole. A first block that is damaged gives way to the second, which has either
// the same or what was there before a change that nobody was told of.
const (
	voteFile  = "vote"
	voteBlock = 4096
	voteHead  = 8
)

// stableStore is raft's StableStore.
type stableStore struct {
	file  File
	probe *probe

	mu     sync.Mutex
	values map[string][]byte
	broken error
}

func openStable(dir string, open func(string, int64) (File, error), p *probe) (*stableStore, error) {
	f, err := open(filepath.Join(dir, voteFile), 2*voteBlock)
	if err == nil {
		err = syncDir(dir)
	}
	s := &stableStore{file: f, probe: p}
	if err == nil {
		err = s.read()
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("read the vote: %w", err)
	}
	return s, nil
}

func (s *stableStore) read() error {
	b := make([]byte, 2*voteBlock)
	if _, err := s.file.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	first, empty1, ok1 := readVote(b[:voteBlock])
	second, empty2, ok2 := readVote(b[voteBlock:])
	switch {
	case ok1: // the second has the same, or was being written, or is damaged
		s.values = first
	case ok2:
		s.values = second
	case empty2: // nothing was ever written, or the first write was cut off
		s.values = map[string][]byte{}
	default:
		return ErrCorrupt
	}
	if !ok1 && !empty1 || !ok2 && !empty2 {
		return s.write() // so that both are whole again
	}
	return nil
}

func readVote(b []byte) (values map[string][]byte, empty, ok bool) {
	n := int(binary.BigEndian.Uint32(b[4:]))
	if n > len(b)-voteHead || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:voteHead+n], castagnoli) {
		return nil, tornUntil(b, 0) == 0, false
	}
	if err := json.Unmarshal(b[voteHead:voteHead+n], &values); err != nil {
		return nil, false, false
	}
	return values, false, true
}

func (s *stableStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = os.ErrClosed
		s.file.Close()
	}
}

// Set keeps a value and returns when it is on the disk.
func (s *stableStore) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.values[string(key)] = append([]byte(nil), value...)
	if err := s.write(); err != nil {
		s.broken = fmt.Errorf("write the vote: %w", err)
		s.file.Close()
		return s.broken
	}
	return nil
}

func (s *stableStore) write() error {
	text, err := json.Marshal(s.values)
	if err != nil {
		return err
	}
	if len(text) > voteBlock-voteHead {
		return fmt.Errorf("%d bytes do not fit", len(text))
	}
	b := make([]byte, voteBlock)
	binary.BigEndian.PutUint32(b[4:], uint32(len(text)))
	copy(b[voteHead:], text)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:voteHead+len(text)], castagnoli))
	return s.probe.during(func() error {
		for _, at := range []int64{0, voteBlock} {
			if _, err := s.file.WriteAt(b, at); err != nil {
				return err
			}
			if err := s.file.Sync(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Get returns a value.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return append([]byte(nil), v...), nil
}

// SetUint64 keeps a number.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns a number.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%q is no number", key)
	}
	return binary.BigEndian.Uint64(v), nil
}
