package trust

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ServerTLS is for the port between nodes. Whoever shows a certificate must be a node of this cluster and allowed; who
// shows none gets through, and may be let enrol and nothing else: ask PeerOf. allowed is called in each handshake and may
// be nil.
func (i *Identity) ServerTLS(allowed func(Peer) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // a node that was shut out must not come back on a ticket
		ClientAuth:             tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			g := i.now()
			if g == nil {
				return nil, ErrNoCertificate
			}
			return g.certificate(i.key), nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			_, err := i.verify(s, x509.ExtKeyUsageClientAuth, allowed)
			return err
		},
	}
}

// ClientTLS is for connections to a node: the one with the id expect, any one of this cluster if that is "". allowed is
// as for ServerTLS.
func (i *Identity) ClientTLS(expect string, allowed func(Peer) error) *tls.Config {
	c := EnrolTLS()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return i.now().certificate(i.key), nil
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		peer, err := i.verify(s, x509.ExtKeyUsageServerAuth, nil)
		switch {
		case err != nil:
			return err
		case expect != "" && peer.NodeID != expect:
			return fmt.Errorf("%w answers: %q, not %q", ErrOtherNode, peer.NodeID, expect)
		}
		return admit(peer, allowed)
	}
	return c
}

// EnrolTLS is for connections over which a node asks for a certificate. It shows none and checks none: who is at the
// other end is proved by what is said over the connection (see Keys.OpenAnswer), and until then is nobody.
func EnrolTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Names of hosts mean nothing here. Where certificates are checked, VerifyConnection does it.
		InsecureSkipVerify: true,
	}
}

// verify checks the certificate at the other end and says whose it is.
func (i *Identity) verify(s tls.ConnectionState, use x509.ExtKeyUsage, allowed func(Peer) error) (Peer, error) {
	g := i.now()
	switch {
	case g == nil:
		return Peer{}, ErrNoCertificate
	case len(s.PeerCertificates) != 1:
		return Peer{}, fmt.Errorf("the other end has shown %d certificates, not one", len(s.PeerCertificates))
	}
	cert := s.PeerCertificates[0]
	peer, err := peerOf(cert)
	if err != nil {
		return Peer{}, err
	}
	// First, since the authority of another cluster is another one as well, and that would explain less.
	if peer.Incarnation != g.Incarnation {
		return Peer{}, &IncarnationError{Ours: g.Incarnation, Theirs: peer.Incarnation}
	}
	if err := chain(cert, g.authority, use, i.clock()); err != nil {
		return Peer{}, fmt.Errorf("the certificate of %q is not valid here: %w", peer.NodeID, err)
	}
	return peer, admit(peer, allowed)
}

func admit(peer Peer, allowed func(Peer) error) error {
	if allowed == nil {
		return nil
	}
	if err := allowed(peer); err != nil {
		return fmt.Errorf("node %q is not allowed: %w", peer.NodeID, err)
	}
	return nil
}

// PeerOf says who is at the other end of a connection that was made with ServerTLS or ClientTLS, false if it has shown
// no certificate. Of one that was made with EnrolTLS nothing is known, whatever this says.
func PeerOf(s tls.ConnectionState) (Peer, bool) {
	if !s.HandshakeComplete || len(s.PeerCertificates) == 0 {
		return Peer{}, false
	}
	peer, err := peerOf(s.PeerCertificates[0])
	return peer, err == nil
}

func peerOf(cert *x509.Certificate) (Peer, error) {
	claims, err := claimsOf(cert)
	if err != nil {
		return Peer{}, err
	}
	public, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return Peer{}, errors.New("the certificate's key is not an Ed25519 key")
	}
	return Peer{NodeID: claims.NodeID, KeyHash: KeyHash(public), Incarnation: claims.Incarnation}, nil
}
