package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
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
	if n.draining.Load() {
		return errDraining
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
	list := []admin.Source{n.table, n.logins, n.tokens, n.people, n.router, n.client, n.endpoints, n.tunnels}
	if files, ok := n.cert.(admin.Source); ok {
		list = append(list, files)
	}
	return list
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

// Login is the app's login configuration; one that cannot be read is none.
func (r appRules) Login(app wire.AppID) auth.LoginConfig {
	raw := r.table.Table().Login(app)
	if raw == nil {
		return auth.LoginConfig{}
	}
	cfg, err := auth.ParseLogin(raw)
	if err != nil {
		return auth.LoginConfig{}
	}
	return cfg
}

// HasSecret reports whether the secret is one of the app's.
func (r appRules) HasSecret(app wire.AppID, secret auth.Secret) bool {
	hash := secret.Hash()
	if a, ok := r.table.Table().App(app); ok && a.HasSecret(hash) {
		return true
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
		NodeSession: uint64(v.table.Node()), StartedAt: v.started.Round(0), Ready: v.ready() == nil, Draining: v.draining.Load(),
		AppsMode: v.settings.Apps, PublicURL: v.settings.PublicURL, TLS: v.settings.TLS, CAFile: v.caFile,
		Addresses: v.bound.addresses(), TableIndex: table.Index(),
		Instances: len(table.AllInstances()), Sessions: v.router.Sessions(),
	}
	apps := table.Apps()
	out.Apps = len(apps)
	for _, a := range apps {
		out.States += a.States
	}
	return out, nil
}

// Instances lists the live instances, oldest first.
func (v operatorsView) Instances(_ context.Context, app *wire.AppID) ([]admin.Instance, error) {
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
	at := v.router.Attachment(in.ID)
	kind := "legacy"
	if in.Native {
		kind = "native"
	}
	return admin.Instance{
		ID: uint64(in.ID), App: in.App.String(), StoreID: in.StoreID, Kind: kind, Region: in.Region, Capacity: in.Capacity,
		Node: uint64(in.Node), Gen: uint32(in.Gen), Draining: in.Draining, States: in.Rows,
		Connected: at.Connected, Remote: at.Remote, RTTMillis: float64(at.RTT.Microseconds()) / 1000, Queued: at.Queued, Sessions: at.Sessions,
	}
}

// States lists one page of rows, in the order of app and id.
func (v operatorsView) States(_ context.Context, q admin.StatesQuery) ([]admin.State, error) {
	table := v.table.Table()
	var apps []wire.AppID
	if q.App != nil {
		apps = []wire.AppID{*q.App}
	} else {
		for _, a := range table.Apps() {
			apps = append(apps, a.ID)
		}
	}
	var out []admin.State
	for _, app := range apps {
		after, all := wire.StateID(0), true
		if q.After != nil {
			switch order := strings.Compare(app.String(), q.After.App.String()); {
			case order < 0:
				continue
			case order == 0:
				after, all = q.After.State, false
			}
		}
		for _, st := range table.States(app, after, all, q.Limit-len(out)) {
			out = append(out, v.state(app, st.State, st.Row))
		}
		if len(out) >= q.Limit {
			break
		}
	}
	return out, nil
}

func (v operatorsView) state(app wire.AppID, id wire.StateID, row placement.Row) admin.State {
	out := admin.State{
		App: app.String(), State: id.String(), Status: "firm", Instance: uint64(row.Instance), Epoch: uint64(row.Epoch),
		Tainted: row.Taint, Sessions: v.router.SessionsIn(app, id),
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
	}
	return out
}

// Where finds a state in one app, or in all.
func (v operatorsView) Where(_ context.Context, app *wire.AppID, id wire.StateID) ([]admin.Where, error) {
	table := v.table.Table()
	var apps []wire.AppID
	if app != nil {
		apps = []wire.AppID{*app}
	} else {
		for _, a := range table.Apps() {
			apps = append(apps, a.ID)
		}
	}
	var out []admin.Where
	for _, a := range apps {
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

// MintTest mints a token for a developer: of the given user, or of a new
// anonymous one.
func (v operatorsView) MintTest(ctx context.Context, app wire.AppID, t admin.TestToken) (admin.Token, error) {
	if !(appRules{v.node}).Allowed(app) {
		return admin.Token{}, fmt.Errorf("app %s: make it with `trunkline apps create`: %w", app, admin.ErrNotFound)
	}
	id := auth.Identity{Type: auth.TypeNickname, ID: t.User, Name: or(t.Name, t.User)}
	if t.User == "" {
		var err error
		if id, err = v.people.Login(ctx, auth.LoginRequest{Method: auth.TypeAnonymous}); err != nil {
			return admin.Token{}, err
		}
	}
	text, err := v.tokens.Mint(app.String(), id)
	if err != nil {
		return admin.Token{}, fmt.Errorf("%w: %w", err, admin.ErrRefused)
	}
	got, err := v.tokens.Verify([]byte(text))
	if err != nil {
		return admin.Token{}, fmt.Errorf("check the token just made: %w", err)
	}
	return admin.Token{Token: text, AppID: app.String(), User: id.ID, Expires: got.Expires}, nil
}

// Apps lists the apps in the order of their ids.
func (v operatorsView) Apps(context.Context) ([]admin.App, error) {
	var out []admin.App
	for _, a := range v.table.Table().Apps() {
		out = append(out, appOf(a))
	}
	return out, nil
}

// App answers one app.
func (v operatorsView) App(_ context.Context, id wire.AppID) (admin.App, error) {
	a, ok := v.table.Table().App(id)
	if !ok {
		return admin.App{}, noApp(id, placement.ErrNoApp)
	}
	return appOf(a), nil
}

func appOf(a placement.App) admin.App {
	out := admin.App{ID: a.ID.String(), Listed: a.Listed, Secrets: []string{}, Settings: admin.Settings{
		MaxStates: int(a.Settings.MaxStates), MaxMessage: int(a.Settings.MaxMessage), Greeting: a.Settings.Greeting,
		PinnedLogin: a.Settings.PinnedLogin,
	}}
	for _, hash := range a.Secrets {
		out.Secrets = append(out.Secrets, hex.EncodeToString(hash[:]))
	}
	return out
}

// noApp turns the table's errors into those of the operators' port.
func noApp(id wire.AppID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, placement.ErrNoApp):
		return fmt.Errorf("app %s: `trunkline apps list` shows those that this node knows: %w", id, admin.ErrNotFound)
	case errors.Is(err, placement.ErrAppExists):
		return fmt.Errorf("app %s: %w (change it with `trunkline apps set`, give it another secret with `trunkline apps secret add`)", id, admin.ErrExists)
	case errors.Is(err, placement.ErrFull):
		return fmt.Errorf("app %s: %w: %w", id, err, admin.ErrRefused)
	}
	return err
}

// CreateApp makes the app whose id is the secret's hash.
func (v operatorsView) CreateApp(ctx context.Context, secret admin.Secret, s admin.Settings) (admin.App, error) {
	id := wire.AppIDOf(string(secret))
	login, err := pinned(s.PinnedLogin)
	if err != nil {
		return admin.App{}, err
	}
	err = v.table.PutApp(ctx, id, id, placement.AppSettings{
		MaxStates: uint64(s.MaxStates), MaxMessage: uint32(s.MaxMessage), Greeting: s.Greeting, PinnedLogin: login,
	})
	if err != nil {
		return admin.App{}, noApp(id, err)
	}
	return v.App(ctx, id)
}

// pinned checks a login configuration; null and nothing are none.
func pinned(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if len(raw) > placement.MaxLogin {
		return nil, fmt.Errorf("a login configuration has at most %d bytes: %w", placement.MaxLogin, admin.ErrRefused)
	}
	if _, err := auth.ParseLogin(raw); err != nil {
		return nil, fmt.Errorf("the login configuration: %w: %w", err, admin.ErrRefused)
	}
	return raw, nil
}

// SetApp changes settings.
func (v operatorsView) SetApp(ctx context.Context, id wire.AppID, change admin.SettingsChange) (admin.App, error) {
	login, err := pinned(change.PinnedLogin)
	if err != nil {
		return admin.App{}, err
	}
	err = v.table.SetApp(ctx, id, func(s *placement.AppSettings) {
		if change.MaxStates != nil {
			s.MaxStates = uint64(*change.MaxStates)
		}
		if change.MaxMessage != nil {
			s.MaxMessage = uint32(*change.MaxMessage)
		}
		if change.Greeting != nil {
			s.Greeting = *change.Greeting
		}
		if change.PinnedLogin != nil {
			s.PinnedLogin = login
		}
	})
	if err != nil {
		return admin.App{}, noApp(id, err)
	}
	return v.App(ctx, id)
}

// AddSecret adds a secret to an app.
func (v operatorsView) AddSecret(ctx context.Context, id wire.AppID, secret admin.Secret) error {
	return noApp(id, v.table.AddSecret(ctx, id, wire.AppIDOf(string(secret))))
}

// RemoveSecret takes a secret away.
func (v operatorsView) RemoveSecret(ctx context.Context, id, fingerprint wire.AppID) error {
	a, ok := v.table.Table().App(id)
	switch {
	case !ok:
		return noApp(id, placement.ErrNoApp)
	case !slices.Contains(a.Secrets, [32]byte(fingerprint)):
		return fmt.Errorf("app %s has no secret %s: %w", id, fingerprint, admin.ErrNotFound)
	case len(a.Secrets) == 1:
		return fmt.Errorf("this is the last secret of the app: add another first, or delete the app: %w", admin.ErrRefused)
	}
	return noApp(id, v.table.RemoveSecret(ctx, id, fingerprint))
}

// DeleteApp forgets an app.
func (v operatorsView) DeleteApp(ctx context.Context, id wire.AppID) error {
	return noApp(id, v.table.DeleteApp(ctx, id))
}
