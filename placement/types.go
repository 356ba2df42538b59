package placement

import (
	"crypto/subtle"
	"encoding/json"

	"github.com/trunkline-edge/trunkline/wire"
)

// Row says where a state lives, joined with what the table knows of its instance, so that a
// router can compare (epoch, gen) with one look-up. It is a plain value.
type Row struct {
	Instance wire.InstanceID
	Node     wire.NodeSession // the node that holds the instance's tunnel
	Epoch    wire.Epoch
	Gen      wire.Gen // the instance's attachment
	Native   bool     // the instance speaks the native protocol
	Pending  bool     // created, NEW_STATE not yet written or accepted
	// Tentative: placed because somebody connected to it; its instance has not spoken for it yet.
	Tentative bool
	// Free: its instance is gone, so anybody may place it anew. Instance and Epoch name the last owner.
	Free bool
	// Taint is the storeId that the state last moved away from, "" when none: that process may hold an old copy.
	Taint string
}

// Instance is one life of a backend process. Login is shared and must not be changed.
type Instance struct {
	ID          wire.InstanceID
	App         wire.AppID
	StoreID     string // at most MaxStoreID bytes
	Native      bool
	Incarnation [16]byte // zero for legacy instances
	Region      string   // at most MaxRegion bytes
	Capacity    uint32   // states it likes to hold; 0 = not said
	Node        wire.NodeSession
	Gen         wire.Gen // counts attachments, from 1
	Draining    bool     // gets no new states
	Gone        bool     // its rows are free; it stays known while it has rows
	Rows        int      // rows that name it
	Login       json.RawMessage
}

// Session is one life of a node in the cluster.
type Session struct {
	ID     wire.NodeSession
	Node   string // NodeID, at most MaxNodeID bytes
	Number uint32 // small number of the node, from 1, kept over restarts
	Boot   uint32 // lives of this node so far, from 1
	Region string
	// NodeAddr and GossipAddr are where other nodes reach it: host:port, at most MaxAddr bytes, "" when nobody does.
	NodeAddr, GossipAddr string
	Key                  [32]byte // SHA-256 of its public key; zero when it has none
	Proto                uint16   // the highest protocol version it speaks
}

// NodeInfo is what the table knows of a node, with or without an open session.
type NodeInfo struct {
	Node    string // NodeID
	Number  uint32 // see Session
	Boot    uint32 // 0: it never had a session
	Key     [32]byte
	Revoked bool // it gets no session and no certificate until it is unbound
}

// ClusterInfo is what a cluster was formed as. Recover changes Generation and Incarnation, nothing the rest.
type ClusterInfo struct {
	Name        string // at most MaxName bytes
	Profile     uint8  // OneRegion or MultiRegion
	Region      string // of the node that formed it, at most MaxRegion bytes
	Generation  uint32 // upper 24 bits of every epoch; 0 before the table is formed
	Incarnation [16]byte
}

// The profiles of a cluster: which delays its time limits allow for.
const (
	OneRegion uint8 = iota
	MultiRegion
)

// Key is the public half of a key that a node signs tokens with.
type Key struct {
	ID     string // kid, at most MaxKeyID bytes
	Public [32]byte
	// Session is the node session that put it.
	Session wire.NodeSession
	// Retired is the wall time in Unix seconds at which that session ended, 0 while it lives.
	Retired int64
}

// Switch is a setting with a default that the node decides.
type Switch uint8

// The positions of a Switch.
const (
	Default Switch = iota
	On
	Off
)

// AppSettings is what an operator sets for an app. Zero values mean the node's default.
type AppSettings struct {
	Name        string // at most MaxName bytes, for people
	MaxStates   uint64 // rows of the app, default DefaultMaxStates
	MaxMessage  uint32 // bytes of one client message; the node bounds it
	MaxConns    uint32 // client connections per node
	Greeting    bool   // legacy tunnels are greeted with a type 4 frame
	URLTokens   Switch // revision E, the token in the URL
	PinnedLogin json.RawMessage
}

// App is a tenant. Secrets and Settings.PinnedLogin are shared and must not be changed.
type App struct {
	ID        wire.AppID
	Listed    bool   // an operator made it; otherwise it is known because an instance registered it
	Version   uint64 // index of the entry that last changed its secrets or settings
	Secrets   [][32]byte
	Settings  AppSettings
	MaxStates int // rows it may have: Settings.MaxStates or the default
	States    int // rows
	Live      int // instances that are not gone
}

// HasSecret reports whether hash, the SHA-256 of a secret, is one of the app's. It takes the same time for any hash.
func (a *App) HasSecret(hash [32]byte) bool {
	found := 0
	for i := range a.Secrets {
		found |= subtle.ConstantTimeCompare(a.Secrets[i][:], hash[:])
	}
	return found == 1
}

// State is one row of a listing.
type State struct {
	App   wire.AppID
	State wire.StateID
	Row
}

// ChangeKind says what a Change is about.
type ChangeKind uint8

// The kinds of changes.
const (
	RowChanged      ChangeKind = iota + 1 // App, State: made, moved, became firm
	RowRemoved                            // App, State
	InstanceChanged                       // App, Instance: registered, attached, draining
	InstanceLeft                          // App, Instance: gone, its rows are free
	AppChanged                            // App: made, set, secrets changed
	AppRemoved                            // App
	NodesChanged                          // a node session opened or ended, a node was bound, unbound or revoked
	KeysChanged                           // a public key came or went
)

// Change is one thing that the entry at Index changed.
type Change struct {
	Index    uint64
	App      wire.AppID
	State    wire.StateID
	Instance wire.InstanceID
	Kind     ChangeKind
}

// Limits of what an entry may carry. An entry beyond them is refused whole.
const (
	MaxEntry         = 256 << 10 // bytes of one entry
	MaxStoreID       = 256
	MaxRegion        = 64
	MaxNodeID        = 128
	MaxAddr          = 255
	MaxName          = 128
	MaxKeyID         = 128
	MaxLogin         = 16 << 10
	MaxSecrets       = 16 // per app
	MaxKeys          = 4096
	DefaultMaxStates = 1_000_000

	maxStates = 1 << 40
)
