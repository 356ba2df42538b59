package compat

import (
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// tcp joins on port 7148 with a token longer than 127 bytes, as every real one is.
func (a app) tcp(t *testing.T, n *node, state string) *player {
	t.Helper()
	token, user := a.login(t, n)
	if len(token) <= 127 {
		t.Fatalf("a token of %d bytes would not show how its length is written", len(token))
	}
	id, err := legacyclient.ParseState(state)
	if err != nil {
		t.Fatal(err)
	}
	c, err := legacyclient.DialTCP(t.Context(), n.tcp(), token, a.id, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &player{conn: c, user: user}
}

// The first message begins with 0x00, as builder's snapshots do: it is the first chunk, raw and alone.
func TestTCPFirstMessageThatBeginsWithZeroIsRaw(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.tcp(t, n, state)
	backend.await(t, "subscribeUser", of("subscribe", state, p.user))
	// Three at once: only time may keep the second from the chunk of the first.
	for _, message := range []string{"00736e6170", "6f6e65", "74776f"} {
		backend.do(t, map[string]any{"do": "send", "room": state, "user": p.user, "hex": message})
	}
	p.hear(t, "\x00snap")
	p.hear(t, "one")
	p.hear(t, "two")
	p.asks(t, "and back")
}

// Any other first message has a lone 0x00 before it.
func TestTCPFirstMessageThatBeginsOtherwise(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	a.backend(t, n, "store-1", "WELCOME=welcome")
	token, _ := a.login(t, n)
	p := a.tcp(t, n, a.create(t, n, token, nil))
	p.hear(t, "\x00")
	p.hear(t, "welcome store-1")
	p.asks(t, "hello")
}

// An application that never speaks first must not leave connect() hanging.
func TestTCPBackendThatNeverSpeaksFirst(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.tcp(t, n, state)
	asked := time.Now()
	p.hear(t, "\x00")
	if waited := time.Since(asked); waited > 5*time.Second {
		t.Errorf("connect() would have hung for %v", waited)
	}
	p.asks(t, "hello")
	if err := p.conn.(*legacyclient.TCP).Pong(); err != nil {
		t.Fatal(err)
	}
	p.asks(t, "a pong is no message")
	backend.await(t, "the message behind the pong", said("echo a pong is no message"))
	if messages := backend.events("message"); len(messages) != 2 {
		t.Errorf("the backend got %d messages, want the 2 that were sent", len(messages))
	}
	p.Close()
	backend.await(t, "unsubscribeUser", of("unsubscribe", state, p.user))
}

// Clients write with the handshake: what comes before anything was answered is kept, in order.
func TestTCPWritesRightAfterTheHandshake(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	p := a.tcp(t, n, a.create(t, n, token, nil))
	p.say(t, "echo one")
	p.say(t, "echo two")
	p.hear(t, "\x00")
	p.hear(t, "one")
	p.hear(t, "two")
}

// TCP has no close codes: the connection just ends.
func TestTCPRefusalsEndTheConnection(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.tcp(t, n, state)
	p.hear(t, "\x00")
	p.say(t, "kick")
	closed(t, p)
	backend.await(t, "unsubscribeUser", of("unsubscribe", state, p.user))

	for _, bad := range []string{"no token", token[:len(token)-4] + "AAAA"} {
		c, err := legacyclient.DialTCP(t.Context(), n.tcp(), bad, a.id, 1)
		if err != nil {
			t.Fatal(err)
		}
		closed(t, c)
		c.Close()
	}
}
