package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"strings"
)

// An anonymous id is 12 random characters and 6 of a MAC over them; a nickname's
// id is 13 random characters, so that none is ever taken for the other.
const (
	anonymousRandom = 12
	anonymousMAC    = 6
	nicknameRandom  = 13

	// Separator joins the words of a name where nothing else is said.
	Separator = "-"
)

const base36 = "0123456789abcdefghijklmnopqrstuvwxyz"

// randomID returns n random characters of [0-9a-z].
func randomID(n int) string {
	out := make([]byte, 0, n)
	var b [32]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
		for _, c := range b {
			if c < 252 && len(out) < n { // 252 = 7*36: every character equally likely
				out = append(out, base36[c%36])
			}
		}
	}
	return string(out)
}

// sign computes what belongs to the random part of an anonymous id: its MAC and
// the number that its name is drawn with.
func (p *Providers) sign(random string) (mac [anonymousMAC]byte, draw uint64) {
	h := hmac.New(sha256.New, p.cfg.MACKey[:])
	_, _ = h.Write([]byte("trunkline anonymous id 1\x00"))
	_, _ = h.Write([]byte(random))
	sum := h.Sum(nil)
	v := binary.BigEndian.Uint64(sum)
	for i := range mac {
		mac[i] = base36[v%36]
		v /= 36
	}
	return mac, binary.BigEndian.Uint64(sum[8:])
}

// newAnonymous makes a new anonymous identity.
func (p *Providers) newAnonymous(separator string) Identity {
	random := randomID(anonymousRandom)
	mac, draw := p.sign(random)
	return Identity{Type: TypeAnonymous, ID: random + string(mac[:]), Name: drawName(draw, separator)}
}

// Anonymous returns the identity behind an anonymous id, the words of its name
// joined with the separator; false if the id was not made with this key. Nothing
// is stored for it: the name is a function of the id.
func (p *Providers) Anonymous(id, separator string) (Identity, bool) {
	if len(id) != anonymousRandom+anonymousMAC {
		return Identity{}, false
	}
	mac, draw := p.sign(id[:anonymousRandom])
	if subtle.ConstantTimeCompare(mac[:], []byte(id[anonymousRandom:])) != 1 {
		return Identity{}, false
	}
	return Identity{Type: TypeAnonymous, ID: id, Name: drawName(draw, separator)}, true
}

// drawName turns a number into adjective, colour and animal.
func drawName(draw uint64, separator string) string {
	words := []string{adjectives[draw%uint64(len(adjectives))], "", ""}
	draw /= uint64(len(adjectives))
	words[1] = colours[draw%uint64(len(colours))]
	draw /= uint64(len(colours))
	words[2] = animals[draw%uint64(len(animals))]
	return strings.Join(words, separator)
}
