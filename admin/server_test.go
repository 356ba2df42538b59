package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// running runs a server and answers a client of it; both end with the test.
func running(t *testing.T, f *fakeNode, change func(*Config)) *Client {
	t.Helper()
	s := newServer(t, f, change)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	c, err := NewClient(s.cfg.Listeners[0].Addr().String(), s.cfg.Token, transport)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAndServerUnderstandEachOther(t *testing.T) {
	f := newFakeNode()
	c := running(t, f, func(cfg *Config) { cfg.Token = goodToken })
	ctx := t.Context()

	if st, err := c.Status(ctx); err != nil || st.NodeID != "n1" {
		t.Errorf("status: %+v, %v", st, err)
	}
	if l, err := c.Instances(ctx, appA.String()); err != nil || len(l) != 1 || l[0].StoreID != "store-1" {
		t.Errorf("instances: %+v, %v", l, err)
	}
	if l, err := c.Instances(ctx, appB.String()); err != nil || l == nil || len(l) != 0 {
		t.Errorf("instances of another app: %+v, %v", l, err)
	}
	if l, err := c.Where(ctx, "", "1"); err != nil || len(l) != 1 || l[0].Owner.ID != 3 {
		t.Errorf("where: %+v, %v", l, err)
	}
	app, err := c.CreateApp(ctx, CreateApp{Settings: Settings{MaxStates: 5}})
	if err != nil || len(app.Secret) < MinSecretLength || wire.AppIDOf(app.Secret).String() != app.ID || app.Settings.MaxStates != 5 {
		t.Fatalf("create: %+v, %v", app, err)
	}
	most := 9
	if a, err := c.SetApp(ctx, app.ID, SettingsChange{MaxStates: &most}); err != nil || a.Settings.MaxStates != 9 {
		t.Errorf("set: %+v, %v", a, err)
	}
	if l, err := c.Apps(ctx); err != nil || len(l) != 2 {
		t.Errorf("apps: %+v, %v", l, err)
	}
	if s, err := c.AddSecret(ctx, app.ID, AddSecret{}); err != nil || wire.AppIDOf(s.Secret).String() != s.Fingerprint {
		t.Errorf("add secret: %+v, %v", s, err)
	}
	if tok, err := c.MintToken(ctx, app.ID, TestToken{User: "u"}); err != nil || tok.User != "u" {
		t.Errorf("token: %+v, %v", tok, err)
	}
	if err := c.DeleteApp(ctx, app.ID); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	f := newFakeNode()
	c := running(t, f, nil)
	ctx := t.Context()
	var failed *Failure
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"no such app":     {c.DeleteApp(ctx, appB.String()), 404},
		"bad app id":      {c.DeleteApp(ctx, "xyz"), 400},
		"last secret":     {c.RemoveSecret(ctx, appA.String(), appA.String()), 400},
		"bad fingerprint": {c.RemoveSecret(ctx, appA.String(), "abc"), 400},
		"exists":          {second(c.CreateApp(ctx, CreateApp{Secret: "a secret of the first app"})), 409},
		"weak":            {second(c.CreateApp(ctx, CreateApp{Secret: "dev-secret"})), 400},
		"too long":        {second(c.CreateApp(ctx, CreateApp{Secret: Secret(strings.Repeat("x", 1025))})), 400},
		"long name":       {second(c.CreateApp(ctx, CreateApp{Settings: Settings{Name: strings.Repeat("x", 129)}})), 400},
		"odd name":        {second(c.CreateApp(ctx, CreateApp{Settings: Settings{Name: "a\x1b[2J"}})), 400},
		"negative":        {second(c.CreateApp(ctx, CreateApp{Settings: Settings{MaxStates: -1}})), 400},
		"too big":         {second(c.CreateApp(ctx, CreateApp{Settings: Settings{MaxMessage: 16 << 20}})), 400},
		"bad state":       {second(c.Where(ctx, "", "!")), 400},
		"bad limit":       {second(c.States(ctx, "", "", MaxPage+1)), 400},
		"bad after":       {second(c.States(ctx, "", "x", 1)), 400},
	} {
		if !errors.As(tc.err, &failed) || failed.Status != tc.want || failed.Message == "" {
			t.Errorf("%s: %v, want status %d with a sentence", name, tc.err, tc.want)
		}
	}
	if _, err := c.CreateApp(ctx, CreateApp{Secret: "dev-secret", AllowWeakSecret: true}); err != nil {
		t.Errorf("a weak secret that was insisted on: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestStatesComeInPages(t *testing.T) {
	f := newFakeNode()
	c := running(t, f, nil)
	page, err := c.States(t.Context(), "", "", 2)
	if err != nil || len(page.States) != 2 || page.Next != appA.String()+"/2" {
		t.Fatalf("first page: %+v, %v", page, err)
	}
	if _, err := c.States(t.Context(), "", page.Next, 2); err != nil {
		t.Fatal(err)
	}
	if f.query.After == nil || f.query.After.App != appA || f.query.After.State != 2 || f.query.Limit != 2 {
		t.Errorf("second page asked for %+v", f.query)
	}
	if page, err = c.States(t.Context(), "", "", 4); err != nil || page.Next != "" {
		t.Errorf("last page: %+v, %v", page, err)
	}
}

func TestReadinessTellsWhy(t *testing.T) {
	f := newFakeNode()
	c := running(t, f, nil)
	if r, err := c.Ready(t.Context()); err != nil || !r.Ready {
		t.Errorf("ready: %+v, %v", r, err)
	}
	f.checks = append(f.checks, Check{Name: "table", Detail: "still reading"})
	s := newServer(t, f, nil)
	if w := ask(s, "GET", "/readyz"); w.Code != 503 || w.Body.String() != "not ready\n" {
		t.Errorf("readyz: %d %q", w.Code, w.Body)
	}
	w := ask(s, "GET", "/readyz?verbose")
	var got Readiness
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 503 || got.Ready || len(got.Checks) != 2 || got.Checks[1].Detail != "still reading" {
		t.Errorf("readyz?verbose: %d %s", w.Code, w.Body)
	}
	if r, err := c.Ready(t.Context()); err != nil || r.Ready || len(r.Checks) != 2 {
		t.Errorf("the client on a node that is not ready: %+v, %v", r, err)
	}
}

func TestUnknownFieldsAndTrailersAreRefused(t *testing.T) {
	s := newServer(t, newFakeNode(), nil)
	for _, body := range []string{`{"secrets":"x"}`, `{} {}`, `[]`, `{"secret":`, `"x"`} {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/v1/apps", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := newRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", body, w.Code)
		}
	}
}

func TestFailuresOfTheNodeAre500(t *testing.T) {
	f := newFakeNode()
	f.failure = errors.New("the table is not there")
	if w := ask(newServer(t, f, nil), "GET", "/v1/status"); w.Code != 500 || !strings.Contains(w.Body.String(), "the table is not there") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestClientSaysWhatToDoWhenNobodyAnswers(t *testing.T) {
	ln := listenOn(t, "127.0.0.1:0")
	_ = ln.Close()
	c, err := NewClient(ln.Addr().String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "--admin") || !strings.Contains(err.Error(), "trunkline dev") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"ftp://x", "http://", "http://%zz"} {
		if _, err := NewClient(bad, "", nil); err == nil {
			t.Errorf("%s is taken for an address", bad)
		}
	}
}

func TestConnectionsBeyondTheCapAreClosed(t *testing.T) {
	ln := newCapped(listenOn(t, "127.0.0.1:0"), 1)
	accepted := make(chan error, 2)
	serve := func() {
		conn, err := ln.Accept()
		accepted <- err
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
	dial := func() interface{ Read([]byte) (int, error) } { return dialTo(t, ln.Addr().String()) }
	go serve()
	dial()
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	go serve()
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("the second connection stays open")
	}
	_ = ln.Close()
	if err := <-accepted; err == nil {
		t.Error("the second connection was handed out")
	}
}

type brokenNode struct{ *fakeNode }

func (brokenNode) Checks() []Check { panic("canary") }

func TestPanicEndsItsRequestOnly(t *testing.T) {
	f := newFakeNode()
	s := newServer(t, f, nil)
	s.deps.Node = brokenNode{f}
	if w := ask(s, "GET", "/readyz"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "GET", "/livez"); w.Code != http.StatusOK {
		t.Errorf("the request after it: %d", w.Code)
	}
}
