package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a writer that can be read, and waited on, while it is written to.
type output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	copy    io.Writer     // gets it too; nil: nobody
	changed chan struct{} // closed by the next write; nil: nobody waits
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	if o.copy != nil {
		_, _ = o.copy.Write(p)
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until text has been written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		o.mu.Lock()
		if strings.Contains(o.b.String(), text) {
			o.mu.Unlock()
			return
		}
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%q is not written; what is:\n%s", text, o)
		}
	}
}

// theatre is a world for tests: its own environment and signals.
type theatre struct {
	world
	out, err output
	signal   chan os.Signal
}

func newTheatre(stdin string, env ...string) *theatre {
	values := make(map[string]string)
	for i := 0; i < len(env); i += 2 {
		values[env[i]] = env[i+1]
	}
	th := &theatre{signal: make(chan os.Signal, 2)}
	th.err.copy = os.Stderr // test/gate looks for secrets in what tests print
	th.world = world{
		stdin: strings.NewReader(stdin), stdout: &th.out, stderr: &th.err, signals: th.signal,
		env: func(name string) (string, bool) { v, ok := values[name]; return v, ok },
	}
	return th
}

// play runs one command line to its end.
func play(t *testing.T, th *theatre, args ...string) int {
	t.Helper()
	return run(t.Context(), args, &th.world)
}

// write makes a file with that mode in a folder of the test.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// parsed parses a command line of serve or dev without running it.
func parsed(t *testing.T, th *theatre, args ...string) (*grammar, *sources, error) {
	t.Helper()
	var g grammar
	parser, src, err := newParser(&g, &th.world)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &g, src, err
}

// writeCertificate puts a new self-signed certificate for localhost into the two
// files.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
