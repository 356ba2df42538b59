package consensus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// sameLine is how long a line of raft is not repeated: it has several a second for a peer that is gone.
const sameLine = 10 * time.Second

// logger makes raft's lines ours. What raft tells at the level info is of use to who looks for a fault in it only.
func logger(log *slog.Logger, now func() time.Time) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(&sink{log: log, now: now, said: map[string]line{}})
	return l
}

type sink struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	said map[string]line // by text, of which raft has some dozens
}

// line is one that was said.
type line struct {
	at      time.Time
	omitted int // since then
}

// Accept takes a line of raft.
func (s *sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch {
	case usual(msg, args):
	case level == hclog.Warn:
		to = slog.LevelWarn
	case level == hclog.Error:
		to = slog.LevelError
	}
	args = slices.Clone(args)
	for i := range args {
		if s, ok := args[i].(raft.Server); ok { // as it was when raft began to replicate to it: its vote may be news
			args[i] = string(s.ID)
		}
	}
	if to > slog.LevelDebug {
		omitted, again := s.again(msg)
		if again {
			return
		}
		if omitted > 0 {
			args = append(args, "omitted", omitted)
		}
	}
	s.log.Log(context.Background(), to, "raft: "+msg, args...)
}

// usual says that a line is of what happens whenever a node comes or goes, whatever raft thinks of it.
func usual(msg string, args []any) bool {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(args, func(arg any) bool {
			err, ok := arg.(error)
			return ok && slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
		})
	}
	switch msg {
	case "failed to get previous log": // of one whose log ends earlier
		return is(raft.ErrLogNotFound)
	case "previous log term mis-match", "appendEntries rejected, sending older logs":
		return true
	case "failed to decode incoming command": // the other end is gone, or this one
		return is(io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, raft.ErrTransportShutdown)
	}
	return false
}

// again says whether a text was said a moment ago, and if not how often it was omitted since it was said last.
func (s *sink) again(msg string) (omitted int, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.said[msg]
	if now := s.now(); !known || now.Sub(l.at) >= sameLine {
		if len(s.said) >= 256 {
			clear(s.said)
		}
		s.said[msg] = line{at: now}
		return l.omitted, false
	}
	l.omitted++
	s.said[msg] = l
	return 0, true
}
