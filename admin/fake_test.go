package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

var (
	appA = wire.AppIDOf("a secret of the first app")
	appB = wire.AppIDOf("a secret of the second app")
)

// fakeNode is every dependency at once, with fixed answers.
type fakeNode struct {
	checks  []Check
	apps    map[wire.AppID]App
	created []Secret
	failure error
	query   StatesQuery
	emitted func(emit func(string, float64, ...string))
	cluster Cluster // nil: none
}

func newFakeNode() *fakeNode {
	return &fakeNode{
		checks: []Check{{Name: "serving", OK: true}},
		apps: map[wire.AppID]App{
			appA: {ID: appA.String(), Listed: true, Secrets: []string{appA.String()}, Settings: Settings{MaxStates: 7}},
		},
	}
}

func (f *fakeNode) Status(context.Context) (Status, error) {
	return Status{NodeID: "n1", Region: "local", StartedAt: time.Unix(1_800_000_000, 0).UTC(), Addresses: map[string][]string{"client": {"127.0.0.1:1"}}}, f.failure
}
func (f *fakeNode) Checks() []Check { return f.checks }

func (f *fakeNode) Instances(_ context.Context, app *wire.AppID) ([]Instance, error) {
	if app != nil && *app != appA {
		return nil, nil
	}
	return []Instance{{ID: 3, App: appA.String(), StoreID: "store-1", Kind: "native", Connected: true}}, nil
}

func (f *fakeNode) States(_ context.Context, q StatesQuery) ([]State, error) {
	f.query = q
	var out []State
	for i := range min(q.Limit, 3) {
		out = append(out, State{App: appA.String(), State: wire.StateID(i + 1).String(), Status: "firm"})
	}
	return out, nil
}

func (f *fakeNode) Where(_ context.Context, _ *wire.AppID, id wire.StateID) ([]Where, error) {
	if id != 1 {
		return nil, nil
	}
	return []Where{{State: State{App: appA.String(), State: "1"}, Owner: &Instance{ID: 3}}}, nil
}

func (f *fakeNode) Apps(context.Context) (out []App, _ error) {
	for _, a := range f.apps {
		out = append(out, a)
	}
	return out, nil
}

func (f *fakeNode) App(_ context.Context, id wire.AppID) (App, error) {
	a, ok := f.apps[id]
	if !ok {
		return App{}, fmt.Errorf("app %s: %w", id, ErrNotFound)
	}
	return a, nil
}

func (f *fakeNode) CreateApp(ctx context.Context, secret Secret, s Settings) (App, error) {
	f.created = append(f.created, secret)
	id := wire.AppIDOf(string(secret))
	if _, ok := f.apps[id]; ok {
		return App{}, fmt.Errorf("app %s: %w", id, ErrExists)
	}
	f.apps[id] = App{ID: id.String(), Listed: true, Secrets: []string{id.String()}, Settings: s}
	return f.App(ctx, id)
}

func (f *fakeNode) SetApp(ctx context.Context, id wire.AppID, change SettingsChange) (App, error) {
	a, err := f.App(ctx, id)
	if err == nil && change.MaxStates != nil {
		a.Settings.MaxStates = *change.MaxStates
		f.apps[id] = a
	}
	return a, err
}

func (f *fakeNode) AddSecret(ctx context.Context, id wire.AppID, secret Secret) error {
	f.created = append(f.created, secret)
	_, err := f.App(ctx, id)
	return err
}

func (f *fakeNode) RemoveSecret(ctx context.Context, id wire.AppID, _ wire.AppID) error {
	if _, err := f.App(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("the last one stays: %w", ErrRefused)
}

func (f *fakeNode) DeleteApp(ctx context.Context, id wire.AppID) error {
	_, err := f.App(ctx, id)
	delete(f.apps, id)
	return err
}

func (f *fakeNode) MintTest(_ context.Context, app wire.AppID, t TestToken) (Token, error) {
	return Token{Token: "t", AppID: app.String(), User: t.User}, nil
}

func (f *fakeNode) Collect(emit func(string, float64, ...string)) {
	if f.emitted != nil {
		f.emitted(emit)
	}
}

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func newServer(t *testing.T, f *fakeNode, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Listeners: []net.Listener{listenOn(t, "127.0.0.1:0")}, Version: "v0", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, Deps{Node: f, Instances: f, States: f, Apps: f, Tokens: f, Cluster: f.cluster, Sources: []Source{f}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
