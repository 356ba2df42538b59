package consensus

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
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
	switch level {
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
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
