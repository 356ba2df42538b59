package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
)

// KeyID returns the kid of a node's key: the node's name, a dot, and how often
// the node has started.
func KeyID(node string, boot uint64) string { return node + "." + strconv.FormatUint(boot, 10) }

// JWKS returns the public keys by kid as a JSON Web Key Set (RFC 7517), ordered
// by kid.
func JWKS(keys map[string]ed25519.PublicKey) []byte {
	b := []byte(`{"keys":[`)
	for i, kid := range slices.Sorted(maps.Keys(keys)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig",`...)
		b = append(appendPair(b, "kid", kid), `,"x":"`...)
		b = base64.RawURLEncoding.AppendEncode(b, keys[kid])
		b = append(b, `"}`...)
	}
	return append(b, `]}`...)
}
