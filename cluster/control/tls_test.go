package control_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// certified makes ports of nodes that know each other by certificates.
type certified struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	pool    *x509.CertPool
	revoked atomic.Value // the id of a node that nobody lets in
}

func newCertified() *certified {
	c := &certified{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	c.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &c.key.PublicKey, c.key))))
	c.pool.AddCert(c.cert)
	c.revoked.Store("")
	return c
}

// port is a node with its control server and client; a node without a name has no certificate of the authority.
func (a *certified) port(t testing.TB, network nodeport.Network, node string, h handlers) (*nodeport.Port, *control.Client) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: node}, DNSNames: []string{"node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	own := []tls.Certificate{{
		Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key))}, PrivateKey: key,
	}}
	cfg := nodeport.Default()
	cfg.Listener, cfg.Network = must(network.Listen(anywhere)), network
	cfg.ServerTLS = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: own, ClientCAs: a.pool, ClientAuth: tls.VerifyClientCertIfGiven,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) > 0 && s.PeerCertificates[0].Subject.CommonName == a.revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		},
	}
	cfg.ClientTLS = func(string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: a.pool, ServerName: "node", Certificates: own}
	}
	cfg.EnrolTLS = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	cfg.Peer = func(s tls.ConnectionState) (nodeport.Peer, error) {
		return nodeport.Peer{NodeID: s.PeerCertificates[0].Subject.CommonName}, nil
	}
	s := must(control.NewServer(control.Default(), h))
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: s.Serve}
	p := must(nodeport.New(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p, client(t, p, control.Default())
}

func named(_ context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
	return append([]byte(from.NodeID+": "), body...), nil
}

func TestCallsGoBetweenNodesWithCertificates(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		a := newCertified()
		b, _ := a.port(t, there, "b", handlers{control.Status: named})
		_, c := a.port(t, here, "a", nil)
		for _, node := range []string{"b", "", "b"} {
			if got, err := c.Call(t.Context(), b.Addr().String(), node, control.Status, []byte("hi")); err != nil || string(got) != "a: hi" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if _, err := c.Call(t.Context(), b.Addr().String(), "c", control.Status, nil); !errors.Is(err, control.ErrNotSent) {
			t.Errorf("another node: %v", err)
		}
		if n := c.Counters(); n.Dialled != 2 || n.DialFailed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

func TestAnAnonymousCallIsBoundToItsConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		bound := func(p nodeport.Peer) ([]byte, error) { return p.TLS.ExportKeyingMaterial("test", nil, 32) }
		a := newCertified()
		b, _ := a.port(t, there, "b", handlers{control.Enrol: func(_ context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
			if own, err := bound(from); err != nil || string(own) != string(body) || !from.Anonymous() {
				return nil, errors.New("bound to something else")
			}
			return []byte("welcome"), nil
		}})
		p, c := a.port(t, here, "a", nil)
		for range 2 {
			if got, err := c.CallAnonymous(t.Context(), b.Addr().String(), control.Enrol, bound); err != nil || string(got) != "welcome" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if _, err := c.CallAnonymous(t.Context(), b.Addr().String(), control.Status, bound); !errors.Is(err, control.ErrRefused) {
			t.Errorf("another verb: %v", err)
		}
		broken := errors.New("no proof")
		_, err := c.CallAnonymous(t.Context(), b.Addr().String(), control.Enrol, func(nodeport.Peer) ([]byte, error) { return nil, broken })
		if !errors.Is(err, broken) || !errors.Is(err, control.ErrNotSent) {
			t.Errorf("no proof: %v", err)
		}
		until(t, "their connections are gone", func() bool { return b.Counters().Strangers == 0 && p.Counters().Open == 0 })
	})
}

func TestARevokedNodeIsOutAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		a := newCertified()
		began := make(chan struct{}, 1)
		b, _ := a.port(t, there, "b", handlers{control.Status: named, control.Propose: hang(began)})
		_, c := a.port(t, here, "a", nil)
		result := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), b.Addr().String(), "b", control.Propose, nil)
			result <- err
		}()
		<-began
		a.revoked.Store("a")
		b.Cut("a")
		if err := <-result; !errors.Is(err, control.ErrUnknown) {
			t.Errorf("the call on its way: %v", err)
		}
		// The greeting does not come, so this one is known not to have been sent.
		if _, err := c.Call(t.Context(), b.Addr().String(), "b", control.Status, nil); !errors.Is(err, control.ErrNotSent) {
			t.Errorf("a later call: %v", err)
		}
		a.revoked.Store("")
		if _, err := c.Call(t.Context(), b.Addr().String(), "b", control.Status, nil); err != nil {
			t.Errorf("welcome again: %v", err)
		}
	})
}
