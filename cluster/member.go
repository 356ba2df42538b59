package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/cluster/trust"
)

const (
	nodeFolder    = "node"
	memberFile    = "member"
	authorityFile = "ca.key"
	ownKeyFile    = "cluster.key"
	maxMember     = 64 << 10
)

// member is what a node remembers of its place in the cluster, beside its replica: enough to come back without being told
// anything.
type member struct {
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	// Server names the replica among the others: the node's id and the index at which it was added. "" before that, and
	// when the replica in the data directory must not be used again.
	Server string `json:"server"`
	// Incarnation and Generation are the cluster's present ones, Lineage the incarnation it was formed with: it stays the
	// same when a cluster is recovered.
	Incarnation id128  `json:"incarnation"`
	Lineage     id128  `json:"lineage"`
	Generation  uint32 `json:"generation"`
	Profile     uint8  `json:"profile"`
	// Forming: the node makes up the cluster and its table does not say so yet. Settled: it has been a member under this
	// name of its replica.
	Forming bool `json:"forming,omitempty"`
	Settled bool `json:"settled,omitempty"`
	// Left: the node has left the cluster for good.
	Left bool `json:"left,omitempty"`
	// Recovered: the node is to sign its own certificate, since it begins a new generation of the cluster.
	Recovered bool `json:"recovered,omitempty"`
	// Only: it is the only voter, so nobody else is sure to have what it has.
	Only bool `json:"only,omitempty"`
	// Addr is where other nodes reached this one last.
	Addr string `json:"addr,omitempty"`
	// Peers are the node ports of other nodes, as last seen.
	Peers []string `json:"peers,omitempty"`
}

// id128 is 16 bytes, hexadecimal in text.
type id128 [16]byte

// MarshalText writes hexadecimal digits.
func (v id128) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", v[:]), nil }

// UnmarshalText reads them.
func (v *id128) UnmarshalText(text []byte) error {
	var b []byte
	if _, err := fmt.Sscanf(string(text), "%x", &b); err != nil || len(b) != len(v) {
		return fmt.Errorf("%q is not 32 hexadecimal digits", text)
	}
	copy(v[:], b)
	return nil
}

// readMember reads what a data directory knows of the node's place; ok is false where it has none yet.
func readMember(dataDir string) (m member, ok bool, err error) {
	path := filepath.Join(dataDir, nodeFolder, memberFile)
	text, err := trust.ReadPrivate(path, maxMember)
	if errors.Is(err, fs.ErrNotExist) {
		return member{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return member{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	return m, true, nil
}

// writeMember replaces it.
func writeMember(dataDir string, m member) error {
	if dataDir == "" {
		return nil
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the node's place: %w", err)
	}
	return trust.WritePrivate(filepath.Join(dataDir, nodeFolder, memberFile), append(text, '\n'))
}

// place returns what the node knows of its place.
func (n *Node) place() member {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.member
	m.Peers = slices.Clone(m.Peers)
	return m
}

// setPlace changes it, on the disk first.
func (n *Node) setPlace(change func(*member)) error {
	defer n.placing.take()()
	m := n.place()
	before := m
	before.Peers = slices.Clone(m.Peers)
	change(&m)
	if equalMember(&before, &m) {
		return nil
	}
	if err := writeMember(n.cfg.DataDir, m); err != nil {
		return err
	}
	n.mu.Lock()
	n.member = m
	n.mu.Unlock()
	return nil
}

func equalMember(a, b *member) bool {
	x, y := *a, *b
	x.Peers, y.Peers = nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y) && slices.Equal(a.Peers, b.Peers)
}

// nodeOf is the node that a server id names: its id without the index.
func nodeOf(server string) string {
	if i := strings.LastIndexByte(server, '.'); i >= 0 {
		return server[:i]
	}
	return server
}
