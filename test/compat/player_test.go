package compat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/compat/legacybackend"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// app is a tenant of a test's own.
type app struct{ secret, id string }

func newApp() app {
	secret := plant(marker + "-secret-" + rand.Text())
	sum := sha256.Sum256([]byte(secret))
	return app{secret: secret, id: hex.EncodeToString(sum[:])}
}

// backend starts a backend on the published server SDK and waits until the coordinator has it: that its register() has
// resolved says only that it reached a port.
func (a app) backend(t *testing.T, n *node, store string, env ...string) *program {
	t.Helper()
	base := []string{"COORDINATOR_HOST=" + n.tunnels.host, "APP_SECRET=" + a.secret, "STORE_ID=" + store}
	p := startNode(t, store, "backend.mjs", append(base, env...)...)
	p.await(t, "register() to resolve", is("registered"))
	a.awaitInstance(t, n, named(store))
	return p
}

// awaitInstance asks the operators' port until an instance is as match wants it.
func (a app) awaitInstance(t *testing.T, n *node, match func(admin.Instance) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		instances, err := n.operator(t).Instances(ctx, a.id)
		if slices.ContainsFunc(instances, match) {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("no instance is as it should be (%v); there are: %+v", err, instances)
		}
	}
}

func connected(i admin.Instance) bool { return i.Connected }

func named(store string) func(admin.Instance) bool {
	return func(i admin.Instance) bool { return i.Connected && i.StoreID == store }
}

// registration is what server-sdk 0.5.1 writes first.
func (a app) registration(t *testing.T, store string) []byte {
	t.Helper()
	first, err := json.Marshal(struct {
		AppSecret string         `json:"appSecret"`
		StoreID   string         `json:"storeId"`
		AuthInfo  map[string]any `json:"authInfo"`
	}{a.secret, store, map[string]any{"anonymous": map[string]string{"separator": "-"}}})
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// attached starts a backend in this process as store-1 and waits until the coordinator has it.
func (a app) attached(t *testing.T, n *node, on func(*legacybackend.Backend, legacybackend.Frame)) *legacybackend.Backend {
	t.Helper()
	b := a.raw(t, n, a.registration(t, "store-1"), on)
	a.awaitInstance(t, n, named("store-1"))
	return b
}

// raw starts a backend in this process that shows every frame. It may be refused.
func (a app) raw(t *testing.T, n *node, first []byte, on func(*legacybackend.Backend, legacybackend.Frame)) *legacybackend.Backend {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := legacybackend.Dial(ctx, n.tunnel(), first, on)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// login logs in anonymously and returns the token and the user's id in it.
func (a app) login(t *testing.T, n *node) (token, user string) {
	t.Helper()
	token, err := n.api().Anonymous(t.Context(), a.id)
	if err != nil {
		t.Fatalf("log in: %v", err)
	}
	plant(token)
	return token, claims(t, token)["id"].(string)
}

func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatalf("decode a token: %v", err)
	}
	var all map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("decode a token: %v", err)
	}
	return all
}

// create makes a state.
func (a app) create(t *testing.T, n *node, token string, data []byte) (state string) {
	t.Helper()
	state, err := n.api().Create(t.Context(), a.id, token, data)
	if err != nil || state == "" {
		t.Fatalf("create %q: %v", state, err)
	}
	return state
}

// conn is what both kinds of old connections can do.
type conn interface {
	Send([]byte) error
	Next(context.Context) (legacyclient.Message, error)
	Close()
}

// player is a user in a state.
type player struct {
	conn
	user, token string
}

// join logs in and joins by revision D.
func (a app) join(t *testing.T, n *node, state string) *player {
	t.Helper()
	token, user := a.login(t, n)
	return a.joinAs(t, n, state, token, user)
}

func (a app) joinAs(t *testing.T, n *node, state, token, user string) *player {
	t.Helper()
	p := player{user: user, token: token}
	c, err := n.ws().JoinD(t.Context(), a.id, token, state)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	p.conn = c
	t.Cleanup(c.Close)
	p.acknowledged(t)
	return &p
}

// acknowledged takes the acknowledgement of revision D: one empty binary message.
func (p *player) acknowledged(t *testing.T) {
	t.Helper()
	if m := p.next(t, "the acknowledgement"); m.Text || len(m.Data) > 0 {
		t.Fatalf("the acknowledgement is %+v, want an empty binary message", m)
	}
}

func (p *player) next(t *testing.T, what string) legacyclient.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := p.Next(ctx)
	if err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
	return m
}

// say sends a text as one message.
func (p *player) say(t *testing.T, text string) {
	t.Helper()
	if err := p.Send([]byte(text)); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// hear takes the next message and compares it.
func (p *player) hear(t *testing.T, want string) {
	t.Helper()
	if m := p.next(t, "\""+want+"\""); string(m.Data) != want || m.Text {
		t.Fatalf("heard %q (text %v), want %q as binary", m.Data, m.Text, want)
	}
}

// hearPast takes messages up to one, past others that accept names.
func (p *player) hearPast(t *testing.T, want string, other func(string) bool) {
	t.Helper()
	for {
		m := p.next(t, "\""+want+"\"")
		if string(m.Data) == want {
			return
		}
		if !other(string(m.Data)) {
			t.Fatalf("heard %q, want %q", m.Data, want)
		}
	}
}

// asks sends "echo TEXT" and hears TEXT: the way there and back works.
func (p *player) asks(t *testing.T, text string) {
	t.Helper()
	p.say(t, "echo "+text)
	p.hear(t, text)
}

// where returns the storeId of the backend that has this player's state.
func (p *player) where(t *testing.T) string {
	t.Helper()
	p.say(t, "who")
	return string(p.next(t, "the storeId").Data)
}

// closed waits for the end of the connection, past messages that were on their way.
func closed(t *testing.T, c conn) *legacyclient.Closed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := c.Next(ctx)
		var end *legacyclient.Closed
		if errors.As(err, &end) {
			return end
		}
		if err != nil {
			t.Fatalf("wait for the connection to close: %v", err)
		}
	}
}

// closesWith checks a close code, and that there is a reason: old SDKs reject with the reason as text.
func closesWith(t *testing.T, c conn, code int) {
	t.Helper()
	end := closed(t, c)
	if end.Code != code {
		t.Errorf("closed with %d %q (%v), want %d", end.Code, end.Reason, end.Err, code)
	}
	if end.Reason == "" {
		t.Errorf("closed with %d and no reason", end.Code)
	}
}

// Matches for events of a backend.

func is(kind string) func(event) bool { return func(e event) bool { return e.Event == kind } }

func of(kind, room, user string) func(event) bool {
	return func(e event) bool { return e.Event == kind && e.Room == room && e.User == user }
}

func said(text string) func(event) bool {
	return func(e event) bool { return e.Event == "message" && e.Hex == hex.EncodeToString([]byte(text)) }
}
