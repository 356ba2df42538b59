package clustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
)

// The ports of nodes on their hosts.
const (
	NodePort   = 7947
	GossipPort = 7946
)

// SeedVariable names the environment variable that repeats a run: the seed that a failed test has logged.
const SeedVariable = "TRUNKLINE_TEST_SEED"

// LogVariable names the environment variable with a file to which what all nodes log is appended at once, so that it is
// there also after a panic.
const LogVariable = "TRUNKLINE_TEST_LOG"

// Cluster is nodes in one process, each on a host of its own. When the test ends, the tables of all nodes that still run
// are compared.
type Cluster struct {
	// Net is what they reach each other through. Hosts are called as their nodes.
	Net *Network
	// Seed is where the test's random choices come from, Rand what makes them.
	Seed uint64
	Rand *rand.Rand
	// Keys are the key file of all nodes; Change, if set before Start, changes the configuration of each life.
	Keys *trust.Keys
	// OwnKeys gives each node a key file of its own with the same secrets.
	OwnKeys bool
	Change  func(node string, c *cluster.Config)

	t     testing.TB
	log   *record
	nodes map[string]*Node
	names []string
}

// Node is one node of a Cluster, over all its lives.
type Node struct {
	Name, Region, Dir string
	Host              *Host
	Disk              *Disk
	// Join is what the node is told to join; changed between lives.
	Join []string

	c     *Cluster
	keys  *trust.Keys
	moves int

	mu   sync.Mutex
	life *life
}

// life is one run of a node, with those that follow it when its session was ended.
type life struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	now   *cluster.Node
	again chan struct{} // closed when now changes
	err   error         // once ended
}

// NewCluster makes a cluster without nodes.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(SeedVariable); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		seed = given
	}
	c := &Cluster{
		Net: New(seed), Seed: seed, Rand: rand.New(rand.NewPCG(seed, 1)), Keys: trust.NewKeys("test"),
		t: t, log: &record{}, nodes: map[string]*Node{},
	}
	t.Logf("seed: %s=%d", SeedVariable, seed)
	if path := os.Getenv(LogVariable); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		c.log.file = f
	}
	t.TempDir() // so that folders are removed after the nodes have ended, not before
	t.Cleanup(c.end)
	return c
}

// Form makes a cluster of nodes n1, n2, ... in region eu and waits until all are members: n1 forms it, the others join it.
func Form(t testing.TB, nodes int) *Cluster {
	t.Helper()
	c := NewCluster(t)
	for i := range nodes {
		c.Add(fmt.Sprintf("n%d", i+1), "eu").Start()
		c.nodes["n1"].Joined() // there must be somebody to join
	}
	for _, n := range c.All() {
		n.Joined()
	}
	return c
}

// Add adds a node, which is not started. The first one is to form the cluster, the others are told to join it.
func (c *Cluster) Add(name, region string) *Node {
	n := &Node{
		Name: name, Region: region, Dir: c.t.TempDir(), Disk: &Disk{}, c: c,
		Host: c.Net.Host(name, fmt.Sprintf("10.0.%d.%d", len(c.names)/250, len(c.names)%250+1)),
	}
	if len(c.names) > 0 {
		n.Join = []string{c.nodes[c.names[0]].Host.Addr(NodePort)}
	}
	c.nodes[name] = n
	c.names = append(c.names, name)
	return n
}

// Node returns a node by its name.
func (c *Cluster) Node(name string) *Node { return c.nodes[name] }

// All returns all nodes in the order in which they were added, Running those that run.
func (c *Cluster) All() []*Node {
	out := make([]*Node, len(c.names))
	for i, name := range c.names {
		out[i] = c.nodes[name]
	}
	return out
}

// Running returns the nodes that run.
func (c *Cluster) Running() []*Node {
	return slices.DeleteFunc(c.All(), func(n *Node) bool { return n.current() == nil })
}

// Leader waits until the running nodes agree on a leader that runs, and returns it.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	c.Until("there is a leader", func() bool {
		leader = nil
		for _, n := range c.Running() {
			name, ok := n.Get().Leader()
			l := c.nodes[name]
			if !ok || l == nil || l.current() == nil || leader != nil && leader != l {
				return false
			}
			leader = l
		}
		return leader != nil
	})
	return leader
}

// Follower returns a running node that does not lead.
func (c *Cluster) Follower() *Node {
	c.t.Helper()
	leader := c.Leader()
	for _, n := range c.Running() {
		if n != leader {
			return n
		}
	}
	c.t.Fatal("there is no other node")
	return nil
}

// Voters waits until the leader has so many voters.
func (c *Cluster) Voters(want int) {
	c.t.Helper()
	c.Until(fmt.Sprintf("there are %d voters", want), func() bool {
		voters := 0
		for _, p := range c.Leader().Get().Peers() {
			if p.Voter {
				voters++
			}
		}
		return voters == want
	})
}

// untilTime bounds what a test waits for.
const untilTime = 60 * time.Second

// Until waits until something is so, or fails the test.
func (c *Cluster) Until(what string, so func() bool) {
	c.t.Helper()
	for end := time.Now().Add(untilTime); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("after %v it is not so that %s", untilTime, what)
		}
	}
}

// Partition cuts the network into the groups named, and Heal mends it.
func (c *Cluster) Partition(groups ...[]string) { c.Net.Partition(groups...) }

// Heal mends the network.
func (c *Cluster) Heal() { c.Net.Heal() }

// Start begins a life of the node. When the cluster has ended its session it begins another by itself, as the program does.
func (n *Node) Start() *Node {
	n.c.t.Helper()
	n.Host.Start()
	first, err := n.open()
	if err != nil {
		n.c.t.Fatalf("start %s: %v", n.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{cancel: cancel, ended: make(chan struct{}), now: first, again: make(chan struct{})}
	n.mu.Lock()
	n.life = l
	n.mu.Unlock()
	go n.run(ctx, l, first)
	return n
}

// Open opens a life of the node without running it. Close it, or see it fail.
func (n *Node) Open() (*cluster.Node, error) { return n.open() }

// Keys are the node's secrets.
func (n *Node) Keys() *trust.Keys {
	if !n.c.OwnKeys {
		return n.c.Keys
	}
	if n.keys == nil {
		n.keys = n.ownKeys()
	}
	return n.keys
}

// ownKeys copies the cluster's secrets into a key file of the node's.
func (n *Node) ownKeys() *trust.Keys {
	path := filepath.Join(n.c.t.TempDir(), "cluster.key")
	text := fmt.Sprintf("trunkline-key 1 %s\n%s primary\n", n.c.Keys.Name(), n.c.Keys.Primary().Reveal())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.c.t.Fatal(err)
	}
	keys, err := trust.LoadKeys(path)
	if err != nil {
		n.c.t.Fatal(err)
	}
	return keys
}

// Move gives the node another address, between two lives.
func (n *Node) Move(addr string) {
	n.moves++
	n.Host = n.c.Net.Host(fmt.Sprintf("%s-%d", n.Name, n.moves), addr)
}

// Has says whether a file of the node's table matches.
func (n *Node) Has(pattern string) bool {
	files, err := filepath.Glob(filepath.Join(n.Dir, "raft", pattern))
	return err == nil && len(files) > 0
}

// FlipBit flips one bit of a file of the node's table, between two lives: of the newest that matches, at an offset.
func (n *Node) FlipBit(pattern string, at int64) {
	n.c.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Dir, "raft", pattern))
	if err != nil || len(files) == 0 {
		n.c.t.Fatalf("no file %s of %s: %v", pattern, n.Name, err)
	}
	f, err := os.OpenFile(newest(files), os.O_RDWR, 0)
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	if err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b[:], at)
	}
	if err != nil {
		n.c.t.Fatal(err)
	}
}

func newest(files []string) string {
	return slices.MaxFunc(files, func(a, b string) int { return modified(a).Compare(modified(b)) })
}

func modified(path string) time.Time {
	st, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func (n *Node) open() (*cluster.Node, error) {
	cfg := cluster.Default()
	cfg.DataDir, cfg.NodeID, cfg.Region, cfg.Keys, cfg.Join = n.Dir, n.Name, n.Region, n.Keys(), n.Join
	cfg.Network, cfg.NodeAddr, cfg.GossipAddr = n.Host, n.Host.Addr(NodePort), n.Host.Addr(GossipPort)
	cfg.OpenFile, cfg.Version = n.Disk.open, "test"
	cfg.Log = slog.New(slog.NewTextHandler(n.c.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.Name)
	if n.c.Change != nil {
		n.c.Change(n.Name, &cfg)
	}
	return cluster.Open(cfg)
}

func (n *Node) run(ctx context.Context, l *life, node *cluster.Node) {
	defer close(l.ended)
	for {
		err := node.Run(ctx)
		if errors.Is(err, cluster.ErrSessionOver) && ctx.Err() == nil {
			if node, err = n.open(); err == nil {
				l.mu.Lock()
				l.now = node
				close(l.again)
				l.again = make(chan struct{})
				l.mu.Unlock()
				continue
			}
		}
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		return
	}
}

func (n *Node) current() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == nil {
		return nil
	}
	select {
	case <-n.life.ended:
		return nil
	default:
		return n.life
	}
}

// Get returns the running node; the test fails where there is none. After its session was ended it is another one.
func (n *Node) Get() *cluster.Node {
	n.c.t.Helper()
	l := n.current()
	if l == nil {
		n.c.t.Fatalf("node %s does not run: %v", n.Name, n.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// Now returns the running node, nil where there is none, for goroutines that outlive its lives.
func (n *Node) Now() *cluster.Node {
	l := n.current()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// Err is why the node ended by itself, nil when it did not.
func (n *Node) Err() error {
	n.mu.Lock()
	l := n.life
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Ended waits until the node has ended by itself, and returns why.
func (n *Node) Ended() error {
	n.c.t.Helper()
	n.c.Until("node "+n.Name+" has ended", func() bool { return n.current() == nil })
	return n.Err()
}

// Joined waits until the node is a member, and returns it.
func (n *Node) Joined() *cluster.Node {
	n.c.t.Helper()
	var node *cluster.Node
	n.c.Until("node "+n.Name+" is a member", func() bool {
		node = n.Get()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		return node.Joined(ctx) == nil
	})
	return node
}

// Kill takes the power of the node's host: nobody is told anything. Its data stays.
func (n *Node) Kill() {
	n.Host.Kill()
	n.halt()
}

// Crash kills the process: its host resets its connections.
func (n *Node) Crash() {
	n.Host.Crash()
	n.halt()
}

func (n *Node) halt() {
	n.mu.Lock()
	l := n.life
	n.life = nil
	n.mu.Unlock()
	if l != nil {
		l.cancel()
		<-l.ended
	}
}

// Restart begins another life of a node that runs or was killed.
func (n *Node) Restart() *Node {
	n.c.t.Helper()
	if n.current() != nil {
		n.Crash()
	}
	return n.Start()
}

// Same waits until the running nodes have the same table, and fails the test if tables of one index differ.
func (c *Cluster) Same() {
	c.t.Helper()
	var tables map[string]*placement.Snapshot
	c.Until("all nodes have the same table", func() bool {
		tables = map[string]*placement.Snapshot{}
		var index uint64
		for _, n := range c.Running() { // together, since the index goes on
			s := n.Get().Table().Snapshot()
			if index != 0 && s.Index != index {
				return false
			}
			index = s.Index
			tables[n.Name] = s
		}
		return true
	})
	sums := map[[32]byte]string{}
	for name, s := range tables {
		sums[s.Sum()] += name + " "
	}
	if len(sums) > 1 {
		c.t.Fatalf("the tables differ: %v", sums)
	}
}

// Tables returns the tables of the running nodes.
func (c *Cluster) Tables() map[string]*placement.Table {
	out := map[string]*placement.Table{}
	for _, n := range c.Running() {
		out[n.Name] = n.Get().Table()
	}
	return out
}

func (c *Cluster) end() {
	if !c.t.Failed() {
		c.Net.Heal()
		c.Same()
	}
	var all sync.WaitGroup
	for _, n := range c.nodes {
		all.Go(n.halt)
	}
	all.Wait()
	if c.t.Failed() {
		c.t.Logf("what the nodes have logged, seed %d:\n%s", c.Seed, c.log.text())
	}
}

// Log returns what all nodes have logged so far.
func (c *Cluster) Log() string { return c.log.text() }

// record keeps what was logged, up to a limit.
type record struct {
	mu   sync.Mutex
	b    strings.Builder
	file *os.File // nil for none
}

const maxRecord = 4 << 20

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.b.Len() < maxRecord {
		r.b.Write(p)
	}
	if r.file != nil {
		_, _ = r.file.Write(p)
	}
	return len(p), nil
}

func (r *record) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}
