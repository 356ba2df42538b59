package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/trunkline-edge/trunkline/placement"
)

const (
	tableFolder  = "table"
	formatFile   = "FORMAT"
	formatText   = "trunkline table of one node, version 1\n"
	lockFile     = "lock"
	snapshotFile = "snapshot"
	journalGlob  = "journal-"
)

// dataDir is the folder that the table is kept in, locked. It holds the MAC key of anonymous ids, so nobody but the
// owner of the process may look into it.
type dataDir struct {
	path string
	lock *os.File
	log  *slog.Logger
}

// openDir makes or opens the table's folder in a data directory and locks it.
func openDir(dataDirPath string, log *slog.Logger) (*dataDir, error) {
	if err := os.MkdirAll(dataDirPath, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	d := &dataDir{path: filepath.Join(dataDirPath, tableFolder), log: log}
	if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make table folder: %w", err)
	}
	switch st, err := os.Lstat(d.path); {
	case err != nil:
		return nil, fmt.Errorf("look at table folder: %w", err)
	case !st.IsDir():
		return nil, fmt.Errorf("%s is not a folder; a link is not followed: move the table to where its folder belongs", d.path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s holds secrets and others may look into it (mode %04o): chmod -R go= %s",
			d.path, st.Mode().Perm(), d.path)
	}
	lock, err := d.open(lockFile, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another process: stop it, or name another directory", dataDirPath)
		}
		return nil, fmt.Errorf("lock %s: %w", d.path, err)
	}
	d.lock = lock
	if err := d.checkFormat(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) close() { d.lock.Close() }

// checkFormat refuses a folder that something else has filled, and marks an empty one.
func (d *dataDir) checkFormat() error {
	names, err := d.names()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(d.path, formatFile))
	switch {
	case err == nil && string(b) == formatText:
		return nil
	case err == nil:
		return fmt.Errorf("%s holds %q; this program keeps %q: name another directory, or use the program that wrote it",
			d.path, strings.TrimSpace(string(b[:min(len(b), 80)])), strings.TrimSpace(formatText))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read format of table folder: %w", err)
	}
	for _, name := range names {
		if name != lockFile && name != formatFile+".new" {
			return fmt.Errorf("%s has files (%s) but no %s: it is not a table of this program; name another directory",
				d.path, name, formatFile)
		}
	}
	return d.replace(formatFile, func(w io.Writer) error {
		_, err := io.WriteString(w, formatText)
		return err
	})
}

func (d *dataDir) names() ([]string, error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list table folder: %w", err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names, nil
}

// open opens a file of the folder. Links are not followed, and a file that others may read is refused.
func (d *dataDir) open(name string, flag int) (*os.File, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a link: a table's files are not followed elsewhere", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open table file: %w", err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("look at table file: %w", err)
	case !st.Mode().IsRegular():
		err = fmt.Errorf("%s is not a plain file", path)
	case st.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%s holds secrets and others may use it (mode %04o): chmod 600 %s", path, st.Mode().Perm(), path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// replace writes a file so that there is either the old or the whole new one, whatever happens.
func (d *dataDir) replace(name string, write func(io.Writer) error) error {
	f, err := d.open(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(filepath.Join(d.path, name+".new"), filepath.Join(d.path, name))
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// writeSnapshot replaces the snapshot file.
func (d *dataDir) writeSnapshot(snap *placement.Snapshot) error {
	return d.replace(snapshotFile, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 1<<20)
		if _, err := snap.WriteTo(b); err != nil {
			return err
		}
		return b.Flush()
	})
}

// sync makes the names in the folder durable.
func (d *dataDir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func journalName(first uint64) string { return fmt.Sprintf("%s%016x", journalGlob, first) }

// journals returns the names of the journal files, oldest first.
func (d *dataDir) journals() ([]string, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		if strings.HasPrefix(n, journalGlob) {
			out = append(out, n)
		}
	}
	return out, nil // ReadDir sorts, and the index has as many digits in every name
}

// begin makes a journal file.
func (d *dataDir) begin(incarnation [16]byte, first uint64) (*journal, error) {
	f, err := d.open(journalName(first), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	j, err := newJournal(f, incarnation, first)
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name()) // a later journal must not stand beside one that is still written
		return nil, fmt.Errorf("make %s: %w", f.Name(), err)
	}
	return j, nil
}

// dropJournals removes journals that begin before first: the snapshot has all they say.
func (d *dataDir) dropJournals(first uint64) error {
	names, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name < journalName(first) {
			if err := os.Remove(filepath.Join(d.path, name)); err != nil {
				return fmt.Errorf("remove old journal: %w", err)
			}
		}
	}
	return nil
}

// load reads snapshot and journals into an empty table and returns the journal to go on with, nil when there is none.
func (d *dataDir) load(t *placement.Table) (*journal, error) {
	if err := d.loadSnapshot(t); err != nil {
		return nil, err
	}
	names, err := d.journals()
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		f, err := d.open(name, os.O_RDWR)
		if err != nil {
			return nil, err
		}
		j, err := d.loadJournal(t, f, i == len(names)-1)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("load %s: %w: restore the data directory from a backup, or begin with an empty one",
				filepath.Join(d.path, name), err)
		}
		if i == len(names)-1 {
			return j, nil
		}
		f.Close()
	}
	return nil, nil
}

func (d *dataDir) loadSnapshot(t *placement.Table) error {
	f, err := d.open(snapshotFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.Restore(f); err != nil {
		return fmt.Errorf("load %s: %w: restore the data directory from a backup, or begin with an empty one", f.Name(), err)
	}
	return nil
}

// loadJournal applies one file. Only the newest may end in a write that was cut off.
func (d *dataDir) loadJournal(t *placement.Table, f *os.File, newest bool) (*journal, error) {
	var results []placement.Result
	h, whole, err := replay(f, func(index uint64, entry []byte) (err error) {
		switch at := t.Index(); {
		case index <= at:
			return nil // the snapshot has it
		case index > at+1:
			return fmt.Errorf("%w: entry %d follows entry %d", errDamaged, index, at)
		}
		results, err = t.Apply(index, entry, results[:0])
		return err
	})
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if cut := st.Size() - whole; cut > 0 {
		if !newest {
			return nil, fmt.Errorf("%w: its last %d bytes are no record, and a newer journal follows", errDamaged, cut)
		}
		d.log.Warn("dropping the end of the journal, a write that was cut off", "file", f.Name(), "bytes", cut)
		if err := f.Truncate(whole); err != nil {
			return nil, err
		}
	}
	if whole == 0 {
		return nil, f.Close() // not even its head was written
	}
	if h.incarnation != t.Incarnation() {
		return nil, fmt.Errorf("%w: it belongs to another table", errDamaged)
	}
	return &journal{file: f, size: whole, first: h.first}, nil
}
