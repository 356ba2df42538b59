package demo

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// The whole demonstration, shortened: real kills of a backend and of a node, and nobody is disconnected whose node lived.
func TestWholeDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts whole processes")
	}
	path := filepath.Join(t.TempDir(), "trunkline")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "..").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), path, "demo", "--before", "500ms", "--after", "500ms", "--json")
	var progress bytes.Buffer
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var s Summary
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s.Clients < 20 || s.Connected != s.Clients || s.Disconnects != 0 || s.Misrouted != 0 || len(s.Moved) == 0 || s.Unrecovered != 0 {
		t.Fatalf("%s\n%s", out, progress.String())
	}
	if n := s.Node; n.Clients < s.Clients/4 || n.Reconnects != n.Clients || n.Unanswered != 0 || n.Rooms == 0 || n.Silent != 0 || n.Strays != 0 {
		t.Fatalf("the node's death: %+v\n%s", n, progress.String())
	}
	if s.Answered < s.Clients*10 {
		t.Fatalf("only %d answers\n%s", s.Answered, progress.String())
	}
}
