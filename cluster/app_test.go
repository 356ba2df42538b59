package cluster

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/placement"
)

func TestAppsAndSecrets(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	one, two := [32]byte{1}, [32]byte{2}
	l.want(placement.ErrNoApp, l.SetApp(ctx, app, func(*placement.AppSettings) {}))
	l.want(placement.ErrNoApp, l.AddSecret(ctx, app, two))
	l.want(placement.ErrNoApp, l.DeleteApp(ctx, app))
	l.legacy("a") // known now, but not listed
	l.want(placement.ErrNoApp, l.SetApp(ctx, app, func(*placement.AppSettings) {}))
	l.ok(l.PutApp(ctx, app, one, placement.AppSettings{Name: "game"}))
	l.want(placement.ErrAppExists, l.PutApp(ctx, app, two, placement.AppSettings{}))
	l.ok(l.SetApp(ctx, app, func(s *placement.AppSettings) { s.MaxMessage = 10; s.PinnedLogin = []byte(`{"nickname":{}}`) }))
	l.ok(l.AddSecret(ctx, app, two))
	l.ok(l.AddSecret(ctx, app, two))
	a, ok := l.Table().App(app)
	if !ok || !a.Listed || a.Settings.Name != "game" || a.Settings.MaxMessage != 10 || len(a.Secrets) != 2 || a.Live != 1 {
		t.Fatalf("app %+v", a)
	}
	if !a.HasSecret(one) || !a.HasSecret(two) || a.HasSecret([32]byte{3}) {
		t.Fatal("secrets are confused")
	}
	l.ok(l.RemoveSecret(ctx, app, one))
	if err := l.RemoveSecret(ctx, app, one); err == nil {
		t.Fatal("a secret was removed twice")
	}
	if err := l.RemoveSecret(ctx, app, two); err == nil || !strings.Contains(err.Error(), "only secret") {
		t.Fatalf("removing the last secret: %v", err)
	}
	for i := range placement.MaxSecrets - 1 {
		l.ok(l.AddSecret(ctx, app, [32]byte{9, byte(i)}))
	}
	l.want(placement.ErrFull, l.AddSecret(ctx, app, [32]byte{10}))
	for name, s := range map[string]placement.AppSettings{
		"long name":   {Name: strings.Repeat("x", placement.MaxName+1)},
		"login array": {PinnedLogin: []byte(`[]`)},
		"switch":      {URLTokens: 3},
	} {
		if err := l.SetApp(ctx, app, func(t *placement.AppSettings) { *t = s }); err == nil {
			t.Errorf("%s was taken", name)
		}
		if err := l.PutApp(ctx, [32]byte{1}, one, s); err == nil {
			t.Errorf("%s was taken for a new app", name)
		}
	}
}

func TestDeleteApp(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	l.ok(l.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{}))
	l.legacy("a")
	for range 10 {
		l.create()
	}
	l.ok(l.DeleteApp(ctx, app))
	if st := l.Table().Stats(); st.Rows != 0 || st.Instances != 0 || st.Gone != 0 || st.Apps != 0 {
		t.Fatalf("left of a deleted app: %+v", st)
	}
	_, err := l.Create(ctx, placement.CreateRequest{App: app})
	l.want(placement.ErrNoInstance, err)
	l.ok(l.PutApp(ctx, app, [32]byte{2}, placement.AppSettings{})) // made anew
	if a, _ := l.Table().App(app); a.HasSecret([32]byte{1}) {
		t.Fatal("an app made anew has an old secret")
	}
}

// TestDeletionInterrupted: an app that is being deleted takes nothing new, and the sweeper finishes the work.
func TestDeletionInterrupted(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	l.legacy("a")
	l.create()
	r, err := l.one(ctx, &placement.DeleteApp{App: app})
	l.ok(err)
	if r.Outcome != placement.Done {
		t.Fatal(r)
	}
	if _, ok := l.Table().App(app); ok {
		t.Fatal("an app being deleted is shown")
	}
	_, err = l.Register(ctx, placement.RegisterRequest{App: app, StoreID: "b"})
	l.want(placement.ErrNoApp, err)
	l.want(placement.ErrNoApp, l.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{}))
	l.ok((&sweeper{Node: l.node}).sweep(ctx))
	l.ok(l.PutApp(ctx, app, [32]byte{1}, placement.AppSettings{}))
}

func TestKeys(t *testing.T) {
	l := start(t, Config{})
	ctx := t.Context()
	key := make(ed25519.PublicKey, 32)
	l.ok(l.PutKey(ctx, "k", key))
	l.ok(l.PutKey(ctx, "k", key))
	other := append(ed25519.PublicKey(nil), key...)
	other[0] = 1
	l.want(placement.ErrStale, l.PutKey(ctx, "k", other))
	if err := l.PutKey(ctx, "", key); err == nil {
		t.Error("a key without id was taken")
	}
	if err := l.PutKey(ctx, "short", key[:31]); err == nil {
		t.Error("a short key was taken")
	}
	if ks := l.Keys(); len(ks) != 1 || ks[0].ID != "k" || ks[0].Session != l.Node() {
		t.Errorf("keys %+v", ks)
	}
	if _, ok := l.Key("x"); ok {
		t.Error("a key nobody put")
	}
}

func TestCollect(t *testing.T) {
	l := start(t, Config{DataDir: t.TempDir()})
	l.legacy("a")
	l.create()
	got := map[string]float64{}
	l.Collect(func(name string, v float64, labels ...string) {
		if len(labels) == 0 {
			got[name] = v
		}
	})
	for name, least := range map[string]float64{
		"table_states": 1, "table_apps": 1, "table_node_sessions": 1, "table_index": 3, "table_batches_total": 3,
		"table_commands_total": 4, "raft_leading": 1, "raft_applied_index": 3, "raft_syncs_total": 3,
	} {
		if got[name] < least {
			t.Errorf("%s is %v, want at least %v", name, got[name], least)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no node id":    {},
		"long node id":  {NodeID: strings.Repeat("x", placement.MaxNodeID+1)},
		"long region":   {NodeID: "n", Region: strings.Repeat("x", placement.MaxRegion+1)},
		"negative time": {NodeID: "n", FreeRows: -1},
	} {
		if l, err := Open(cfg); err == nil {
			l.Close()
			t.Errorf("%s was taken", name)
		}
	}
}
