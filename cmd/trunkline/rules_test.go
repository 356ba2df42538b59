package main

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/auth"
)

// A secret that an operator removed opens nothing, even where any other secret makes an app.
func TestRemovedSecretOpensNothing(t *testing.T) {
	a := act(t, "dev", "--apps", "open")
	var made admin.CreatedApp
	if err := json.Unmarshal([]byte(a.verb(t, "", "apps", "create", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	var added admin.AppSecret
	if err := json.Unmarshal([]byte(a.verb(t, "", "apps", "secret", "add", made.ID, "--json")), &added); err != nil {
		t.Fatal(err)
	}
	ask := func(secret string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.ports.Client[0]+"/"+made.ID+"/users/nobody", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, secret := range []string{made.Secret, added.Secret} {
		if status := ask(secret); status != http.StatusNotFound {
			t.Errorf("a secret of the app: status %d, want 404 for the user", status)
		}
	}
	a.verb(t, "", "apps", "secret", "remove", made.ID, made.Secrets[0])
	if status := ask(made.Secret); status != http.StatusUnauthorized {
		t.Errorf("the removed secret: status %d, want 401", status)
	}
	if status := ask(added.Secret); status != http.StatusNotFound {
		t.Errorf("the secret that is left: status %d, want 404 for the user", status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A login configuration that cannot be read closes every login.
func TestUnreadableLoginsAreClosed(t *testing.T) {
	for name, raw := range map[string]string{
		"no object": `["anonymous"]`,
		"no JSON":   `{"anonymous"`,
		"too large": `{"google":{"clientId":"` + strings.Repeat("x", 1<<20) + `"}}`,
	} {
		cfg := loginsOf(json.RawMessage(raw))
		for _, method := range []string{auth.TypeAnonymous, auth.TypeNickname, auth.TypeGoogle} {
			if cfg.Enabled(method) {
				t.Errorf("%s: %s is open", name, method)
			}
		}
	}
	none := loginsOf(nil)
	if !none.Enabled(auth.TypeAnonymous) || !none.Enabled(auth.TypeNickname) {
		t.Error("nothing configured closes logins")
	}
}

// No secret is given on a command line, where every user of the machine can read it: flags name files.
func TestNoFlagTakesASecret(t *testing.T) {
	var g grammar
	parser, _, err := newParser(&g, &newTheatre("").world)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	var walk func(node *kong.Node)
	walk = func(node *kong.Node) {
		for _, flag := range node.Flags {
			if !regexp.MustCompile(`secret|token|password|key`).MatchString(flag.Name) || flag.Target.Kind() != reflect.String {
				continue
			}
			if flag.PlaceHolder != "FILE" {
				t.Errorf("%s takes --%s itself", node.FullPath(), flag.Name)
			}
			files++
		}
		for _, child := range node.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
	if files == 0 {
		t.Error("no flag was looked at")
	}
}
