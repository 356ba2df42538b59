package sdk

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// backoff walks a list of addresses. The first try of all, and the first after
// a connection that had worked, come at once or nearly; a whole round that fails
// doubles the pause before the next, up to 5 s. Every pause is drawn from its
// upper half, so that those who lost the same node do not come back together.
type backoff struct {
	addrs []string
	at    int
	tried int // of this round
	pause time.Duration
}

func newBackoff(addrs []string, inOrder bool) *backoff {
	b := &backoff{addrs: addrs}
	if !inOrder {
		b.at = rand.IntN(len(addrs))
	}
	return b
}

// next returns the address to try and how long to wait before.
func (b *backoff) next() (addr string, wait time.Duration) {
	if b.tried == len(b.addrs) {
		b.tried = 0
		b.pause = min(max(2*b.pause, backoffFirst), backoffMost)
	}
	addr = b.addrs[b.at]
	b.at = (b.at + 1) % len(b.addrs)
	if b.tried++; b.tried == 1 && b.pause > 0 {
		wait = b.pause/2 + rand.N(b.pause/2)
	}
	return addr, wait
}

// reset is called when a connection had worked: the next try comes soon, at
// another address if there is one.
func (b *backoff) reset() {
	b.tried, b.pause = 0, backoffFirst/2
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// secureConfig is the TLS configuration that was given, or one with the roots.
func secureConfig(given *tls.Config, roots *x509.CertPool) *tls.Config {
	if given != nil {
		return given
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
