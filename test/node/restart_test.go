package node

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// A node is killed and started again with its data directory, under a legacy and a native app whose backends go on: apps,
// rows and logins are what they were, tokens are still good, and every state answers from the instance it was on.
func TestNodeRestartKeepsTableAndLogins(t *testing.T) {
	t.Parallel()
	const states, players = 12, 24
	c := startServe(t, "--apps", "listed", "--grace", "3s", "--legacy-grace", "4s")
	operator := c.operator(t)
	apps := map[string]app{}
	users, tokens, ids := map[string]string{}, map[string]string{}, map[string][]string{}
	backends := map[string]map[string]*backend{}
	for _, kind := range kinds {
		a := newApp(kind)
		if _, err := operator.CreateApp(t.Context(), admin.CreateApp{Secret: admin.Secret(a.secret)}); err != nil {
			t.Fatal(err)
		}
		apps[kind] = a
		backends[kind] = a.threeBackends(t, c, kind, false)
		ids[kind] = a.create(t, c, states)
		tokens[kind], users[kind] = a.login(t, c, "nick-of-"+kind)
	}
	listed, err := operator.Apps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]map[string]admin.State{}
	for kind, a := range apps {
		rows[kind] = c.states(t, a)
		for _, p := range a.crowd(t, c, players, ids[kind]) {
			if got, err := p.ask(within(t), "before"); err != nil || got.backend != a.name+"/"+rows[kind][p.state].StoreID {
				t.Fatalf("before the restart %s was answered by %q (%v)", p.user, got.backend, err)
			}
		}
	}
	// Logins are written behind the answers; those that the restart must keep are on the disk.
	for kind, user := range users {
		until(t, "the login of "+kind+" to be on the disk", func() bool { return c.onDisk(t, user) })
	}

	at := c.kill()
	c.run(t)
	up := time.Since(at)

	if again, err := c.operator(t).Apps(t.Context()); err != nil || !slices.EqualFunc(listed, again, sameApp) {
		t.Errorf("the apps are %+v (%v), they were %+v", again, err, listed)
	}
	var silence times
	for kind, a := range apps {
		answer, err := c.api().Call(t.Context(), http.MethodGet, "/"+a.id+"/users/"+users[kind], http.Header{"Authorization": {tokens[kind]}}, nil)
		if err != nil || answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), "nick-of-"+kind) {
			t.Errorf("the login of %s reads %d %s (%v) after the restart", kind, answer.Status, answer.Body, err)
		}
		for _, id := range ids[kind] {
			p := a.joinWith(t, c, legacy, users[kind], id, tokens[kind])
			got, err := p.ask(within(t), "after")
			if err != nil {
				t.Fatal(err)
			}
			silence.add(got.at.Sub(at))
			if want := a.name + "/" + rows[kind][id].StoreID; got.backend != want {
				t.Errorf("%s is answered by %s after the restart, want %s", id, got.backend, want)
			}
		}
		for id, row := range c.states(t, a) {
			if before := rows[kind][id]; row.Instance != before.Instance || row.Epoch != before.Epoch || row.Status != before.Status {
				t.Errorf("the row of %s is %+v after the restart, it was %+v", id, row, before)
			}
		}
		if got := len(c.states(t, a)); got != states {
			t.Errorf("%s has %d states after the restart, want %d", kind, got, states)
		}
	}
	t.Logf("up again after %v; from the kill to the answers of %d states of two apps: %v", up.Round(time.Millisecond), 2*states, &silence)
}

// login logs a nickname in and returns the token with the user's id.
func (a app) login(t *testing.T, c *coordinator, nick string) (token, user string) {
	t.Helper()
	token, err := c.api().Nickname(t.Context(), a.id, nick)
	if err != nil {
		t.Fatalf("log in: %v", err)
	}
	return token, userOf(t, token)
}

// onDisk says whether the data directory's login store holds the text.
func (c *coordinator) onDisk(t *testing.T, text string) bool {
	t.Helper()
	dir := c.args[slices.Index(c.args, "--data-dir")+1]
	data, err := os.ReadFile(filepath.Join(dir, "logins.db"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(data, []byte(text))
}

func sameApp(a, b admin.App) bool {
	return a.ID == b.ID && a.Listed == b.Listed && slices.Equal(a.Secrets, b.Secrets)
}
