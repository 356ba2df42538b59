package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func reopen(t *testing.T, dir string) *logStore {
	t.Helper()
	s, err := openLog(dir, openDisk, func(time.Duration) {}, &probe{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// entries makes entries whose data names index and term.
func entries(from, to, term uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "%d of term %d", i, term)})
	}
	return logs
}

func store(t *testing.T, s *logStore, logs ...*raft.Log) {
	t.Helper()
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// holds fails unless s has the entries from and to, and each of the term that termOf says.
func holds(t *testing.T, s *logStore, from, to uint64, termOf func(uint64) uint64) {
	t.Helper()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != from || last != to {
		t.Fatalf("the log has entries %d to %d, want %d to %d", first, last, from, to)
	}
	for i := from; i <= to && to > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%d of term %d", i, termOf(i)); string(l.Data) != want || l.Index != i || l.Term != termOf(i) {
			t.Fatalf("entry %d is %+v, want %q", i, l, want)
		}
	}
}

func one(uint64) uint64 { return 1 }

func TestLogIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	store(t, s, entries(1, 10, 1)...)
	now := time.Unix(1_700_000_000, 5)
	store(t, s, &raft.Log{Index: 11, Term: 1, Type: raft.LogConfiguration, Data: []byte("11 of term 1"), Extensions: []byte("x"), AppendedAt: now})
	s.close()
	s = reopen(t, dir)
	holds(t, s, 1, 11, one)
	var l raft.Log
	if err := s.GetLog(11, &l); err != nil || l.Type != raft.LogConfiguration || string(l.Extensions) != "x" || !l.AppendedAt.Equal(now) {
		t.Errorf("entry 11 is %+v, %v", l, err)
	}
	for _, i := range []uint64{0, 12} {
		if err := s.GetLog(i, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// A follower cuts what its new leader does not have and writes on from there, before a restart and after it.
func TestNewLeadersEntriesTakeThePlaceOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	store(t, s, entries(1, 20, 1)...)
	if err := s.DeleteRange(11, 20); err != nil {
		t.Fatal(err)
	}
	holds(t, s, 1, 10, one)
	s.close()
	s = reopen(t, dir)
	holds(t, s, 1, 10, one)
	store(t, s, entries(11, 15, 2)...)
	store(t, s, entries(13, 18, 3)...) // without being told to delete
	term := func(i uint64) uint64 {
		switch {
		case i <= 10:
			return 1
		case i <= 12:
			return 2
		}
		return 3
	}
	holds(t, s, 1, 18, term)
	s.close()
	holds(t, reopen(t, dir), 1, 18, term)
}

// Segments go once nothing in them counts, and a snapshot may take the place of the whole log.
func TestOldSegmentsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	big := bytes.Repeat([]byte("x"), 200<<10)
	for i := uint64(1); i <= 300; i++ {
		store(t, s, &raft.Log{Index: i, Term: 1, Data: big})
	}
	before := len(s.segments)
	if before < 3 {
		t.Fatalf("%d segments hold 60 MB", before)
	}
	if err := s.DeleteRange(1, 290); err != nil {
		t.Fatal(err)
	}
	if len(s.segments) != 1 {
		t.Errorf("%d segments are left for ten entries", len(s.segments))
	}
	var l raft.Log
	if err := s.GetLog(291, &l); err != nil || !bytes.Equal(l.Data, big) {
		t.Errorf("entry 291: %v", err)
	}
	store(t, s, entries(1000, 1003, 1)...)
	holds(t, s, 1000, 1003, one)
	s.close()
	s = reopen(t, dir)
	holds(t, s, 1000, 1003, one)
	if err := s.DeleteRange(1000, 1003); err != nil {
		t.Fatal(err)
	}
	holds(t, s, 0, 0, one)
	if left, _ := filepath.Glob(filepath.Join(dir, segmentPrefix+"*")); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	if err := s.DeleteRange(1, 5); err != nil {
		t.Error(err)
	}
}

func onlySegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("segments %v, %v", names, err)
	}
	return names[0]
}

// overwrite changes bytes of a file.
func overwrite(t *testing.T, path string, at int64, change func(b []byte), n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	change(b)
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// A write that a crash cut off, at any byte, is dropped: what was synced before it is all there, and the log goes on.
func TestWriteCutOffIsDropped(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	store(t, s, entries(1, 3, 1)...)
	whole := s.segments[0].used
	store(t, s, entries(4, 6, 1)...)
	end := s.segments[0].used
	s.close()
	path := onlySegment(t, dir)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := whole; cut < end-batchAlign; cut += 5 {
		torn := bytes.Clone(image)
		clear(torn[cut:])
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s := reopen(t, dir)
		holds(t, s, 1, 3, one)
		store(t, s, entries(4, 4, 1)...)
		s.close()
		s = reopen(t, dir)
		holds(t, s, 1, 4, one)
		s.close()
	}
}

// A bit that flips in what was synced is found, at the start or when the entry is read, and never served.
func TestFlippedBitIsNeverServed(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		dir := t.TempDir()
		s := reopen(t, dir)
		store(t, s, entries(1, 50, 1)...)
		synced := s.segments[0].used
		store(t, s, entries(51, 60, 1)...)
		at := dice.Int64N(synced)
		flip := func(b []byte) { b[0] ^= 1 << dice.IntN(8) }
		overwrite(t, onlySegment(t, dir), at, flip, 1)
		for i := uint64(1); i <= 60; i++ { // a living replica reads it
			var l raft.Log
			switch err := s.GetLog(i, &l); {
			case err == nil && string(l.Data) != fmt.Sprintf("%d of term 1", i):
				t.Fatalf("byte %d: entry %d was served as %q", at, i, l.Data)
			case err != nil && !errors.Is(err, ErrCorrupt):
				t.Fatalf("byte %d: %v", at, err)
			}
		}
		s.close()
		if _, err := openLog(dir, openDisk, func(time.Duration) {}, &probe{now: time.Now}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of %d: a replica that starts says %v", at, synced, err)
		}
	}
}

// Also in the very last batch, whichever bit of it: it is not taken for a write that a crash cut off.
func TestFlippedBitInTheLastBatchIsFound(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	store(t, s, entries(1, 3, 1)...)
	from := s.segments[0].used
	store(t, s, entries(4, 5, 1)...)
	end := s.segments[0].used
	s.close()
	image, err := os.ReadFile(onlySegment(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	image = image[:end+100]
	for at := from; at < end; at++ {
		for bit := range 8 {
			b := bytes.Clone(image)
			b[at] ^= 1 << bit
			_, ok := readBatch(b[from:])
			if !ok && !flipped(b[from:]) {
				t.Fatalf("byte %d, bit %d, of a batch of %d bytes: taken for a write cut off", at-from, bit, end-from)
			}
			if !ok && b[at] != image[at]^1<<bit {
				t.Fatal("looking changed it")
			}
		}
	}
	overwrite(t, onlySegment(t, dir), end-20, func(b []byte) { b[0] ^= 2 }, 1)
	if _, err := openLog(dir, openDisk, func(time.Duration) {}, &probe{now: time.Now}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a replica that starts says %v", err)
	}
}

// Also between two batches, where no checksum tells.
func TestFlippedBitBehindABatchIsFound(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir)
	for i := uint64(1); ; i++ {
		store(t, s, entries(i, i, i)...)
		b, err := os.ReadFile(onlySegment(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for next, ok := readBatch(b); ok; next, ok = readBatch(b[at:]) {
			at += next.size
			if next.padding == 0 {
				continue
			}
			s.close()
			overwrite(t, onlySegment(t, dir), int64(at-next.padding), func(b []byte) { b[0] ^= 4 }, 1)
			if _, err := openLog(dir, openDisk, func(time.Duration) {}, &probe{now: time.Now}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("a replica that starts says %v", err)
			}
			return
		}
	}
}

// faulty is a disk that a test can fill and break.
type faulty struct {
	File
	write, sync *error
}

func (f faulty) WriteAt(b []byte, at int64) (int, error) {
	if *f.write != nil {
		return 0, *f.write
	}
	return f.File.WriteAt(b, at)
}

func (f faulty) Sync() error {
	if *f.sync != nil {
		return *f.sync
	}
	return f.File.Sync()
}

// After a sync that failed the store answers nothing but that error, even when the disk is well again.
func TestNothingIsWrittenAfterAFailedSync(t *testing.T) {
	dir := t.TempDir()
	var write, sync error
	s, err := openLog(dir, func(path string, size int64) (File, error) {
		f, err := openDisk(path, size)
		return faulty{f, &write, &sync}, err
	}, func(time.Duration) {}, &probe{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	store(t, s, entries(1, 3, 1)...)
	sync = syscall.EIO
	if err := s.StoreLogs(entries(4, 4, 1)); !errors.Is(err, syscall.EIO) {
		t.Errorf("a failed sync was answered with %v", err)
	}
	sync = nil
	if err := s.StoreLogs(entries(4, 4, 1)); !errors.Is(err, syscall.EIO) {
		t.Errorf("after a failed sync the log was written on: %v", err)
	}
	holds(t, s, 1, 3, one)
}

// A disk without room for another segment is no end: what is there can be read, and the next write tries again.
func TestFullDiskIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	full := false
	s, err := openLog(dir, func(path string, size int64) (File, error) {
		if full {
			return nil, syscall.ENOSPC
		}
		return openDisk(path, size)
	}, func(time.Duration) {}, &probe{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	big := bytes.Repeat([]byte("x"), 1<<20)
	full, index := false, uint64(0)
	write := func() error {
		err := s.StoreLogs([]*raft.Log{{Index: index + 1, Term: 1, Data: big}})
		if err == nil {
			index++
		}
		return err
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	full = true
	for err = write(); err == nil; err = write() {
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	full = false
	if err := write(); err != nil {
		t.Errorf("the disk has room again, and the log says %v", err)
	}
	var l raft.Log
	for i := uint64(1); i <= index; i++ {
		if err := s.GetLog(i, &l); err != nil {
			t.Error(err)
		}
	}
}

func TestEntriesBeyondTheLimitAreRefused(t *testing.T) {
	s := reopen(t, t.TempDir())
	if err := s.StoreLog(&raft.Log{Index: 1, Data: make([]byte, maxOneEntry+1)}); err == nil {
		t.Error("an entry above the limit was stored")
	}
	if err := s.StoreLogs([]*raft.Log{{Index: 1}, {Index: 3}}); err == nil {
		t.Error("a gap within a batch was stored")
	}
	holds(t, s, 0, 0, one)
}

func reopenStable(dir string) (*stableStore, error) {
	return openStable(dir, openDisk, &probe{now: time.Now})
}

func TestVoteIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, err := reopenStable(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Errorf("a key never set answers %v", err)
	}
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.Set([]byte("LastVoteCand"), []byte("n1"))); err != nil {
		t.Fatal(err)
	}
	s.close()
	if s, err = reopenStable(dir); err != nil {
		t.Fatal(err)
	}
	term, err := s.GetUint64([]byte("CurrentTerm"))
	who, err2 := s.Get([]byte("LastVoteCand"))
	if term != 7 || string(who) != "n1" || err != nil || err2 != nil {
		t.Errorf("term %d for %q, %v, %v", term, who, err, err2)
	}
	if _, err := s.GetUint64([]byte("LastVoteCand")); err == nil {
		t.Error("two bytes were taken for a number")
	}
	s.close()
	if err := s.SetUint64([]byte("CurrentTerm"), 8); err == nil {
		t.Error("a store that is closed took a term")
	}
}

// The vote is there twice: what a crash cut off and one damaged block are of no consequence, two damaged ones are.
func TestVoteSurvivesOneDamagedBlock(t *testing.T) {
	flip := func(b []byte) { b[0] ^= 1 }
	for _, at := range []int64{0, 5, 9, voteBlock, voteBlock + 5, voteBlock + 9} {
		dir := t.TempDir()
		for _, term := range []uint64{6, 7} {
			s, err := reopenStable(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
				t.Fatal(err)
			}
			s.close()
		}
		path := filepath.Join(dir, voteFile)
		overwrite(t, path, at, flip, 1)
		for range 2 { // the second time both are whole
			s, err := reopenStable(dir)
			if err != nil {
				t.Fatalf("byte %d: %v", at, err)
			}
			if term, err := s.GetUint64([]byte("CurrentTerm")); term != 7 || err != nil {
				t.Errorf("byte %d: term %d, %v", at, term, err)
			}
			s.close()
		}
		overwrite(t, path, 9, flip, 1)
		overwrite(t, path, voteBlock+9, flip, 1)
		if _, err := reopenStable(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("two damaged blocks: %v", err)
		}
	}
}

// A vote needs no room: what a full disk refuses is room.
func TestVoteIsWrittenInPlace(t *testing.T) {
	dir := t.TempDir()
	s, err := reopenStable(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for term := range uint64(300) {
		if err := s.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, voteFile)); err != nil || st.Size() != 2*voteBlock {
		t.Errorf("%v, %v", st.Size(), err)
	}
	if err := s.Set([]byte("LastVoteCand"), make([]byte, voteBlock)); err == nil {
		t.Error("more than a block was stored")
	}
}

// BenchmarkStoreLogs measures entries of 200 bytes, synced in batches.
func BenchmarkStoreLogs(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			s, err := openLog(b.TempDir(), openDisk, func(time.Duration) {}, &probe{now: time.Now})
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			data, index := make([]byte, 200), uint64(0)
			for b.Loop() {
				logs := make([]*raft.Log, n)
				for i := range logs {
					index++
					logs[i] = &raft.Log{Index: index, Term: 1, Data: data}
				}
				if err := s.StoreLogs(logs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

const goldenLog = "testdata/log.golden"

// TestGoldenLog: logs and votes on disks stay readable.
func TestGoldenLog(t *testing.T) {
	b := beginBatch(nil)
	b = appendEntry(b, &raft.Log{Index: 7, Term: 2, Type: raft.LogCommand, Data: []byte("data"), AppendedAt: time.Unix(1_700_000_000, 5)})
	b = appendEntry(b, &raft.Log{Index: 8, Term: 3, Type: raft.LogConfiguration, Data: []byte("conf"), Extensions: []byte("ext")})
	b = endBatch(b, 7, 2)
	b = append(b, endBatch(beginBatch(nil), 8, 0)...)
	dir := t.TempDir()
	s, err := reopenStable(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.Set([]byte("LastVoteCand"), []byte("n1"))); err != nil {
		t.Fatal(err)
	}
	s.close()
	vote, err := os.ReadFile(filepath.Join(dir, voteFile))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%x\n%x\n", b, vote[:tornUntil(vote[:voteBlock], 0)])
	want, err := os.ReadFile(goldenLog)
	if os.Getenv("TRUNKLINE_GOLDEN") != "" {
		err = os.WriteFile(goldenLog, []byte(got), 0o600)
		want = []byte(got)
	}
	if err != nil || got != string(want) {
		t.Fatalf("the bytes changed: %s, %v", got, err)
	}
	next, ok := readBatch(b)
	if !ok || next.first != 7 || len(next.sizes) != 2 {
		t.Errorf("%+v, %v", next, ok)
	}
}

// FuzzReadBatch: any bytes are a batch or are not, and one that is takes no more than there is.
func FuzzReadBatch(f *testing.F) {
	b := appendEntry(beginBatch(nil), &raft.Log{Index: 7, Term: 2, Data: []byte("data")})
	f.Add(endBatch(b, 7, 1))
	f.Add([]byte{0x54, 0x4c, 0x42, 0x31, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		next, ok := readBatch(b)
		if total := batchHead; ok {
			for _, n := range next.sizes {
				total += n
			}
			if total > len(b) {
				t.Errorf("a batch of %d bytes in %d", total, len(b))
			}
		}
		flipped(b)
	})
}
