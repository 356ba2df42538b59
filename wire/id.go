package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// AppID names an app: the SHA-256 of its first secret. Its text form is 64 lowercase hex digits.
type AppID [32]byte

// ErrAppID is what ParseAppID says of any text that is not exactly 64 lowercase hex digits.
var ErrAppID = errors.New("app id is not 64 lowercase hex digits")

// ParseAppID reads the text form of an app id. Upper case is refused, since paths and table keys compare bytes.
func ParseAppID(s string) (AppID, error) {
	var id AppID
	if len(s) != 2*len(id) {
		return AppID{}, ErrAppID
	}
	for i := range id {
		hi, lo := hexDigit(s[2*i]), hexDigit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return AppID{}, ErrAppID
		}
		id[i] = hi<<4 | lo
	}
	return id, nil
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// AppIDOf derives the id of the app that has this secret.
func AppIDOf(secret string) AppID { return sha256.Sum256([]byte(secret)) }

// String is the text form, 64 lowercase hex digits.
func (a AppID) String() string { return hex.EncodeToString(a[:]) }

// IsZero says whether no app is named.
func (a AppID) IsZero() bool { return a == AppID{} }

// StateID names a state within its app: a room, a match, a document.
type StateID uint64

// ErrStateID is what ParseStateID says of any text that is not an unsigned 64-bit number in base 36.
var ErrStateID = errors.New("state id is not a 64-bit number in base 36")

// maxStateText bounds the text form: leading zeros are harmless but not endless.
const maxStateText = 64

// ParseStateID reads a state id in base 36, in either case, with any leading zeros up to 64 characters in all. The
// empty text, any other character (a sign, a space, an underscore) and a value beyond 64 bits are ErrStateID.
func ParseStateID(s string) (StateID, error) {
	if s == "" || len(s) > maxStateText {
		return 0, ErrStateID
	}
	const cutoff = (1<<64 - 1) / 36
	var v uint64
	for i := range len(s) {
		c := s[i]
		var d uint64
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'z':
			d = uint64(c-'a') + 10
		case c >= 'A' && c <= 'Z':
			d = uint64(c-'A') + 10
		default:
			return 0, ErrStateID
		}
		if v > cutoff || v*36+d < v*36 {
			return 0, ErrStateID
		}
		v = v*36 + d
	}
	return StateID(v), nil
}

// String is the canonical text form: lowercase base 36 without leading zeros, 1 to 13 characters.
func (s StateID) String() string { return strconv.FormatUint(uint64(s), 36) }

// Append appends the canonical text form to dst.
func (s StateID) Append(dst []byte) []byte { return strconv.AppendUint(dst, uint64(s), 36) }

// NodeSession is one life of a node in the cluster: the index of the entry that opened it. Never reused.
type NodeSession uint64

// InstanceID is one life of a backend process: the index of the entry that registered it. Never reused.
type InstanceID uint64

// Gen counts the attachments of one instance: it grows when its tunnel does, the InstanceID does not.
type Gen uint32

// Epoch says which assignment of a state is meant: 24 bits of cluster generation above 40 bits of the index of the
// entry that assigned it. Later assignments compare greater.
type Epoch uint64

const (
	epochIndexBits  = 40
	maxEpochIndex   = 1<<epochIndexBits - 1
	maxEpochCluster = 1<<24 - 1
)

// MakeEpoch joins a cluster generation (at most 24 bits) and an entry's index (at most 40 bits). Beyond those limits,
// which are 16 million recoveries and 35 years of 1,000 entries a second, it panics rather than repeat an epoch.
func MakeEpoch(generation uint32, index uint64) Epoch {
	if generation > maxEpochCluster || index > maxEpochIndex {
		panic(fmt.Sprintf("wire: epoch of generation %d and index %d does not fit into 24 and 40 bits", generation, index))
	}
	return Epoch(uint64(generation)<<epochIndexBits | index)
}

// Generation is the cluster generation in which the assignment was made.
func (e Epoch) Generation() uint32 { return uint32(e >> epochIndexBits) }

// Index is the index of the entry that made the assignment.
func (e Epoch) Index() uint64 { return uint64(e) & maxEpochIndex }

// ConnID is the way back to one session: the life of the node that holds it, and that node's counter. Never reused.
type ConnID struct {
	Node NodeSession
	Seq  uint64
}

// StreamID is 128 random bits that an SDK client keeps when it resumes elsewhere. Numbers, acknowledgements and
// high-water marks belong to the stream, not to the connection.
type StreamID [16]byte

// String is 32 lowercase hex digits.
func (s StreamID) String() string { return hex.EncodeToString(s[:]) }
