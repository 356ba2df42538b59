package gossip

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func TestTheListingTellsLeavingFromDyingInAnyOrder(t *testing.T) {
	now := time.Unix(1000, 0)
	l := listing{members: map[string]*listed{}}
	state := func(name string) State {
		m, ok := l.get(name)
		if !ok {
			t.Fatalf("%s is not listed", name)
		}
		return m.State
	}
	l.put(Member{Name: "a"})
	l.put(Member{Name: "b"})
	l.gone("a", now)
	if state("a") != Dead {
		t.Errorf("a is %s", state("a"))
	}
	l.leaving("a")
	l.leaving("b")
	l.put(Member{Name: "b", Meta: Meta{Draining: true}}) // news that were on their way
	l.gone("b", now)
	if state("a") != Left || state("b") != Left {
		t.Errorf("a is %s, b is %s", state("a"), state("b"))
	}
	l.put(Member{Name: "a"}) // it is back
	l.gone("a", now)
	if state("a") != Dead {
		t.Errorf("a left once and has now died: %s", state("a"))
	}
	if l.leaving("c") {
		t.Error("somebody unknown left")
	}
}

func TestTheListingRemembersABoundedNumberForABoundedTime(t *testing.T) {
	start := time.Unix(1000, 0)
	l := listing{members: map[string]*listed{}}
	l.put(Member{Name: "alive"})
	for i := range 2 * maxRemembered {
		name := fmt.Sprint("n", i)
		l.put(Member{Name: name})
		l.gone(name, start.Add(time.Duration(i)*time.Second/10))
	}
	l.prune(start.Add(time.Minute))
	if n := len(l.all()); n != maxRemembered+1 {
		t.Errorf("%d are listed", n)
	}
	if _, ok := l.get(fmt.Sprint("n", 2*maxRemembered-1)); !ok {
		t.Error("the last one is forgotten, and not the first")
	}
	l.prune(start.Add(time.Hour))
	if all := l.all(); len(all) != 1 || all[0].Name != "alive" {
		t.Errorf("after an hour %+v are listed", all)
	}
}

// What memberlist's own defaults would do otherwise.
func TestGossipIsEncryptedLabelledAndNotCompressed(t *testing.T) {
	key := make([]byte, keySize)
	g, err := New(Config{
		Name: "a", Cluster: "north", Keys: func() ([]byte, [][]byte) { return key, nil }, Network: machine{},
		Bind: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	c := g.config()
	if c.EnableCompression || c.Label != "north" || !c.EncryptionEnabled() || !c.GossipVerifyIncoming || !c.GossipVerifyOutgoing {
		t.Errorf("memberlist runs with %+v", c)
	}
	if c.ProbeInterval != 500*time.Millisecond || c.SuspicionMult != 3 || c.DeadNodeReclaimTime != 10*time.Second {
		t.Errorf("the times are %s, %d, %s", c.ProbeInterval, c.SuspicionMult, c.DeadNodeReclaimTime)
	}
}
