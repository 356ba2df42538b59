package trust

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
)

// Binding ties a proof to one TLS connection: both ends of it have the same, and no other connection has it. So a proof
// that somebody passes on proves nothing.
type Binding [32]byte

// BindingOf returns the binding of a connection whose handshake is over.
func BindingOf(s tls.ConnectionState) (Binding, error) {
	var b Binding
	if !s.HandshakeComplete || s.Version < tls.VersionTLS13 {
		return b, errors.New("a proof needs a finished handshake of TLS 1.3")
	}
	key, err := s.ExportKeyingMaterial("EXPORTER-trunkline-enrolment", nil, len(b))
	if err != nil {
		return b, fmt.Errorf("bind proof to connection: %w", err)
	}
	copy(b[:], key)
	return b, nil
}

// Request asks for a certificate.
type Request struct {
	Cluster     string   // the name in the asker's key file
	NodeID      string   // who the asker says to be
	Incarnation [16]byte // that the cluster of which the asker has data was formed with; zero: it has none
	Public      ed25519.PublicKey
	Nonce       [32]byte
}

// NewRequest is a request of this node under the given id.
func (i *Identity) NewRequest(cluster, nodeID string, incarnation [16]byte) Request {
	r := Request{Cluster: cluster, NodeID: nodeID, Incarnation: incarnation, Public: i.Public()}
	_, _ = rand.Read(r.Nonce[:])
	return r
}

// Code says why a certificate was refused.
type Code uint16

// The codes of refusals. They cross the wire: a number is never given to another.
const (
	BadRequest   Code = 1 // the request cannot be read
	NotProved    Code = 2 // the asker has none of our secrets
	OtherCluster Code = 3 // it names another cluster, or has been in another
	Denied       Code = 4 // the id is bound to another key
	NotNow       Code = 5 // nobody can say at present: ask again later
	Revoked      Code = 6 // the id was revoked
)

// Refusal is an answer that gives no certificate.
type Refusal struct {
	Code Code
	Text string // a sentence for the operator, at most MaxRefusal bytes
	// Proved says that who refuses has one of our secrets. Otherwise it may be anybody.
	Proved bool
}

func (r *Refusal) Error() string { return fmt.Sprintf("no certificate: %q (code %d)", r.Text, r.Code) }

// Answer is what a node that has been asked says: one of Grant, Voters and Refusal, and always of which cluster it is.
type Answer struct {
	Cluster     string
	Incarnation [16]byte
	Generation  uint32   // of the cluster: how often it has been recovered, from 1
	Grant       Grant    // the certificate
	Voters      []string // addresses of nodes to ask instead
	Refusal     *Refusal
}

// Asked is a request that was proved. Its answers carry a proof made with the same secret.
type Asked struct {
	Request
	// Key is the secret that it was proved with.
	Key     KeyID
	secret  Secret
	binding Binding
	body    []byte
}

const (
	labelRequest = "trunkline enrol request 1\x00"
	labelAnswer  = "trunkline enrol answer 1\x00"
)

// SealRequest writes a request down, with a proof by each of our secrets: the other end may have any of them.
func (k *Keys) SealRequest(r Request, b Binding) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("ask for certificate: %w", err)
	}
	body := r.append(nil)
	ring := k.now()
	sealed := append(body, byte(len(ring.secrets)))
	for _, s := range ring.secrets {
		sealed = proveRequest(s, b, body).append(sealed)
	}
	return sealed, nil
}

// OpenRequest reads a request and checks its proof. Its errors are each a *Refusal; Refuse writes them down. Whether the
// asker is of our cluster (Check) and whether its id is bound to its key is still to be seen.
func (k *Keys) OpenRequest(sealed []byte, b Binding) (*Asked, error) {
	r, body, proofs, err := parseRequest(sealed)
	if err != nil {
		return nil, &Refusal{Code: BadRequest, Text: err.Error()}
	}
	ring := k.now()
	for _, p := range proofs {
		i := ring.index(p.key())
		if i < 0 || !proveRequest(ring.secrets[i], b, body).equal(p) {
			continue
		}
		return &Asked{Request: r, Key: p.key(), secret: ring.secrets[i], binding: b, body: sealed}, nil
	}
	return nil, &Refusal{
		Code: NotProved,
		Text: "the secrets of the two key files have none in common: give the new node the key file of the nodes that run",
	}
}

// Check says why a node of the given cluster, formed with that incarnation, gives no certificate to who asks it: it has
// been in another cluster, or its key file names one. nil: there is no such reason.
func (a *Asked) Check(cluster string, incarnation [16]byte) *Refusal {
	switch {
	case a.Cluster != cluster:
		return &Refusal{Code: OtherCluster, Text: fmt.Sprintf("the key file of %.40q names cluster %q, the node that was asked is of cluster %q",
			a.NodeID, a.Cluster, cluster)}
	case a.Incarnation != [16]byte{} && a.Incarnation != incarnation:
		return &Refusal{Code: OtherCluster, Text: fmt.Sprintf("%.40q has been in another cluster (incarnation %x, this one is %x)",
			a.NodeID, a.Incarnation, incarnation)}
	}
	return nil
}

// Answer writes an answer down, with its proof.
func (a *Asked) Answer(answer Answer) ([]byte, error) {
	if err := answer.check(); err != nil {
		return nil, fmt.Errorf("answer %q: %w", a.NodeID, err)
	}
	body := answer.append(nil)
	return proveAnswer(a.secret, a.binding, a.body, body).append(append(body, 1)), nil
}

// Refuse writes down the refusal that OpenRequest has returned: without proof, and without a word on our cluster.
func Refuse(err error) []byte {
	r := &Refusal{Code: NotNow, Text: "the node that was asked cannot answer now"}
	errors.As(err, &r)
	answer := Answer{Refusal: &Refusal{Code: r.Code, Text: clip(r.Text)}}
	return append(answer.append(nil), 0)
}

// OpenAnswer reads an answer to a sealed request. Where no certificate is given the error is a *Refusal, and only if that
// is proved the rest of the answer is what the cluster says.
func (k *Keys) OpenAnswer(answer, request []byte, b Binding) (Answer, error) {
	asked, _, _, err := parseRequest(request)
	if err != nil {
		return Answer{}, fmt.Errorf("read own request: %w", err)
	}
	a, body, p, err := parseAnswer(answer)
	if err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", err)
	}
	if p == nil {
		if a.Refusal == nil {
			return Answer{}, errors.New("the answer comes without a proof: whoever gave it is not of our cluster")
		}
		return Answer{}, a.Refusal
	}
	ring := k.now()
	i := ring.index(p.key())
	if i < 0 || !proveAnswer(ring.secrets[i], b, request, body).equal(*p) {
		return Answer{}, errors.New("the answer's proof is wrong: somebody sits between the two nodes, or the keys have just changed")
	}
	if a.Refusal != nil {
		a.Refusal.Proved = true
		return a, a.Refusal
	}
	if a.Cluster != ring.name {
		return Answer{}, fmt.Errorf("the node that was asked is of cluster %q, not %q as this node's key file says", a.Cluster, ring.name)
	}
	if a.Grant.Certificate != nil {
		g, err := checkGrant(a.Grant, asked.Public)
		if err != nil {
			return Answer{}, fmt.Errorf("the certificate that was granted: %w", err)
		}
		if g.Claims != (Claims{a.Incarnation, asked.NodeID}) {
			return Answer{}, fmt.Errorf("the certificate that was granted is for node %q, not %q, or of another cluster", g.NodeID, asked.NodeID)
		}
	}
	return a, nil
}

// proof shows the knowledge of one secret.
type proof struct {
	id  [8]byte
	mac [sha256.Size]byte
}

func (p proof) append(dst []byte) []byte { return append(append(dst, p.id[:]...), p.mac[:]...) }

func (p proof) key() KeyID { return KeyID(hex.EncodeToString(p.id[:])) }

func (p proof) equal(q proof) bool { return p.id == q.id && hmac.Equal(p.mac[:], q.mac[:]) }

func prove(s Secret, label string, b Binding, parts ...[]byte) proof {
	var p proof
	copy(p.id[:], s.derive(labelID, len(p.id)))
	mac := hmac.New(sha256.New, s.derive(labelEnrol, 32))
	mac.Write([]byte(label))
	mac.Write(b[:])
	for _, part := range parts {
		mac.Write(part)
	}
	copy(p.mac[:], mac.Sum(nil))
	return p
}

func proveRequest(s Secret, b Binding, body []byte) proof { return prove(s, labelRequest, b, body) }

// proveAnswer covers the whole request, so that an answer is one to this request.
func proveAnswer(s Secret, b Binding, request, body []byte) proof {
	hash := sha256.Sum256(request)
	return prove(s, labelAnswer, b, hash[:], body)
}
