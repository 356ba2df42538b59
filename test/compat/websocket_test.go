package compat

import (
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// Every revision of the old WebSocket protocol, each the way its clients spoke it, in one room with the others.
func TestWebSocketRevisionsShareARoom(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	id, err := legacyclient.ParseState(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, rev := range []struct {
		name         string
		join         func(*testing.T, string) (*legacyclient.WebSocket, error)
		acknowledged bool
	}{
		{"A", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.ws().JoinA(t.Context(), a.id, token, state)
		}, false},
		{"B", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.ws().JoinB(t.Context(), a.id, token, id)
		}, false},
		{"C", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.ws().JoinC(t.Context(), a.id, token, id)
		}, false},
		{"D", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.ws().JoinD(t.Context(), a.id, token, state)
		}, true},
		{"D of C#, token first, with spaces", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return openWith(t, n.ws(), "/connect/"+a.id, `{ "token": "`+token+`", "stateId": "`+state+`" }`, false)
		}, true},
		{"D as text", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return openWith(t, n.ws(), "/connect/"+a.id, `{"stateId":"`+state+`","token":"`+token+`"}`, true)
		}, true},
		{"E", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.ws().JoinE(t.Context(), state, token)
		}, false},
		{"D over TLS", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.wss(t).JoinD(t.Context(), a.id, token, state)
		}, true},
		{"C over TLS", func(t *testing.T, token string) (*legacyclient.WebSocket, error) {
			return n.wss(t).JoinC(t.Context(), a.id, token, id)
		}, false},
	} {
		t.Run(rev.name, func(t *testing.T) {
			token, user := a.login(t, n)
			c, err := rev.join(t, token)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p := &player{conn: c, user: user}
			if rev.acknowledged {
				p.acknowledged(t)
			}
			// With no acknowledgement the very first message is the application's.
			p.asks(t, "first words by "+rev.name)
			backend.await(t, "onMessage", func(e event) bool {
				return e.Event == "message" && e.Room == state && e.User == user
			})
			c.Leave(1000)
			backend.await(t, "unsubscribeUser", of("unsubscribe", state, user))
		})
	}
}

func openWith(t *testing.T, d legacyclient.Dialer, path, first string, text bool) (*legacyclient.WebSocket, error) {
	t.Helper()
	c, err := d.Open(t.Context(), path)
	if err != nil {
		return nil, err
	}
	if text {
		return c, c.SendText(first)
	}
	return c, c.Send([]byte(first))
}

// Revisions A and B create a state over the WebSocket: its id is the first message, as text.
func TestWebSocketRevisionsThatCreate(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	a.create(t, n, token, []byte("so that the instance is there"))
	backend.await(t, "newState", is("newState"))

	for _, rev := range []struct {
		name   string
		create func() (*legacyclient.WebSocket, error)
		data   string
	}{
		{"A", func() (*legacyclient.WebSocket, error) { return n.ws().CreateA(t.Context(), a.id, token, []byte{7, 8}) }, "0708"},
		{"B", func() (*legacyclient.WebSocket, error) { return n.ws().CreateB(t.Context(), a.id, token) }, ""},
	} {
		t.Run(rev.name, func(t *testing.T) {
			c, err := rev.create()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p := &player{conn: c, user: user}
			state := p.next(t, "the id")
			if !state.Text {
				t.Errorf("the id came as binary")
			}
			created := backend.await(t, "newState", is("newState"))
			if created.Room != string(state.Data) || created.Hex != rev.data {
				t.Errorf("newState got %+v, want room %s with %q", created, state.Data, rev.data)
			}
			backend.await(t, "subscribeUser", of("subscribe", created.Room, user))
			p.asks(t, "hello")
		})
	}
}

// Clients write as soon as they have sent who they are; nothing of it may be lost, and it stays in order.
func TestWritesBeforeTheAcknowledgementAreKept(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	c, err := n.ws().JoinD(t.Context(), a.id, token, state)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := &player{conn: c}
	words := strings.Fields("echo one two three four five")
	for _, w := range words[1:] {
		p.say(t, "echo "+w)
	}
	p.acknowledged(t)
	for _, w := range words[1:] {
		p.hear(t, w)
	}
}

// A message in many frames is one message, and a text message is its bytes.
func TestFragmentedAndTextMessages(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.joinAs(t, n, state, token, user)
	c := p.conn.(*legacyclient.WebSocket)
	if err := c.SendParts([]byte("ec"), []byte("ho in"), nil, []byte(" parts")); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "in parts")
	if err := c.SendText("echo as text"); err != nil {
		t.Fatal(err)
	}
	p.hear(t, "as text")
	long := strings.Repeat("long ", 100_000)
	p.asks(t, long)
	p.asks(t, "")
}

// Ids are base 36 in any case and with any leading zeros, by every way a client can name one.
func TestUpperCaseAndZeroLedIDsAreTheSameState(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	a.joinAs(t, n, state, token, user)
	for _, written := range []string{strings.ToUpper(state), "000" + state, "0" + strings.ToUpper(state)} {
		t.Run(written, func(t *testing.T) {
			p := a.join(t, n, written)
			backend.await(t, "subscribeUser", of("subscribe", state, p.user))
			p.say(t, "all from "+written)
			p.hear(t, "from "+written)

			tokenE, userE := a.login(t, n)
			c, err := n.ws().JoinE(t.Context(), written, tokenE)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			backend.await(t, "subscribeUser by URL", of("subscribe", state, userE))
		})
	}
	// 0 is an id like any other to the old protocol.
	zero := a.join(t, n, "0")
	backend.await(t, "subscribeUser of state 0", of("subscribe", "0", zero.user))
	largest := a.join(t, n, "3w5e11264sgsf")
	backend.await(t, "subscribeUser of the largest state", of("subscribe", "3w5e11264sgsf", largest.user))
}

// Old SDKs reject with the reason as text, so every code comes with one, before and after the acknowledgement.
func TestCloseCodesHaveReasons(t *testing.T) {
	t.Parallel()
	n, a := startDev(t, "--instance-wait", "200ms"), newApp()
	backend := a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.joinAs(t, n, state, token, user)

	open := func(c *legacyclient.WebSocket, err error) *legacyclient.WebSocket {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	ctx, ws := t.Context(), n.ws()
	forged := token[:len(token)-4] + "AAAA"
	other := newApp()
	foreign, _ := other.login(t, n)
	for _, bad := range []string{"", "not a token", "e30.eyJpZCI6ImFsaWNlIn0.x", forged, foreign} {
		closesWith(t, open(ws.JoinD(ctx, a.id, bad, state)), 4002)
		closesWith(t, open(ws.JoinA(ctx, a.id, bad, state)), 4002)
	}
	for _, bad := range []string{"", "sp ace", "ä", "-1", "+1", "3w5e11264sgsg", strings.Repeat("z", 40)} {
		closesWith(t, open(ws.JoinD(ctx, a.id, token, bad)), 4003)
		closesWith(t, open(ws.JoinA(ctx, a.id, token, bad)), 4003)
	}
	closesWith(t, open(ws.JoinD(ctx, other.id, foreign, "abc")), 4001)

	// A backend that does not know the state answers with CLOSE_CONNECTION: 4000.
	id, err := legacyclient.ParseState("unknown")
	if err != nil {
		t.Fatal(err)
	}
	late := open(ws.JoinC(ctx, a.id, token, id))
	backend.await(t, "subscribeUser", of("subscribe", "unknown", user))
	backend.do(t, map[string]any{"do": "kick", "room": "unknown", "user": user})
	closesWith(t, late, 4000)

	p.say(t, "kick")
	closesWith(t, p, 4000)
}
