package consensus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// errNotFound is what raft takes for a key that was never set; it compares the text.
var errNotFound = errors.New("not found")

// voteFile keeps the term and whom this replica voted for: four bytes CRC-32C, then JSON. It is replaced in one step.
const voteFile = "vote"

// stableStore is raft's StableStore.
type stableStore struct {
	dir string

	mu     sync.Mutex
	values map[string][]byte
}

func openStable(dir string) (*stableStore, error) {
	s := &stableStore{dir: dir, values: map[string][]byte{}}
	b, err := os.ReadFile(filepath.Join(dir, voteFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("read the vote: %w", err)
	case len(b) < 4 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli):
		return nil, fmt.Errorf("read the vote: %w", ErrCorrupt)
	}
	if err := json.Unmarshal(b[4:], &s.values); err != nil {
		return nil, fmt.Errorf("read the vote: %w", err)
	}
	return s, nil
}

// Set keeps a value and returns when it is on the disk.
func (s *stableStore) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, had := s.values[string(key)]
	s.values[string(key)] = append([]byte(nil), value...)
	if err := s.write(); err != nil {
		if delete(s.values, string(key)); had {
			s.values[string(key)] = before
		}
		return fmt.Errorf("write the vote: %w", err)
	}
	return nil
}

func (s *stableStore) write() error {
	text, err := json.Marshal(s.values)
	if err != nil {
		return err
	}
	b := append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli)), text...)
	path := filepath.Join(s.dir, voteFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	return err
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
