package faults

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/placement"
)

// TestSlowDiskAtTheLeader: everything takes longer, and nothing else happens.
func TestSlowDiskAtTheLeader(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader := w.sessions(), w.Leader()
		leader.Disk.Slow(longer(150*time.Millisecond, 300*time.Millisecond))
		syncs := leader.Disk.Syncs()
		w.pass(longer(4*time.Second, 30*time.Second))
		w.goOn(5)
		if leader.Disk.Syncs() == syncs {
			w.t.Error("the slow disk was not used")
		}
		w.keep(before, w.All()...)
		leader.Disk.Heal()
	})
}

// TestHangingDiskAtTheLeader: another leads within six seconds, though raft's heartbeats would go on for ever; the node
// with the disk ends by itself, and comes back when it is whole.
func TestHangingDiskAtTheLeader(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader := w.sessions(), w.Leader()
		began := time.Now()
		leader.Disk.Hang()
		w.newLeader(w.others(leader)...)
		took := time.Since(began)
		w.t.Logf("a new leader after %v", took)
		if took > 6*time.Second {
			w.t.Errorf("a new leader after %v", took)
		}
		w.goOn(20)
		leader.Disk.Heal() // a process would be gone with its disk; here its goroutines wait for it
		if err := leader.Ended(); err == nil {
			w.t.Error("the node ended without saying why")
		}
		leader.Start().Joined()
		w.keep(before, w.others(leader)...)
	})
}

// TestFailingSyncAtTheLeader: what was not synced is never taken for written; the node ends.
func TestFailingSyncAtTheLeader(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader := w.sessions(), w.Leader()
		leader.Disk.FailSync(syscall.EIO)
		if err := leader.Ended(); err == nil || !strings.Contains(err.Error(), syscall.EIO.Error()) {
			w.t.Errorf("the node ended with %v", err)
		}
		w.newLeader(w.others(leader)...)
		w.goOn(20)
		leader.Disk.Heal()
		leader.Start().Joined()
		w.keep(before, w.others(leader)...)
	})
}

// TestFullDiskAtTheLeader: there is no room for more log. The others go on; when there is room, it does too.
func TestFullDiskAtTheLeader(t *testing.T) {
	tell(t, 3, func(w *world) {
		before, leader := w.sessions(), w.Leader()
		leader.Disk.Full(true)
		w.Until("the disk is full", func() bool {
			if at := leads(w.All()...); at != nil {
				_, _, _ = w.holder.proposeMany(at, bulk())
			}
			return leader.Disk.Refused() > 0
		})
		w.newLeader(w.others(leader)...)
		w.goOn(20)
		leader.Disk.Heal()
		if leader.Now() == nil {
			w.t.Logf("the node ended: %v", leader.Err())
			leader.Start()
		}
		leader.Joined()
		w.keep(before, w.others(leader)...)
	})
}

// bulk is an entry that is as long as may be, and changes nothing.
func bulk() []placement.Command {
	cmds := make([]placement.Command, 4000)
	for i := range cmds {
		cmds[i] = &placement.Firm{App: app, State: 1 << 60, Epoch: 1}
	}
	return cmds
}

// TestFlippedBits: in a log or a snapshot of a node that is down. It is noticed, nothing of it is served, and the node
// fetches everything from the others, as a replica that was never there.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	for range max(1, soaks()) {
		t.Run("seed", func(t *testing.T) {
			w := newWorld(t, clustertest.NewCluster(t))
			w.Change = func(_ string, c *cluster.Config) { c.SnapshotBytes = 16 << 10 }
			for _, name := range []string{"n1", "n2", "n3"} {
				w.Add(name, "eu").Start()
				w.Node("n1").Joined()
			}
			w.gather(3)
			w.begin()
			w.goOn(200)
			for _, file := range []string{"log-*", "snapshots/*/state.bin"} {
				n := w.Follower()
				before := n.Get().OwnStatus().Server
				w.Until("there is such a file", func() bool { return n.Has(file) })
				w.kill(n)
				n.FlipBit(file, 64+w.Rand.Int64N(900))
				n.Start().Joined()
				if now := n.Get().OwnStatus().Server; now == before {
					t.Errorf("%s: it is still replica %s", file, now)
				}
				if !strings.Contains(w.Log(), "damaged") {
					t.Errorf("%s: nothing is said of the damage", file)
				}
				w.goOn(20)
				w.Voters(3)
			}
			w.settle()
		})
	}
}
