package sdk

import (
	"net"
	"testing"
	"time"
)

// The second address is not made to wait for what happened at the first; only a whole round that failed is a reason to
// pause, longer each time.
func TestAddressesAreTriedWithoutAPauseBetween(t *testing.T) {
	addrs := []string{"a", "b", "c"}
	b := newBackoff(addrs, true)
	var most time.Duration
	for round := range 9 {
		for i, want := range addrs {
			addr, wait := b.next()
			if addr != want {
				t.Fatalf("round %d: %q instead of %q", round, addr, want)
			}
			if i > 0 && wait != 0 {
				t.Fatalf("round %d: %v before the next address", round, wait)
			}
			if i == 0 && round > 0 && (wait < most/2 || wait == 0 || wait > backoffMost) {
				t.Fatalf("round %d begins after %v, the one before after %v", round, wait, most)
			}
			most = max(most, wait)
		}
	}
	b.next()
	b.reset()
	if addr, wait := b.next(); addr != "b" || wait > backoffFirst {
		t.Fatalf("after a connection that worked: %q after %v", addr, wait)
	}
}

func TestWithoutOrderEveryAddressIsTheFirstForSomebody(t *testing.T) {
	addrs := []string{"a", "b", "c"}
	first := make(map[string]bool)
	for range 1000 {
		addr, _ := newBackoff(addrs, false).next()
		first[addr] = true
	}
	if len(first) != len(addrs) {
		t.Fatalf("first: %v", first)
	}
}

// A client whose node dies is at another one as soon as the dead one refuses it.
func TestClientPassesAnAddressThatRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	refuses := "tcp://" + l.Addr().String()
	a, b, j := newNode(t, true), newNode(t, false), newJournal()
	runClient(t, j, ClientConfig{Addrs: []string{a.addr(), refuses, refuses, b.addr()}, InOrder: true})
	g := a.guest(t)
	g.accept(1, 1)
	j.expect(t, "connected 5 resumed false")
	began := time.Now()
	g.nc.Close()
	second := b.guest(t)
	if took := time.Since(began); took > time.Second {
		t.Errorf("at the next node after %v", took)
	}
	if !second.resumed || second.body.Stream != g.body.Stream {
		t.Error("another stream")
	}
	second.accept(1, 1)
	j.expect(t, "disconnected", "connected 5 resumed true")
}
