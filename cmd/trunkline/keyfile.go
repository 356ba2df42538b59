package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/trunkline-edge/trunkline/admin"
)

// maxSecretFile bounds a file that holds one secret.
const maxSecretFile = 16 << 10

// openPrivate opens a file that only its owner may read: the permissions are
// those of the open file, so nothing can be swapped in between.
func openPrivate(flag, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", flag, err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s %s: not a regular file", flag, path)
	case info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%s %s: others may read it (mode %04o): chmod 600 %s", flag, path, info.Mode().Perm(), path)
	default:
		return f, nil
	}
	_ = f.Close()
	return nil, err
}

// readSecret reads a private file with one secret, blanks around it dropped.
func readSecret(flag, path string) (admin.Secret, error) {
	f, err := openPrivate(flag, path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	secret := strings.TrimSpace(string(text))
	switch {
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s %s: more than %d bytes: this is no secret", flag, path, maxSecretFile)
	case secret == "":
		return "", fmt.Errorf("%s %s: the file is empty", flag, path)
	}
	return admin.Secret(secret), nil
}
