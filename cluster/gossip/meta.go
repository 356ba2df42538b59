package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/trunkline-edge/trunkline/wire"
)

// Role is what a node is in the cluster, as it says itself.
type Role uint8

// The roles.
const (
	Joining  Role = iota // it has no replica yet
	NonVoter             // it has the table and no vote
	Voter
)

// String is the role as listings show it.
func (r Role) String() string {
	switch r {
	case Joining:
		return "joining"
	case NonVoter:
		return "non-voter"
	case Voter:
		return "voter"
	}
	return "unknown"
}

// Meta is what a node says of itself to all others.
//
// Its bytes, numbers big endian:
//
//	u8   1, the version of this format
//	u8   flags: bits 0 and 1 the role, bit 2 draining; a reader ignores the others
//	[16] incarnation of the cluster, zero: none yet
//	u32  number of the node
//	u64  node session
//	u16  lowest protocol version it speaks
//	u16  highest
//	u8 n, [n] region
//	u8 n, [n] address of its node port, host:port
//	u8 n, [n] version of the program
//
// Later versions of the program may append fields, which a reader ignores. Where gossip itself reaches the node is not
// in here: memberlist knows it.
type Meta struct {
	Incarnation        [16]byte // zero: the node has joined no cluster yet
	Number             uint32   // small number of the node, 0 while it has none
	Session            wire.NodeSession
	Role               Role
	Draining           bool
	ProtoMin, ProtoMax uint16
	Region             string // at most 64 bytes
	NodeAddr           string // host:port, "" while it has none
	Version            string // of the program, at most 32 bytes
}

// MaxMeta bounds the bytes of a Meta.
const MaxMeta = 199

const (
	metaVersion  = 1
	metaFixed    = 1 + 1 + 16 + 4 + 8 + 2 + 2
	flagRole     = 0b011
	flagDraining = 0b100
	maxRegion    = 64
	maxVersion   = 32
	maxNodeAddr  = MaxMeta
)

// ErrMeta is what ParseMeta says of anything that is not the bytes of a valid Meta.
var ErrMeta = errors.New("metadata of a node is not valid")

// AppendMeta appends the bytes of a Meta. Use Validate before: texts that are too long are cut.
func AppendMeta(dst []byte, m Meta) []byte {
	flags := byte(m.Role) & flagRole
	if m.Draining {
		flags |= flagDraining
	}
	dst = append(dst, metaVersion, flags)
	dst = append(dst, m.Incarnation[:]...)
	dst = binary.BigEndian.AppendUint32(dst, m.Number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Session))
	dst = binary.BigEndian.AppendUint16(dst, m.ProtoMin)
	dst = binary.BigEndian.AppendUint16(dst, m.ProtoMax)
	dst = appendText(dst, m.Region, maxRegion)
	dst = appendText(dst, m.NodeAddr, maxNodeAddr)
	return appendText(dst, m.Version, maxVersion)
}

// ParseMeta reads the bytes of a Meta and checks it.
func ParseMeta(b []byte) (Meta, error) {
	if len(b) > MaxMeta || len(b) < metaFixed || b[0] != metaVersion {
		return Meta{}, ErrMeta
	}
	m := Meta{
		Role: Role(b[1] & flagRole), Draining: b[1]&flagDraining != 0,
		Incarnation: [16]byte(b[2:18]),
		Number:      binary.BigEndian.Uint32(b[18:]),
		Session:     wire.NodeSession(binary.BigEndian.Uint64(b[22:])),
		ProtoMin:    binary.BigEndian.Uint16(b[30:]),
		ProtoMax:    binary.BigEndian.Uint16(b[32:]),
	}
	rest, ok := b[metaFixed:], true
	for _, field := range []*string{&m.Region, &m.NodeAddr, &m.Version} {
		if *field, rest, ok = cutText(rest); !ok {
			return Meta{}, ErrMeta
		}
	}
	if m.Validate() != nil {
		return Meta{}, ErrMeta
	}
	return m, nil
}

// Validate says what is wrong with a Meta. One without an error survives AppendMeta and ParseMeta.
func (m Meta) Validate() error {
	switch {
	case m.Role > Voter:
		return fmt.Errorf("role %d is none", m.Role)
	case m.ProtoMin > m.ProtoMax:
		return fmt.Errorf("protocol versions %d to %d are no range", m.ProtoMin, m.ProtoMax)
	case len(m.Region) > maxRegion || !printable(m.Region):
		return fmt.Errorf("region %.80q is longer than %d bytes or not printable", m.Region, maxRegion)
	case len(m.Version) > maxVersion || !printable(m.Version):
		return fmt.Errorf("version %.80q is longer than %d bytes or not printable", m.Version, maxVersion)
	case m.NodeAddr != "" && !address(m.NodeAddr):
		return fmt.Errorf("node address %.80q is not host:port", m.NodeAddr)
	}
	if n := metaFixed + 3 + len(m.Region) + len(m.NodeAddr) + len(m.Version); n > MaxMeta {
		return fmt.Errorf("region, node address and version have %d bytes together, %d more than fit", n, n-MaxMeta)
	}
	return nil
}

func appendText(dst []byte, s string, limit int) []byte {
	s = s[:min(len(s), limit)]
	return append(append(dst, byte(len(s))), s...)
}

// cutText takes a text with its length in front of it off b.
func cutText(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return "", nil, false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], true
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// address says whether s is host:port with a port that can be dialled.
func address(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !printable(s) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
