package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
)

// maxKeys is how many keys of one set are looked at.
const maxKeys = 64

// issuerKey is one public key of an issuer with the one algorithm it may be used
// with. The algorithm comes from the key, never from a token.
type issuerKey struct {
	public crypto.PublicKey
	alg    string
}

// jwk is the part of RFC 7517 that is read.
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// parseKeys reads a key set. Keys of unknown kinds, of another use or that are
// too weak are skipped; a set without a single usable key is an error.
func parseKeys(raw []byte) (map[string]issuerKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, errors.New("the key set is not JSON")
	}
	keys := make(map[string]issuerKey)
	for i := range set.Keys[:min(len(set.Keys), maxKeys)] {
		k := &set.Keys[i]
		if k.Use != "" && k.Use != "sig" || len(k.Kid) > 256 {
			continue
		}
		if key, ok := k.key(); ok {
			keys[k.Kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key that can be used")
	}
	return keys, nil
}

// key decodes the key. RSA keys are for RS256 unless they name RS384, RS512 or
// PS256; a curve has one algorithm.
func (k *jwk) key() (issuerKey, bool) {
	var key issuerKey
	switch k.Kty + " " + k.Crv {
	case "RSA ":
		key.alg = "RS256"
		if k.Alg == "RS384" || k.Alg == "RS512" || k.Alg == "PS256" {
			key.alg = k.Alg
		}
		key.public = k.rsa()
	case "EC P-256":
		key.alg = "ES256"
		key.public = k.ecdsa(elliptic.P256(), 32)
	case "EC P-384":
		key.alg = "ES384"
		key.public = k.ecdsa(elliptic.P384(), 48)
	case "OKP Ed25519":
		key.alg = "EdDSA"
		if x, err := base64.RawURLEncoding.DecodeString(k.X); err == nil && len(x) == ed25519.PublicKeySize {
			key.public = ed25519.PublicKey(x)
		}
	}
	return key, key.public != nil && (k.Alg == "" || k.Alg == key.alg)
}

func (k *jwk) rsa() crypto.PublicKey {
	n, err1 := base64.RawURLEncoding.DecodeString(k.N)
	e, err2 := base64.RawURLEncoding.DecodeString(k.E)
	if err1 != nil || err2 != nil || len(e) == 0 || len(e) > 4 {
		return nil
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := public.N.BitLen(); bits < 2048 || bits > 8192 || public.E < 3 || public.E&1 == 0 || public.E > 1<<31-1 {
		return nil
	}
	return public
}

func (k *jwk) ecdsa(curve elliptic.Curve, size int) crypto.PublicKey {
	x, err1 := base64.RawURLEncoding.DecodeString(k.X)
	y, err2 := base64.RawURLEncoding.DecodeString(k.Y)
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size {
		return nil
	}
	point := append(append([]byte{4}, x...), y...)
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil
	}
	return public
}
