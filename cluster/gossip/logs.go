package gossip

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	quiet   = 10 * time.Second // between two lines of one kind
	kinds   = 128              // that are told apart
	maxLine = 256
	// refusal begins the errors by which we refuse somebody. We log these ourselves.
	refusal = "refused: "
)

// limiter lets one line of a kind pass in a time.
type limiter struct {
	every time.Duration

	mu   sync.Mutex
	seen map[string]kind
}

type kind struct {
	last       time.Time
	suppressed int
}

// pass says whether a line may be written now, and how many of its kind were not since the last one.
func (l *limiter) pass(key string, now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, known := l.seen[key]
	if known && now.Sub(k.last) < l.every {
		k.suppressed++
		l.seen[key] = k
		return 0, false
	}
	if !known && len(l.seen) >= kinds || l.seen == nil {
		l.seen = make(map[string]kind)
	}
	l.seen[key] = kind{last: now}
	return k.suppressed, true
}

// lines takes memberlist's log. memberlist says only there what it drops, so this is where that is counted as well.
type lines struct {
	g     *Gossip
	limit limiter
	muted atomic.Bool // after the end, when everything fails
}

// Write takes one line.
func (l *lines) Write(b []byte) (int, error) {
	if l.muted.Load() {
		return len(b), nil
	}
	text := strings.TrimSpace(string(b[:min(len(b), maxLine)]))
	level := ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if before, after, ok := strings.Cut(rest, "] "); ok {
			level, text = before, after
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	l.count(text)
	if strings.HasPrefix(text, "Refuting an alive message") { // news of this node's last life, as after any restart
		level = "DEBUG"
		text, _, _ = strings.Cut(text, " meta:") // in bytes
	}
	if !strings.HasPrefix(level, "ERR") && level != "WARN" || strings.Contains(text, refusal) {
		l.g.cfg.Log.Debug("gossip: " + text)
		return len(b), nil
	}
	if suppressed, ok := l.limit.pass(kindOf(text), l.g.cfg.Now()); ok {
		l.g.cfg.Log.Warn("gossip: "+text, "suppressed", suppressed)
	}
	return len(b), nil
}

// kindOf is what lines of one kind have in common: their first words.
func kindOf(text string) string {
	words := strings.SplitN(text, " ", 5)
	return strings.Join(words[:min(len(words), 4)], " ")
}

// count finds out which line says that something was dropped.
func (l *lines) count(text string) {
	c := &l.g.counts
	switch {
	case strings.HasPrefix(text, "Decrypt packet failed"),
		strings.HasPrefix(text, "failed to receive: no installed keys"),
		strings.HasPrefix(text, "failed to receive: encryption is configured"),
		strings.HasPrefix(text, "failed to receive: payload is too small"),
		strings.HasPrefix(text, "failed to receive: unsupported encryption"):
		c.wrongKey.Add(1)
	case strings.HasPrefix(text, "discarding packet with unacceptable label"),
		strings.HasPrefix(text, "discarding stream with unacceptable label"):
		c.wrongLabel.Add(1)
	case strings.HasPrefix(text, "handler queue full"):
		c.queueFull.Add(1)
	}
}

// counts is what happened, each with its reason.
type counts struct {
	wrongKey, wrongLabel, queueFull       atomic.Uint64
	badMeta, foreign, badMessage, unknown atomic.Uint64
	longPackets, longStreams, evicted     atomic.Uint64
	loadsSent, loadsTaken                 atomic.Uint64
}

// Stats are counters since the start, each for one reason.
type Stats struct {
	WrongKey    uint64 // packets and streams that none of our keys opens
	WrongLabel  uint64 // of another cluster name, or none
	QueueFull   uint64 // came faster than they were read
	BadMeta     uint64 // metadata that does not parse
	Foreign     uint64 // nodes of another incarnation, counted each time
	BadMessage  uint64 // messages that do not parse
	Unknown     uint64 // messages of nodes that are not listed
	LongPackets uint64 // packets above 2 KiB
	LongStreams uint64 // streams above 1 MiB
	Evicted     uint64 // streams closed since newer ones came
	LoadsSent   uint64 // packets of load hints
	LoadsTaken  uint64 // load hints taken, one for each instance
}

// Stats returns the counters.
func (g *Gossip) Stats() Stats {
	c := &g.counts
	return Stats{
		WrongKey: c.wrongKey.Load(), WrongLabel: c.wrongLabel.Load(), QueueFull: c.queueFull.Load(),
		BadMeta: c.badMeta.Load(), Foreign: c.foreign.Load(), BadMessage: c.badMessage.Load(), Unknown: c.unknown.Load(),
		LongPackets: c.longPackets.Load(), LongStreams: c.longStreams.Load(), Evicted: c.evicted.Load(),
		LoadsSent: c.loadsSent.Load(), LoadsTaken: c.loadsTaken.Load(),
	}
}
