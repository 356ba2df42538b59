package edge

import (
	"fmt"
	"testing"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/wire"
)

// However many apps make lobbies, and whether anybody lists them or not, their number is bounded: those whose states are
// gone go first, then the oldest of the app that has most.
func TestLobbiesAreBoundedOverAllApps(t *testing.T) {
	const most = 100
	gone := map[wire.StateID]bool{}
	lives := func(_ wire.AppID, state wire.StateID) bool { return !gone[state] }
	l := &lobbies{}
	l.init(most, lives)
	add := func(app string, state int) {
		l.add(wire.AppIDOf(app), wire.StateID(state), api.Lobby{Visibility: "public"})
		held := 0
		for _, list := range l.app {
			held += len(list)
		}
		if held != l.total || held > most {
			t.Fatalf("after state %d: %d lobbies are held, %d counted, at most %d are allowed", state, held, l.total, most)
		}
	}
	for i := range 10 * most { // an app each, and gone when the next comes
		add(fmt.Sprint(i), i)
		gone[wire.StateID(i)] = true
	}
	clear(gone)
	l = &lobbies{}
	l.init(most, lives)
	for i := range 10 {
		add("few", i)
	}
	for i := range 10 * most {
		add("many", 1000+i)
	}
	few, many := l.newest(wire.AppIDOf("few"), "", most), l.newest(wire.AppIDOf("many"), "", most)
	if len(few) != 10 || len(many) < most/4 || many[0].State != 1000+10*most-1 {
		t.Errorf("an app with few lobbies has %d of 10, the one with many %d, the newest %v", len(few), len(many), many[0].State)
	}
}
