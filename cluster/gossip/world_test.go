package gossip_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/gossip"
	"github.com/trunkline-edge/trunkline/wire"
)

// All but one of these tests run in a synctest bubble: the profiles' own times, and no time passes while they wait.

var (
	keyA = bytes.Repeat([]byte{0xa}, gossip.KeySize)
	keyB = bytes.Repeat([]byte{0xb}, gossip.KeySize)

	red  = [16]byte{1, 2, 3}
	blue = [16]byte{4, 5, 6}
)

// world is some nodes on one network.
type world struct {
	t   *testing.T
	net *clustertest.Network
}

// bubble runs a test in a world in which time passes only while everybody waits.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { pass(10 * time.Second) }) // the last one: memberlist's probes end, or the bubble says what hangs
		test(t, &world{t, clustertest.New(7)})
	})
}

// keys is a key ring as a node has it.
type keys struct {
	mu      sync.Mutex
	primary []byte
	all     [][]byte
	changed chan struct{}
}

func newKeys(primary []byte, more ...[]byte) *keys {
	return &keys{primary: primary, all: more, changed: make(chan struct{})}
}

func (k *keys) get() ([]byte, [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.primary, k.all
}

func (k *keys) watch() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

func (k *keys) set(primary []byte, more ...[]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.primary, k.all = primary, more
	close(k.changed)
	k.changed = make(chan struct{})
}

// node is a Gossip that runs.
type node struct {
	*gossip.Gossip
	cfg  gossip.Config
	t    *testing.T
	host *clustertest.Host
	logs *journal
	stop context.CancelFunc
	done chan error
}

// host adds a host at 10.0.0.last.
func (w *world) host(name, ip string) *clustertest.Host { return w.net.Host(name, ip) }

// config is that of a node at a host, of the red cluster, with these seeds.
func (w *world) config(name string, host *clustertest.Host, seeds ...string) gossip.Config {
	ring, bind := newKeys(keyA), ""
	if host != nil {
		bind = host.Addr(7946)
	}
	return gossip.Config{
		Name: name, Cluster: "north", Keys: ring.get, KeysChanged: ring.watch,
		Meta:    gossip.Meta{Incarnation: red, Role: gossip.Voter, Region: "us", ProtoMin: 1, ProtoMax: 2, Session: wire.NodeSession(len(name)), Version: "v1"},
		Network: host, Bind: bind, Seeds: func() []string { return seeds }, Now: time.Now,
	}
}

// start runs a node until the test ends.
func (w *world) start(cfg gossip.Config) *node {
	w.t.Helper()
	n := &node{t: w.t, logs: &journal{}, done: make(chan error, 1)}
	n.host, _ = cfg.Network.(*clustertest.Host)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(n.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	g, err := gossip.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	n.Gossip, n.cfg = g, cfg
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- g.Run(ctx) }()
	w.t.Cleanup(n.end)
	return n
}

// end stops a node and waits until Run has returned. It may be called often.
func (n *node) end() {
	n.stop()
	if err := <-n.done; err != nil {
		n.t.Errorf("Run of %s: %v", n.cfg.Name, err)
	}
	n.done <- nil
}

// kill takes a node's power.
func (n *node) kill() {
	n.host.Kill()
	n.end()
}

// until waits until the listing of a node is as it should be, and fails the test when that takes longer than a limit.
func (n *node) until(limit time.Duration, what string, is func(map[string]gossip.Member) bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		changed := n.Changed()
		if is(n.byName()) {
			return time.Since(start)
		}
		select {
		case <-changed:
		case <-timer.C:
			n.t.Fatalf("after %s, %s does not see: %s; it has %+v\n%s", limit, n.cfg.Name, what, n.Members(), n.logs)
		}
	}
}

func (n *node) byName() map[string]gossip.Member {
	members := map[string]gossip.Member{}
	for _, m := range n.Members() {
		members[m.Name] = m
	}
	return members
}

// lists says whether exactly these names are live.
func lists(names ...string) func(map[string]gossip.Member) bool {
	return func(members map[string]gossip.Member) bool {
		live := 0
		for _, m := range members {
			if m.State == gossip.Live {
				live++
			}
		}
		for _, name := range names {
			m, ok := members[name]
			if !ok || m.State != gossip.Live {
				return false
			}
		}
		return live == len(names)
	}
}

func in(name string, s gossip.State) func(map[string]gossip.Member) bool {
	return func(members map[string]gossip.Member) bool {
		m, ok := members[name]
		return ok && m.State == s
	}
}

// pass lets time pass in which nothing is expected.
func pass(d time.Duration) { <-time.After(d) }

// journal keeps what is logged.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// warnings are the lines at the level warn that contain a text.
func (j *journal) warnings(text string) []string {
	var found []string
	for line := range strings.Lines(j.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

var discard = slog.New(slog.DiscardHandler)

// resolver knows host names.
type resolver map[string]string

func (r resolver) look(_ context.Context, host string) ([]netip.Addr, error) {
	ip, ok := r[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(ip)}, nil
}
