package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/wire"
)

var update = flag.Bool("update", false, "write the golden files and the generated parts of docs")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join("testdata", name)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd/trunkline -update writes it):\n%s", name, got)
	}
}

var (
	shopApp = wire.AppIDOf("shop-secret-of-22-bytes").String()
	gameApp = wire.AppIDOf("dev-secret").String()
)

// stillNode is a node whose every listing is fixed.
type stillNode struct{ states []admin.State }

func (stillNode) Status(context.Context) (admin.Status, error) {
	return admin.Status{
		NodeID: "n1", Region: "eu", Version: "v1.2.3", NodeSession: 4, StartedAt: time.Unix(1_800_000_000, 0).UTC(), Ready: false, Draining: true,
		AppsMode: "listed", PublicURL: "https://edge.example.com", TLS: "both", CAFile: "/tmp/ca.pem", TableIndex: 99,
		Addresses: map[string][]string{"client": {"127.0.0.1:8080", "[::1]:8080"}, "admin": {"127.0.0.1:7180"}},
		Apps:      2, Instances: 1, States: 2, Sessions: 3,
	}, nil
}

func (stillNode) Checks() []admin.Check {
	return []admin.Check{{Name: "serving", Detail: "the node is stopping"}}
}

var storeOne = admin.Instance{
	ID: 12, App: gameApp, StoreID: "store-1", Kind: "native", Region: "eu", Capacity: 500, Load: 415, NodeID: "n1", Node: 4, Gen: 2, Connected: true,
	Remote: "127.0.0.1:5000", RTTMillis: 0.4, States: 2, Sessions: 3,
}

func (stillNode) Instances(context.Context, *wire.AppID) ([]admin.Instance, error) {
	return []admin.Instance{storeOne, {ID: 13, App: shopApp, StoreID: "old", Kind: "legacy", Gen: 1}}, nil
}

func (n stillNode) States(_ context.Context, q admin.StatesQuery) ([]admin.State, error) {
	return n.states[:min(q.Limit, len(n.states))], nil
}

func (n stillNode) Where(_ context.Context, _ *wire.AppID, id wire.StateID) ([]admin.Where, error) {
	if id.String() != n.states[0].State {
		return nil, nil
	}
	return []admin.Where{{State: n.states[0], Owner: &storeOne}, {State: n.states[1]}}, nil
}

func (stillNode) Apps(context.Context) ([]admin.App, error) {
	return []admin.App{
		{ID: gameApp, Secrets: []string{gameApp}},
		{ID: shopApp, Listed: true, Secrets: []string{shopApp, gameApp}, Settings: admin.Settings{Name: "shop", MaxStates: 5, MaxMessage: 1024, Greeting: true, PinnedLogin: []byte(`{"anonymous":{}}`)}},
	}, nil
}

func (n stillNode) App(ctx context.Context, id wire.AppID) (admin.App, error) {
	list, _ := n.Apps(ctx)
	for _, a := range list {
		if a.ID == id.String() {
			return a, nil
		}
	}
	return admin.App{}, admin.ErrNotFound
}

func (stillNode) CreateApp(_ context.Context, s admin.Secret, set admin.Settings) (admin.App, error) {
	id := wire.AppIDOf(string(s)).String()
	return admin.App{ID: id, Listed: true, Secrets: []string{id}, Settings: set}, nil
}

func (n stillNode) SetApp(ctx context.Context, id wire.AppID, c admin.SettingsChange) (admin.App, error) {
	a, err := n.App(ctx, id)
	if c.MaxStates != nil {
		a.Settings.MaxStates = *c.MaxStates
	}
	if string(c.PinnedLogin) == "null" {
		a.Settings.PinnedLogin = nil
	}
	return a, err
}
func (stillNode) AddSecret(context.Context, wire.AppID, admin.Secret) error  { return nil }
func (stillNode) RemoveSecret(context.Context, wire.AppID, wire.AppID) error { return nil }
func (stillNode) DeleteApp(context.Context, wire.AppID) error                { return nil }

func (stillNode) MintTest(_ context.Context, app wire.AppID, t admin.TestToken) (admin.Token, error) {
	return admin.Token{Token: "h.p.s", AppID: app.String(), User: or(t.User, "anon"), Expires: time.Unix(1_800_086_400, 0).UTC()}, nil
}

// stillAdmin runs a stillNode's operators' port and answers its address.
func stillAdmin(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := stillNode{states: []admin.State{
		{App: gameApp, State: "1z", Status: "firm", Instance: 12, StoreID: "store-1", NodeID: "n1", Region: "eu", Epoch: 77, Sessions: 3},
		{App: shopApp, State: "1z", Status: "free", Instance: 9, Epoch: 78, Tainted: "old"},
	}}
	s, err := admin.New(admin.Config{Listeners: []net.Listener{ln}, NodeID: "n1", Log: slog.New(slog.DiscardHandler)}, admin.Deps{
		Node: n, Instances: n, States: n, Apps: n, Tokens: n, Cluster: stillCluster{n: n},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func TestVerbsPrintTablesAndJSON(t *testing.T) {
	address := stillAdmin(t)
	for name, args := range map[string]string{
		"status":        "status",
		"status-other":  "status --node n2",
		"members":       "members",
		"raft-peers":    "raft peers",
		"leave":         "leave --yes",
		"force-remove":  "force-remove n3 --yes",
		"revoke":        "revoke n3 --yes",
		"key-status":    "key status",
		"key-add":       "key add",
		"key-use":       "key use 5f2a9c01",
		"key-drop":      "key drop 77aa0000 --yes",
		"instances":     "instances",
		"states":        "states",
		"states-page":   "states --limit 1",
		"where":         "where 1z",
		"apps-list":     "apps list",
		"apps-set":      "apps set shop --max-states 8",
		"secret-remove": "apps secret remove dev " + gameApp,
		"apps-delete":   "apps delete dev --yes",
		"token":         "token --user ann",
	} {
		th := newTheatre("")
		if status := play(t, th, append(strings.Fields(args), "--admin", address)...); status != exitDone {
			t.Errorf("%s: status %d: %s", args, status, th.err.String())
		}
		golden(t, name+".txt", th.out.String())
		th = newTheatre("", "TRUNKLINE_ADMIN", address)
		if status := play(t, th, append(strings.Fields(args), "--json")...); status != exitDone {
			t.Errorf("%s --json: status %d: %s", args, status, th.err.String())
		}
		golden(t, name+".json", th.out.String())
	}
}

func TestSecretsComeFromFileEnvironmentOrNode(t *testing.T) {
	address := stillAdmin(t)
	const mine = "canary-secret-of-30-characters"
	file := write(t, "secret", mine+"\n", 0o600)
	for name, th := range map[string]*theatre{
		"file": newTheatre("", "TRUNKLINE_SECRET_FILE", file), "environment": newTheatre("", "TRUNKLINE_SECRET", mine),
	} {
		if status := play(t, th, "apps", "create", "--admin", address); status != exitDone {
			t.Fatalf("%s: %s", name, th.err.String())
		}
		if got := th.out.String(); !strings.Contains(got, wire.AppIDOf(mine).String()) || strings.Contains(got, "canary") {
			t.Errorf("%s: printed %s", name, got)
		}
	}
	th := newTheatre("")
	if status := play(t, th, "apps", "secret", "add", "dev", "--admin", address); status != exitDone || !strings.Contains(th.out.String(), "appSecret") {
		t.Errorf("a made one: %d %s%s", status, th.out.String(), th.err.String())
	}
	th = newTheatre("", "TRUNKLINE_SECRET", "canary-weak")
	if status := play(t, th, "apps", "create", "--admin", address); status != exitFailed || !strings.Contains(th.err.String(), "--allow-weak-secret") || strings.Contains(th.err.String(), "canary") {
		t.Errorf("a weak one: %d %s", status, th.err.String())
	}
	th = newTheatre("", "TRUNKLINE_SECRET", "canary-weak")
	if status := play(t, th, "apps", "create", "--allow-weak-secret", "--admin", address); status != exitDone {
		t.Errorf("a weak one, insisted on: %d %s", status, th.err.String())
	}
	th = newTheatre("")
	if status := play(t, th, "apps", "create", "--secret", mine, "--admin", address); status != exitMisuse {
		t.Errorf("a secret on the command line: status %d", status)
	}
}

func TestDeletingAsks(t *testing.T) {
	address := stillAdmin(t)
	for typed, want := range map[string]int{gameApp[:6] + "\n": exitDone, "y\n": exitFailed, "": exitFailed} {
		th := newTheatre(typed)
		if status := play(t, th, "apps", "delete", "dev", "--admin", address); status != want {
			t.Errorf("typed %q: status %d, want %d: %s", typed, status, want, th.err.String())
		}
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	address := stillAdmin(t)
	for _, tc := range []struct{ args, says string }{
		{"status --admin 127.0.0.1:1", "--admin"},
		{"where zz --admin " + address, "trunkline states"},
		{"states --app ffff00 --admin " + address, "trunkline apps list"},
		{"apps set dev --login /nowhere.json --max-states 1 --admin " + address, "--login"},
		{"status --admin-token-file /nowhere --admin " + address, "--admin-token-file"},
		{"status --admin-ca /nowhere --admin " + address, "--admin-ca"},
	} {
		th := newTheatre("")
		if status := play(t, th, strings.Fields(tc.args)...); status != exitFailed || !strings.Contains(th.err.String(), tc.says) || th.out.String() != "" {
			t.Errorf("%s: status %d, %s", tc.args, status, th.err.String())
		}
	}
}

func TestCompletionKnowsEveryCommand(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		th := newTheatre("")
		if status := play(t, th, "completion", shell); status != exitDone {
			t.Fatalf("%s: %d %s", shell, status, th.err.String())
		}
		for _, word := range []string{"serve", "apps secret", "max-states", "tls-cert", "fish"} {
			if !strings.Contains(th.out.String(), word) {
				t.Errorf("%s: %q is missing", shell, word)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	th := newTheatre("")
	if status := play(t, th, "version"); status != exitDone || !strings.HasPrefix(th.out.String(), "trunkline ") {
		t.Errorf("%d %s", status, th.out.String())
	}
	th = newTheatre("")
	if status := play(t, th, "version", "--json"); status != exitDone || !strings.Contains(th.out.String(), `"go": "go`) {
		t.Errorf("%d %s", status, th.out.String())
	}
}

func TestMessagesCannotSteerTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"hello": "hello", "héllo\t1": "héllo\t1", "\x1b[2J": `"\x1b[2J"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, "": "",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("%q prints as %s, want %s", in, got, want)
		}
	}
}

// Backends choose their names, and operators list them in terminals.
func TestNamesCannotSteerTheTerminal(t *testing.T) {
	var out strings.Builder
	row(&out, "store-1", "a\nfake\trow", "\x1b[2J\x1b]0;owned\a", "\u009b31m", "tab\tbed", "héllo", 7)
	want := "store-1\t\"a\\nfake\\trow\"\t\"\\x1b[2J\\x1b]0;owned\\a\"\t\"\\u009b31m\"\t\"tab\\tbed\"\théllo\t7\n"
	if got := out.String(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestClientURL(t *testing.T) {
	for _, tc := range []struct{ bound, tls, admin, want string }{
		{"127.0.0.1:8080", "both", "http://127.0.0.1:7180", "ws://127.0.0.1:8080"},
		{"[::]:443", "on", "http://edge.example:7180", "wss://edge.example:443"},
		{"0.0.0.0:80", "off", "http://[::1]:7180", "ws://[::1]:80"},
	} {
		got, err := clientURL(admin.Status{TLS: tc.tls, Addresses: map[string][]string{"client": {tc.bound}}}, tc.admin)
		if err != nil || got != tc.want {
			t.Errorf("%+v: %s, %v", tc, got, err)
		}
	}
	if _, err := clientURL(admin.Status{}, ""); err == nil || !strings.Contains(err.Error(), "--url") {
		t.Errorf("%v", err)
	}
}
