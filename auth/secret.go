package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"
)

// MinSecret is the length in characters below which a secret that somebody made
// up counts as weak: 22 characters of base64 are 128 random bits.
const MinSecret = 22

// mintedSecret is how many random bytes a minted secret has.
const mintedSecret = 32

// Secret is text that must never be shown: every way to print, log or marshal it
// gives "***". Convert it with string(s) where it is really needed.
type Secret string

// SecretHash is the SHA-256 of a secret; in lowercase hexadecimal it is the
// app's id. Only hashes are kept.
type SecretHash [sha256.Size]byte

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

// MintSecret returns a new secret of 32 random bytes, as 43 characters of
// unpadded base64url.
func MintSecret() Secret {
	var b [mintedSecret]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
	return Secret(base64.RawURLEncoding.EncodeToString(b[:]))
}

// Weak reports whether the secret is shorter than [MinSecret] bytes.
func (s Secret) Weak() bool { return len(s) < MinSecret }

// Hash returns the SHA-256 of the secret.
func (s Secret) Hash() SecretHash { return sha256.Sum256([]byte(s)) }

// Matches reports whether the secret is one of those hashed, comparing hashes in
// time that depends on how many there are and on nothing else.
func (s Secret) Matches(hashes ...SecretHash) bool {
	h, found := s.Hash(), 0
	for i := range hashes {
		found |= subtle.ConstantTimeCompare(h[:], hashes[i][:])
	}
	return found == 1
}
