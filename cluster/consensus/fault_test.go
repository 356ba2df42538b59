package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// disk is what the logs of one replica lie on, with its faults.
type disk struct {
	mu    sync.Mutex
	full  bool          // no new file can be made
	fails error         // of every sync
	hangs chan struct{} // until it is closed no sync ends
}

func (d *disk) open(path string, size int64) (File, error) {
	d.mu.Lock()
	full := d.full
	d.mu.Unlock()
	if _, err := os.Stat(path); full && err != nil {
		return nil, syscall.ENOSPC
	}
	f, err := openDisk(path, size)
	return diskWithFaults{f, d}, err
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

type diskWithFaults struct {
	File
	d *disk
}

func (f diskWithFaults) Sync() error {
	f.d.mu.Lock()
	hangs, fails := f.d.hangs, f.d.fails
	f.d.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if fails != nil {
		return fails
	}
	return f.File.Sync()
}

// onDisks starts three voters on disks with faults.
func onDisks(t *testing.T, timing func() Timing) (*group, *[3]disk) {
	disks := new([3]disk)
	g := newGroup(t, 3, func(i int, cfg *Config) { cfg.Open, cfg.Timing = disks[i].open, timing() })
	return g, disks
}

// A leader whose disk hangs goes on sending heartbeats, so nobody else would ever lead: it gives up by itself.
func TestLeaderWithAHangingDiskGivesUp(t *testing.T) {
	t.Parallel()
	g, disks := onDisks(t, OneRegion)
	lead := g.leader()
	lead.fill(t, 10)
	i := g.index(lead)
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	began := time.Now()
	disks[i].set(func(d *disk) { d.hangs = release })
	<-lead.ended
	gaveUp := time.Since(began)
	next := g.leader(lead)
	took := time.Since(began)
	t.Logf("it gave up after %v, another led after %v", gaveUp, took)
	if !errors.Is(lead.err, ErrStuck) {
		t.Errorf("Run ended with %v", lead.err)
	}
	if took > 6*time.Second { // some 2.5 s to be sure, and no election time-out: it names a successor
		t.Errorf("another led after %v", took)
	}
	next.commit(t, &placement.OpenSession{NodeID: "after"})
	if _, err := lead.Propose([][]byte{placement.AppendEntry(nil)}); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknown) {
		t.Errorf("it answers a proposal with %v", err)
	}
	// The disk is there again, what hung ends, and the replica is started anew.
	disks[i].set(func(d *disk) { d.hangs = nil })
	free()
	until(t, "its log to be closed", func() bool {
		lead.log.mu.Lock()
		defer lead.log.mu.Unlock()
		return lead.log.segments == nil
	}, func() <-chan struct{} { return nil })
	g.up(i)
	g.same()
}

// A follower whose disk hangs ends; nobody else is disturbed.
func TestFollowerWithAHangingDiskEnds(t *testing.T) {
	t.Parallel()
	g, disks := onDisks(t, OneRegion)
	lead, i := g.leader(), g.follower()
	term, follower := lead.Term(), g.peers[i]
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	disks[i].set(func(d *disk) { d.hangs = release })
	lead.commit(t, &placement.OpenSession{NodeID: "n"})
	<-follower.ended
	if !errors.Is(follower.err, ErrStuck) {
		t.Errorf("Run ended with %v", follower.err)
	}
	lead.commit(t, &placement.OpenSession{NodeID: "n"})
	if !lead.Leading() || lead.Term() != term {
		t.Error("the leader changed")
	}
}

// Where the disks of the followers hang, the leader tries to hand over and cannot. It is not the one to end: they do.
func TestLeaderOfHangingFollowersGoesOn(t *testing.T) {
	t.Parallel()
	g, disks := onDisks(t, OneRegion)
	lead := g.leader()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var followers []*peer
	for i, p := range g.peers {
		if p != lead {
			disks[i].set(func(d *disk) { d.hangs = release })
			followers = append(followers, p)
		}
	}
	for _, p := range followers {
		<-p.ended
		if !errors.Is(p.err, ErrStuck) {
			t.Errorf("a follower ended with %v", p.err)
		}
	}
	if lead.counts.transfers.Load() == 0 {
		t.Error("the leader did not try to hand over")
	}
	until(t, "the leader to miss them", func() bool { return !lead.Leading() }, lead.Changed)
	select {
	case <-lead.ended:
		t.Errorf("the leader ended with %v", lead.err)
	default:
	}
}

// Nobody would take over from the only voter: it waits for its disk.
func TestOnlyVoterWaitsForItsDisk(t *testing.T) {
	var d disk
	now := time.Now()
	var mu sync.Mutex
	cfg := testConfig(t, t.TempDir())
	cfg.Open = d.open
	cfg.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	p := alone(t, cfg)
	release := make(chan struct{})
	d.set(func(d *disk) { d.hangs = release })
	ticked := make(chan error)
	go func() {
		_, err := p.Tick(t.Context())
		ticked <- err
	}()
	until(t, "the write", func() bool { return !p.disk.began().IsZero() }, p.Changed)
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	w := watchdog{replica: p.Replica}
	if err := w.look(t.Context()); err != nil {
		t.Errorf("after a minute: %v", err)
	}
	d.set(func(d *disk) { d.hangs = nil })
	close(release)
	if err := <-ticked; err != nil {
		t.Error(err)
	}
}

// A leader whose sync fails ends, and another leads with everything that was answered.
func TestFailedSyncOfALeaderLosesNothing(t *testing.T) {
	g, disks := onDisks(t, quick)
	lead := g.leader()
	lead.fill(t, 20)
	i := g.index(lead)
	disks[i].set(func(d *disk) { d.fails = syscall.EIO })
	<-lead.ended
	if !errors.Is(lead.err, syscall.EIO) {
		t.Errorf("Run ended with %v", lead.err)
	}
	if n := g.leader(lead).table.Stats().Rows; n != 20 {
		t.Errorf("%d rows of 20", n)
	}
	disks[i].set(func(d *disk) { d.fails = nil })
	g.up(i)
	g.same()
}

// A vote that cannot be written ends the replica and not the process.
func TestVoteThatFailsEndsTheReplica(t *testing.T) {
	g, disks := onDisks(t, quick)
	lead, i := g.leader(), g.follower()
	follower := g.peers[i]
	disks[i].set(func(d *disk) { d.fails = syscall.EIO })
	if err := lead.TransferLeadership(t.Context(), g.ids[i]); err != nil {
		t.Log(err)
	}
	<-follower.ended
	if !errors.Is(follower.err, syscall.EIO) {
		t.Errorf("Run ended with %v", follower.err)
	}
	g.peers[i] = nil
	g.leader()
}

// The leader's disk is full: another leads, nothing is lost, and when there is room again it has everything.
func TestFullDiskOfALeader(t *testing.T) {
	t.Parallel()
	g, disks := onDisks(t, quick)
	first := g.leader()
	i := g.index(first)
	disks[i].set(func(d *disk) { d.full = true })
	// Entries that do nothing fill segments.
	entry := placement.AppendEntry(nil)
	for len(entry) < placement.MaxEntry-1000 {
		entry = placement.AppendCommand(entry, &placement.Release{App: wire.AppID{1}, State: 1, Epoch: 1})
	}
	committed := 0
	deadline := time.Now().Add(30 * time.Second)
	for committed < 2*segmentSize/placement.MaxEntry && time.Now().Before(deadline) {
		if _, err := g.leader().Propose([][]byte{entry}); err == nil {
			committed++
		}
	}
	if committed < 2*segmentSize/placement.MaxEntry {
		t.Fatalf("only %d entries were committed", committed)
	}
	lead := g.leader()
	if lead == first {
		t.Error("it leads with a full disk")
	}
	index := lead.table.Index()
	if first.table.Index() >= index {
		t.Error("it has more than its disk takes")
	}
	select {
	case <-first.ended:
		t.Errorf("it ended with %v", first.err)
	default:
	}
	disks[i].set(func(d *disk) { d.full = false })
	if err := first.table.WaitIndex(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	g.same()
}

// resync starts a damaged replica, which refuses, wipes it, and has it come back under another id.
func (g *group) resync(i int) {
	g.t.Helper()
	if _, err := New(g.config(i), placement.New()); !errors.Is(err, ErrCorrupt) {
		g.t.Fatalf("damaged bytes: %v", err)
	}
	if err := Wipe(g.dirs[i]); err != nil {
		g.t.Fatal(err)
	}
	old := g.ids[i]
	g.ids[i] += ".2"
	p := open(g.t, g.config(i))
	if fresh, err := p.Fresh(); err != nil || !fresh {
		g.t.Fatalf("fresh after a wipe: %v, %v", fresh, err)
	}
	lead := g.leader()
	if err := errors.Join(lead.Remove(g.t.Context(), old), lead.AddNonvoter(g.t.Context(), g.ids[i], g.addrs[i])); err != nil {
		g.t.Fatal(err)
	}
	g.peers[i] = p.run(g.t)
	g.same()
	if err := lead.Promote(g.t.Context(), g.ids[i]); err != nil {
		g.t.Fatal(err)
	}
}

func TestFlippedBitIsRefusedAndSyncedAgain(t *testing.T) {
	t.Parallel()
	flip := func(b []byte) { b[0] ^= 4 }
	t.Run("log", func(t *testing.T) {
		g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
		g.leader().fill(t, 100)
		i := g.follower()
		g.same()
		g.down(i)
		overwrite(t, onlySegment(t, g.dirs[i]), 300, flip, 1)
		g.resync(i)
	})
	t.Run("snapshot", func(t *testing.T) {
		g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
		g.leader().fill(t, 5000)
		g.same()
		i := g.follower()
		g.peers[i].snapshot()
		g.down(i)
		files, _ := filepath.Glob(filepath.Join(g.dirs[i], snapshotFolder, "*", "state.bin"))
		if len(files) != 1 {
			t.Fatalf("snapshots: %v", files)
		}
		overwrite(t, files[0], 1000, flip, 1)
		g.resync(i)
	})
	t.Run("description of a snapshot", func(t *testing.T) {
		g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
		g.leader().fill(t, 100)
		g.same()
		i := g.follower()
		g.peers[i].snapshot()
		g.down(i)
		files, _ := filepath.Glob(filepath.Join(g.dirs[i], snapshotFolder, "*", "meta.json"))
		overwrite(t, files[0], 0, flip, 1)
		g.resync(i)
	})
	t.Run("vote", func(t *testing.T) {
		g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
		i := g.follower()
		g.down(i)
		for _, at := range []int64{0, voteBlock} {
			overwrite(t, filepath.Join(g.dirs[i], voteFile), at, flip, 1)
		}
		g.resync(i)
	})
}

// A bit that flips below a running replica is found when the entry is read, by a leader for a follower that was away.
// The replica ends, not the process.
func TestFlippedBitBelowARunningReplica(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, func(_ int, cfg *Config) { cfg.Timing = calm() })
	away := g.follower()
	g.down(away)
	lead := g.leader()
	lead.fill(t, 2000)
	i := g.index(lead)
	path := onlySegment(t, g.dirs[i])
	var spot ref
	lead.log.mu.Lock()
	spot = lead.log.refs[len(lead.log.refs)/2]
	lead.log.mu.Unlock()
	overwrite(t, path, int64(spot.at)+entryHead+2, func(b []byte) { b[0] ^= 1 }, 1)
	g.up(away)
	<-lead.ended
	if !errors.Is(lead.err, ErrCorrupt) {
		t.Errorf("Run ended with %v", lead.err)
	}
	g.leader(lead)
	g.peers[i] = nil
	g.resync(i)
	if n := g.leader().table.Stats().Rows; n != 2000 {
		t.Errorf("%d rows of 2000", n)
	}
}

func TestWipeThatWasCutOffIsFinished(t *testing.T) {
	dir := t.TempDir()
	p := alone(t, testConfig(t, dir))
	p.fill(t, 10)
	p.snapshot()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	keep := filepath.Join(dir, "lock")
	if err := errors.Join(os.WriteFile(keep, nil, 0o600), os.WriteFile(filepath.Join(dir, wipeFile), nil, 0o600), os.Remove(filepath.Join(dir, voteFile))); err != nil {
		t.Fatal(err)
	}
	p = open(t, testConfig(t, dir))
	defer p.Close()
	if fresh, err := p.Fresh(); err != nil || !fresh {
		t.Errorf("fresh: %v, %v", fresh, err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("what is not the replica's: %v", err)
	}
}
