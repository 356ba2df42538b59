package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// throwAwayLife is how long dev's certificates are good; browsers take no more
// than about a year from a private authority either.
const throwAwayLife = 90 * 24 * time.Hour

// ThrowAway is an authority made for one run of dev, and the certificate it
// signed. The authority's key never leaves memory.
type ThrowAway struct {
	Pair *tls.Certificate
	// CAFile is the authority's certificate in PEM, for NODE_EXTRA_CA_CERTS and
	// the like.
	CAFile string
	dir    string
}

// NewThrowAway makes an authority and a certificate for localhost and the given
// hosts (names or addresses), and writes the authority's certificate below the
// directory tmp ("" = the system's).
func NewThrowAway(tmp string, hosts []string, now time.Time) (*ThrowAway, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	ca := template("Trunkline dev (throw-away)", now)
	ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero = true, true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	leaf := template("localhost", now)
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, hosts...) {
		if addr, err := netip.ParseAddr(host); err == nil {
			leaf.IPAddresses = append(leaf.IPAddresses, addr.Unmap().AsSlice())
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	dir, err := os.MkdirTemp(tmp, "trunkline-dev-")
	if err != nil {
		return nil, fmt.Errorf("keep the authority's certificate: %w", err)
	}
	t := &ThrowAway{
		Pair:   &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		CAFile: filepath.Join(dir, "ca.pem"),
		dir:    dir,
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	if err := os.WriteFile(t.CAFile, text, 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the authority's certificate: %w", err), t.Remove())
	}
	return t, nil
}

// Certificate answers the pair.
func (t *ThrowAway) Certificate() *tls.Certificate { return t.Pair }

// Remove takes the authority's certificate off the disk.
func (t *ThrowAway) Remove() error {
	if err := os.RemoveAll(t.dir); err != nil {
		return fmt.Errorf("remove the throw-away authority: %w", err)
	}
	return nil
}

func template(name string, now time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // fails only when rand.Reader does, which ends the process
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(throwAwayLife),
	}
}
