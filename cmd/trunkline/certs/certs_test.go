package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// writePair puts a new self-signed certificate into the two files and answers it.
func writePair(t *testing.T, certFile, keyFile string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := template("test", time.Now())
	c.DNSNames = []string{"localhost"}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		next := file + ".next"
		if err := os.WriteFile(next, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	return der
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := writePair(t, cert, key)
	r, err := Load(cert, key, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := r.Check(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	ticks := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, ticks) }()

	second := writePair(t, cert, key)
	if got := served(t, r); string(got) != string(first) {
		t.Error("the new certificate is served before anybody looked")
	}
	ticks <- time.Time{}
	ticks <- time.Time{} // taken when the first look is over
	if got := served(t, r); string(got) != string(second) {
		t.Error("the changed certificate is not served")
	}

	// Half of a pair, and then nothing: the last good one stays.
	if err := errors.Join(os.WriteFile(cert+".next", []byte("no certificate"), 0o600), os.Rename(cert+".next", cert)); err != nil {
		t.Fatal(err)
	}
	ticks <- time.Time{}
	ticks <- time.Time{}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	ticks <- time.Time{}
	ticks <- time.Time{}
	if got := served(t, r); string(got) != string(second) {
		t.Error("a broken file has taken the certificate away")
	}
	counted := map[string]float64{}
	r.Collect(func(name string, value float64, labels ...string) { counted[name+strings.Join(labels, "=")] = value })
	if counted["certificate_reloads_totalresult=done"] != 1 || counted["certificate_reloads_totalresult=failed"] != 1 || counted["certificate_expiry_timestamp_seconds"] == 0 {
		t.Errorf("counted %v", counted)
	}
	third := writePair(t, cert, key)
	ticks <- time.Time{}
	ticks <- time.Time{}
	if got := served(t, r); string(got) != string(third) {
		t.Error("the certificate does not recover")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

// served answers the certificate that a client of a TLS listener sees.
func served(t *testing.T, r *Reloading) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	server := tls.Server(a, ServerConfig(r.Certificate))
	go func() { _ = server.HandshakeContext(t.Context()) }()
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := client.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("negotiated %q", p)
	}
	return client.ConnectionState().PeerCertificates[0].Raw
}

func TestPairsThatDoNotBelongTogetherAreRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key, other := filepath.Join(dir, "c"), filepath.Join(dir, "k"), filepath.Join(dir, "o")
	writePair(t, cert, key)
	writePair(t, filepath.Join(dir, "x"), other)
	if _, err := Load(cert, other, quiet); err == nil {
		t.Error("the key of another certificate is taken")
	}
	if _, err := Load(filepath.Join(dir, "missing"), key, quiet); err == nil {
		t.Error("a missing file is taken")
	}
}

func TestThrowAwayAuthority(t *testing.T) {
	tmp := t.TempDir()
	ta, err := NewThrowAway(tmp, []string{"127.9.8.7", "dev.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(ta.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "PRIVATE") {
		t.Error("a private key is on the disk")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("the file holds no certificate")
	}
	leaf, err := x509.ParseCertificate(ta.Certificate().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "127.9.8.7", "dev.example"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ta.Remove(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Error("something is left on the disk")
	}
	if _, err := NewThrowAway(filepath.Join(tmp, "missing"), nil, time.Now()); err == nil {
		t.Error("a folder that is not there is no error")
	}
}
