package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ReadPrivate reads a file that holds secrets, of at most limit bytes. It follows no link and refuses what is no plain
// file, what others than its owner may use, and what is longer. Errors say what to do; a file that is not there is
// fs.ErrNotExist.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	// Without NONBLOCK the opening of a pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a link, and files with secrets are not followed elsewhere: name the file itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open file with secrets: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at file with secrets: %w", err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a plain file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s holds secrets and others may use it (mode %04o): chmod 600 %s, and if others have been on this machine, replace its secrets",
			path, st.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read file with secrets: %w", err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%s has more than %d bytes: it is not what it should be", path, limit)
	}
	return b, nil
}

// WritePrivate writes a file that holds secrets, mode 0600, so that there is either the old or the whole new one,
// whatever happens. A link at path is replaced, not followed.
func WritePrivate(path string, content []byte) error {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return fmt.Errorf("make file with secrets: %w", err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncFolder(folder)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open folder of secrets: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}

// privateFolder makes a folder for secrets unless it is there, and refuses one that others may look into.
func privateFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder of secrets: %w", err)
	}
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return fmt.Errorf("look at folder of secrets: %w", err)
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder; a link is not followed", path)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s holds secrets and others may look into it (mode %04o): chmod -R go= %s", path, st.Mode().Perm(), path)
	}
	return nil
}
