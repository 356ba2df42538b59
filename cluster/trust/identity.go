package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	identityKeyFile   = "node.key"
	identityGrantFile = "node.crt"
	maxIdentityFile   = 16 << 10 // bytes
	maxCertificate    = 4 << 10  // bytes of one certificate
)

// granted is a grant that has been checked.
type granted struct {
	Grant
	Claims
	cert, authority *x509.Certificate
}

// Identity is who this node is towards other nodes: its key pair, made once, and the certificate it was last granted. All
// methods but SetGrant may be called by any number of goroutines.
type Identity struct {
	folder string // "" keeps it in memory
	clock  func() time.Time
	key    ed25519.PrivateKey

	mu    sync.Mutex
	grant *granted // nil before the first; not changed once it is here
}

// OpenIdentity reads the identity that a folder has, or makes one there: the private key in node.key, the certificates in
// node.crt, both mode 0600, the folder 0700. With "" it is in memory only. The clock is the wall's: it is compared with
// the certificates' validity.
func OpenIdentity(folder string, clock func() time.Time) (*Identity, error) {
	i := &Identity{folder: folder, clock: clock}
	if folder != "" {
		if err := privateFolder(folder); err != nil {
			return nil, err
		}
	}
	if err := i.openKey(); err != nil {
		return nil, err
	}
	if folder == "" {
		return i, nil
	}
	path := filepath.Join(folder, identityGrantFile)
	text, err := ReadPrivate(path, maxIdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return i, nil
	}
	if err == nil {
		err = i.readGrant(text)
	}
	if err != nil {
		return nil, fmt.Errorf("read this node's certificate: %w (without the file %s it gets a new one)", err, path)
	}
	return i, nil
}

func (i *Identity) openKey() error {
	path := filepath.Join(i.folder, identityKeyFile)
	if i.folder != "" {
		text, err := ReadPrivate(path, maxIdentityFile)
		if err == nil {
			var blocks [][]byte
			if blocks, err = parseBlocks(text, pemKey); err == nil {
				i.key, err = parseKey(blocks[0])
			}
			if err != nil {
				return fmt.Errorf("read this node's key %s: %w", path, err)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read this node's key: %w", err)
		}
	}
	var err error
	if _, i.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return fmt.Errorf("make this node's key: %w", err)
	}
	if i.folder == "" {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return fmt.Errorf("encode this node's key: %w", err)
	}
	return WritePrivate(path, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}))
}

func (i *Identity) readGrant(text []byte) error {
	blocks, err := parseBlocks(text, pemCertificate, pemCertificate)
	if err != nil {
		return err
	}
	i.grant, err = checkGrant(Grant{Certificate: blocks[0], Authority: blocks[1]}, i.Public())
	return err
}

// checkGrant reads a grant for a key. Whether it is valid now is another question.
func checkGrant(g Grant, public ed25519.PublicKey) (*granted, error) {
	if len(g.Certificate) > maxCertificate || len(g.Authority) > maxCertificate {
		return nil, fmt.Errorf("certificates of %d and %d bytes, at most %d", len(g.Certificate), len(g.Authority), maxCertificate)
	}
	authority, err := parseAuthorityCert(g.Authority)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(g.Certificate)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	claims, err := claimsOf(cert)
	if err != nil {
		return nil, err
	}
	if !public.Equal(cert.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	if err := cert.CheckSignatureFrom(authority); err != nil {
		return nil, fmt.Errorf("the certificate is not signed by its authority: %w", err)
	}
	g.Certificate, g.Authority = slices.Clone(g.Certificate), slices.Clone(g.Authority)
	return &granted{Grant: g, Claims: claims, cert: cert, authority: authority}, nil
}

// Public is this node's public key.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// KeyHash is what the table binds this node to.
func (i *Identity) KeyHash() [32]byte { return KeyHash(i.Public()) }

func (i *Identity) now() *granted {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.grant
}

// SetGrant has this node show a new certificate from the next handshake on, and accept those of the same authority and
// incarnation. It is refused when it is for another key, is not signed as it says, or is not valid now. One goroutine
// calls it.
func (i *Identity) SetGrant(g Grant) error {
	next, err := checkGrant(g, i.Public())
	if err == nil {
		err = chain(next.cert, next.authority, x509.ExtKeyUsageServerAuth, i.clock())
	}
	if err != nil {
		return fmt.Errorf("take certificate: %w", err)
	}
	if i.folder != "" {
		text := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: g.Certificate})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: g.Authority})...)
		if err := WritePrivate(filepath.Join(i.folder, identityGrantFile), text); err != nil {
			return err
		}
	}
	i.mu.Lock()
	i.grant = next
	i.mu.Unlock()
	return nil
}

// Claims is what this node's certificate says, false before it has one.
func (i *Identity) Claims() (Claims, bool) {
	g := i.now()
	if g == nil {
		return Claims{}, false
	}
	return g.Claims, true
}

// Authority returns the certificate of the authority, in DER, nil before this node has one of its own.
func (i *Identity) Authority() []byte {
	if g := i.now(); g != nil {
		return g.Grant.Authority
	}
	return nil
}

// Expires is when this node's certificate ends, the zero time before it has one.
func (i *Identity) Expires() time.Time {
	if g := i.now(); g != nil {
		return g.cert.NotAfter
	}
	return time.Time{}
}

// NeedsRenewal says whether a third or less of the certificate's life is left, or there is none.
func (i *Identity) NeedsRenewal(now time.Time) bool {
	g := i.now()
	if g == nil {
		return true
	}
	life := g.cert.NotAfter.Sub(g.cert.NotBefore)
	return g.cert.NotAfter.Sub(now) <= life/3
}

// certificate is what is shown in a handshake; empty before there is one.
func (g *granted) certificate(key ed25519.PrivateKey) *tls.Certificate {
	if g == nil {
		return &tls.Certificate{}
	}
	return &tls.Certificate{Certificate: [][]byte{g.Certificate}, PrivateKey: key, Leaf: g.cert}
}

// Format writes who it is and no key, whatever the verb.
func (i *Identity) Format(f fmt.State, _ rune) {
	claims, _ := i.Claims()
	fmt.Fprintf(f, "identity of node %q", claims.NodeID)
}
