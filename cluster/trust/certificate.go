package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxNodeID is how many bytes a node's id may have.
const MaxNodeID = 128

const (
	uriScheme = "trunkline"
	// roleNode is the organizational unit of a node's certificate. One for anything else is not a node's.
	roleNode = "node"
)

// Claims is what a certificate says of a node.
type Claims struct {
	Incarnation [16]byte // of the cluster; not zero
	NodeID      string
}

// Peer is the other end of a connection, as its certificate says.
type Peer struct {
	NodeID      string
	KeyHash     [32]byte // see KeyHash
	Incarnation [16]byte
}

// KeyHash is the SHA-256 of a public key in PKIX form: what the table binds a node to.
func KeyHash(public ed25519.PublicKey) [32]byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(fmt.Sprintf("trust: marshal public key: %v", err)) // only for unknown types
	}
	return sha256.Sum256(der)
}

// CheckNodeID says what is wrong with the id of a node.
func CheckNodeID(id string) error {
	switch {
	case id == "" || len(id) > MaxNodeID:
		return fmt.Errorf("a node's id has 1 to %d bytes, not %d", MaxNodeID, len(id))
	case !utf8.ValidString(id) || strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("a node's id has printable characters only, not %q", id)
	}
	return nil
}

func (c Claims) check() error {
	if c.Incarnation == [16]byte{} {
		return errors.New("the cluster has no incarnation yet")
	}
	return CheckNodeID(c.NodeID)
}

// uri is the name in a certificate: trunkline://<incarnation, 32 hex digits>/<node id, escaped>.
func (c Claims) uri() *url.URL {
	u := &url.URL{Scheme: uriScheme, Host: hex.EncodeToString(c.Incarnation[:]), Path: "/" + c.NodeID}
	u.RawPath = "/" + url.PathEscape(c.NodeID)
	return u
}

// claimsOf reads what a certificate says, without checking who has signed it.
func claimsOf(cert *x509.Certificate) (Claims, error) {
	var c Claims
	if !slices.Equal(cert.Subject.OrganizationalUnit, []string{roleNode}) {
		return c, fmt.Errorf("it is the certificate of %.64q, not of a node", cert.Subject.OrganizationalUnit)
	}
	if len(cert.URIs) != 1 {
		return c, fmt.Errorf("the certificate has %d names, not one", len(cert.URIs))
	}
	u := cert.URIs[0]
	id, err := hex.DecodeString(u.Host)
	if err != nil || len(id) != len(c.Incarnation) {
		return c, errors.New("the certificate names no cluster")
	}
	copy(c.Incarnation[:], id)
	c.NodeID = strings.TrimPrefix(u.Path, "/")
	if err := c.check(); err != nil {
		return c, fmt.Errorf("the certificate's name: %w", err)
	}
	if c.uri().String() != u.String() {
		return c, errors.New("the certificate's name is written in another way than ours")
	}
	return c, nil
}

// Errors of handshakes that callers tell from others.
var (
	// ErrIncarnation: the other end is of another cluster; the error is an *IncarnationError.
	ErrIncarnation = errors.New("another cluster")
	// ErrOtherNode: the other end is a node, but not the one that was to be reached.
	ErrOtherNode = errors.New("another node")
	// ErrNoCertificate: this node has no certificate yet, so it cannot tell who is of its cluster.
	ErrNoCertificate = errors.New("this node has no certificate yet")
)

// IncarnationError says that the other end is of another cluster, or of ours before it was recovered. Theirs is what it
// claims and proves nothing.
type IncarnationError struct{ Ours, Theirs [16]byte }

func (e *IncarnationError) Error() string {
	return fmt.Sprintf("the other end is of another cluster (incarnation %x, ours is %x)", e.Theirs, e.Ours)
}

// Is makes errors.Is(err, ErrIncarnation) true.
func (e *IncarnationError) Is(target error) bool { return target == ErrIncarnation }

// chain checks that authority has signed cert for a use and that it is valid now.
func chain(cert, authority *x509.Certificate, use x509.ExtKeyUsage, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}
