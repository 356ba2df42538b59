package admin

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// What the deps answer so that the port can choose a status code.
var (
	// ErrNotFound is the answer to a name that nothing has: 404.
	ErrNotFound = errors.New("not found")
	// ErrExists is the answer to making what is already there: 409.
	ErrExists = errors.New("exists already")
	// ErrRefused is the answer to a request that can never succeed as it is: 400.
	ErrRefused = errors.New("refused")
)

// Status is what a node says about itself.
type Status struct {
	NodeID      string              `json:"nodeId"`
	Region      string              `json:"region"`
	Version     string              `json:"version"`
	NodeSession uint64              `json:"nodeSession"`
	StartedAt   time.Time           `json:"startedAt"`
	Ready       bool                `json:"ready"`
	Draining    bool                `json:"draining"`
	AppsMode    string              `json:"appsMode"` // "open" or "listed"
	PublicURL   string              `json:"publicUrl,omitempty"`
	TLS         string              `json:"tls"`              // "on", "off" or "both"
	CAFile      string              `json:"caFile,omitempty"` // of dev's throw-away CA
	Addresses   map[string][]string `json:"addresses"`        // listener name -> bound host:port
	TableIndex  uint64              `json:"tableIndex"`       // index of the last applied change
	Apps        int                 `json:"apps"`
	Instances   int                 `json:"instances"`
	States      int                 `json:"states"`
	Sessions    int                 `json:"sessions"`
}

// Check is one reason why a node is, or is not, ready.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Settings are what an operator may set for one app. A zero value means the
// node's default.
type Settings struct {
	Name        string          `json:"name,omitempty"`        // for people, at most 128 bytes
	MaxStates   int             `json:"maxStates"`             // rows the app may have; 0: the default
	MaxMessage  int             `json:"maxMessage"`            // bytes of one client message; 0: the node's --max-message
	Greeting    bool            `json:"greeting"`              // send type 4 to legacy tunnels (server-sdk 0.5.0 waits for it)
	PinnedLogin json.RawMessage `json:"pinnedLogin,omitempty"` // login configuration that holds instead of the instances'
}

// SettingsChange is a partial change: nil leaves a setting as it is. A
// PinnedLogin of JSON null takes the pin away.
type SettingsChange struct {
	Name        *string         `json:"name,omitempty"`
	MaxStates   *int            `json:"maxStates,omitempty"`
	MaxMessage  *int            `json:"maxMessage,omitempty"`
	Greeting    *bool           `json:"greeting,omitempty"`
	PinnedLogin json.RawMessage `json:"pinnedLogin,omitempty"`
}

// App is one tenant as operators see it. Secrets are named by their
// fingerprints (lowercase hex SHA-256), never shown.
type App struct {
	ID       string   `json:"appId"`
	Listed   bool     `json:"listed"` // made by an operator, not merely seen
	Secrets  []string `json:"secrets"`
	Settings Settings `json:"settings"`
}

// CreateApp asks for a new app. An empty Secret asks the node to make one.
type CreateApp struct {
	Secret          Secret   `json:"secret,omitempty"`
	AllowWeakSecret bool     `json:"allowWeakSecret,omitempty"`
	Settings        Settings `json:"settings"`
}

// AddSecret asks for a further secret of an app; empty: the node makes one.
type AddSecret struct {
	Secret          Secret `json:"secret,omitempty"`
	AllowWeakSecret bool   `json:"allowWeakSecret,omitempty"`
}

// AppSecret is the answer that shows a secret, the only time it is shown. The
// field is empty when the caller brought the secret.
type AppSecret struct {
	AppID       string `json:"appId"`
	Secret      string `json:"appSecret,omitempty"`
	Fingerprint string `json:"fingerprint"`
}

// Instance is one life of a backend process.
type Instance struct {
	ID        uint64  `json:"instance"`
	App       string  `json:"appId"`
	StoreID   string  `json:"storeId"`
	Kind      string  `json:"kind"` // "native" or "legacy"
	Region    string  `json:"region"`
	Capacity  uint32  `json:"capacity"`            // 0: not said
	NodeID    string  `json:"nodeId"`              // of the node that holds its tunnel; "" when that node's session is over
	Node      uint64  `json:"nodeSession"`         // of that node
	Gen       uint32  `json:"gen"`                 // attachments so far
	Load      uint32  `json:"loadPermille"`        // of its capacity, as it last reported; 0: nothing fresh
	Connected bool    `json:"connected"`           // its tunnel is up on this node
	Elsewhere bool    `json:"elsewhere,omitempty"` // its tunnel is at another node, NodeID, which says how that is
	Remote    string  `json:"remote,omitempty"`    // address of the tunnel's other end
	RTTMillis float64 `json:"rttMillis"`           // of the tunnel; 0: not measured
	Queued    int     `json:"queuedBytes"`         // what the instance has not taken
	Draining  bool    `json:"draining"`
	States    int     `json:"states"`
	Sessions  int     `json:"sessions"` // that this node knows: all of them on the node that holds the tunnel, elsewhere its own clients'
}

// State is one row of the table.
type State struct {
	App      string `json:"appId"`
	State    string `json:"stateId"`
	Status   string `json:"status"` // "firm", "pending", "tentative" or "free"
	Instance uint64 `json:"instance"`
	StoreID  string `json:"storeId,omitempty"`
	NodeID   string `json:"nodeId,omitempty"` // of the node that holds its instance's tunnel
	Region   string `json:"region,omitempty"` // of its instance
	Epoch    uint64 `json:"epoch"`
	Tainted  string `json:"taintedStoreId,omitempty"` // the store it last moved from
	Sessions int    `json:"sessions"`                 // on this node
}

// Where is a state with the instance that has it. Instance is nil when no
// living instance does.
type Where struct {
	State
	Owner *Instance `json:"owner,omitempty"`
}

// StateName is a state's name across apps.
type StateName struct {
	App   wire.AppID
	State wire.StateID
}

// StatesQuery names one page of states, in the order of app and id.
type StatesQuery struct {
	App   *wire.AppID // nil: all apps
	After *StateName  // continue behind it; nil: from the first
	Limit int         // 1 to MaxPage
}

// MaxPage is the most rows that one listing of states answers, DefaultPage what
// it answers when not told.
const (
	MaxPage     = 10_000
	DefaultPage = 1_000
)

// TestToken asks for a token that a developer uses by hand.
type TestToken struct {
	User string `json:"user,omitempty"` // its id; empty: a new anonymous one
	Name string `json:"name,omitempty"`
}

// Token is a minted test token.
type Token struct {
	Token   string    `json:"token"`
	AppID   string    `json:"appId"`
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
}

// Node says what the node is.
type Node interface {
	Status(ctx context.Context) (Status, error)
	// Checks lists what readiness depends on; the node is ready when all are OK.
	Checks() []Check
}

// Instances lists backends in a stable order.
type Instances interface {
	Instances(ctx context.Context, app *wire.AppID) ([]Instance, error)
}

// States lists and finds states.
type States interface {
	States(ctx context.Context, q StatesQuery) ([]State, error)
	// Where finds a state in one app, or in every app when app is nil. It answers
	// an empty list when nothing has it.
	Where(ctx context.Context, app *wire.AppID, state wire.StateID) ([]Where, error)
}

// Apps keeps the tenants. Unknown apps and fingerprints are ErrNotFound.
type Apps interface {
	Apps(ctx context.Context) ([]App, error)
	App(ctx context.Context, id wire.AppID) (App, error)
	// CreateApp makes the app whose id is the hash of the secret; ErrExists when
	// an operator made it before.
	CreateApp(ctx context.Context, secret Secret, s Settings) (App, error)
	SetApp(ctx context.Context, id wire.AppID, change SettingsChange) (App, error)
	AddSecret(ctx context.Context, id wire.AppID, secret Secret) error
	// RemoveSecret takes a secret away by its fingerprint; ErrRefused for the last.
	RemoveSecret(ctx context.Context, id wire.AppID, fingerprint wire.AppID) error
	DeleteApp(ctx context.Context, id wire.AppID) error
}

// Tokens mints test tokens.
type Tokens interface {
	MintTest(ctx context.Context, app wire.AppID, t TestToken) (Token, error)
}

// Source is a package that counts. Names come without the trunkline_ prefix;
// a name that ends in _total is a counter, any other a gauge; labels alternate
// key and value.
type Source interface {
	Collect(emit func(name string, value float64, labels ...string))
}
