package consensus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
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
