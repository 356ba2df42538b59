package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestRaftDoesNotRepeatItself(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	l := logger(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	for range 50 {
		l.Error("failed to heartbeat to", "peer", "a")
		l.Warn("failed to contact", "server-id", "b")
		l.Info("of no use")
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
	out.Reset()
	now = now.Add(sameLine)
	l.Error("failed to heartbeat to", "peer", "a")
	if got := out.String(); !strings.Contains(got, "omitted=49") || !strings.Contains(got, "peer=a") {
		t.Errorf("ten seconds later: %s", got)
	}
}

// TestRaftIsQuietOnGoodDays: a node that comes or goes is no fault.
func TestRaftIsQuietOnGoodDays(t *testing.T) {
	var out bytes.Buffer
	l := logger(slog.New(slog.NewTextHandler(&out, nil)), time.Now)
	peer := raft.Server{ID: "n2.9", Address: "10.0.0.2:7947", Suffrage: raft.Nonvoter}
	l.Warn("failed to get previous log", "previous-index", 8, "error", raft.ErrLogNotFound)
	l.Warn("appendEntries rejected, sending older logs", "peer", peer, "next", 1)
	l.Error("failed to decode incoming command", "error", fmt.Errorf("read: %w", net.ErrClosed))
	if out.Len() > 0 {
		t.Errorf("said:\n%s", &out)
	}
	l.Error("failed to decode incoming command", "error", errors.New("unknown rpc type 77"))
	l.Warn("failed to get previous log", "previous-index", 8, "error", ErrCorrupt)
	l.Error("failed to appendEntries to", "peer", peer, "error", net.ErrClosed)
	if got := out.String(); strings.Count(got, "\n") != 3 || !strings.Contains(got, "peer=n2.9 ") {
		t.Errorf("said:\n%s", got)
	}
}
