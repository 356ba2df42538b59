package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// CertificateLife is how long a node's certificate is valid, unless somebody asks for less.
const CertificateLife = 30 * 24 * time.Hour

const (
	// skew is how far a certificate's validity begins in the past, for nodes whose clock is behind.
	skew = time.Hour

	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	maxAuthority   = 8 << 10 // bytes of a stored authority
)

// forever is how X.509 says that a certificate does not end.
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Authority signs the certificates of a cluster's nodes. Voters have it and nobody else.
type Authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// Grant is a node's certificate and that of the authority that signed it, in DER.
type Grant struct {
	Certificate []byte
	Authority   []byte
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(now time.Time) (*Authority, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority's key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject:   pkix.Name{CommonName: "trunkline node authority"},
		NotBefore: now.Add(-skew), NotAfter: forever,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "trunkline node authority"}}, public, key)
	if err != nil {
		return nil, fmt.Errorf("make authority's certificate: %w", err)
	}
	cert, err := parseAuthorityCert(der)
	if err != nil {
		return nil, err
	}
	return &Authority{key: key, cert: cert}, nil
}

// Certificate returns the authority's certificate, in DER.
func (a *Authority) Certificate() []byte { return a.cert.Raw }

// Issue signs a certificate for a node's key, valid as client and as server from a little before now until ttl after it.
func (a *Authority) Issue(public ed25519.PublicKey, c Claims, now time.Time, ttl time.Duration) (Grant, error) {
	if err := c.check(); err != nil {
		return Grant{}, fmt.Errorf("issue certificate: %w", err)
	}
	if len(public) != ed25519.PublicKeySize || ttl <= 0 {
		return Grant{}, fmt.Errorf("issue certificate to %q: key of %d bytes, valid for %s", c.NodeID, len(public), ttl)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject:   pkix.Name{OrganizationalUnit: []string{roleNode}},
		NotBefore: now.Add(-skew), NotAfter: now.Add(ttl),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{c.uri()},
	}, a.cert, public, a.key)
	if err != nil {
		return Grant{}, fmt.Errorf("issue certificate to %q: %w", c.NodeID, err)
	}
	return Grant{Certificate: der, Authority: a.cert.Raw}, nil
}

// Encode returns the authority as ParseAuthority and LoadAuthority read it: its private key and its certificate, in PEM.
// It is a secret.
func (a *Authority) Encode() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode authority: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.cert.Raw})...), nil
}

// ParseAuthority reads what Encode has written.
func ParseAuthority(text []byte) (*Authority, error) {
	if len(text) > maxAuthority {
		return nil, fmt.Errorf("an authority of %d bytes, at most %d", len(text), maxAuthority)
	}
	blocks, err := parseBlocks(text, pemKey, pemCertificate)
	if err != nil {
		return nil, fmt.Errorf("parse authority: %w", err)
	}
	key, err := parseKey(blocks[0])
	if err != nil {
		return nil, fmt.Errorf("parse authority: %w", err)
	}
	cert, err := parseAuthorityCert(blocks[1])
	if err != nil {
		return nil, err
	}
	if !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey) {
		return nil, errors.New("parse authority: its key and its certificate do not belong together")
	}
	return &Authority{key: key, cert: cert}, nil
}

// LoadAuthority reads an authority from a file with ReadPrivate. One that is not there is fs.ErrNotExist.
func LoadAuthority(path string) (*Authority, error) {
	text, err := ReadPrivate(path, maxAuthority)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	a, err := ParseAuthority(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// Save writes the authority into a file with WritePrivate.
func (a *Authority) Save(path string) error {
	text, err := a.Encode()
	if err != nil {
		return err
	}
	return WritePrivate(path, text)
}

// Format writes no key, whatever the verb.
func (a *Authority) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("node authority")) }

// parseAuthorityCert reads the certificate of an authority: one that signs itself, with a key as ours have.
func parseAuthorityCert(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority's certificate: %w", err)
	}
	if _, ours := cert.PublicKey.(ed25519.PublicKey); !ours || !cert.IsCA || !cert.BasicConstraintsValid {
		return nil, errors.New("parse authority's certificate: it is not one of an authority of nodes")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("parse authority's certificate: %w", err)
	}
	return cert, nil
}

func parseKey(der []byte) (ed25519.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private key cannot be read") // the cause might quote it
	}
	ours, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not an Ed25519 key")
	}
	return ours, nil
}

// parseBlocks reads PEM blocks of the given types, these and no others.
func parseBlocks(text []byte, types ...string) ([][]byte, error) {
	var found [][]byte
	for _, want := range types {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != want {
			return nil, fmt.Errorf("part %d is no %s in PEM", len(found)+1, want)
		}
		found, text = append(found, block.Bytes), rest
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("there is something behind its %d parts", len(types))
	}
	return found, nil
}
