package compat

import (
	"slices"
	"testing"

	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// What the README says of several nodes: one `serve`, two with --join, a backend on the published server SDK at the first,
// clients at the second by WebSocket and at the third by TCP.
func TestThreeNodesAreOneCoordinator(t *testing.T) {
	t.Parallel()
	one, a := startNodes(t, true, serveArgs(t)), newApp()
	two, three := one.joined[0], one.joined[1]
	for _, n := range one.all() {
		n.clients, n.tunnels, n.players = n, n, n
	}
	backend := a.backend(t, one, "store-1")

	token, user := a.login(t, two)
	state := a.create(t, two, token, []byte("made at the second node"))
	backend.await(t, "newState", of("newState", state, user))
	alice := a.joinAs(t, two, state, token, user)
	backend.await(t, "alice", of("subscribe", state, user))

	bob := a.tcp(t, three, state) // with a token of the third node
	backend.await(t, "bob", of("subscribe", state, bob.user))
	bob.say(t, "all together")
	alice.hear(t, "together")
	bob.hear(t, "\x00")
	bob.hear(t, "together")
	alice.asks(t, "alone")

	// One user with a tab at two nodes is told to the backend once, and is gone with the last tab.
	tab, err := legacyclient.Dialer{Base: "ws://" + three.host + ":8080"}.JoinD(t.Context(), a.id, token, state)
	if err != nil {
		t.Fatalf("join with the token of another node: %v", err)
	}
	t.Cleanup(tab.Close)
	second := &player{conn: tab, user: user, token: token}
	second.acknowledged(t)
	second.asks(t, "both here") // so the backend has it
	alice.Close()
	second.asks(t, "still here")
	if gone := backend.events("unsubscribe"); len(gone) > 0 {
		t.Errorf("unsubscribed with a tab left: %+v", gone)
	}
	second.Close()
	backend.await(t, "unsubscribeUser", of("unsubscribe", state, user))
}

// A lobby that was made at one node is listed by the others.
func TestLobbiesOfAllNodesAreListed(t *testing.T) {
	t.Parallel()
	one, a := startNodes(t, true, serveArgs(t)), newApp()
	for _, n := range one.all() {
		n.clients, n.tunnels, n.players = n, n, n
	}
	a.backend(t, one, "store-1")
	var rooms []string
	for _, n := range one.all() {
		c := startNode(t, "client-sdk at "+n.host, "client.mjs", "API_BASE="+n.http(), "APP_ID="+a.id)
		plant(c.do(t, map[string]any{"do": "login"}).Token)
		rooms = append(rooms, c.do(t, map[string]any{"do": "createPublic", "region": "London", "initialConfig": map[string]any{}}).Room)
	}
	for _, n := range one.all() {
		c := startNode(t, "client-sdk listing at "+n.host, "client.mjs", "API_BASE="+n.http(), "APP_ID="+a.id)
		listed := c.do(t, map[string]any{"do": "lobbies", "region": "London"}).Lobbies
		var got []string
		for _, l := range listed {
			got = append(got, l["roomId"].(string))
		}
		for i, room := range rooms {
			if !slices.Contains(got, room) {
				t.Errorf("%s lists %v, not %s of node %d", n.host, got, room, i+1)
			}
		}
	}
}
