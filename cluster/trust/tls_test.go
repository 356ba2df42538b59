package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// start is the wall time at which the clusters of tests begin.
var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a wall clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority(start)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func stranger(t testing.TB, c *clock) *Identity {
	t.Helper()
	i, err := OpenIdentity("", c.now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// node is a node with a certificate.
func node(t testing.TB, a *Authority, c *clock, claims Claims) *Identity {
	t.Helper()
	i := stranger(t, c)
	g, err := a.Issue(i.Public(), claims, c.now(), CertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SetGrant(g); err != nil {
		t.Fatal(err)
	}
	return i
}

// end is what one end of a connection saw of a handshake and of one byte from the server to the client after it.
type end struct {
	state tls.ConnectionState
	err   error
}

func shake(t *testing.T, server, client *tls.Config) (atServer, atClient end) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan end, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- end{err: err}
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		conn := tls.Server(raw, server)
		if err = conn.Handshake(); err == nil {
			_, err = conn.Write([]byte{1})
		}
		done <- end{conn.ConnectionState(), err}
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(raw, client)
	if err = conn.Handshake(); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	atClient = end{conn.ConnectionState(), err}
	raw.Close()
	return <-done, atClient
}

var ours = [16]byte{1, 2, 3}

func TestNodesOfAClusterShakeHands(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, ca, c, Claims{ours, "b/ö %"})
	var asked []Peer
	var mu sync.Mutex
	allowed := func(p Peer) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, p)
		return nil
	}
	for _, expect := range []string{"a", ""} {
		asked = nil
		atServer, atClient := shake(t, a.ServerTLS(allowed), b.ClientTLS(expect, allowed))
		if atServer.err != nil || atClient.err != nil {
			t.Fatal(atServer.err, atClient.err)
		}
		want := Peer{"b/ö %", b.KeyHash(), ours}
		if got, ok := PeerOf(atServer.state); !ok || got != want {
			t.Errorf("the server sees %v", got)
		}
		if got, ok := PeerOf(atClient.state); !ok || got != (Peer{"a", a.KeyHash(), ours}) {
			t.Errorf("the client sees %v", got)
		}
		if len(asked) != 2 {
			t.Errorf("allowed was asked of %v", asked)
		}
		if v := atServer.state.Version; v != tls.VersionTLS13 {
			t.Errorf("TLS %x", v)
		}
	}
}

func TestWithoutCertificateThereIsNoPeer(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	refuse := func(Peer) error { return errors.New("asked") }
	for name, client := range map[string]*tls.Config{
		"to enrol": EnrolTLS(), "any client": {InsecureSkipVerify: true},
	} {
		atServer, atClient := shake(t, node(t, ca, c, Claims{ours, "a"}).ServerTLS(refuse), client)
		if atServer.err != nil || atClient.err != nil {
			t.Fatal(name, atServer.err, atClient.err)
		}
		if p, ok := PeerOf(atServer.state); ok {
			t.Errorf("%s: it is %v", name, p)
		}
	}
	if p, ok := PeerOf(tls.ConnectionState{}); ok {
		t.Errorf("nobody is %v", p)
	}
}

func TestNodeWithoutCertificateNeitherServesNorDials(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	newcomer, member := stranger(t, c), node(t, ca, c, Claims{ours, "a"})
	if atServer, _ := shake(t, newcomer.ServerTLS(nil), member.ClientTLS("", nil)); !errors.Is(atServer.err, ErrNoCertificate) {
		t.Error(atServer.err)
	}
	if _, atClient := shake(t, member.ServerTLS(nil), newcomer.ClientTLS("", nil)); !errors.Is(atClient.err, ErrNoCertificate) {
		t.Error(atClient.err)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a := node(t, ca, c, Claims{ours, "a"})
	atServer, atClient := shake(t, a.ServerTLS(nil), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if atServer.err == nil || atClient.err == nil {
		t.Error("the server speaks TLS 1.2")
	}
}

// Each of these is refused by the server as a client and by the client as a server.
func TestCertificatesThatAreRefused(t *testing.T) {
	c, ca, other := newClock(), newAuthority(t), newAuthority(t)
	member := node(t, ca, c, Claims{ours, "a"})
	expired := stranger(t, c)
	g, err := ca.Issue(expired.Public(), Claims{ours, "b"}, start.Add(-CertificateLife), CertificateLife-time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	expired.forceGrant(t, g)
	early := stranger(t, c)
	g, err = ca.Issue(early.Public(), Claims{ours, "b"}, start.Add(skew+time.Minute), CertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	early.forceGrant(t, g)
	for name, test := range map[string]struct {
		who  *Identity
		want string
	}{
		"another authority":   {node(t, other, c, Claims{ours, "b"}), "unknown authority"},
		"another incarnation": {node(t, ca, c, Claims{[16]byte{9}, "b"}), "another cluster"},
		"another cluster":     {node(t, other, c, Claims{[16]byte{9}, "b"}), "another cluster"},
		"expired":             {expired, "expired"},
		"not valid yet":       {early, "not yet valid"},
	} {
		them := test.who.trusting(ca, ours)
		atServer, atClient := shake(t, member.ServerTLS(nil), them.ClientTLS("", nil))
		if atServer.err == nil || !strings.Contains(atServer.err.Error(), test.want) {
			t.Errorf("%s, as a client: %v", name, atServer.err)
		}
		if atClient.err == nil {
			t.Errorf("%s: the client was not told", name)
		}
		atServer, atClient = shake(t, them.ServerTLS(nil), member.ClientTLS("", nil))
		if atClient.err == nil || !strings.Contains(atClient.err.Error(), test.want) {
			t.Errorf("%s, as a server: %v", name, atClient.err)
		}
		if atServer.err == nil {
			t.Errorf("%s: the server was not told", name)
		}
	}
}

// forceGrant sets a grant although it is not valid now.
func (i *Identity) forceGrant(t testing.TB, g Grant) {
	t.Helper()
	var err error
	if i.grant, err = checkGrant(g, i.Public()); err != nil {
		t.Fatal(err)
	}
}

// trusting is an identity that shows the same certificate and believes in another authority and incarnation than it
// says, so that only the other end of a handshake has a reason to refuse.
func (i *Identity) trusting(a *Authority, incarnation [16]byte) *Identity {
	g := *i.grant
	g.authority, g.Claims.Incarnation = a.cert, incarnation
	return &Identity{clock: i.clock, key: i.key, grant: &g}
}

func TestAnotherIncarnationIsAnErrorThatNamesBoth(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	theirs := [16]byte{9}
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, newAuthority(t), c, Claims{theirs, "b"})
	_, atClient := shake(t, b.ServerTLS(nil), a.ClientTLS("", nil))
	var wrong *IncarnationError
	if !errors.Is(atClient.err, ErrIncarnation) || !errors.As(atClient.err, &wrong) {
		t.Fatal(atClient.err)
	}
	if *wrong != (IncarnationError{ours, theirs}) {
		t.Errorf("%+v", wrong)
	}
}

func TestNodeThatAnswersForAnotherIsRefused(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, ca, c, Claims{ours, "b"})
	atServer, atClient := shake(t, a.ServerTLS(nil), b.ClientTLS("b", nil))
	if !errors.Is(atClient.err, ErrOtherNode) {
		t.Errorf("a as b: %v", atClient.err)
	}
	if atServer.err == nil {
		t.Error("the server was not told")
	}
}

func TestNodesThatAreNotAllowedAreRefused(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, ca, c, Claims{ours, "b"})
	revoked := errors.New("revoked")
	allowed := func(p Peer) error {
		if p.NodeID == "b" && p.KeyHash == b.KeyHash() {
			return revoked
		}
		return nil
	}
	if atServer, atClient := shake(t, a.ServerTLS(allowed), b.ClientTLS("", nil)); !errors.Is(atServer.err, revoked) || atClient.err == nil {
		t.Error(atServer.err, atClient.err)
	}
	if _, atClient := shake(t, b.ServerTLS(nil), a.ClientTLS("b", allowed)); !errors.Is(atClient.err, revoked) {
		t.Error(atClient.err)
	}
}

func TestOnlyCertificatesOfNodesAreTaken(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	member := node(t, ca, c, Claims{ours, "a"})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	name := Claims{ours, "b"}.uri()
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	raw := func(s string) *url.URL {
		return &url.URL{Scheme: "trunkline", Host: name.Host, Path: "/b", RawQuery: s}
	}
	for what, test := range map[string]struct {
		unit  string
		uses  []x509.ExtKeyUsage
		names []*url.URL
		key   any
	}{
		"an agent's":        {"agent", both, []*url.URL{name}, edKey},
		"nobody's":          {"", both, []*url.URL{name}, edKey},
		"only for servers":  {roleNode, both[1:], []*url.URL{name}, edKey},
		"without a name":    {roleNode, both, nil, edKey},
		"with two names":    {roleNode, both, []*url.URL{name, {Scheme: "trunkline", Host: name.Host, Path: "/c"}}, edKey},
		"of no scheme":      {roleNode, both, []*url.URL{{Scheme: "https", Host: name.Host, Path: "/b"}}, edKey},
		"of no cluster":     {roleNode, both, []*url.URL{{Scheme: "trunkline", Host: "b", Path: "/b"}}, edKey},
		"of a zero cluster": {roleNode, both, []*url.URL{{Scheme: "trunkline", Host: strings.Repeat("0", 32), Path: "/b"}}, edKey},
		"of no node":        {roleNode, both, []*url.URL{{Scheme: "trunkline", Host: name.Host}}, edKey},
		"with more":         {roleNode, both, []*url.URL{raw("c")}, edKey},
		"with an RSA key":   {roleNode, both, []*url.URL{name}, rsaKey},
	} {
		template := &x509.Certificate{
			Subject: pkix.Name{OrganizationalUnit: []string{test.unit}}, NotBefore: start.Add(-skew), NotAfter: start.Add(skew),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: test.uses, URIs: test.names,
		}
		var public any
		switch k := test.key.(type) {
		case ed25519.PrivateKey:
			public = k.Public()
		case *rsa.PrivateKey:
			public = k.Public()
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
		if err != nil {
			t.Fatal(what, err)
		}
		client := EnrolTLS()
		client.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: test.key}}
		if atServer, _ := shake(t, member.ServerTLS(nil), client); atServer.err == nil {
			t.Errorf("a certificate that is %s is taken", what)
		}
	}
}

func TestACertificateThatIsCopiedOpensNothing(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, ca, c, Claims{ours, "b"})
	_, thief, _ := ed25519.GenerateKey(rand.Reader)
	client := EnrolTLS()
	client.Certificates = []tls.Certificate{{Certificate: [][]byte{b.grant.Certificate}, PrivateKey: thief}}
	if atServer, _ := shake(t, a.ServerTLS(nil), client); atServer.err == nil {
		t.Error("a certificate without its key is taken")
	}
}

func TestRenewedCertificateIsShownWithoutANewConfiguration(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a, b := node(t, ca, c, Claims{ours, "a"}), node(t, ca, c, Claims{ours, "b"})
	server, client := a.ServerTLS(nil), b.ClientTLS("a", nil)
	c.move(CertificateLife + time.Minute)
	if atServer, _ := shake(t, server, client); atServer.err == nil {
		t.Fatal("expired certificates are taken")
	}
	for id, i := range map[string]*Identity{"a": a, "b": b} {
		g, err := ca.Issue(i.Public(), Claims{ours, id}, c.now(), CertificateLife)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.SetGrant(g); err != nil {
			t.Fatal(err)
		}
	}
	if atServer, atClient := shake(t, server, client); atServer.err != nil || atClient.err != nil {
		t.Error(atServer.err, atClient.err)
	}
}
