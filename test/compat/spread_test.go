package compat

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/test/compat/legacybackend"
)

// ledger notes which backend of an app got what.
type ledger struct {
	mu       sync.Mutex
	created  map[uint64]string // state -> store that got NEW_STATE
	heard    map[string]string // message -> store that got it
	mistakes []string
}

func newLedger() *ledger {
	return &ledger{created: map[uint64]string{}, heard: map[string]string{}}
}

func (l *ledger) of(store string) func(*legacybackend.Backend, legacybackend.Frame) {
	return func(b *legacybackend.Backend, f legacybackend.Frame) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch f.Type {
		case legacybackend.NewState:
			if other, ok := l.created[f.Room]; ok {
				l.mistakes = append(l.mistakes, fmt.Sprintf("%x was created at %s and at %s", f.Room, other, store))
			}
			l.created[f.Room] = store
		case legacybackend.Message:
			l.heard[string(f.Data)] = store
			if home := l.created[f.Room]; home != "" && home != store {
				l.mistakes = append(l.mistakes, fmt.Sprintf("%s got a message of %x, which is at %s", store, f.Room, home))
			}
			b.Send(f.Room, f.User, f.Data)
		}
	}
}

// Three instances of each of two apps: states are spread evenly, every message reaches the instance of its state, and
// the apps, which use the same store names and in part the same ids, see nothing of each other.
func TestThreeInstancesAndTwoApps(t *testing.T) {
	t.Parallel()
	const states = 3000
	n := startDev(t)
	apps := []app{newApp(), newApp()}
	ledgers := []*ledger{newLedger(), newLedger()}
	tokens := make([]string, len(apps))
	for i, a := range apps {
		for _, store := range []string{"store-1", "store-2", "store-3"} {
			a.raw(t, n, a.registration(t, store), ledgers[i].of(store))
			a.awaitInstance(t, n, named(store))
		}
		tokens[i], _ = a.login(t, n)
	}

	ids := make([]string, states)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range ids {
		g.Go(func() (err error) {
			ids[i], err = n.api().Create(t.Context(), apps[0].id, tokens[0], nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("create: %v", err)
	}
	count := map[string]int{}
	ledgers[0].mu.Lock()
	for _, store := range ledgers[0].created {
		count[store]++
	}
	ledgers[0].mu.Unlock()
	for store, c := range count {
		if float64(c) > 1.15*states/3 {
			t.Errorf("%s has %d of %d states: %v", store, c, states, count)
		}
	}
	if len(count) != 3 {
		t.Fatalf("states are at %v, want three instances", count)
	}

	for i := range ids[:states/5] {
		for which, a := range apps {
			// The second app uses the ids of the first without having created them.
			g.Go(func() error {
				return a.once(t.Context(), n, tokens[which], ids[i], fmt.Sprintf("%d to app %d", i, which))
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for which, l := range ledgers {
		l.mu.Lock()
		for _, mistake := range l.mistakes {
			t.Error(mistake)
		}
		for message := range l.heard {
			var i, to int
			if fmt.Sscanf(message, "%d to app %d", &i, &to); to != which {
				t.Errorf("app %d got a message for app %d", which, to)
			}
		}
		if len(l.heard) != states/5 {
			t.Errorf("app %d got %d messages, want %d", which, len(l.heard), states/5)
		}
		l.mu.Unlock()
	}
	if created := len(ledgers[1].created); created > 0 {
		t.Errorf("the second app got NEW_STATE %d times and created nothing", created)
	}
}

// once joins a state, says one thing, hears it back and leaves.
func (a app) once(ctx context.Context, n *node, token, state, text string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := n.ws().JoinD(ctx, a.id, token, state)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send([]byte(text)); err != nil {
		return err
	}
	for _, want := range []string{"", text} {
		m, err := c.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		if string(m.Data) != want {
			return fmt.Errorf("heard %q, want %q", m.Data, want)
		}
	}
	c.Leave(1000)
	return nil
}
