package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/trust"
)

// TestNodeThatLeavesEndsWithItsProcess, however young it is, and does not come back by itself.
func TestNodeThatLeavesEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	text, err := trust.Generate("shop")
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, "cluster.key", string(text), 0o600)
	serve := func(name string, more ...string) *actor {
		args := []string{"serve", "--tls", "off", "--node-id", name, "--data-dir", filepath.Join(dir, name), "--key-file", key, "--drain", "1s"}
		return act(t, append(args, more...)...)
	}
	first := serve("n1")
	join := []string{"--join", first.ports.Node[0]}
	serve("n2", join...)
	leaver := serve("n3", join...)
	leaver.verb(t, "", "leave", "--yes")
	select {
	case status := <-leaver.status:
		leaver.status = nil
		if log := leaver.err.String(); status != exitDone || strings.Contains(log, "new life") {
			t.Errorf("status %d:\n%s", status, log)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("it does not stop:\n%s", leaver.err.String())
	}
}
