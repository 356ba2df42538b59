package compat

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What every program on the server SDK does all day, with all of its calls, and in the order the SDK needs.
func TestServerSDKRunsARoom(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, creator := a.login(t, n)

	secret := plant(marker + "-payload-" + a.id[:8])
	state := a.create(t, n, token, []byte(secret))
	created := backend.await(t, "newState", is("newState"))
	if created.Room != state || created.User != creator || created.Hex != hex.EncodeToString([]byte(secret)) {
		t.Fatalf("newState was called with %+v, want room %s of %s", created, state, creator)
	}

	alice := a.joinAs(t, n, state, token, creator)
	backend.await(t, "subscribeUser", of("subscribe", state, creator))
	bob, carol := a.join(t, n, state), a.join(t, n, state)
	backend.await(t, "bob", of("subscribe", state, bob.user))
	backend.await(t, "carol", of("subscribe", state, carol.user))

	alice.say(t, "echo to me alone")
	backend.await(t, "onMessage", said("echo to me alone"))
	alice.hear(t, "to me alone")
	bob.say(t, "all together")
	for _, p := range []*player{alice, bob, carol} {
		p.hear(t, "together")
	}
	backend.do(t, map[string]any{"do": "send", "room": state, "user": carol.user, "hex": ""})
	carol.hear(t, "")

	bob.Close()
	backend.await(t, "unsubscribeUser", of("unsubscribe", state, bob.user))
	if users := backend.do(t, map[string]any{"do": "subscribers", "room": state}).Users; slices.Contains(users, bob.user) || len(users) != 2 {
		t.Errorf("the SDK lists %v, want alice and carol", users)
	}
	carol.say(t, "all still here")
	alice.hear(t, "still here")
	carol.hear(t, "still here")
}

// A kick is only a kick: the state stays where it is, with everybody else in it.
func TestServerSDKKickDoesNotMoveTheState(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	stores := []string{"store-1", "store-2", "store-3"}
	for _, store := range stores {
		a.backend(t, n, store)
	}
	token, creator := a.login(t, n)
	state := a.create(t, n, token, nil)
	first := a.joinAs(t, n, state, token, creator)
	home := first.where(t)

	players := []*player{first}
	for range 19 {
		players = append(players, a.join(t, n, state))
	}
	players[7].say(t, "kick")
	closesWith(t, players[7], 4000)

	again := a.joinAs(t, n, state, players[7].token, players[7].user)
	for _, late := range []*player{a.join(t, n, state), again} {
		if where := late.where(t); where != home {
			t.Errorf("after a kick the next joiner is at %s, the state was at %s", where, home)
		}
	}
	for i, p := range players {
		if i != 7 {
			p.asks(t, "still here")
		}
	}
}

// A backend of the old SDK is killed while it talks, and its clients do not notice more than a pause.
func TestServerSDKKilledComesBackUnderTheSameName(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	env := []string{"CHATTER_MS=2", "WELCOME=welcome"}
	backend := a.backend(t, n, "store-1", env...)
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	players := []*player{a.joinAs(t, n, state, token, user), a.join(t, n, state), a.join(t, n, state)}
	for _, p := range players {
		p.hearPast(t, "welcome store-1", isChatter)
	}

	backend.kill()
	backend = a.backend(t, n, "store-1", env...)
	for _, p := range players {
		backend.sees(t, "subscribeUser of who is still there", of("subscribe", state, p.user))
		p.hearPast(t, "welcome store-1", isChatter)
		p.say(t, "echo there you are")
		p.hearPast(t, "there you are", isChatter)
	}
	if again := backend.events("newState"); len(again) > 0 {
		t.Errorf("NEW_STATE was sent again for a state that exists: %+v", again)
	}
}

// On reconnecting the old SDK sends what it was told to send while it connected, before it registers.
func TestServerSDKFramesBeforeTheRegistration(t *testing.T) {
	t.Parallel()
	n, a := startServe(t, "--legacy-grace", "10s"), newApp()
	const name = "coordinator.invalid"
	backend := a.backend(t, n, "store-1", "CHATTER_MS=1", "COORDINATOR_HOST="+name, "LOOKUP="+name+"="+n.tunnels.host, "LOOKUP_MS=40")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	a.joinAs(t, n, state, token, user)
	backend.await(t, "subscribeUser", of("subscribe", state, user))

	n.stop(t)
	backend.await(t, "the SDK to notice", is("unsubscribe"))
	n.run(t)
	backend.await(t, "the SDK to reconnect", func(e event) bool { return e.Text == "Reconnected to coordinator" })

	p := a.joinAs(t, n, state, token, user)
	backend.await(t, "subscribeUser after the restart", of("subscribe", state, user))
	p.say(t, "echo again")
	p.hearPast(t, "again", isChatter)
}

// The coordinator is restarted under live clients: tokens, logins, rows and instances are all good afterwards.
func TestCoordinatorRestartedUnderLiveClients(t *testing.T) {
	t.Parallel()
	t.Run("asked to stop", func(t *testing.T) { restart(t, (*node).stop) })
	t.Run("killed", func(t *testing.T) { restart(t, func(n *node, _ *testing.T) { n.kill() }) })
}

func restart(t *testing.T, end func(*node, *testing.T)) {
	n, a := startServe(t, "--legacy-grace", "10s"), newApp()
	backends := []*program{a.backend(t, n, "store-1"), a.backend(t, n, "store-2")}
	type seat struct {
		token, user, state, home string
	}
	var seats []seat
	for i := range 6 {
		token, user := a.login(t, n)
		state := a.create(t, n, token, []byte{byte(i)})
		p := a.joinAs(t, n, state, token, user)
		seats = append(seats, seat{token, user, state, p.where(t)})
	}

	end(n, t)
	n.run(t)

	// Clients are back at once, before the backends: the old SDK waits one to two seconds.
	for _, s := range seats {
		p := a.joinAs(t, n, s.state, s.token, s.user)
		if where := p.where(t); where != s.home {
			t.Errorf("after a restart the state of %s is at %s, it was at %s", s.user, where, s.home)
		}
		p.asks(t, "again")
	}
	for _, b := range backends {
		creates := map[string]int{}
		for _, e := range b.events("newState") {
			creates[e.Room]++
		}
		for room, times := range creates {
			if times > 1 {
				t.Errorf("NEW_STATE was sent %d times for %s", times, room)
			}
		}
	}
}

// Two processes with one storeId: the first keeps everything as long as it lives, the second takes over when it is dead.
func TestTwoProcessesWithOneStoreID(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	first := a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.joinAs(t, n, state, token, user)
	p.asks(t, "before")

	second := a.backend(t, n, "store-1")
	second.await(t, "the second to be turned away", func(e event) bool {
		return strings.HasPrefix(e.Text, "Coordinator connection closed")
	})
	p.asks(t, "during")
	if stolen := second.events("subscribe"); len(stolen) > 0 {
		t.Fatalf("the second process was given users while the first lives: %+v", stolen)
	}

	first.kill()
	second.await(t, "the second to take over", of("subscribe", state, user))
	p.asks(t, "after")
}

// One of three backends dies for good: its clients stay connected and their states answer from the others.
func TestServerSDKKilledForGoodMovesItsStates(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	stores := map[string]*program{}
	for _, store := range []string{"store-1", "store-2", "store-3"} {
		stores[store] = a.backend(t, n, store, "WELCOME=at")
	}
	type seat struct {
		*player
		home string
	}
	welcome := func(p *player) string {
		store, _ := strings.CutPrefix(string(p.next(t, "the welcome").Data), "at ")
		return store
	}
	var seats []seat
	for range 12 {
		token, user := a.login(t, n)
		p := a.joinAs(t, n, a.create(t, n, token, nil), token, user)
		seats = append(seats, seat{p, welcome(p)})
	}
	dead := seats[0].home
	stores[dead].kill()
	for _, s := range seats {
		if s.home == dead {
			// The next backend hears of the user and welcomes it; what was on its way to the dead one may be lost.
			if now := welcome(s.player); now == dead || stores[now] == nil {
				t.Errorf("a state of %s was welcomed by %q", dead, now)
			}
		} else if where := s.where(t); where != s.home {
			t.Errorf("a state moved from %s to %s although its backend lives", s.home, where)
		}
		s.asks(t, "still connected")
	}
}

// Create bodies arrive as they were posted, whatever they are.
func TestCreateBodiesArriveVerbatim(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1")
	token, user := a.login(t, n)
	a.create(t, n, token, []byte("first, so that the instance is there"))
	backend.await(t, "newState", is("newState"))

	for kind, want := range map[string]string{
		"plain":  "010203",
		"empty":  "",
		"writer": "010203" + strings.Repeat("00", 61),
	} {
		t.Run(kind, func(t *testing.T) {
			poster := startNode(t, "axios", "create.mjs", "API_BASE="+n.http(), "APP_ID="+a.id, "TOKEN="+token, "KIND="+kind)
			answer := poster.await(t, "the answer", is("created"))
			if answer.Status != 200 {
				t.Fatalf("create answered %d", answer.Status)
			}
			if id, err := strconv.ParseUint(answer.StateID, 36, 64); err != nil || id == 0 {
				t.Errorf("create answered the id %q (%v)", answer.StateID, err)
			}
			created := backend.await(t, "newState", func(e event) bool { return e.Event == "newState" && e.Room == answer.StateID })
			if created.Hex != want || created.User != user {
				t.Errorf("newState got %q of %s, want %q of %s", created.Hex, created.User, want, user)
			}
		})
	}
}

// Two tabs of one user: what is for the user goes to both, and the user has left when both have.
func TestTwoTabsOfOneUser(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	backend := a.backend(t, n, "store-1", "WELCOME=snapshot")
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)

	one := a.joinAs(t, n, state, token, user)
	one.hear(t, "snapshot store-1")
	two := a.joinAs(t, n, state, token, user)
	two.hear(t, "snapshot store-1")
	one.hear(t, "snapshot store-1") // the backend knows users, not tabs

	one.say(t, "echo both")
	one.hear(t, "both")
	two.hear(t, "both")

	one.Close()
	two.asks(t, "alone")
	if left := backend.events("unsubscribe"); len(left) > 0 {
		t.Errorf("the user was unsubscribed with a tab open: %+v", left)
	}
	two.Close()
	backend.await(t, "unsubscribeUser", of("unsubscribe", state, user))

	both := []*player{a.joinAs(t, n, state, token, user), a.joinAs(t, n, state, token, user)}
	backend.await(t, "the user to be back", of("subscribe", state, user))
	backend.do(t, map[string]any{"do": "kick", "room": state, "user": user})
	for _, p := range both {
		closesWith(t, p, 4000)
	}
}

func isChatter(text string) bool { return strings.HasPrefix(text, "chatter {") }
