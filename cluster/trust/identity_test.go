package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIdentityOutlivesItsProcess(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	folder := filepath.Join(t.TempDir(), "identity")
	i, err := OpenIdentity(folder, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := i.Claims(); ok || !i.NeedsRenewal(start) || !i.Expires().IsZero() || i.Authority() != nil {
		t.Error("a new identity has a certificate")
	}
	g, err := ca.Issue(i.Public(), Claims{ours, "a"}, start, CertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SetGrant(g); err != nil {
		t.Fatal(err)
	}
	again, err := OpenIdentity(folder, c.now)
	if err != nil {
		t.Fatal(err)
	}
	claims, ok := again.Claims()
	if again.KeyHash() != i.KeyHash() || !ok || claims != (Claims{ours, "a"}) || !again.Expires().Equal(start.Add(CertificateLife)) ||
		!bytes.Equal(again.Authority(), ca.Certificate()) {
		t.Errorf("%v %v", claims, again.Expires())
	}
	for _, name := range []string{identityKeyFile, identityGrantFile} {
		st, err := os.Stat(filepath.Join(folder, name))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	c.move(2 * CertificateLife)
	if _, err := OpenIdentity(folder, c.now); err != nil {
		t.Errorf("an expired certificate keeps the node from asking for another: %v", err)
	}
}

func TestCertificatesAreRenewedAtTwoThirds(t *testing.T) {
	c := newClock()
	i := node(t, newAuthority(t), c, Claims{ours, "a"})
	for after, want := range map[time.Duration]bool{
		0: false, CertificateLife/3*2 - skew: false, CertificateLife / 3 * 2: true, 2 * CertificateLife: true,
	} {
		if got := i.NeedsRenewal(start.Add(after)); got != want {
			t.Errorf("after %s: %v", after, got)
		}
	}
}

func TestGrantsThatAreRefused(t *testing.T) {
	c, ca, other := newClock(), newAuthority(t), newAuthority(t)
	i := node(t, ca, c, Claims{ours, "a"})
	issue := func(a *Authority, to *Identity, now time.Time) Grant {
		g, err := a.Issue(to.Public(), Claims{ours, "b"}, now, CertificateLife)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	good := issue(ca, i, start)
	for name, g := range map[string]Grant{
		"for another key":   issue(ca, stranger(t, c), start),
		"expired":           issue(ca, i, start.Add(-2*CertificateLife)),
		"of another signer": {good.Certificate, other.Certificate()},
		"no authority":      {good.Certificate, good.Certificate},
		"no node":           {ca.Certificate(), ca.Certificate()},
		"nothing":           {},
		"too large":         {make([]byte, maxCertificate+1), ca.Certificate()},
	} {
		if err := i.SetGrant(g); err == nil {
			t.Errorf("a grant %s is taken", name)
		}
	}
	if claims, _ := i.Claims(); claims.NodeID != "a" {
		t.Error("a refused grant was set")
	}
	if err := i.SetGrant(good); err != nil {
		t.Error(err)
	}
}

func TestIdentityFilesThatAreRefused(t *testing.T) {
	c := newClock()
	folder := filepath.Join(t.TempDir(), "identity")
	i, err := OpenIdentity(folder, c.now)
	if err != nil {
		t.Fatal(err)
	}
	g, err := newAuthority(t).Issue(i.Public(), Claims{ours, "a"}, start, CertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SetGrant(g); err != nil {
		t.Fatal(err)
	}
	refused := func(what, want string) {
		t.Helper()
		if _, err := OpenIdentity(folder, c.now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	write := func(name string, text []byte) {
		t.Helper()
		if err := WritePrivate(filepath.Join(folder, name), text); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(folder, identityKeyFile)
	kept, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a key that others may read", "chmod 600")
	write(identityKeyFile, []byte("nothing"))
	refused("a key that is none", identityKeyFile)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	refused("a certificate of a key that is gone", identityGrantFile)
	write(identityKeyFile, kept)
	write(identityGrantFile, []byte("nothing"))
	refused("a certificate that is none", identityGrantFile)
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	refused("a folder that others may look into", "chmod -R")
	link := folder + ".link"
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(link, c.now); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a link: %v", err)
	}
}

func TestAuthorityIsStoredAndHandedOn(t *testing.T) {
	a := newAuthority(t)
	path := filepath.Join(t.TempDir(), "authority.pem")
	if _, err := LoadAuthority(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := a.Save(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	b, err := LoadAuthority(path)
	if err != nil {
		t.Fatal(err)
	}
	// What one copy has signed, who trusts the other takes.
	c := newClock()
	if atServer, atClient := shake(t, node(t, a, c, Claims{ours, "a"}).ServerTLS(nil), node(t, b, c, Claims{ours, "b"}).ClientTLS("a", nil)); atServer.err != nil || atClient.err != nil {
		t.Error(atServer.err, atClient.err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthority(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}

func TestAuthoritiesThatAreRefused(t *testing.T) {
	a, b := encoded(t, newAuthority(t)), encoded(t, newAuthority(t))
	keyOf := func(text []byte) string { return string(text[:bytes.Index(text, []byte("-----BEGIN CERT"))]) }
	certOf := func(text []byte) string { return strings.TrimPrefix(string(text), keyOf(text)) }
	for name, text := range map[string]string{
		"nothing": "", "only a key": keyOf(a), "only a certificate": certOf(a), "of two halves": keyOf(a) + certOf(b),
		"with more": string(a) + "x", "turned round": certOf(a) + keyOf(a), "too large": string(a) + strings.Repeat("\n", maxAuthority),
	} {
		_, err := ParseAuthority([]byte(text))
		if err == nil {
			t.Errorf("an authority %s is taken", name)
		}
	}
}

func encoded(t testing.TB, a *Authority) []byte {
	t.Helper()
	text, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAuthorityIssuesToNodesOnly(t *testing.T) {
	a, i := newAuthority(t), stranger(t, newClock())
	for name, claims := range map[string]Claims{
		"no cluster": {NodeID: "a"}, "no node": {Incarnation: ours}, "a long id": {ours, strings.Repeat("x", MaxNodeID+1)},
		"an id with a newline": {ours, "a\nb"}, "an id that is no text": {ours, "\xff"},
	} {
		if _, err := a.Issue(i.Public(), claims, start, time.Hour); err == nil {
			t.Errorf("a certificate for %s", name)
		}
	}
	if _, err := a.Issue(nil, Claims{ours, "a"}, start, time.Hour); err == nil {
		t.Error("a certificate for no key")
	}
	if _, err := a.Issue(i.Public(), Claims{ours, "a"}, start, 0); err == nil {
		t.Error("a certificate for no time")
	}
}

func TestNamesInCertificates(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	for _, id := range []string{"n1", "a/b", "/", ".", "..", "a b", "%2F", "ö", "a?b#c", "a:b@c", strings.Repeat("ö", MaxNodeID/2)} {
		if got, ok := node(t, ca, c, Claims{ours, id}).Claims(); !ok || got.NodeID != id {
			t.Errorf("%q becomes %q", id, got.NodeID)
		}
	}
	golden(t, "name", Claims{[16]byte{0xab, 1}, "eu 1/ö"}.uri().String()+"\n")
}

func TestKeysOfIdentityAndAuthorityAreNeverShown(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	i := node(t, ca, c, Claims{ours, "a"})
	shown := fmt.Sprintf("%v %+v %#v %x %d %v %+v %#v %x %d", i, i, i, i, i, ca, ca, ca, ca, ca)
	if want := strings.Repeat(`identity of node "a" `, 5) + strings.TrimSpace(strings.Repeat("node authority ", 5)); shown != want {
		t.Error(shown)
	}
}

func FuzzAuthority(f *testing.F) {
	f.Add(encoded(f, newAuthority(f)))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAuthority(text)
		if err != nil {
			return
		}
		again, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseAuthority(again); err != nil {
			t.Fatal(err)
		}
	})
}
