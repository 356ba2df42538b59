package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/wire"
)

// names of n nodes, and their addresses.
func crowd(n int) (names, addrs []string) {
	for i := range n {
		names = append(names, string(rune('a'+i)))
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d:7946", i+1))
	}
	return names, addrs
}

// crowd starts n nodes, each with all addresses as seeds, and waits until all list all.
func (w *world) crowd(n int) ([]*node, []string) {
	w.t.Helper()
	names, addrs := crowd(n)
	nodes := make([]*node, n)
	for i, name := range names {
		nodes[i] = w.start(w.config(name, w.host(name, fmt.Sprintf("10.0.0.%d", i+1)), addrs...))
	}
	for _, n := range nodes {
		n.until(20*time.Second, "all others", lists(names...))
	}
	return nodes, names
}

func TestFiveNodesFindEachOtherThroughOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		names, addrs := crowd(5)
		var nodes []*node
		for i, name := range names {
			cfg := w.config(name, w.host(name, fmt.Sprintf("10.0.0.%d", i+1)), addrs[0])
			cfg.Meta.Number, cfg.Meta.NodeAddr = uint32(i+1), fmt.Sprintf("10.0.0.%d:7947", i+1)
			nodes = append(nodes, w.start(cfg))
		}
		for _, n := range nodes {
			n.until(15*time.Second, "all others", lists(names...))
		}
		m := nodes[3].byName()["b"]
		if m.Meta != nodes[1].cfg.Meta || m.Addr.String() != addrs[1] || m.Self {
			t.Errorf("b is listed as %+v, and said %+v", m, nodes[1].cfg.Meta)
		}
		pass(10 * time.Second) // probes
		if rtt := nodes[3].byName()["b"].RTT; rtt < 0 || rtt > time.Second {
			t.Errorf("b answers probes in %s", rtt)
		}
		if s := nodes[0].Stats(); s != (gossip.Stats{}) {
			t.Errorf("something was dropped: %+v", s)
		}
	})
}

func TestMetaChangesReachOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, _ := w.crowd(3)
		m := nodes[1].cfg.Meta
		m.Draining, m.Role, m.Incarnation = true, gossip.NonVoter, [16]byte{}
		if err := nodes[1].UpdateMeta(m); err != nil {
			t.Fatal(err)
		}
		nodes[2].until(3*time.Second, "that b drains", func(members map[string]gossip.Member) bool {
			b := members["b"].Meta
			return b.Draining && b.Role == gossip.NonVoter && b.Incarnation == red
		})
		m.Incarnation = blue
		if err := nodes[1].UpdateMeta(m); !errors.Is(err, gossip.ErrIncarnation) {
			t.Errorf("another incarnation: %v", err)
		}
		m.Region = strings.Repeat("x", 65)
		if err := nodes[1].UpdateMeta(m); err == nil {
			t.Error("a region of 65 bytes was taken")
		}
	})
}

func TestLeavingIsToldFromDying(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(5)
		start := time.Now()
		if err := nodes[4].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := nodes[4].Leave(t.Context()); err != nil {
			t.Errorf("left twice: %v", err)
		}
		if !in("e", gossip.Left)(nodes[4].byName()) {
			t.Errorf("e lists itself as %+v", nodes[4].byName()["e"])
		}
		nodes[4].end()
		for _, n := range nodes[:4] {
			n.until(2*time.Second, "that e left", in("e", gossip.Left))
		}
		t.Logf("left within %s", time.Since(start))
		start = time.Now()
		nodes[3].kill()
		for _, n := range nodes[:3] {
			n.until(10*time.Second, "that d is dead", in("d", gossip.Dead))
			if !in("e", gossip.Left)(n.byName()) {
				t.Errorf("%s does not list e as left any more", n.cfg.Name)
			}
		}
		t.Logf("found dead within %s", time.Since(start))
		for _, n := range nodes[:3] {
			if !lists(names[:3]...)(n.byName()) {
				t.Errorf("%s lists %+v", n.cfg.Name, n.Members())
			}
		}
		if err := nodes[4].Leave(t.Context()); !errors.Is(err, gossip.ErrNotRunning) {
			t.Errorf("leaving when it is over: %v", err)
		}
		pass(gossip.Remembered + time.Minute)
		if members := nodes[0].Members(); len(members) != 3 {
			t.Errorf("after %s those who are gone are still listed: %+v", gossip.Remembered, members)
		}
	})
}

func TestANodeThatRestartsIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(3)
		_, addrs := crowd(3)

		cfg := nodes[2].cfg
		nodes[2].host.Crash()
		nodes[2].end()
		cfg.Log, cfg.Meta.Session = nil, 77
		again := w.start(cfg)
		for _, n := range []*node{nodes[0], nodes[1], again} {
			n.until(15*time.Second, "c with its new session", func(members map[string]gossip.Member) bool {
				return lists(names...)(members) && members["c"].Meta.Session == 77
			})
		}

		again.kill()
		cfg = w.config("c", w.host("elsewhere", "10.0.1.3"), addrs[:2]...)
		moved := w.start(cfg)
		for _, n := range []*node{nodes[0], nodes[1], moved} {
			took := n.until(60*time.Second, "c at its new address", func(members map[string]gossip.Member) bool {
				return lists(names...)(members) && members["c"].Addr.String() == "10.0.1.3:7946"
			})
			t.Logf("%s: taken back after %s", n.cfg.Name, took)
		}

		if err := moved.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		moved.end()
		nodes[0].until(5*time.Second, "that c left", in("c", gossip.Left))
		back := w.start(w.config("c", w.host("third", "10.0.2.3"), addrs[:2]...))
		back.until(5*time.Second, "all", lists(names...))
		nodes[0].until(5*time.Second, "c at its third address", func(members map[string]gossip.Member) bool {
			return lists(names...)(members) && members["c"].Addr.String() == "10.0.2.3:7946"
		})
	})
}

func TestTwoHalvesThatForgotEachOtherRejoinByThemselves(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nodes, names := w.crowd(5)
		w.net.Partition([]string{"a", "b"}, []string{"c", "d", "e"})
		pass(90 * time.Second)
		for i, n := range nodes {
			side := names[:2]
			if i >= 2 {
				side = names[2:]
			}
			if !lists(side...)(n.byName()) {
				t.Fatalf("%s is cut off and lists %+v", n.cfg.Name, n.Members())
			}
		}
		w.net.Heal()
		start := time.Now()
		for _, n := range nodes {
			n.until(30*time.Second, "the other half", lists(names...))
		}
		t.Logf("healed within %s", time.Since(start))
	})
}

func TestANodeWithoutAnybodyKeepsTryingAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		cfg := w.config("a", w.host("a", "10.0.0.1"), "b.example:7946", "10.0.0.2:7946", "nonsense")
		cfg.Resolve = resolver{"b.example": "10.0.0.3"}.look
		a := w.start(cfg)
		b, third := w.host("b", "10.0.0.3"), w.host("c", "10.0.0.2")
		third.Kill()
		pass(5*time.Minute + 6*time.Second) // not when it tries anyway
		if n := len(a.logs.warnings("none of the addresses")); n < 2 || n > 6 {
			t.Errorf("%d lines in 5 minutes:\n%s", n, a.logs)
		}
		w.start(w.config("b", b))
		a.until(7*time.Second, "b", lists("a", "b"))
	})
}

func TestBothRefuseAnotherIncarnationAndSayHowToJoin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(w.config("a", w.host("a", "10.0.0.1"), "10.0.0.2:7946"))
		cfg := w.config("b", w.host("b", "10.0.0.2"), "10.0.0.1:7946")
		cfg.Meta.Incarnation = blue
		b := w.start(cfg)
		pass(10 * time.Minute)
		for _, n := range []*node{a, b} {
			if !lists(n.cfg.Name)(n.byName()) {
				t.Errorf("%s lists %+v", n.cfg.Name, n.Members())
			}
			said := n.logs.warnings("refused a node of another cluster")
			if len(said) != 1 || !strings.Contains(said[0], "--join") || !strings.Contains(said[0], "empty data directory") {
				t.Errorf("%s says %d times: %q", n.cfg.Name, len(said), said)
			}
			if said := n.logs.warnings("lets this node in"); len(said) == 0 || !strings.Contains(said[0], "it is of another cluster") {
				t.Errorf("%s does not say why it is alone: %q", n.cfg.Name, said)
			}
			if n.Stats().Foreign == 0 {
				t.Errorf("%s counts nothing", n.cfg.Name)
			}
		}
	})
}

func TestANodeOfNoClusterTakesTheIncarnationOfWhomItJoins(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		took := make(chan [16]byte, 2)
		// c of the blue cluster wants a, which has none yet: being wanted does not make it blue.
		cfg := w.config("a", w.host("a", "10.0.0.1"))
		seeds := &sync.Map{}
		cfg.Seeds = func() []string {
			if s, ok := seeds.Load(0); ok {
				return s.([]string)
			}
			return nil
		}
		cfg.Meta.Incarnation, cfg.Meta.Role = [16]byte{}, gossip.Joining
		cfg.OnIncarnation = func(i [16]byte) { took <- i }
		a := w.start(cfg)
		other := w.config("c", w.host("c", "10.0.0.3"), "10.0.0.1:7946")
		other.Meta.Incarnation = blue
		c := w.start(other)
		pass(30 * time.Second)
		if i := a.Incarnation(); i != [16]byte{} || !lists("a")(a.byName()) {
			t.Fatalf("a is of %x and lists %+v", i, a.Members())
		}

		b := w.start(w.config("b", w.host("b", "10.0.0.2")))
		seeds.Store(0, []string{"10.0.0.2:7946"})
		a.until(15*time.Second, "b", lists("a", "b"))
		if i := <-took; i != red || a.Incarnation() != red {
			t.Errorf("a took %x and is of %x", i, a.Incarnation())
		}
		b.until(5*time.Second, "a as one of the cluster", func(members map[string]gossip.Member) bool {
			return members["a"].State == gossip.Live && members["a"].Meta.Incarnation == red
		})
		// c had listed a while that was of no cluster.
		c.until(60*time.Second, "nobody else", lists("c"))
		if len(took) > 0 {
			t.Errorf("a took another: %x", <-took)
		}
	})
}

func TestTwoNodesOfNoClusterEndInTheOneThatIsJoined(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, addrs := crowd(3)
		red := w.config("c", w.host("c", "10.0.0.3"))
		var none []*node
		for i, name := range []string{"a", "b"} {
			cfg := w.config(name, w.host(name, fmt.Sprintf("10.0.0.%d", i+1)), addrs[:3-i]...) // b does not know c
			cfg.Meta.Incarnation = [16]byte{}
			none = append(none, w.start(cfg))
		}
		for _, n := range none {
			n.until(15*time.Second, "the other", lists("a", "b"))
		}
		w.start(red)
		for _, n := range none {
			n.until(40*time.Second, "all, in one cluster", func(members map[string]gossip.Member) bool {
				return lists("a", "b", "c")(members) && members["a"].Meta.Incarnation == red.Meta.Incarnation &&
					members["b"].Meta.Incarnation == red.Meta.Incarnation
			})
		}
	})
}

func TestLoadHintsArrive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, addrs := crowd(2)
		var mu sync.Mutex
		got := map[wire.InstanceID]gossip.Load{}
		all := make(chan struct{})
		var many []gossip.Load
		for i := range 1000 {
			many = append(many, gossip.Load{wire.InstanceID(1<<40 + i), uint32(i % 1001), uint64(i)})
		}
		cfg := w.config("a", w.host("a", "10.0.0.1"), addrs...)
		cfg.OnLoad = func(from gossip.Member, loads []gossip.Load) {
			mu.Lock()
			defer mu.Unlock()
			if from.Name != "b" || from.Meta.Session != 1 {
				t.Errorf("loads of %+v", from)
			}
			for _, l := range loads {
				got[l.Instance] = l
			}
			if len(got) == len(many) && all != nil {
				close(all)
				all = nil
			}
		}
		full := all
		w.start(cfg)
		cfg = w.config("b", w.host("b", "10.0.0.2"), addrs...)
		cfg.Loads = func() []gossip.Load { return many }
		w.start(cfg)
		select {
		case <-full:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of %d loads arrived", len(got), len(many))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, l := range many {
			if got[l.Instance] != l {
				t.Fatalf("%+v arrived as %+v", l, got[l.Instance])
			}
		}
	})
}

func TestRegionsWithDelayAndLossStayTogether(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.net.SetAll(clustertest.Path{Delay: 110 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05})
		names, addrs := crowd(5)
		var nodes []*node
		for i, name := range names {
			cfg := w.config(name, w.host(name, fmt.Sprintf("10.0.0.%d", i+1)), addrs...)
			cfg.Profile = gossip.MultiRegion
			nodes = append(nodes, w.start(cfg))
		}
		for _, n := range nodes {
			n.until(30*time.Second, "all others", lists(names...))
		}
		end := time.After(5 * time.Minute)
		for {
			changed := nodes[0].Changed()
			if !lists(names...)(nodes[0].byName()) {
				t.Fatalf("somebody was thought dead: %+v", nodes[0].Members())
			}
			select {
			case <-changed:
			case <-end:
				return
			}
		}
	})
}

func TestWhatCannotWorkIsRefusedAtOnce(t *testing.T) {
	w := &world{t, clustertest.New(7)}
	host := w.host("a", "10.0.0.1")
	for name, spoil := range map[string]func(*gossip.Config){
		"no name":         func(c *gossip.Config) { c.Name = "" },
		"a long name":     func(c *gossip.Config) { c.Name = strings.Repeat("n", gossip.MaxName+1) },
		"no cluster":      func(c *gossip.Config) { c.Cluster = "" },
		"a long cluster":  func(c *gossip.Config) { c.Cluster = strings.Repeat("n", 256) },
		"no keys":         func(c *gossip.Config) { c.Keys = nil },
		"a short key":     func(c *gossip.Config) { c.Keys = newKeys(keyA[:16]).get },
		"a short old key": func(c *gossip.Config) { c.Keys = newKeys(keyA, keyB[:31]).get },
		"no address":      func(c *gossip.Config) { c.Bind = "10.0.0.1" },
		"foreign address": func(c *gossip.Config) { c.Bind = "10.9.9.9:7946" },
		"advertised name": func(c *gossip.Config) { c.Advertise = "somewhere:7946" },
		"advertised any":  func(c *gossip.Config) { c.Advertise = "0.0.0.0:7946" },
		"profile":         func(c *gossip.Config) { c.Profile = 2 },
		"role":            func(c *gossip.Config) { c.Meta.Role = 3 },
		"long texts":      func(c *gossip.Config) { c.Meta.NodeAddr = strings.Repeat("h", 180) + ":1" },
		"no clock":        func(c *gossip.Config) { c.Now = nil },
		"no times":        func(c *gossip.Config) { c.Timing = &gossip.Timing{Probe: 1} },
	} {
		cfg := w.config("a", host)
		cfg.Log = discard
		spoil(&cfg)
		if g, err := gossip.New(cfg); err == nil {
			g.Close()
			t.Errorf("%s was taken", name)
		}
	}
	cfg := w.config("a", host) // and nothing of all that is still bound
	cfg.Log, cfg.Bind, cfg.Advertise = discard, ":0", "192.0.2.1:0"
	g, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := g.AdvertiseAddr().String(), fmt.Sprintf("192.0.2.1:%d", g.Addr().Port()); got != want {
		t.Errorf("advertises %s, not %s", got, want)
	}
	g.Close()
	if err := g.Run(context.Background()); err == nil {
		t.Error("runs after Close")
	}
}
