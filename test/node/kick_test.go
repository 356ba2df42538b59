package node

import (
	"fmt"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// A kick ends the connections of one user and nothing else: the state stays where it is, for those who are in it, for the
// next one who joins, and for the one who was kicked and comes again.
func TestKickMovesNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const users = 20
			c := startDev(t)
			a := newApp("kick")
			a.threeBackends(t, c, kind, false)
			state := a.create(t, c, 1)[0]
			players := a.crowd(t, c, users, []string{state})
			before := c.states(t, a)[state]
			want := a.name + "/" + before.StoreID

			kicked := players[6]
			if err := players[0].send([]byte("kick " + kicked.user)); err != nil {
				t.Fatal(err)
			}
			err := kicked.await(within(t), "kept", func() bool { return false })
			if code := codeOf(err); code != int(wire.CodeStateNotFound) {
				t.Errorf("the kicked user's connection ended with %v, want code %d", err, wire.CodeStateNotFound)
			}
			next := a.join(t, c, legacy, "user-21", state)
			again := a.join(t, c, native, kicked.user, state)
			for i, p := range append([]*player{next, again}, players...) {
				if p == kicked {
					continue
				}
				got, err := p.ask(within(t), fmt.Sprintf("still there, %d?", i))
				if err != nil {
					t.Fatal(err)
				}
				if got.backend != want {
					t.Errorf("%s is answered by %s after the kick, want %s", p.user, got.backend, want)
				}
				p.undisturbed(t)
			}
			if after := c.states(t, a)[state]; after.Instance != before.Instance || after.Epoch != before.Epoch {
				t.Errorf("the kick changed the row from %+v to %+v", before, after)
			}
			if got := len(c.states(t, a)); got != 1 {
				t.Errorf("there are %d rows after the kick, want 1", got)
			}
			t.Logf("one of %d users was kicked; %d others, the next joiner and the kicked user are at %s", users, users-1, want)
		})
	}
}
