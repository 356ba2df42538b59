package node

import (
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Three instances of each of two apps with the same store ids, user ids and state ids. Created states are spread evenly,
// every message of a client is answered by the instance that has the client's state, and no app sees anything of the other.
func TestEveryMessageReachesTheInstanceOfItsState(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const states, clients, messages = 3000, 120, 20
			c := startDev(t)
			red, blue := newApp("red"), newApp("blue")
			red.threeBackends(t, c, kind, false)
			blue.threeBackends(t, c, kind, false)

			ids := red.create(t, c, states)
			count := map[string]int{}
			for _, s := range c.states(t, red) {
				count[s.StoreID]++
			}
			t.Logf("%d states are spread as %v", states, count)
			if len(count) != 3 {
				t.Fatalf("states are at %v, want three instances", count)
			}
			for store, n := range count {
				if float64(n) > 1.15*states/3 {
					t.Errorf("%s has %d of %d states, more than 1.15 times the mean", store, n, states)
				}
			}
			if n := len(c.states(t, blue)); n != 0 {
				t.Errorf("the other app has %d states and created none", n)
			}

			// Blue never created these ids: connecting to them places them there, on blue's instances.
			some := ids[:clients/2]
			players := map[string][]*player{red.name: red.crowd(t, c, clients, some), blue.name: blue.crowd(t, c, clients, some)}
			var g errgroup.Group
			for _, all := range players {
				for _, p := range all {
					g.Go(func() error {
						for i := range messages {
							if _, err := p.ask(t.Context(), fmt.Sprintf("%s says %d", p.user, i)); err != nil {
								return err
							}
						}
						return nil
					})
				}
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			for _, a := range []app{red, blue} {
				owners := c.states(t, a)
				for _, p := range players[a.name] {
					p.undisturbed(t)
					want := a.name + "/" + owners[p.state].StoreID
					heard := p.heard()
					for _, got := range heard {
						if got.backend != want {
							t.Errorf("%s: %s was answered by %s, its state %s is at %s", a.name, p.user, got.backend, p.state, want)
						}
					}
					if len(heard) != messages {
						t.Errorf("%s: %s heard %d answers to %d messages", a.name, p.user, len(heard), messages)
					}
				}
			}
			if got := len(c.states(t, blue)); got != len(some) {
				t.Errorf("the other app has %d states, want the %d its clients connected to", got, len(some))
			}
			t.Logf("%d messages of %d clients of two apps in %d states each", 2*clients*messages, 2*clients, len(some))
		})
	}
}
