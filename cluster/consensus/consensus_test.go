package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a replica with its table, which a test runs and stops.
type peer struct {
	*Replica
	table *placement.Table
	stop  func() error
}

// start makes a replica and runs it until the test stops it.
func start(t *testing.T, cfg Config) *peer {
	t.Helper()
	table := placement.New()
	r, err := New(cfg, table)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, r, table)
}

func run(t *testing.T, r *Replica, table *placement.Table) *peer {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return &peer{Replica: r, table: table, stop: stop}
}

func testConfig(t *testing.T, dir string) Config {
	_, trans := raft.NewInmemTransport("n1")
	return Config{
		Dir: dir, ID: "n1", Transport: trans, Timing: Alone(), SnapshotBytes: 64 << 20,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) { return os.Stderr.Write(b) }

// until waits for what changes of the leadership or the table bring about.
func until(t *testing.T, what string, done func() bool, changed func() <-chan struct{}) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond) // raft tells of some changes a moment before they are to be seen
	defer again.Stop()
	for {
		ch := changed()
		if done() {
			return
		}
		select {
		case <-ch:
		case <-again.C:
		case <-deadline.C:
			t.Fatal("waited in vain for ", what)
		}
	}
}

func (p *peer) lead(t *testing.T) {
	t.Helper()
	until(t, "leadership", p.Leading, p.Changed)
}

// alone starts the only voter of a new cluster, with a formed table.
func alone(t *testing.T, cfg Config) *peer {
	t.Helper()
	p := start(t, cfg)
	fresh, err := p.Fresh()
	if err != nil || !fresh {
		t.Fatalf("fresh: %v, %v", fresh, err)
	}
	if err := p.Bootstrap(raft.Server{ID: cfg.ID, Address: cfg.Transport.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	p.lead(t)
	p.commit(t, &placement.Form{Generation: 1, Incarnation: [16]byte{9}, MACKey: [32]byte{7}})
	return p
}

func (p *peer) commit(t *testing.T, cmds ...placement.Command) []placement.Result {
	t.Helper()
	results, err := p.Propose([][]byte{placement.AppendEntry(nil, cmds...)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != placement.Done {
			t.Fatalf("%T: outcome %d", cmds[i], r.Outcome)
		}
	}
	return results
}

// fill makes n states, some in each entry.
func (p *peer) fill(t *testing.T, n int) {
	t.Helper()
	node := p.commit(t, &placement.OpenSession{NodeID: "n1"})[0].Node
	inst := p.commit(t, &placement.Register{App: wire.AppID{1}, StoreID: "s", Node: node})[0].Instance
	var batch [][]byte
	for i := range n {
		batch = append(batch, placement.AppendEntry(nil, &placement.Create{App: wire.AppID{1}, State: wire.StateID(i + 1), Instance: inst}))
		if len(batch) == 500 || i == n-1 {
			if _, err := p.Propose(batch); err != nil {
				t.Fatal(err)
			}
			batch = nil
		}
	}
}

func sum(t *placement.Table) [32]byte { return t.Snapshot().Sum() }

func TestOnlyVoterLeadsAtOnceAndKeepsItsTable(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	p := alone(t, testConfig(t, dir))
	t.Logf("a new table is there after %v", time.Since(began))
	p.fill(t, 2000)
	want := sum(p.table)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	table := placement.New()
	r, err := New(testConfig(t, dir), table)
	if err != nil {
		t.Fatal(err)
	}
	again := run(t, r, table)
	again.lead(t)
	if err := again.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum(table) != want {
		t.Error("the table is another one after a restart")
	}
	if fresh, err := again.Fresh(); fresh || err != nil {
		t.Errorf("fresh after a restart: %v, %v", fresh, err)
	}
}

func TestReplicaInMemoryNeedsNoFolder(t *testing.T) {
	p := alone(t, testConfig(t, ""))
	p.fill(t, 10)
	if n := p.table.Stats().Rows; n != 10 {
		t.Errorf("%d rows", n)
	}
}

// A long log is replaced by a snapshot, and a replica that starts from it has the same table.
func TestSnapshotTakesThePlaceOfTheLog(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(t, dir)
	cfg.SnapshotBytes = 4 << 10
	p := alone(t, cfg)
	p.fill(t, 3000)
	snapshots := func() bool { return p.counts.snapshots.Load() > 0 }
	until(t, "a snapshot", snapshots, p.table.Changed)
	want := sum(p.table)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg)
	again.lead(t)
	if err := again.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum(again.table) != want {
		t.Error("the table is another one after a restart from a snapshot")
	}
	_ = again.stop()

	// One flipped bit, and it is not served.
	files, _ := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	if len(files) == 0 {
		t.Fatal("no snapshot on the disk")
	}
	for _, f := range files {
		overwrite(t, f, 100, func(b []byte) { b[0] ^= 4 }, 1)
	}
	if _, err := New(cfg, placement.New()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a replica with a damaged snapshot says %v", err)
	}
}

func TestFlippedBitInTheLogStopsTheReplica(t *testing.T) {
	dir := t.TempDir()
	p := alone(t, testConfig(t, dir))
	p.fill(t, 100)
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, onlySegment(t, dir), 300, func(b []byte) { b[0] ^= 1 }, 1)
	if _, err := New(testConfig(t, dir), placement.New()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a replica with a damaged log says %v", err)
	}
}

// An entry of a later version of the program is never skipped: the replica stops and says where.
func TestEntryNotUnderstoodStopsTheReplica(t *testing.T) {
	p := alone(t, testConfig(t, t.TempDir()))
	index := p.table.Index()
	if _, err := p.Propose([][]byte{{99}}); !errors.Is(err, placement.ErrEntry) {
		t.Fatalf("an entry of version 99: %v", err)
	}
	if _, err := p.Propose([][]byte{placement.AppendEntry(nil)}); err == nil {
		t.Error("an entry behind it was applied")
	}
	until(t, "the end", func() bool { return !p.Leading() }, p.Changed)
	if err := p.stop(); !errors.Is(err, placement.ErrEntry) || !strings.Contains(err.Error(), "log entry") {
		t.Errorf("Run ended with %v", err)
	}
	if p.table.Index() != index {
		t.Errorf("the table went from index %d to %d", index, p.table.Index())
	}
}

func TestEntryAboveTheLimitIsRefusedBeforeRaftSeesIt(t *testing.T) {
	p := alone(t, testConfig(t, ""))
	last := p.raft.LastIndex()
	if _, err := p.Propose([][]byte{make([]byte, 100<<20)}); !errors.Is(err, placement.ErrEntry) {
		t.Errorf("100 MiB: %v", err)
	}
	if p.raft.LastIndex() != last {
		t.Error("it is in the log")
	}
}

// A sync that fails ends the replica; what was answered before is there after a restart.
func TestFailedSyncEndsTheReplica(t *testing.T) {
	dir := t.TempDir()
	var write, fault error
	var mu sync.Mutex
	cfg := testConfig(t, dir)
	cfg.Open = func(path string, size int64) (File, error) {
		f, err := openDisk(path, size)
		return locked{faulty{f, &write, &fault}, &mu}, err
	}
	p := alone(t, cfg)
	p.fill(t, 10)
	want := sum(p.table)
	mu.Lock()
	fault = syscall.EIO
	mu.Unlock()
	if _, err := p.Propose([][]byte{placement.AppendEntry(nil, &placement.OpenSession{NodeID: "n2"})}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a proposal whose sync failed was answered with %v", err)
	}
	until(t, "the end", func() bool { return p.broken() != nil }, p.Changed)
	if err := p.stop(); err != nil && !errors.Is(err, syscall.EIO) {
		t.Errorf("Run ended with %v", err)
	}
	again := start(t, testConfig(t, dir))
	again.lead(t)
	if err := again.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again.table.Stats().Rows != 10 || sum(again.table) != want && again.table.Stats().Sessions != 2 {
		t.Errorf("the table lost something: %+v", again.table.Stats())
	}
}

// locked lets a test change the faults while the log is written.
type locked struct {
	faulty
	mu *sync.Mutex
}

func (l locked) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faulty.Sync()
}

// three are replicas of one cluster that reach each other in memory.
type three struct {
	t     *testing.T
	dirs  [3]string
	trans [3]*raft.InmemTransport
	peers [3]*peer
}

func newThree(t *testing.T) *three {
	c := &three{t: t}
	var servers []raft.Server
	for i := range c.peers {
		c.dirs[i] = t.TempDir()
		servers = append(servers, raft.Server{ID: c.id(i), Address: raft.ServerAddress(c.id(i))})
	}
	for i := range c.peers {
		c.up(i)
	}
	if err := c.peers[0].Bootstrap(servers...); err != nil {
		t.Fatal(err)
	}
	c.leader().commit(t, &placement.Form{Generation: 1, Incarnation: [16]byte{1}, MACKey: [32]byte{2}})
	return c
}

func (c *three) id(i int) raft.ServerID { return raft.ServerID(fmt.Sprintf("n%d", i)) }

func (c *three) config(i int) Config {
	cfg := testConfig(c.t, c.dirs[i])
	cfg.ID, cfg.Transport = c.id(i), c.trans[i]
	cfg.Timing = Timing{150 * time.Millisecond, 150 * time.Millisecond, 100 * time.Millisecond}
	return cfg
}

// up starts a replica and connects it with those that are up.
func (c *three) up(i int) {
	c.t.Helper()
	addr, trans := raft.NewInmemTransport(raft.ServerAddress(c.id(i)))
	c.trans[i] = trans
	for j, other := range c.peers {
		if other != nil {
			trans.Connect(c.trans[j].LocalAddr(), c.trans[j])
			c.trans[j].Connect(addr, trans)
		}
	}
	c.peers[i] = start(c.t, c.config(i))
}

// down stops a replica as a crash does for the others.
func (c *three) down(i int) {
	c.t.Helper()
	for j := range c.peers {
		c.trans[j].Disconnect(raft.ServerAddress(c.id(i)))
	}
	if err := c.peers[i].stop(); err != nil {
		c.t.Error(err)
	}
	c.peers[i] = nil
}

// leader waits for a replica that leads.
func (c *three) leader() *peer {
	c.t.Helper()
	var found *peer
	until(c.t, "a leader", func() bool {
		for _, p := range c.peers {
			if p != nil && p.Leading() && p.Barrier(c.t.Context()) == nil {
				found = p
				return true
			}
		}
		return false
	}, func() <-chan struct{} { return nil })
	return found
}

// same waits until all tables are at one index, and compares them.
func (c *three) same() {
	c.t.Helper()
	lead := c.leader()
	for i, p := range c.peers {
		if p == nil {
			continue
		}
		if err := p.table.WaitIndex(c.t.Context(), lead.table.Index()); err != nil {
			c.t.Fatal(err)
		}
		if sum(p.table) != sum(lead.table) {
			c.t.Errorf("the table of replica %d differs from the leader's", i)
		}
	}
}

// The leader is killed again and again under proposals: nothing that was answered is lost, and the tables stay the same.
func TestNothingAnsweredIsLostWithTheLeader(t *testing.T) {
	c := newThree(t)
	node := c.leader().commit(t, &placement.OpenSession{NodeID: "n"})[0].Node
	inst := c.leader().commit(t, &placement.Register{App: wire.AppID{1}, StoreID: "s", Node: node})[0].Instance
	var answered []wire.StateID
	next := wire.StateID(1)
	for range 5 {
		lead := c.leader()
		for range 20 {
			results, err := lead.Propose([][]byte{placement.AppendEntry(nil, &placement.Create{App: wire.AppID{1}, State: next, Instance: inst})})
			if err == nil && results[0].Outcome == placement.Done {
				answered = append(answered, next)
			}
			next++
		}
		for i, p := range c.peers {
			if p == lead {
				c.down(i)
				c.leader()
				c.up(i)
			}
		}
	}
	c.same()
	if len(answered) < 80 {
		t.Errorf("only %d of 100 proposals were answered", len(answered))
	}
	for _, s := range answered {
		if _, ok := c.leader().table.Lookup(wire.AppID{1}, s); !ok {
			t.Errorf("state %s was answered and is lost", s)
		}
	}
}

// All replicas are stopped at once and started again: the same table, and indices go on.
func TestAllReplicasStartAgain(t *testing.T) {
	c := newThree(t)
	c.leader().fill(t, 50)
	c.same()
	want, index := sum(c.leader().table), c.leader().table.Index()
	for i := range c.peers {
		c.down(i)
	}
	for i := range c.peers {
		c.up(i)
	}
	lead := c.leader()
	c.same()
	if sum(lead.table) != want {
		t.Error("the table is another one")
	}
	if r := lead.commit(t, &placement.OpenSession{NodeID: "late"}); uint64(r[0].Node) <= index {
		t.Errorf("index %d after %d", r[0].Node, index)
	}
}

// A follower that was away for longer than the log reaches back gets a snapshot and then what followed it.
func TestFollowerFarBehindGetsASnapshot(t *testing.T) {
	c := newThree(t)
	lead := c.leader()
	away := 0
	for c.peers[away] == lead {
		away++
	}
	c.down(away)
	lead = c.leader()
	lead.fill(t, 6000)
	if err := lead.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	lead.commit(t, &placement.OpenSession{NodeID: "later"})
	c.up(away)
	c.same()
	c.down(away)
	c.up(away)
	c.same()
}
