// Package certs has the certificates of a node: files that are read again when
// they change, and the throw-away authority of dev.
//
// It refuses a key that does not belong to its certificate and, once running,
// keeps the last pair that worked when the files become unreadable. It knows
// nothing of settings or listeners.
//
// Goroutines: none of its own; Reloading.Run is run by the caller.
package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// CheckEvery is how often Run looks at the files.
const CheckEvery = 5 * time.Second

// Reloading is a certificate kept in two files. It is safe for concurrent use.
type Reloading struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.RWMutex
	pair    *tls.Certificate
	seen    [2]stamp
	reloads uint64
	failed  uint64
}

// stamp tells one version of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// Load reads the pair for the first time.
func Load(certFile, keyFile string, log *slog.Logger) (*Reloading, error) {
	r := &Reloading{certFile: certFile, keyFile: keyFile, log: log}
	seen, err := r.stamps()
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	r.pair, r.seen = &pair, seen
	return r, nil
}

func (r *Reloading) stamps() (out [2]stamp, err error) {
	for i, path := range []string{r.certFile, r.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return out, fmt.Errorf("look at the certificate files: %w", err)
		}
		out[i] = stamp{info.ModTime(), info.Size(), inode(info)}
	}
	return out, nil
}

// Check reads the files again if they have changed since they were last looked
// at, and says whether the pair in use was replaced. A pair that does not load is
// an error once per change; the old one stays in use.
func (r *Reloading) Check() (bool, error) {
	seen, err := r.stamps()
	if err != nil {
		return false, err
	}
	r.mu.RLock()
	same := seen == r.seen
	r.mu.RUnlock()
	if same {
		return false, nil
	}
	pair, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = seen
	if err != nil {
		r.failed++
		return false, fmt.Errorf("read the changed certificate %s: %w", r.certFile, err)
	}
	r.pair = &pair
	r.reloads++
	return true, nil
}

// Run looks at the files at every tick until ctx ends. Ticks come from a ticker
// of CheckEvery; tests send their own.
func (r *Reloading) Run(ctx context.Context, ticks <-chan time.Time) error {
	var last string
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks:
		}
		changed, err := r.Check()
		switch {
		case changed:
			last = ""
			r.log.Info("the certificate was replaced", "file", r.certFile)
		case err == nil:
		case err.Error() != last:
			last = err.Error()
			r.log.Warn("the certificate stays as it was", "err", err)
		}
	}
}

// Certificate answers the pair in use.
func (r *Reloading) Certificate() *tls.Certificate {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pair
}

// Collect counts reloads and says when the certificate expires.
func (r *Reloading) Collect(emit func(name string, value float64, labels ...string)) {
	r.mu.RLock()
	reloads, failed, pair := r.reloads, r.failed, r.pair
	r.mu.RUnlock()
	emit("certificate_reloads_total", float64(reloads), "result", "done")
	emit("certificate_reloads_total", float64(failed), "result", "failed")
	if pair.Leaf != nil {
		emit("certificate_expiry_timestamp_seconds", float64(pair.Leaf.NotAfter.Unix()))
	}
}

// ServerConfig is what a listener of ours offers: TLS 1.2 and later, HTTP/1.1.
func ServerConfig(certificate func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(), nil },
	}
}
