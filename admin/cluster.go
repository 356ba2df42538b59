package admin

import (
	"context"
	"errors"
	"io"
	"time"
)

// What a Cluster answers besides ErrNotFound, ErrExists and ErrRefused.
var (
	// ErrNotYet is the answer to a step that others must make possible first: 409.
	ErrNotYet = errors.New("not yet")
	// ErrUnavailable is the answer while the cluster cannot agree, as without a leader: 503.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnreachable is the answer when the node that was named does not answer: 502.
	ErrUnreachable = errors.New("unreachable")
)

// Cluster is this node as one of several. Nodes are named by their ids (--node-id); a name that no member has is
// ErrNotFound.
type Cluster interface {
	// Ready answers nil while this node knows its leader, holds its own lease and has caught up, else which of these it
	// does not.
	Ready() error
	// Members lists every node that the table or gossip knows, in the order of their names.
	Members(ctx context.Context) ([]Member, error)
	// ClusterStatus asks every member how it is, for at most two seconds. One that does not answer is listed with its
	// Error, and so is one that has no session and is still a server of raft. The port fills in Unreachable.
	ClusterStatus(ctx context.Context) (ClusterStatus, error)
	// Peers lists the servers of raft's configuration as this node knows it.
	Peers(ctx context.Context) (Peers, error)

	// Leave takes this node out of the cluster. It answers when the cluster has let go of it, and the process then stops
	// in order by itself. ErrRefused for the last node.
	Leave(ctx context.Context) error
	// ForceRemove takes another node out that will not come back as it was. ErrRefused for this node.
	ForceRemove(ctx context.Context, node string) error
	// Revoke makes every node refuse this one's certificate, for good. ErrRefused for this node.
	Revoke(ctx context.Context, node string) error

	// Snapshot writes the table, as it is now, in the form of a snapshot file.
	Snapshot(ctx context.Context, w io.Writer) error

	// Keys says which secrets each live member has in its key file.
	Keys(ctx context.Context) (KeyList, error)
	// AddKey sends a secret to every live member; empty: this node makes one. It is never answered, only its id.
	AddKey(ctx context.Context, secret Secret) (id string, err error)
	// UseKey makes a secret the primary one on every live member. ErrNotYet while one of them lacks it.
	UseKey(ctx context.Context, id string) error
	// DropKey takes a secret out of every live member's key file. ErrNotYet while it is anybody's primary one.
	DropKey(ctx context.Context, id string) error

	// Forward has another node answer a request, by Server.Answer there. ErrNotFound when there is no such member,
	// ErrUnreachable when it does not answer.
	Forward(ctx context.Context, node, method, path string, body []byte) (status int, answer []byte, err error)
}

// Member is one node as the cluster knows it.
type Member struct {
	NodeID      string `json:"nodeId"`
	Number      uint32 `json:"number"` // of the node in the table; 0: none yet
	Boot        uint32 `json:"boot"`   // lives so far
	Session     uint64 `json:"nodeSession"`
	Region      string `json:"region"`
	NodeAddr    string `json:"nodeAddr"`
	GossipAddr  string `json:"gossipAddr"`
	Version     string `json:"version"`
	State       string `json:"state"` // "live", "suspect" (gossip does not find it), "gone" (no session is open), "left", "revoked"
	Role        string `json:"role"`  // "voter", "non-voter", "joining" or "" when raft does not have it
	Leader      bool   `json:"leader"`
	Draining    bool   `json:"draining"`
	LeaseMillis int64  `json:"leaseLeftMillis"` // until its session ends if nothing more is heard of it; -1: not known here
	Lag         int64  `json:"lag"`             // entries behind the leader; -1: not known here
}

// MemberList is the answer to a listing of members.
type MemberList struct {
	Members []Member `json:"members"`
}

// ClusterStatus is how the cluster is, asked of all its nodes at once.
type ClusterStatus struct {
	Cluster     string       `json:"cluster"`     // its name, from the key file
	Incarnation string       `json:"incarnation"` // 32 hex digits, made when it formed
	Generation  uint32       `json:"generation"`  // higher after each recovery and restore; minutes of the clock, about
	Profile     string       `json:"profile"`     // "one-region" or "multi-region"
	Region      string       `json:"region"`      // of the node that formed it; its voters are preferred
	AskedAt     string       `json:"askedAt"`     // node that answers
	Leader      string       `json:"leader"`      // as that node knows; "": none
	Term        uint64       `json:"term"`
	Voters      []string     `json:"voters"`
	MaxVoters   int          `json:"maxVoters"`
	Nodes       []NodeStatus `json:"nodes"`
	Unreachable []Pair       `json:"unreachablePairs"` // pairs of nodes that both answer and have no link
}

// NodeStatus is what one node answers about itself.
type NodeStatus struct {
	NodeID        string  `json:"nodeId"`
	Error         string  `json:"error,omitempty"` // why it did not answer; then the rest is empty
	Session       uint64  `json:"nodeSession"`
	Region        string  `json:"region"`
	Version       string  `json:"version"`
	Role          string  `json:"role"`   // "voter", "non-voter", "joining"
	Leader        string  `json:"leader"` // as it knows
	Term          uint64  `json:"term"`
	LastIndex     uint64  `json:"lastIndex"`   // of its log
	CommitIndex   uint64  `json:"commitIndex"` // as it knows
	AppliedIndex  uint64  `json:"appliedIndex"`
	Lag           uint64  `json:"lag"`               // applied, behind the greatest commit index of all answers; the port fills it in
	ContactMillis int64   `json:"lastContactMillis"` // since it heard of the leader; 0 at the leader, -1: never
	LeaseHeld     bool    `json:"leaseHeld"`
	LeaseMillis   int64   `json:"leaseLeftMillis"`
	Draining      bool    `json:"draining"`
	Sessions      int     `json:"sessions"` // of clients
	Tunnels       int     `json:"tunnels"`
	Links         []Link  `json:"links"`
	SyncMillis    float64 `json:"longestSyncMillis"` // of its log since it started
}

// Link is what one node says about its way to another. Only ways that it wants are listed: who has nothing to send to a
// node needs none.
type Link struct {
	Peer      string    `json:"peer"`
	Connected bool      `json:"connected"`
	Unacked   int       `json:"unackedBytes"`
	Breaks    uint64    `json:"breaks"`
	Since     time.Time `json:"since"`           // of the present state
	Error     string    `json:"error,omitempty"` // why it cannot be connected
}

// Pair is two nodes that both answer and cannot reach each other.
type Pair struct {
	From  string    `json:"from"` // who says so
	To    string    `json:"to"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
}

// Peers is raft's configuration.
type Peers struct {
	Leader string `json:"leader"` // node; "": none known
	Term   uint64 `json:"term"`
	Peers  []Peer `json:"peers"`
}

// Peer is one server of raft's configuration.
type Peer struct {
	ServerID      string `json:"serverId"` // the node's id and the index at which it joined
	NodeID        string `json:"nodeId"`
	Addr          string `json:"address"`
	Voter         bool   `json:"voter"`
	Leader        bool   `json:"leader"`
	Self          bool   `json:"self"`              // the node that answers
	ContactMillis int64  `json:"lastContactMillis"` // since the leader heard of it; -1: not known here
}

// KeyList says which secrets the cluster has. An id is a fingerprint: it tells nothing about the secret.
type KeyList struct {
	Cluster string      `json:"cluster"`
	Keys    []Key       `json:"keys"`
	Members []KeyMember `json:"members"`
}

// Key is one secret of the cluster.
type Key struct {
	ID      string   `json:"id"`
	Primary bool     `json:"primary"` // on the node that answers
	Missing []string `json:"missing"` // live members that do not report it
}

// KeyMember is what one live member reports.
type KeyMember struct {
	NodeID  string   `json:"nodeId"`
	Primary string   `json:"primary"`
	Keys    []string `json:"keys"`
	Error   string   `json:"error,omitempty"` // why it reports nothing
}

// AddKey asks for a further secret of the cluster; empty: the node makes one.
type AddKey struct {
	Secret Secret `json:"secret,omitempty"`
}

// KeyID is the answer to adding a secret.
type KeyID struct {
	ID string `json:"id"`
}

// Removed is the answer to taking a node away.
type Removed struct {
	NodeID string `json:"nodeId"`
}
