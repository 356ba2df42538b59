package gossip

import (
	"encoding/binary"
	"errors"
)

// memberlist knows two ways of encrypting. The older one pads, and what is wrong with the padding makes it panic, as a
// stream with nothing in it does: one packet of a holder of the key would end the process. Nobody here uses that way, so
// whatever comes by it, or is empty, does not get to memberlist. The bytes:
//
//	label   244, u8 n, [n] name of the cluster
//	packet  label, u8 1 (the newer way), [12] nonce, [at least 1] sealed, [16] tag
//	stream  label (from who dialled only), u8 10 (encrypted), u32 length, the rest as a packet

const (
	labelled     = 244
	encrypted    = 10
	withoutPads  = 1
	smallestSeal = 1 + 12 + 1 + 16
)

var errSealed = errors.New("encrypted in a way that this cluster does not use")

// labelOf is what packets and streams of a cluster begin with.
func labelOf(cluster string) string { return string([]byte{labelled, byte(len(cluster))}) + cluster }

// passes says whether memberlist may have a packet. It refuses other labels by itself, before it decrypts anything.
func passes(packet []byte, label string) bool {
	if len(packet) < len(label) || string(packet[:len(label)]) != label {
		return true
	}
	packet = packet[len(label):]
	return len(packet) >= smallestSeal && packet[0] == withoutPads
}

// guard looks at the first bytes of a stream.
type guard struct {
	label string // what must come first; what has another label or is not encrypted, memberlist refuses
	seen  []byte
	done  bool
}

// see looks at what was read next.
func (g *guard) see(b []byte) error {
	if g.done {
		return nil
	}
	const head = 1 + 4 + 1 // encrypted, length, way
	whole := len(g.label) + head
	g.seen = append(g.seen, b[:min(len(b), whole-len(g.seen))]...)
	known := min(len(g.seen), len(g.label))
	if string(g.seen[:known]) != g.label[:known] {
		g.seen, g.done = nil, true
		return nil
	}
	rest := g.seen[known:]
	if len(rest) > 0 && rest[0] != encrypted {
		g.seen, g.done = nil, true
		return nil
	}
	if len(rest) < head {
		return nil
	}
	length, way := binary.BigEndian.Uint32(rest[1:]), rest[5]
	g.seen, g.done = nil, true
	if length < smallestSeal || way != withoutPads {
		return errSealed
	}
	return nil
}
