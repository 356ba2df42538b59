package bench

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buildWhole builds the program that these benchmarks are a part of.
func buildWhole(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts whole processes")
	}
	path := filepath.Join(t.TempDir(), "trunkline")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "..").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// Every benchmark once, small, with real processes: the figures mean nothing, that they are there does.
func TestWholeBenchmarks(t *testing.T) {
	path := buildWhole(t)
	for _, c := range []struct {
		name, args string
		check      func(r *Report) bool
	}{
		{"echo", "echo --conns 5 --window 2 --duration 100ms --warmup 10ms --rounds 2", func(r *Report) bool {
			return len(r.Results) == 2 && r.Results[1].PerSecond.Median > 0 && r.Results[1].Lost == 0 && len(r.Ratios) == 1
		}},
		{"echo native tls", "echo --conns 3 --native --tls --duration 100ms --warmup 10ms --rounds 1", func(r *Report) bool {
			return r.Results[1].PerSecond.Median > 0 && r.Results[1].Lost == 0
		}},
		{"open loop", "echo --conns 10 --rate 20 --duration 300ms --warmup 50ms --rounds 1", func(r *Report) bool {
			return r.Results[1].PerSecond.Median > 0 && r.Results[1].P50.Median > 0 && r.Results[1].Lost == 0
		}},
		{"fanout", "fanout --conns 10 --duration 100ms --warmup 10ms --rounds 1", func(r *Report) bool {
			return r.Results[1].PerSecond.Median > 0 && r.Results[1].Lost == 0
		}},
		{"fanout native", "fanout --conns 10 --native --duration 100ms --warmup 10ms --rounds 1", func(r *Report) bool {
			return r.Results[1].PerSecond.Median > 0 && r.Results[1].Lost == 0
		}},
		{"idle", "idle --conns 50 --duration 50ms", func(r *Report) bool {
			return len(r.Idle) == 2 && r.Idle[0].After > 0
		}},
		{"echo at two nodes", "echo --conns 5 --nodes 2 --duration 100ms --warmup 10ms --rounds 1", func(r *Report) bool {
			return len(r.Results) == 3 && r.Results[2].PerSecond.Median > 0 && r.Results[2].Lost == 0 && len(r.Ratios) == 3
		}},
		{"link", "link --conns 20 --duration 300ms --warmup 50ms --rounds 1", func(r *Report) bool {
			// Once for all twenty: twice the message would still be far from twenty times.
			return r.Link.Broadcasts > 0 && r.Link.Bytes.Median > 1024 && r.Link.Bytes.Median < 2048 && r.Link.Result.Lost == 0
		}},
		{"states", "states --in-flight 16 --duration 200ms --warmup 50ms --rounds 1", func(r *Report) bool {
			return len(r.Results) == 4 && r.Results[0].PerSecond.Median > 0 && r.Results[3].P99.Median > 0
		}},
		{"table", "table --states 20000 --rounds 1", func(r *Report) bool {
			return len(r.Tables) == 1 && r.Tables[0].Bytes > 0 && r.Tables[0].Restore.Median > 0
		}},
		{"targets", "targets --only P13,P16,P17 --states 20000 --duration 100ms --warmup 10ms --rounds 1", func(r *Report) bool {
			return len(r.Targets) == 3 && r.Targets[0].ID == "P13" && r.Targets[0].Verdict != "not measured" && r.Targets[2].ID == "P17"
		}},
		{"create", "create --conns 50", func(r *Report) bool {
			return r.Create.Joins == 50 && r.Create.PerSecond > 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), path, append([]string{"bench"}, append(strings.Fields(c.args), "--json")...)...)
			var progress bytes.Buffer
			cmd.Stderr = &progress
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			var r Report
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !c.check(&r) {
				t.Fatalf("%s", out)
			}
		})
	}
}
