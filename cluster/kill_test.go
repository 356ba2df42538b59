package cluster

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

const childEnv = "TRUNKLINE_TEST_TABLE_DIR"

// child creates states for ever and prints each one that was answered. It is the test binary, started again.
func child(dir string) error {
	l, err := Open(Config{DataDir: dir, NodeID: "n1", SnapshotBytes: 64 << 10})
	if err != nil {
		return err
	}
	go func() { _ = l.Run(context.Background()) }()
	ctx := context.Background()
	if err := l.Joined(ctx); err != nil {
		return err
	}
	inst, known := l.Table().Named(app, "a", false, [16]byte{})
	req := placement.RegisterRequest{App: app, StoreID: "a"}
	if known {
		req.Replace, req.ReplaceGen = inst.ID, inst.Gen
	}
	if _, err := l.Register(ctx, req); err != nil {
		return err
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				p, err := l.Create(ctx, placement.CreateRequest{App: app})
				if err != nil {
					return
				}
				out.Lock()
				fmt.Printf("%s %d\n", p.State, p.Epoch)
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKilledProcessKeepsWhatItAnswered: kill -9 in the middle of writing, five times over, with snapshots all the time.
// Every create that was answered is there afterwards, with its epoch.
func TestKilledProcessKeepsWhatItAnswered(t *testing.T) {
	if dir := os.Getenv(childEnv); dir != "" {
		t.Fatal(child(dir))
	}
	dir := t.TempDir()
	answered := map[wire.StateID]wire.Epoch{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcessKeepsWhatItAnswered$")
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 700 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			text, number, ok := strings.Cut(lines.Text(), " ")
			state, err := wire.ParseStateID(text)
			var epoch wire.Epoch
			if _, serr := fmt.Sscan(number, &epoch); !ok || err != nil || serr != nil {
				continue // a line that the kill cut off, or what the test runner says
			}
			answered[state] = epoch
		}
		_ = cmd.Wait() // killed
		l := start(t, Config{DataDir: dir})
		for state, epoch := range answered {
			if row, ok := l.Table().Lookup(app, state); !ok || row.Epoch != epoch {
				t.Fatalf("round %d: state %s was answered with epoch %d and is %+v, %v", round, state, epoch, row, ok)
			}
		}
		l.halt()
	}
	if len(answered) < 3000 {
		t.Fatalf("only %d creates were answered: the test shows little", len(answered))
	}
	t.Logf("%d answered creates, none lost", len(answered))
}
