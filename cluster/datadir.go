package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	tableFolder = "raft"
	oldFolder   = "table" // before tables were agreed on by raft
	formatFile  = "FORMAT"
	formatText  = "trunkline replica of the table, version 1\n"
	lockFile    = "lock"
)

// dataDir is the folder that the table is kept in, locked. It holds the MAC key of anonymous ids, so nobody but the
// owner of the process may look into it.
type dataDir struct {
	path string
	lock *os.File
}

// openDir makes or opens the table's folder in a data directory and locks it.
func openDir(dataDirPath string) (*dataDir, error) {
	if err := os.MkdirAll(dataDirPath, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dataDirPath, oldFolder)); err == nil {
		return nil, fmt.Errorf("%s was kept by an older version, which this one cannot read: name another directory, or move the folder %s away to begin anew",
			dataDirPath, oldFolder)
	}
	d := &dataDir{path: filepath.Join(dataDirPath, tableFolder)}
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

// replicaFiles are the files of a replica, if there is one.
func (d *dataDir) replicaFiles() ([]string, error) {
	names, err := d.names()
	return slices.DeleteFunc(names, func(name string) bool { return name == lockFile || strings.HasPrefix(name, formatFile) }), err
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

// sync makes the names in the folder durable.
func (d *dataDir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
