package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// MintTest mints a token for a developer: of the given user, or of a new
// anonymous one.
func (v operatorsView) MintTest(ctx context.Context, app wire.AppID, t admin.TestToken) (admin.Token, error) {
	if err := v.caughtUp(); err != nil {
		return admin.Token{}, err
	}
	if !appRules(v).Allowed(app) {
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
	if err := v.caughtUp(); err != nil {
		return nil, err
	}
	var out []admin.App
	for _, a := range v.table.Table().Apps() {
		out = append(out, appOf(a))
	}
	return out, nil
}

// App answers one app.
func (v operatorsView) App(_ context.Context, id wire.AppID) (admin.App, error) {
	if err := v.caughtUp(); err != nil {
		return admin.App{}, err
	}
	a, ok := v.table.Table().App(id)
	if !ok {
		return admin.App{}, noApp(id, placement.ErrNoApp)
	}
	return appOf(a), nil
}

func appOf(a placement.App) admin.App {
	out := admin.App{ID: a.ID.String(), Listed: a.Listed, Secrets: []string{}, Settings: admin.Settings{
		Name: a.Settings.Name, MaxStates: int(a.Settings.MaxStates), MaxMessage: int(a.Settings.MaxMessage), Greeting: a.Settings.Greeting,
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
	case unanswered(err):
		return fmt.Errorf("%w: the cluster has not agreed to it (%w): does `trunkline status` show a leader? If not, see docs/operations/lost-quorum.md",
			admin.ErrUnavailable, err)
	}
	return err
}

// CreateApp makes the app whose id is the secret's hash.
func (v operatorsView) CreateApp(ctx context.Context, secret admin.Secret, s admin.Settings) (admin.App, error) {
	if err := v.caughtUp(); err != nil {
		return admin.App{}, err
	}
	id := wire.AppIDOf(string(secret))
	login, err := pinned(s.PinnedLogin)
	if err != nil {
		return admin.App{}, err
	}
	settings := placement.AppSettings{
		Name: s.Name, MaxStates: uint64(s.MaxStates), MaxMessage: uint32(s.MaxMessage), Greeting: s.Greeting, PinnedLogin: login,
	}
	if err := v.table.PutApp(ctx, id, id, settings); err != nil {
		return admin.App{}, noApp(id, err)
	}
	// What was made, not what is there now: somebody may have changed or deleted it already.
	return appOf(placement.App{ID: id, Listed: true, Secrets: [][32]byte{id}, Settings: settings}), nil
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
	if err := v.caughtUp(); err != nil {
		return admin.App{}, err
	}
	login, err := pinned(change.PinnedLogin)
	if err != nil {
		return admin.App{}, err
	}
	err = v.table.SetApp(ctx, id, func(s *placement.AppSettings) {
		if change.Name != nil {
			s.Name = *change.Name
		}
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
	if err := v.caughtUp(); err != nil {
		return err
	}
	return noApp(id, v.table.AddSecret(ctx, id, wire.AppIDOf(string(secret))))
}

// RemoveSecret takes a secret away.
func (v operatorsView) RemoveSecret(ctx context.Context, id, fingerprint wire.AppID) error {
	if err := v.caughtUp(); err != nil {
		return err
	}
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
	if err := v.caughtUp(); err != nil {
		return err
	}
	return noApp(id, v.table.DeleteApp(ctx, id))
}
