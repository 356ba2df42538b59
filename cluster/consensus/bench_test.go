package consensus

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// rows is how many states P17 asks for.
const rows = 1_000_000

// filled starts the only voter of a cluster with n states on a disk.
func filled(b *testing.B, cfg Config, n int) (*peer, wire.InstanceID) {
	b.Helper()
	p := alone(b, cfg)
	node := p.commit(b, &placement.OpenSession{NodeID: "n1"})[0].Node
	inst := p.commit(b, &placement.Register{App: wire.AppID{1}, StoreID: "s", Node: node})[0].Instance
	var entry []byte
	for i := range n {
		if entry == nil {
			entry = placement.AppendEntry(nil)
		}
		entry = placement.AppendCommand(entry, &placement.Create{App: wire.AppID{1}, State: wire.StateID(i + 1), Instance: inst})
		if len(entry) > 200_000 || i == n-1 {
			if _, err := p.Propose([][]byte{entry}); err != nil {
				b.Fatal(err)
			}
			entry = nil
		}
	}
	return p, inst
}

// BenchmarkSnapshotStall is P17's first figure through raft: the longest that a proposal of 256 commands takes to be
// committed and applied, syncs and all, and the longest that applying one takes, while a snapshot of 1 M states is taken,
// written down and synced. Its time is that of the snapshot.
func BenchmarkSnapshotStall(b *testing.B) {
	cfg := testConfig(b, b.TempDir())
	cfg.SnapshotBytes = 1 << 40 // when this benchmark says so
	p, inst := filled(b, cfg, rows)
	propose := func(first int) time.Duration {
		entry := placement.AppendEntry(nil)
		for i := range 128 {
			row, ok := p.table.Lookup(wire.AppID{1}, wire.StateID(first+i))
			if !ok {
				b.Fatal("a state is gone")
			}
			entry = placement.AppendCommand(entry, &placement.Release{App: wire.AppID{1}, State: wire.StateID(first + i), Epoch: row.Epoch})
		}
		for i := range 128 {
			entry = placement.AppendCommand(entry, &placement.Create{App: wire.AppID{1}, State: wire.StateID(rows + first + i), Instance: inst})
		}
		began := time.Now()
		if _, err := p.Propose([][]byte{entry}); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	var quiet, longest, apply time.Duration
	best, alone := time.Hour, time.Duration(0)
	first := 1
	for b.Loop() {
		p.machine.longest.Store(0)
		for range 300 {
			quiet = max(quiet, propose(first))
			first += 128
		}
		alone = max(alone, time.Duration(p.machine.longest.Swap(0)))
		done := make(chan struct{})
		go func() {
			p.snapshot()
			close(done)
		}()
		for busy := true; busy && first < rows-256; {
			longest = max(longest, propose(first))
			first += 128
			select {
			case <-done:
				busy = false
			default:
			}
		}
		<-done
		took := time.Duration(p.machine.longest.Load())
		apply, best = max(apply, took), min(best, took)
	}
	b.ReportMetric(float64(apply.Microseconds())/1000, "ms-longest-apply")
	b.ReportMetric(float64(best.Microseconds())/1000, "ms-longest-apply-in-the-best-round")
	b.ReportMetric(float64(alone.Microseconds())/1000, "ms-longest-apply-without")
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest-proposal")
	b.ReportMetric(float64(quiet.Microseconds())/1000, "ms-longest-proposal-without")
}

// BenchmarkRestart is P17's second figure through raft: from opening the folder of a replica, whose snapshot has 1 M
// states, until it leads and has its table: the log and the snapshot's checksum are read, and the snapshot is restored.
func BenchmarkRestart(b *testing.B) {
	cfg := testConfig(b, b.TempDir())
	p, _ := filled(b, cfg, rows)
	p.snapshot()
	if err := p.stop(); err != nil {
		b.Fatal(err)
	}
	var opening time.Duration
	for b.Loop() {
		began := time.Now()
		p := open(b, cfg)
		opening += time.Since(began)
		p.run(b)
		if err := p.Lead(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if n := p.table.Stats().Rows; n != rows {
			b.Fatalf("%d rows", n)
		}
		if err := p.stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "ms-opening")
}

// BenchmarkPropose measures entries of one command, as many in a proposal as a writer has found waiting.
func BenchmarkPropose(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			p, inst := filled(b, testConfig(b, b.TempDir()), 1)
			next := 10
			for b.Loop() {
				entries := make([][]byte, n)
				for i := range entries {
					entries[i] = placement.AppendEntry(nil, &placement.Create{App: wire.AppID{1}, State: wire.StateID(next), Instance: inst})
					next++
				}
				if _, err := p.Propose(entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
