package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/edge"
	"github.com/trunkline-edge/trunkline/edge/client"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// issuer answers the iss of tokens. It follows from a secret that is made with
// the table, so it stays over restarts and differs between installations.
func issuer(mac [32]byte) string {
	sum := sha256.Sum256(append([]byte("trunkline issuer "), mac[:]...))
	return "trunkline-" + hex.EncodeToString(sum[:8])
}

// publicKeys answers what goes into JWKS.
func (n *node) publicKeys() map[string]ed25519.PublicKey {
	out := make(map[string]ed25519.PublicKey)
	for _, k := range n.table.Keys() {
		out[k.ID] = ed25519.PublicKey(k.Public[:])
	}
	return out
}

var errDraining = errors.New("the node is stopping")

// ready answers why the node takes no new work, or nil.
func (n *node) ready() error {
	switch {
	case n.draining.Load():
		return errDraining
	case !n.joined.Load():
		return errNotUp
	}
	// A lease outlives the election of a leader, so a node that has lost its leader for a moment is not taken out of the
	// load balancer; one that is cut off is.
	if _, held := n.table.Lease(); !held {
		return errNoLease
	}
	return n.router.Ready()
}

// adminListeners answers the operators' listeners, with TLS around those that
// others can reach when the node has a certificate.
func (n *node) adminListeners() []net.Listener {
	list := slices.Clone(n.bound["admin"])
	hosts, _ := listenFlag{addr: n.settings.AdminAddr}.hosts(nil) // checked before
	if _, beyond := beyondLoopback(hosts); !beyond || n.tls == nil {
		return list
	}
	for i := range list {
		list[i] = tls.NewListener(list[i], n.tls)
	}
	return list
}

// sources are the parts that count.
func (n *node) sources() []admin.Source {
	list := []admin.Source{n.table, n.logins, clusterView{n}, restOf{n}}
	if files, ok := n.cert.(admin.Source); ok {
		list = append(list, files)
	}
	return list
}

// restOf are the parts that count once the node has joined.
type restOf struct{ *node }

// Collect emits what they counted.
func (n restOf) Collect(emit func(name string, value float64, labels ...string)) {
	if !n.joined.Load() {
		return
	}
	for _, part := range []admin.Source{n.tokens, n.people, n.router, n.client, n.endpoints, n.tunnels} {
		part.Collect(emit)
	}
}

// verifier is the node's tokens as edge/client asks for them.
type verifier struct{ tokens *auth.Tokens }

// Verify checks a token.
func (v verifier) Verify(token []byte) (client.Verified, error) {
	got, err := v.tokens.Verify(token)
	if err != nil {
		return client.Verified{}, err
	}
	app, err := wire.ParseAppID(got.App)
	if err != nil {
		return client.Verified{}, fmt.Errorf("audience of a token: %w", err)
	}
	return client.Verified{App: app, User: got.ID, Expires: got.Expires}, nil
}

// appRules answers what a node lets an app do, from its settings and the table.
type appRules struct{ *node }

// Allowed reports whether the app may be used.
func (r appRules) Allowed(app wire.AppID) bool {
	allowed, _ := r.policy(app)
	return allowed
}

// MaxMessage is the largest message in bytes.
func (r appRules) MaxMessage(app wire.AppID) int {
	_, most := r.policy(app)
	return most
}

func (r appRules) policy(app wire.AppID) (allowed bool, maxMessage int) {
	maxMessage = int(r.settings.MaxMessage)
	a, known := r.table.Table().App(app)
	if known && a.Settings.MaxMessage > 0 {
		maxMessage = int(min(a.Settings.MaxMessage, admin.MaxMessageLimit))
	}
	return r.settings.Apps == "open" || known && a.Listed, maxMessage
}

// Login is the app's login configuration.
func (r appRules) Login(app wire.AppID) auth.LoginConfig {
	return loginsOf(r.table.Table().Login(app))
}

// loginsOf reads a login configuration. One that cannot be read closes every login: none at all would open two.
func loginsOf(raw json.RawMessage) auth.LoginConfig {
	cfg, err := auth.ParseLogin(raw)
	if err != nil {
		return auth.LoginConfig{Configured: true}
	}
	return cfg
}

// HasSecret reports whether the secret is one of the app's. Where any secret makes an app, that is the one whose hash is
// its id, unless an operator listed the app: then those that he left it.
func (r appRules) HasSecret(app wire.AppID, secret auth.Secret) bool {
	hash := secret.Hash()
	if a, ok := r.table.Table().App(app); ok && a.Listed {
		return a.HasSecret(hash)
	}
	return r.settings.Apps == "open" && app == wire.AppID(hash)
}

// operatorsView is a node as package admin lists and changes it.
type operatorsView struct{ *node }

// Checks lists what readiness depends on.
func (v operatorsView) Checks() []admin.Check {
	c := admin.Check{Name: "serving", OK: true}
	if err := v.ready(); err != nil {
		c.OK, c.Detail = false, err.Error()
	}
	return []admin.Check{c}
}

// Status says what the node is.
func (v operatorsView) Status(context.Context) (admin.Status, error) {
	table := v.table.Table()
	out := admin.Status{
		NodeID: v.settings.NodeID, Region: v.settings.Region, Version: thisBuild().Version,
		StartedAt: v.started.Round(0), Ready: v.ready() == nil, Draining: v.draining.Load(),
		AppsMode: v.settings.Apps, PublicURL: v.settings.PublicURL, TLS: v.settings.TLS, CAFile: v.caFile,
		Addresses: v.bound.addresses(), TableIndex: table.Index(),
		Instances: len(table.AllInstances()),
	}
	if v.joined.Load() {
		out.NodeSession, out.Sessions = uint64(v.table.Node()), v.router.Sessions()
	}
	apps := table.Apps()
	out.Apps = len(apps)
	for _, a := range apps {
		out.States += a.States
	}
	return out, nil
}

// caughtUp answers nil once the table is what the cluster had agreed on when this node began: what a restarted node has
// before may be old or empty, and no answer.
func (v operatorsView) caughtUp() error {
	if v.joined.Load() {
		return nil
	}
	return fmt.Errorf("%w, so it does not know what the others know: ask another one: %w", errNotUp, admin.ErrUnavailable)
}

// Instances lists the live instances, oldest first.
func (v operatorsView) Instances(_ context.Context, app *wire.AppID) ([]admin.Instance, error) {
	if err := v.caughtUp(); err != nil {
		return nil, err
	}
	table := v.table.Table()
	list := table.AllInstances()
	if app != nil {
		list = table.Instances(*app)
	}
	out := make([]admin.Instance, 0, len(list))
	for _, in := range list {
		out = append(out, v.instance(in))
	}
	return out, nil
}

func (v operatorsView) instance(in placement.Instance) admin.Instance {
	var at edge.Attachment
	if v.joined.Load() {
		at = v.router.Attachment(in.ID)
	}
	load, _, _ := v.table.Load(in.ID)
	kind := "legacy"
	if in.Native {
		kind = "native"
	}
	holder, held := v.table.Table().Session(in.Node)
	return admin.Instance{
		ID: uint64(in.ID), App: in.App.String(), StoreID: in.StoreID, Kind: kind, Region: in.Region, Capacity: in.Capacity,
		NodeID: holder.Node, Node: uint64(in.Node), Gen: uint32(in.Gen), Draining: in.Draining, States: in.Rows,
		Load: load, Connected: at.Connected, Elsewhere: held && holder.Node != v.settings.NodeID,
		Remote: at.Remote, RTTMillis: float64(at.RTT.Microseconds()) / 1000, Queued: at.Queued, Sessions: at.Sessions + at.Guests,
	}
}

// States lists one page of rows, in the order of app and id.
func (v operatorsView) States(_ context.Context, q admin.StatesQuery) ([]admin.State, error) {
	if err := v.caughtUp(); err != nil {
		return nil, err
	}
	table := v.table.Table()
	var out []admin.State
	for _, app := range v.appsWithStates(q.App) {
		from := wire.StateID(0)
		if q.After != nil {
			order := bytes.Compare(app[:], q.After.App[:])
			if order < 0 || order == 0 && q.After.State == math.MaxUint64 {
				continue
			}
			if order == 0 {
				from = q.After.State + 1
			}
		}
		for _, st := range table.States(app, from, q.Limit-len(out)) {
			out = append(out, v.state(app, st.State, st.Row))
		}
		if len(out) >= q.Limit {
			break
		}
	}
	return out, nil
}

// appsWithStates answers the given app, or all that have states in the order of
// their ids.
func (v operatorsView) appsWithStates(only *wire.AppID) []wire.AppID {
	if only != nil {
		return []wire.AppID{*only}
	}
	var out []wire.AppID
	for _, a := range v.table.Table().Apps() {
		if a.States > 0 {
			out = append(out, a.ID)
		}
	}
	return out
}

func (v operatorsView) state(app wire.AppID, id wire.StateID, row placement.Row) admin.State {
	out := admin.State{
		App: app.String(), State: id.String(), Status: "firm", Instance: uint64(row.Instance), Epoch: uint64(row.Epoch),
		Tainted: row.Taint,
	}
	if v.joined.Load() {
		out.Sessions = v.router.SessionsIn(app, id)
	}
	switch {
	case row.Free:
		out.Status = "free"
	case row.Pending:
		out.Status = "pending"
	case row.Tentative:
		out.Status = "tentative"
	}
	if in, ok := v.table.Table().Instance(row.Instance); ok {
		out.StoreID = in.StoreID
		if !in.Gone {
			holder, _ := v.table.Table().Session(in.Node)
			out.NodeID, out.Region = holder.Node, in.Region
		}
	}
	return out
}

// Where finds a state in one app, or in all.
func (v operatorsView) Where(_ context.Context, app *wire.AppID, id wire.StateID) ([]admin.Where, error) {
	if err := v.caughtUp(); err != nil {
		return nil, err
	}
	table := v.table.Table()
	var out []admin.Where
	for _, a := range v.appsWithStates(app) {
		row, ok := table.Lookup(a, id)
		if !ok {
			continue
		}
		found := admin.Where{State: v.state(a, id, row)}
		if in, ok := table.Instance(row.Instance); ok && !in.Gone {
			owner := v.instance(in)
			found.Owner = &owner
		}
		out = append(out, found)
	}
	return out, nil
}
