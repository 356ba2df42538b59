package compat

import (
	"encoding/hex"
	"testing"
)

// @hathora/client-sdk 1.3.1 from login to goodbye, over TLS with the CA that dev made, its address replaced by ours.
func TestClientSDKFromLoginToGoodbye(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1", "WELCOME=welcome")
	c := startNode(t, "client-sdk", "client.mjs", "API_BASE="+n.https(), "APP_ID="+a.id, "NODE_EXTRA_CA_CERTS="+n.clients.ca)
	token, user := a.login(t, n)
	a.create(t, n, token, nil) // so that the instance is there
	backend.await(t, "newState", func(e event) bool { return e.Event == "newState" && e.User == user })

	nick := c.do(t, map[string]any{"do": "login", "nickname": "Zoë"})
	plant(nick.Token)
	if nick.Claims["type"] != "nickname" || nick.Claims["name"] != "Zoë" {
		t.Errorf("the SDK reads %v in a nickname token", nick.Claims)
	}
	login := c.do(t, map[string]any{"do": "login"})
	plant(login.Token)
	id, _ := login.Claims["id"].(string)
	if login.Claims["type"] != "anonymous" || id == "" {
		t.Fatalf("the SDK reads %v in an anonymous token", login.Claims)
	}

	room := c.do(t, map[string]any{"do": "createPublic", "region": "London", "initialConfig": map[string]any{"map": "desert"}}).Room
	created := backend.await(t, "newState", of("newState", room, id))
	if want := hex.EncodeToString([]byte(`{"map":"desert"}`)); created.Hex != want {
		t.Errorf("newState got %s, want the initialConfig %s", created.Hex, want)
	}
	private := c.do(t, map[string]any{"do": "createPrivate"}).Room
	backend.await(t, "newState of the private lobby", of("newState", private, id))

	lobbies := c.do(t, map[string]any{"do": "lobbies", "region": "London"}).Lobbies
	if len(lobbies) != 1 || lobbies[0]["roomId"] != room || lobbies[0]["region"] != "London" || lobbies[0]["createdBy"] != id {
		t.Errorf("list/public shows %v, want the one room %s by %s", lobbies, room, id)
	}
	if other := c.do(t, map[string]any{"do": "lobbies", "region": "Tokyo"}).Lobbies; len(other) != 0 {
		t.Errorf("list/public of another region shows %v", other)
	}
	details := c.do(t, map[string]any{"do": "details", "room": room}).Details
	if details["status"] != "active" || details["host"] != n.clients.host || details["port"] != float64(8080) || details["transportType"] != "tls" {
		t.Errorf("connectioninfo is %v, want %s:8080 by tls", details, n.clients.host)
	}

	c.do(t, map[string]any{"do": "connect", "room": room})
	backend.await(t, "subscribeUser", of("subscribe", room, id))
	received(t, c, "welcome store-1")
	c.do(t, map[string]any{"do": "write", "hex": hex.EncodeToString([]byte("echo hello"))})
	received(t, c, "hello")
	c.do(t, map[string]any{"do": "disconnect", "code": 1000})
	if end := c.await(t, "onClose", is("closed")); end.Code != 1000 {
		t.Errorf("closed with %d after disconnect(1000)", end.Code)
	}
	backend.await(t, "unsubscribeUser", of("unsubscribe", room, id))

	c.do(t, map[string]any{"do": "connect", "room": room})
	received(t, c, "welcome store-1")
	backend.do(t, map[string]any{"do": "kick", "room": room, "user": id})
	if end := c.await(t, "onClose after a kick", is("closed")); end.Code != 4000 || end.Reason == "" {
		t.Errorf("a kick closed with %d %q", end.Code, end.Reason)
	}
	for _, call := range c.events("fetched") {
		if call.Status < 200 || call.Status > 299 {
			t.Errorf("%s was answered with %d", call.Path, call.Status)
		}
	}
}

func received(t *testing.T, c *program, text string) {
	t.Helper()
	got := c.await(t, "a message", is("received"))
	if want := hex.EncodeToString([]byte(text)); got.Hex != want {
		t.Fatalf("received %s, want %q", got.Hex, text)
	}
}
