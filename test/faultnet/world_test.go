package faultnet_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/test/faultnet"
)

// pinged says whether an echo request from one host to another is answered within a second, and after how long.
func pinged(t *testing.T, from, to *faultnet.Host) (time.Duration, bool) {
	t.Helper()
	out, err := from.Command("ping", "-c1", "-W1", to.Addr.String()).CombinedOutput()
	_, after, found := strings.Cut(string(out), "time=")
	if err != nil || !found {
		return 0, false
	}
	ms, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		t.Fatalf("ping said %q", out)
	}
	return time.Duration(ms * float64(time.Millisecond)), true
}

// addrs is every address of the namespace that the test runs in: what is none of a world's networks has no way into one.
func addrs(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return out
}

func TestHostsReachEachOtherUnlessCut(t *testing.T) {
	before := addrs(t)
	w := faultnet.New(t, 1, "a:us", "b:us", "c:eu")
	a, b, c := w.Host("a"), w.Host("b"), w.Host("c")
	if _, err := a.Command("ping", "-V").CombinedOutput(); err != nil {
		t.Skip("the command ping is not installed")
	}
	w.Link(a, c, func(q *faultnet.Quality) { q.Delay = 20 * time.Millisecond })
	if rtt, ok := pinged(t, a, c); !ok || rtt < 40*time.Millisecond {
		t.Errorf("a to c took %v, %v; want at least 40 ms", rtt, ok)
	}
	w.OneWay(b, a, func(q *faultnet.Quality) { q.Cut = true })
	if _, ok := pinged(t, a, b); ok {
		t.Error("the answer came through a cut")
	}
	if s := w.Stats(b, a); s.Cut == 0 {
		t.Errorf("no packet was counted: %+v", s)
	}
	w.Split("c")
	if _, ok := pinged(t, a, c); ok {
		t.Error("c is reached through a partition")
	}
	if _, ok := pinged(t, a, b); !ok {
		t.Error("hosts on one side of a partition do not reach each other")
	}
	w.Heal()
	if _, ok := pinged(t, c, b); !ok {
		t.Error("c is not reached after the partition")
	}
	if _, ok := pinged(t, a, a); !ok {
		t.Error("a host does not reach itself")
	}
	// Not dialled from here: a packet to an address that nobody has would leave the machine.
	if after := addrs(t); !slices.Equal(after, before) {
		t.Errorf("a world changed this namespace's addresses from %v to %v", before, after)
	}
}

func TestLossAndRateAreWhatWasAskedFor(t *testing.T) {
	w := faultnet.New(t, 7, "a:us", "b:us")
	a, b := w.Host("a"), w.Host("b")
	if _, err := a.Command("ping", "-V").CombinedOutput(); err != nil {
		t.Skip("the command ping is not installed")
	}
	w.OneWay(a, b, func(q *faultnet.Quality) { q.Loss = 0.5 })
	_, _ = a.Command("ping", "-c", "100", "-i", "0.002", "-W1", b.Addr.String()).CombinedOutput()
	if s := w.Stats(a, b); s.Lost < 25 || s.Lost > 75 {
		t.Errorf("%d of %d packets were lost, want about half", s.Lost, s.In)
	}
	w.Link(a, b, func(q *faultnet.Quality) { q.Loss, q.Rate = 0, 100_000 })
	out, _ := a.Command("ping", "-c1", "-W2", "-s", "1000", b.Addr.String()).CombinedOutput()
	_, after, _ := strings.Cut(string(out), "time=")
	ms, err := strconv.ParseFloat(strings.Split(after+" ", " ")[0], 64)
	if err != nil || ms < 20 {
		t.Errorf("1,028 bytes both ways at 100,000 bytes a second took %q, want 20 ms or more", after)
	}
}

func TestAddressesMoveBetweenHosts(t *testing.T) {
	w := faultnet.New(t, 3, "a:us", "b:us", "c:us")
	a, b, c := w.Host("a"), w.Host("b"), w.Host("c")
	extra := netip.MustParseAddr("10.77.1.1")
	// A dial to a port where nobody listens is refused by the host that has the address, and by nobody else.
	refused := func(addr netip.Addr) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		conn, err := c.Dial(ctx, "tcp", netip.AddrPortFrom(addr, 9).String())
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	for _, host := range []*faultnet.Host{a, b} {
		if err := host.Take(extra); err != nil {
			t.Fatal(err)
		}
		before := w.Stats(c, host).Out
		if !refused(extra) || w.Stats(c, host).Out == before {
			t.Errorf("the address is not where %s is", host.Name)
		}
	}
	old := a.Addr
	if err := a.Readdress(netip.MustParseAddr("10.77.1.2")); err != nil {
		t.Fatal(err)
	}
	if refused(old) {
		t.Error("the old address is still there")
	}
	if !refused(a.Addr) {
		t.Error("the new address is not there")
	}
}
