package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/wire"
)

// devSecret is the secret of the app that dev is used with.
const devSecret = "dev-secret"

// findApp answers the full id of an app that is given by its id, its first
// digits, its name, or as dev. An empty text stays empty: all apps.
func findApp(ctx context.Context, client *admin.Client, text string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case text == "dev":
		return wire.AppIDOf(devSecret).String(), nil
	}
	if id, err := wire.ParseAppID(text); err == nil {
		return id.String(), nil
	}
	apps, err := client.Apps(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, app := range apps {
		if app.Settings.Name == text || strings.HasPrefix(app.ID, text) {
			found = append(found, app.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no app is called %q or begins with it: `trunkline apps list` shows those that this node knows", clip(text))
	}
	return "", fmt.Errorf("%d apps are called %q or begin with it: give more digits", len(found), clip(text))
}

type appsCommand struct {
	Create appCreateCommand `cmd:"" help:"Make an app; its secret is printed once."`
	List   appListCommand   `cmd:"" help:"List apps."`
	Set    appSetCommand    `cmd:"" help:"Change an app's settings."`
	Secret struct {
		Add    secretAddCommand    `cmd:"" help:"Add a secret; the old ones stay good."`
		Remove secretRemoveCommand `cmd:"" help:"Remove a secret by its fingerprint."`
	} `cmd:"" help:"Rotate an app's secrets."`
	Delete appDeleteCommand `cmd:"" help:"Forget an app, its secrets and its states."`
}

// given is an app secret that the operator brings. There is no flag for the
// secret itself: what is on a command line is in the process list.
type given struct {
	SecretFile      string `help:"Take the secret from this file (mode 0600); TRUNKLINE_SECRET holds it otherwise. Default: the node makes one." placeholder:"FILE"`
	AllowWeakSecret bool   `help:"Take a secret of fewer than 22 characters, which can be guessed."`
}

func (g *given) secret(w *world) (admin.Secret, error) {
	if g.SecretFile != "" {
		return readSecret("--secret-file", g.SecretFile)
	}
	text, _ := w.env(envPrefix + "SECRET")
	return admin.Secret(text), nil
}

type appSettings struct {
	Name       *string `help:"What people call the app; the verbs take it for its id." placeholder:"NAME"`
	MaxStates  *int    `help:"States that the app may have; 0: the node's default." placeholder:"N"`
	MaxMessage *size   `help:"Its largest message; 0: the node's --max-message." placeholder:"SIZE"`
	Greeting   *bool   `help:"Greet its legacy backends: server-sdk 0.5.0 waits for it, older ones break." negatable:""`
	Login      string  `help:"Pin the login configuration to the JSON of this file instead of what the backends register; 'none' takes the pin away." placeholder:"FILE"`
}

func (s *appSettings) change() (admin.SettingsChange, error) {
	out := admin.SettingsChange{Name: s.Name, MaxStates: s.MaxStates, Greeting: s.Greeting}
	if s.MaxMessage != nil {
		n := int(*s.MaxMessage)
		out.MaxMessage = &n
	}
	switch s.Login {
	case "":
		return out, nil
	case "none":
		out.PinnedLogin = json.RawMessage("null")
		return out, nil
	}
	text, err := os.ReadFile(s.Login)
	if err != nil {
		return out, fmt.Errorf("--login: %w", err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return out, fmt.Errorf("--login %s: want a JSON object such as {\"anonymous\":{}}: %w", s.Login, err)
	}
	out.PinnedLogin = text
	return out, nil
}

type appCreateCommand struct {
	remote
	listing
	given
	appSettings
}

// Run makes an app.
func (c *appCreateCommand) Run(ctx context.Context, w *world) error {
	secret, err := c.secret(w)
	if err != nil {
		return err
	}
	change, err := c.change()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	req := admin.CreateApp{Secret: secret, AllowWeakSecret: c.AllowWeakSecret}
	if change.Name != nil {
		req.Settings.Name = *change.Name
	}
	if change.MaxStates != nil {
		req.Settings.MaxStates = *change.MaxStates
	}
	if change.MaxMessage != nil {
		req.Settings.MaxMessage = *change.MaxMessage
	}
	if change.Greeting != nil {
		req.Settings.Greeting = *change.Greeting
	}
	if string(change.PinnedLogin) != "null" {
		req.Settings.PinnedLogin = change.PinnedLogin
	}
	app, err := client.CreateApp(ctx, req)
	if err != nil {
		return err
	}
	return c.print(w, app, func(t io.Writer) {
		row(t, "appId", app.ID)
		if app.Secret != "" {
			row(t, "appSecret", app.Secret)
			row(t, "The secret is not shown again.")
		}
	})
}

type appListCommand struct {
	reading
	listing
}

// Run lists apps.
func (c *appListCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	apps, err := client.Apps(ctx)
	if err != nil {
		return err
	}
	return c.print(w, admin.AppList{Apps: apps}, func(t io.Writer) {
		row(t, "APP", "NAME", "LISTED", "SECRETS", "MAX STATES", "MAX MESSAGE", "GREETING", "LOGIN")
		for _, a := range apps {
			login := "as registered"
			if len(a.Settings.PinnedLogin) > 0 {
				login = "pinned"
			}
			row(t, a.ID, or(a.Settings.Name, "-"), yesNo(a.Listed), len(a.Secrets), defaultWord(a.Settings.MaxStates), defaultWord(a.Settings.MaxMessage), yesNo(a.Settings.Greeting), login)
		}
	})
}

func defaultWord(n int) string {
	if n == 0 {
		return "default"
	}
	return strconv.Itoa(n)
}

// oneApp names the app of a verb.
type oneApp struct {
	App string `arg:"" help:"The app's id, its first digits, or its name."`
}

type appSetCommand struct {
	remote
	listing
	oneApp
	appSettings
}

// Run changes settings; those not given stay.
func (c *appSetCommand) Run(ctx context.Context, w *world) error {
	change, err := c.change()
	if err != nil {
		return err
	}
	if change.Name == nil && change.MaxStates == nil && change.MaxMessage == nil && change.Greeting == nil && change.PinnedLogin == nil {
		return misused("nothing to set: give --name, --max-states, --max-message, --greeting or --login")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	id, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	app, err := client.SetApp(ctx, id, change)
	if err != nil {
		return err
	}
	return c.print(w, app, func(t io.Writer) {
		row(t, "appId", app.ID)
		row(t, "name", or(app.Settings.Name, "-"))
		row(t, "max states", defaultWord(app.Settings.MaxStates))
		row(t, "max message", defaultWord(app.Settings.MaxMessage))
		row(t, "greeting", yesNo(app.Settings.Greeting))
		var login bytes.Buffer
		_ = json.Compact(&login, app.Settings.PinnedLogin) // it was decoded a moment ago
		row(t, "pinned login", or(login.String(), "none"))
	})
}

type secretAddCommand struct {
	remote
	listing
	oneApp
	given
}

// Run adds a secret.
func (c *secretAddCommand) Run(ctx context.Context, w *world) error {
	secret, err := c.secret(w)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	id, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	added, err := client.AddSecret(ctx, id, admin.AddSecret{Secret: secret, AllowWeakSecret: c.AllowWeakSecret})
	if err != nil {
		return err
	}
	return c.print(w, added, func(t io.Writer) {
		row(t, "fingerprint", added.Fingerprint)
		if added.Secret != "" {
			row(t, "appSecret", added.Secret)
			row(t, "The secret is not shown again.")
		}
	})
}

type secretRemoveCommand struct {
	remote
	listing
	oneApp
	Fingerprint string `arg:"" help:"The secret's fingerprint: its SHA-256, as apps list --json shows it."`
}

// Run removes a secret.
func (c *secretRemoveCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	id, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	if err := client.RemoveSecret(ctx, id, c.Fingerprint); err != nil {
		return err
	}
	return c.print(w, map[string]string{"appId": id, "removed": c.Fingerprint}, func(t io.Writer) {
		row(t, "removed", c.Fingerprint)
	})
}

type appDeleteCommand struct {
	remote
	listing
	sure
	oneApp
}

// Run deletes an app, after asking.
func (c *appDeleteCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	id, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	if err := c.confirm(w, "This forgets the app "+id+", its secrets and its states.", "the first 6 digits", id[:6]); err != nil {
		return err
	}
	if err := client.DeleteApp(ctx, id); err != nil {
		return err
	}
	return c.print(w, map[string]string{"deleted": id}, func(t io.Writer) { row(t, "deleted", id) })
}
