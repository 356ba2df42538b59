package admin

import (
	"crypto/rand"
	"encoding/base64"
	"log/slog"
)

// Secret is a text that never appears in a log: it prints as ***.
type Secret string

// String answers *** for any secret, nothing for none.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString answers the same as String.
func (s Secret) GoString() string { return s.String() }

// LogValue answers the same as String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MinSecretLength is the length in bytes below which a given app secret is
// refused unless the operator insists: 22 characters of base64 hold 128 bits.
const MinSecretLength = 22

// maxSecretLength keeps a secret within what a registration carries.
const maxSecretLength = 1024

// newSecret makes a secret of 32 random bytes in unpadded URL-safe base64.
func newSecret() Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return Secret(base64.RawURLEncoding.EncodeToString(b[:]))
}
