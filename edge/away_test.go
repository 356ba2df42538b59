package edge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestLegacyInstanceOnAnotherNodeIsServed(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		ann.sends("hello")
		ann.sends("again")
		want(t, "backend", b.take(), `confirm; open 7 ann; data 7 ann 1 "hello"; data 7 ann 2 "again"`)
		w[0].says(b, func(s tunnel.Sink) {
			s.ToUser(7, 0, []byte("ann"), []byte("hi"))
			s.ToUser(7, 0, []byte("ann"), []byte("ho"))
		})
		want(t, "client", without(ann.take(), "ack"), "registered; hi; ho")
		if row, _ := w[1].r.table.Lookup(wire.AppIDOf(secret), 7); row.Tentative {
			t.Error("the row of a state that its instance has spoken for is not firm")
		}
		ann.leaves()
		want(t, "backend", b.take(), "close 7 ann")
		if n := w[0].r.stats.guests.Load(); n != 0 {
			t.Errorf("%d guests are left", n)
		}
	})
}

// without drops what begins with a word.
func without(heard, word string) string {
	var out []string
	for _, s := range strings.Split(heard, "; ") {
		if !strings.HasPrefix(s, word) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

func TestNativeInstanceOnAnotherNodeIsServed(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Native, secret, "s1")
		ann, bob := w[1].joins(secret, 7, "ann"), w[1].joins(secret, 7, "bob")
		ann.sends("hello")
		want(t, "backend", b.take(), `confirm; open 7 ann; open 7 bob; data 7 ann 1 "hello"`)
		row, _ := w[0].r.table.Lookup(wire.AppIDOf(secret), 7)
		w[0].says(b, func(s tunnel.Sink) {
			s.SessionAccepted(1)
			s.Acked(1, 1)
			s.ToSession(1, 1, []byte("you"), false)
			s.ToAll(7, row.Epoch, 0, []byte("all who joined"), false)
			s.SessionAccepted(2)
			s.ToAll(7, row.Epoch, 1, []byte("all but one"), false)
			s.ToAll(7, row.Epoch-1, 0, []byte("stale"), false)
		})
		want(t, "ann", ann.take(), "registered; ack 1; you; all who joined")
		want(t, "bob", bob.take(), "registered; all but one")
		w[0].says(b, func(s tunnel.Sink) { s.CloseSession(2, 4000, []byte("out")) })
		want(t, "bob", bob.take(), "closed 4000 out")
		bob.leaves()
		ann.leaves()
		want(t, "backend", b.take(), "close 7 bob; close 7 ann")
	})
}

func TestStateIsCreatedOnAnotherNode(t *testing.T) {
	for _, kind := range []tunnel.Kind{tunnel.Legacy, tunnel.Native} {
		inNodes(t, 2, nil, func(_ *nodes, w []*world) {
			b := w[0].backend(kind, secret, "s1")
			b.take()
			answers := make(chan wire.StateID, 1)
			w[1].r.spawn(func(ctx context.Context) {
				id, err := w[1].r.Create(ctx, api.CreateRequest{App: wire.AppIDOf(secret), User: "ann", Data: []byte("map")})
				if err != nil {
					t.Error(err)
				}
				answers <- id
			})
			synctest.Wait()
			id := w[1].placer.ids
			want(t, "backend", b.take(), fmt.Sprintf(`new %s ann "map"`, id))
			if kind == tunnel.Native {
				row, _ := w[0].r.table.Lookup(wire.AppIDOf(secret), id)
				w[0].says(b, func(s tunnel.Sink) { s.StateAccepted(id, row.Epoch) })
			}
			if got := <-answers; got != id {
				t.Errorf("created %s, want %s", got, id)
			}
			ann := w[1].joins(secret, id, "ann")
			want(t, "backend", b.take(), fmt.Sprintf("open %s ann", id))
			ann.leaves()
			if rooms := len(w[0].r.rooms.all()); rooms != 0 {
				t.Errorf("%d rooms are left at the owner", rooms)
			}
		})
	}
}

func TestRefusedCreateIsRepeatedOverNodes(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b1, b2 := w[0].backend(tunnel.Native, secret, "s1"), w[1].backend(tunnel.Native, secret, "s2")
		answers := make(chan error, 1)
		w[1].r.spawn(func(ctx context.Context) {
			_, err := w[1].r.Create(ctx, api.CreateRequest{App: wire.AppIDOf(secret), User: "ann"})
			answers <- err
		})
		synctest.Wait()
		app, first := wire.AppIDOf(secret), w[1].placer.ids
		row, _ := w[0].r.table.Lookup(app, first)
		w[0].says(b1, func(s tunnel.Sink) { s.StateRefused(first, row.Epoch, wire.CodeTryLater, nil) })
		second := first + 1
		row, _ = w[1].r.table.Lookup(app, second)
		w[1].says(b2, func(s tunnel.Sink) { s.StateAccepted(second, row.Epoch) })
		if err := <-answers; err != nil {
			t.Error(err)
		}
		if _, ok := w[0].r.table.Lookup(app, first); ok {
			t.Error("the refused row is still there")
		}
		if rooms := len(w[0].r.rooms.all()); rooms != 0 {
			t.Errorf("%d rooms are left at the owner", rooms)
		}
	})
}

func TestUserWithTabsOnTwoNodesLeavesWithTheLast(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		one, two, three := w[0].joins(secret, 7, "ann"), w[1].joins(secret, 7, "ann"), w[2].joins(secret, 7, "ann")
		w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("hi")) })
		for _, p := range []*player{one, two, three} {
			want(t, "a tab", p.take(), "registered; hi")
		}
		want(t, "backend", b.take(), "confirm; open 7 ann; open 7 ann; open 7 ann")
		one.leaves()
		two.leaves()
		want(t, "backend", b.take(), "")
		c.dies(2)
		want(t, "backend", b.take(), "close 7 ann")
	})
}

func TestKickReachesEveryNode(t *testing.T) {
	inNodes(t, 3, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		one, two := w[1].joins(secret, 7, "ann"), w[2].joins(secret, 7, "ann")
		bob := w[1].joins(secret, 7, "bob")
		w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("bob"), []byte("hi")) })
		b.take()
		w[0].says(b, func(s tunnel.Sink) { s.CloseUser(7, []byte("ann")) })
		closed := "registered; closed 4000 " + wire.CodeStateNotFound.Reason()
		want(t, "one", one.take(), closed)
		want(t, "two", two.take(), closed)
		want(t, "bob", bob.take(), "registered; hi")
		want(t, "backend", b.take(), "close 7 ann")
		one.leaves()
		two.leaves()
		bob.leaves()
	})
}

func TestTentativeStateIsTurnedAwayByItsOwner(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		b.take()
		w[0].says(b, func(s tunnel.Sink) { s.CloseUser(7, []byte("ann")) })
		want(t, "client", ann.take(), "registered; closed 4000 "+wire.CodeStateNotFound.Reason())
		want(t, "backend", b.take(), "")
		ann.leaves()
		if _, ok := w[1].r.table.Lookup(wire.AppIDOf(secret), 7); ok {
			t.Error("the row is still there")
		}
		if _, refusal := w[1].tries(secret, 7, "ann"); refusal == nil || refusal.Code != wire.CodeStateNotFound {
			t.Errorf("a second try at the edge got %v, want 4000", refusal)
		}
	})
}

func TestTentativeRowWithoutGuestsGoes(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		w[0].backend(tunnel.Legacy, secret, "s1")
		w[1].joins(secret, 7, "ann").leaves()
		app := wire.AppIDOf(secret)
		time.Sleep(30 * time.Second)
		if _, ok := w[1].r.table.Lookup(app, 7); !ok {
			t.Error("the row went before its time")
		}
		time.Sleep(35 * time.Second)
		if _, ok := w[1].r.table.Lookup(app, 7); ok {
			t.Error("the row is still there")
		}
	})
}

func TestBroadcastCrossesTheLinkOnce(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Native, secret, "s1")
		var players []*player
		for i := range 1000 {
			players = append(players, w[1].joins(secret, 7, fmt.Sprint("user", i)))
		}
		row, _ := w[0].r.table.Lookup(wire.AppIDOf(secret), 7)
		w[0].says(b, func(s tunnel.Sink) {
			for i := range players {
				s.SessionAccepted(uint32(i + 1))
			}
		})
		settle()
		before := w[0].r.Peers()[0].BytesOut
		payload := strings.Repeat("x", 1024)
		w[0].says(b, func(s tunnel.Sink) { s.ToAll(7, row.Epoch, 0, []byte(payload), false) })
		settle()
		if n := w[0].r.Peers()[0].BytesOut - before; n > 1229 {
			t.Errorf("%d bytes on the link for one broadcast of 1 KiB, want at most 1.2 KiB", n)
		}
		for _, p := range players {
			want(t, "client", p.take(), "registered; "+payload)
			p.seat.Leave()
		}
	})
}

func TestNativeInstanceThatAttachesElsewhereKeepsItsStates(t *testing.T) {
	inNodes(t, 3, nil, func(_ *nodes, w []*world) {
		app := wire.AppIDOf(secret)
		b := w[0].backend(tunnel.Native, secret, "s1")
		ann, bob, eve := w[0].joins(secret, 7, "ann"), w[1].joins(secret, 7, "bob"), w[2].joins(secret, 7, "eve")
		before, _ := w[1].r.table.Lookup(app, 7)
		again := w[2].backend(tunnel.Native, secret, "s1")
		select {
		case <-b.done:
		default:
		}
		settle()
		heard := again.take()
		for _, user := range []string{"ann", "bob", "eve"} {
			if strings.Count(heard, "open 7 "+user) != 1 {
				t.Errorf("the instance heard %q, want one open of %s", heard, user)
			}
		}
		after, _ := w[1].r.table.Lookup(app, 7)
		if after.Epoch != before.Epoch || after.Instance != before.Instance || after.Node != w[2].placer.node {
			t.Errorf("row %+v, before %+v: the state moved", after, before)
		}
		for _, p := range []*player{ann, bob, eve} {
			p.sends("x")
		}
		if n := strings.Count(again.take(), `1 "x"`); n != 3 {
			t.Errorf("%d of 3 messages arrived", n)
		}
		ann.leaves()
		bob.leaves()
		eve.leaves()
		if n := w[0].r.stats.guests.Load() + w[1].r.stats.guests.Load() + w[2].r.stats.guests.Load(); n != 0 {
			t.Errorf("%d guests are left", n)
		}
	})
}
