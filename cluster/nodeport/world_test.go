package nodeport_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority issues certificates whose common name is the node's id.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(1e6 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key))))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// issue is a certificate for a node; no certificate for "".
func (a *authority) issue(node string) []tls.Certificate {
	if node == "" {
		return nil
	}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: node}, DNSNames: []string{"node"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(1e6 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	return []tls.Certificate{{
		Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key))}, PrivateKey: key,
	}}
}

func (a *authority) client(node string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.pool, ServerName: "node", Certificates: a.issue(node)}
}

func peerOf(s tls.ConnectionState) (nodeport.Peer, error) {
	cert := s.PeerCertificates[0]
	return nodeport.Peer{NodeID: cert.Subject.CommonName, KeyHash: sha256.Sum256(cert.RawSubjectPublicKeyInfo)}, nil
}

func (a *authority) config(t testing.TB, network nodeport.Network, node string) nodeport.Config {
	t.Helper()
	own := a.issue(node)
	cfg := nodeport.Default()
	l, err := network.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.Network = l, network
	cfg.ServerTLS = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: own, ClientCAs: a.pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	client := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.pool, ServerName: "node", Certificates: own}
	cfg.ClientTLS = func(string) *tls.Config { return client }
	cfg.EnrolTLS = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	cfg.Peer = peerOf
	return cfg
}

// run starts a port and ends it with the test.
func run(t testing.TB, cfg nodeport.Config) *nodeport.Port {
	t.Helper()
	p, err := nodeport.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// onBoth runs a test on the network in memory and on the machine's.
func onBoth(t *testing.T, f func(t *testing.T, a *authority, here, there nodeport.Network)) {
	a := newAuthority(t)
	t.Run("memory", func(t *testing.T) {
		n := clustertest.New(1)
		f(t, a, n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2"))
	})
	t.Run("loopback", func(t *testing.T) { f(t, a, nodeport.OS(), nodeport.OS()) })
}

// echo is a handler that names the peer and then gives back what comes.
func echo(_ context.Context, conn net.Conn, peer nodeport.Peer) {
	name := peer.NodeID
	if peer.Anonymous() {
		name = "nobody"
	}
	if _, err := io.WriteString(conn, name+"\n"); err == nil {
		_, _ = io.Copy(conn, conn)
	}
}

// reads says what a connection gives next, or how it ends.
func reads(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func ends(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.Copy(io.Discard, c)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Fatalf("the connection is still open: %v", err)
	}
}

// refused waits until the port has counted n connections for a reason.
func refused(t testing.TB, p *nodeport.Port, r nodeport.Reason, n uint64) {
	t.Helper()
	until(t, r.String(), func() bool { return p.Counters().Refused[r] >= n })
}

// until polls what gives no event, such as a counter.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(s))
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
