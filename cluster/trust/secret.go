package trust

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// secretSize is how many bytes a secret has.
const secretSize = 32

// What is derived from a secret, by HKDF-SHA256. A label is never used for anything else.
const (
	labelID     = "trunkline key id 1"
	labelGossip = "trunkline gossip 1"
	labelEnrol  = "trunkline enrolment 1"
)

// Secret is one secret of a cluster. It must never be shown: every way to print, log or marshal it gives "***".
type Secret struct{ bytes [secretSize]byte }

// KeyID names a secret without telling it: 16 lowercase hex digits.
type KeyID string

// NewSecret makes a random secret.
func NewSecret() Secret {
	var s Secret
	_, _ = rand.Read(s.bytes[:]) // crypto/rand never fails: it ends the process instead
	return s
}

// ParseSecret reads what Reveal gives: 43 characters of base64url.
func ParseSecret(text string) (Secret, error) {
	var s Secret
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != secretSize {
		return Secret{}, errors.New("a secret is 43 characters of base64url (32 bytes)")
	}
	copy(s.bytes[:], b)
	return s, nil
}

// Reveal returns the secret as text, for a key file or the control port and for nothing else.
func (s Secret) Reveal() string { return base64.RawURLEncoding.EncodeToString(s.bytes[:]) }

// ID returns the name of the secret.
func (s Secret) ID() KeyID { return KeyID(hex.EncodeToString(s.derive(labelID, 8))) }

func (s Secret) derive(label string, size int) []byte {
	key, err := hkdf.Key(sha256.New, s.bytes[:], nil, label, size)
	if err != nil {
		panic(fmt.Sprintf("trust: derive %d bytes: %v", size, err)) // only for more than 255 hashes
	}
	return key
}

// String returns "***".
func (Secret) String() string { return "***" }

// GoString returns "***", for %#v.
func (Secret) GoString() string { return "***" }

// LogValue returns "***", for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText returns "***", for JSON and everything else that encodes text.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Format writes "***" whatever the verb, so that %x and %q do not leak either.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
