package main

import (
	"errors"
	"testing"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/wire"
)

// Before a node has caught up, its table may be old or empty: it says so, and not that nothing is there. Nor can it change
// anything yet.
func TestNodeThatHasNotCaughtUpListsNothing(t *testing.T) {
	t.Parallel()
	v, app := operatorsView{&node{}}, wire.AppID{1}
	for name, ask := range map[string]func() error{
		"states":    func() error { _, err := v.States(t.Context(), admin.StatesQuery{Limit: 1}); return err },
		"where":     func() error { _, err := v.Where(t.Context(), &app, 7); return err },
		"instances": func() error { _, err := v.Instances(t.Context(), nil); return err },
		"apps":      func() error { _, err := v.Apps(t.Context()); return err },
		"app":       func() error { _, err := v.App(t.Context(), app); return err },
		"create":    func() error { _, err := v.CreateApp(t.Context(), "", admin.Settings{}); return err },
		"set":       func() error { _, err := v.SetApp(t.Context(), app, admin.SettingsChange{}); return err },
		"add":       func() error { return v.AddSecret(t.Context(), app, "") },
		"remove":    func() error { return v.RemoveSecret(t.Context(), app, app) },
		"delete":    func() error { return v.DeleteApp(t.Context(), app) },
		"token":     func() error { _, err := v.MintTest(t.Context(), app, admin.TestToken{}); return err },
	} {
		if err := ask(); !errors.Is(err, admin.ErrUnavailable) {
			t.Errorf("%s: %v, want that it is unavailable", name, err)
		}
	}
}
