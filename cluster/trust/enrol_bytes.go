package trust

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of what enrolment sends.
const (
	MaxRequest = 1 << 10
	MaxAnswer  = 16 << 10
	MaxRefusal = 512 // bytes of a refusal's sentence
	MaxVoters  = 9   // addresses in an answer
	maxAddress = 255

	enrolVersion = 1
)

// The kinds of answers.
const (
	answerGrant   = 1
	answerVoters  = 2
	answerRefusal = 3
)

// A request is, numbers big-endian, texts behind their length in one byte:
//
//	u8 version (1) | text cluster | text node id | 16 incarnation | 32 Ed25519 public key | 32 nonce
//	u8 n, 1 to 8, and n times: 8 key id | 32 MAC
func (r *Request) append(dst []byte) []byte {
	dst = appendText(appendText(append(dst, enrolVersion), r.Cluster), r.NodeID)
	return append(append(append(dst, r.Incarnation[:]...), r.Public...), r.Nonce[:]...)
}

func (r *Request) check() error {
	if err := CheckName(r.Cluster); err != nil {
		return err
	}
	if len(r.Public) != ed25519.PublicKeySize {
		return fmt.Errorf("a public key of %d bytes", len(r.Public))
	}
	return CheckNodeID(r.NodeID)
}

// parseRequest returns a request, the bytes that its proofs are of, and these.
func parseRequest(b []byte) (Request, []byte, []proof, error) {
	var r Request
	if len(b) > MaxRequest {
		return r, nil, nil, fmt.Errorf("a request of %d bytes, at most %d", len(b), MaxRequest)
	}
	in := input{rest: b}
	if v := in.u8(); v != enrolVersion && !in.short {
		return r, nil, nil, fmt.Errorf("a request of version %d, this node knows version %d", v, enrolVersion)
	}
	r.Cluster, r.NodeID = in.text(), in.text()
	copy(r.Incarnation[:], in.take(len(r.Incarnation)))
	r.Public = slices.Clone(in.take(ed25519.PublicKeySize))
	copy(r.Nonce[:], in.take(len(r.Nonce)))
	body := b[:len(b)-len(in.rest)]
	n := int(in.u8())
	if !in.short && (n == 0 || n > MaxSecrets) {
		return r, nil, nil, fmt.Errorf("a request with %d proofs, 1 to %d are possible", n, MaxSecrets)
	}
	var proofs []proof
	for range n {
		proofs = append(proofs, in.proof())
	}
	if err := in.end(); err != nil {
		return r, nil, nil, err
	}
	return r, body, proofs, r.check()
}

// An answer is:
//
//	u8 version (1) | u8 kind | text cluster | 16 incarnation | u32 generation
//	kind 1, a grant:   u16 length and certificate in DER | u16 length and certificate of the authority
//	kind 2, voters:    u8 n, 1 to 9, and n times: text host:port
//	kind 3, a refusal: u16 code | u16 length and sentence
//	u8 0, or u8 1 | 8 key id | 32 MAC
func (a *Answer) append(dst []byte) []byte {
	dst = appendText(append(dst, enrolVersion, a.kind()), a.Cluster)
	dst = binary.BigEndian.AppendUint32(append(dst, a.Incarnation[:]...), a.Generation)
	switch a.kind() {
	case answerGrant:
		dst = appendBytes(appendBytes(dst, a.Grant.Certificate), a.Grant.Authority)
	case answerVoters:
		dst = append(dst, byte(len(a.Voters)))
		for _, addr := range a.Voters {
			dst = appendText(dst, addr)
		}
	case answerRefusal:
		dst = binary.BigEndian.AppendUint16(dst, uint16(a.Refusal.Code))
		dst = appendBytes(dst, []byte(a.Refusal.Text))
	}
	return dst
}

func (a *Answer) kind() byte {
	switch {
	case a.Refusal != nil:
		return answerRefusal
	case a.Grant.Certificate != nil:
		return answerGrant
	}
	return answerVoters
}

// check says what is wrong with an answer that is to be proved.
func (a *Answer) check() error {
	if err := CheckName(a.Cluster); err != nil {
		return err
	}
	return a.checkKind()
}

func (a *Answer) checkKind() error {
	switch a.kind() {
	case answerGrant:
		if c, ca := len(a.Grant.Certificate), len(a.Grant.Authority); c == 0 || c > maxCertificate || ca == 0 || ca > maxCertificate {
			return fmt.Errorf("certificates of %d and %d bytes, at most %d", c, ca, maxCertificate)
		}
	case answerVoters:
		if len(a.Voters) == 0 || len(a.Voters) > MaxVoters {
			return fmt.Errorf("addresses of %d voters, 1 to %d are possible", len(a.Voters), MaxVoters)
		}
		for _, addr := range a.Voters {
			if addr == "" || len(addr) > maxAddress || !utf8.ValidString(addr) {
				return fmt.Errorf("the address of a voter has %d bytes, 1 to %d of text are possible", len(addr), maxAddress)
			}
		}
	case answerRefusal:
		if r := a.Refusal; r.Code == 0 || len(r.Text) > MaxRefusal || !utf8.ValidString(r.Text) {
			return fmt.Errorf("a refusal with code %d and %d bytes, at most %d of text", r.Code, len(r.Text), MaxRefusal)
		}
	}
	return nil
}

// parseAnswer returns an answer, the bytes that its proof is of, and this, nil if there is none.
func parseAnswer(b []byte) (Answer, []byte, *proof, error) {
	var a Answer
	if len(b) > MaxAnswer {
		return a, nil, nil, fmt.Errorf("an answer of %d bytes, at most %d", len(b), MaxAnswer)
	}
	in := input{rest: b}
	if v := in.u8(); v != enrolVersion && !in.short {
		return a, nil, nil, fmt.Errorf("an answer of version %d, this node knows version %d", v, enrolVersion)
	}
	kind := in.u8()
	a.Cluster = in.text()
	copy(a.Incarnation[:], in.take(len(a.Incarnation)))
	a.Generation = in.u32()
	switch kind {
	case answerGrant:
		a.Grant = Grant{Certificate: slices.Clone(in.bytes()), Authority: slices.Clone(in.bytes())}
	case answerVoters:
		for range min(int(in.u8()), MaxVoters+1) {
			a.Voters = append(a.Voters, in.text())
		}
	case answerRefusal:
		a.Refusal = &Refusal{Code: Code(in.u16()), Text: string(in.bytes())}
	}
	body := b[:len(b)-len(in.rest)]
	proved := in.u8()
	var p *proof
	if proved == 1 {
		got := in.proof()
		p = &got
	}
	if err := in.end(); err != nil {
		return a, nil, nil, err
	}
	if kind != a.kind() || proved > 1 {
		return a, nil, nil, fmt.Errorf("an answer of kind %d, proof %d", kind, proved)
	}
	if p != nil {
		return a, body, p, a.check()
	}
	return a, body, nil, a.checkKind()
}

func appendText(dst []byte, s string) []byte { return append(append(dst, byte(len(s))), s...) }

func appendBytes(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

// clip makes a sentence fit into a refusal.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), MaxRefusal)], "") }

// input is bytes that are being read. Past their end everything is empty, and end says so.
type input struct {
	rest  []byte
	short bool
}

var errShort = errors.New("it ends too early")

func (in *input) take(n int) []byte {
	if in.short || n > len(in.rest) {
		in.short = true
		return nil
	}
	b := in.rest[:n]
	in.rest = in.rest[n:]
	return b
}

func (in *input) u8() byte {
	if b := in.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (in *input) u16() uint16 {
	if b := in.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (in *input) u32() uint32 {
	if b := in.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (in *input) text() string { return string(in.take(int(in.u8()))) }

func (in *input) bytes() []byte { return in.take(int(in.u16())) }

func (in *input) proof() proof {
	var p proof
	copy(p.id[:], in.take(len(p.id)))
	copy(p.mac[:], in.take(len(p.mac)))
	return p
}

func (in *input) end() error {
	switch {
	case in.short:
		return errShort
	case len(in.rest) > 0:
		return fmt.Errorf("there are %d bytes too many", len(in.rest))
	}
	return nil
}
