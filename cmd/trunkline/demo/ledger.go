package demo

import (
	"slices"
	"sync"
	"time"
)

// ledger knows every message: who sent it, who answered it, how often, and when. Times are since the world began.
type ledger struct {
	mu      sync.Mutex
	clients []tally
	rooms   []room

	killed   string // the instance that was killed
	killedAt time.Duration
	waiting  int // its rooms that have not answered since
}

// tally is one client's account.
type tally struct {
	sent     uint64
	got      []uint64 // a bit per number, from 1
	answered uint64
	repeated uint64
	strange  uint64 // answers to what it never sent, or to somebody else
	backward uint64 // answers older than one before
	newest   uint64

	connected   bool
	disconnects int
	gaps        int

	last    time.Duration
	longest time.Duration
}

// room is where a state's answers come from.
type room struct {
	id        string
	instance  string
	waiting   bool // its instance was killed and nobody has answered since
	recovered time.Duration
}

func newLedger(clients int, roomIDs []string) *ledger {
	l := &ledger{clients: make([]tally, clients), rooms: make([]room, len(roomIDs))}
	for i, id := range roomIDs {
		l.rooms[i].id = id
	}
	return l
}

// send gives a client's next message its number.
func (l *ledger) send(client int, now time.Duration) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.clients[client]
	if t.newest == t.sent {
		t.last = now // nothing was open until now
	}
	t.sent++
	return t.sent
}

// move tells that a room of a killed instance answers again.
type move struct {
	room     string
	instance string
	after    time.Duration
}

// answer enters one answer. It returns a move when it is the first of its room since the room's instance was killed.
func (l *ledger) answer(client int, a message, now time.Duration) (m move, moved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.clients[client]
	if a.client != client || a.room < 0 || a.room >= len(l.rooms) || a.number == 0 || a.number > t.sent {
		t.strange++
		return m, false
	}
	word, bit := int(a.number/64), uint64(1)<<(a.number%64)
	for len(t.got) <= word {
		t.got = append(t.got, 0)
	}
	if t.got[word]&bit != 0 {
		t.repeated++
	} else {
		t.got[word] |= bit
		t.answered++
	}
	if a.number < t.newest {
		t.backward++
	}
	t.newest = max(t.newest, a.number)
	t.longest = max(t.longest, now-t.last)
	t.last = now
	r := &l.rooms[a.room]
	if r.waiting && a.instance == l.killed {
		return m, false // it was under way when the instance died
	}
	r.instance = a.instance
	if !r.waiting {
		return m, false
	}
	r.waiting, r.recovered = false, now-l.killedAt
	l.waiting--
	return move{r.id, r.instance, r.recovered}, true
}

// kill enters that an instance was killed and returns the rooms it had.
func (l *ledger) kill(instance string, now time.Duration) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed, l.killedAt = instance, now
	var ids []string
	for i := range l.rooms {
		if r := &l.rooms[i]; r.instance == instance {
			r.waiting = true
			l.waiting++
			ids = append(ids, r.id)
		}
	}
	return ids
}

func (l *ledger) connected(client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[client].connected = true
}

func (l *ledger) disconnected(client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[client].connected = false
	l.clients[client].disconnects++
}

func (l *ledger) gap(client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[client].gaps++
}

// Summary is what became of every message.
type Summary struct {
	Clients     int `json:"clients"`
	Connected   int `json:"connected"`
	Rooms       int `json:"rooms"`
	Sent        int `json:"sent"`
	Answered    int `json:"answered"`
	Lost        int `json:"lost"`
	Duplicated  int `json:"duplicated"`
	OutOfOrder  int `json:"out_of_order"`
	Misrouted   int `json:"misrouted"`
	Gaps        int `json:"gaps_announced"`
	Disconnects int `json:"disconnects"`
	// LongestGap is the longest time that a client with an open question waited between two answers, in seconds.
	LongestGap float64 `json:"longest_gap_seconds"`
	// Moved are the rooms of the killed instance, with the time until each answered again; 0: it did not.
	Moved []Moved `json:"moved"`
	// Recovery is the longest of these times in seconds.
	Recovery float64 `json:"recovery_seconds"`
	// Unrecovered is how many rooms of the killed instance have not answered since.
	Unrecovered int     `json:"unrecovered"`
	Seconds     float64 `json:"seconds"`
}

// Moved is one room of the killed instance.
type Moved struct {
	Room    string  `json:"room"`
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
}

// summary reckons everything up. What has no answer yet counts as lost.
func (l *ledger) summary(now time.Duration) Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Summary{Clients: len(l.clients), Rooms: len(l.rooms), Unrecovered: l.waiting, Seconds: now.Seconds()}
	longest := time.Duration(0)
	for i := range l.clients {
		t := &l.clients[i]
		s.Sent += int(t.sent)
		s.Answered += int(t.answered)
		s.Duplicated += int(t.repeated)
		s.OutOfOrder += int(t.backward)
		s.Misrouted += int(t.strange)
		s.Gaps += t.gaps
		s.Disconnects += t.disconnects
		if t.connected {
			s.Connected++
		}
		longest = max(longest, t.longest)
		if t.sent > t.newest {
			longest = max(longest, now-t.last)
		}
	}
	s.Lost = s.Sent - s.Answered
	s.LongestGap = longest.Seconds()
	for _, r := range l.rooms {
		if r.recovered > 0 || r.waiting {
			s.Moved = append(s.Moved, Moved{Room: r.id, To: r.instance, Seconds: r.recovered.Seconds()})
			s.Recovery = max(s.Recovery, r.recovered.Seconds())
		}
	}
	return s
}

// ready says whether every client has an answer, so that every room's instance is known.
func (l *ledger) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(l.clients, func(t tally) bool { return t.answered == 0 })
}

// settled says whether every message has its answer.
func (l *ledger) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(l.clients, func(t tally) bool { return t.answered < t.sent })
}

// recovered says whether all rooms of the killed instance answer again.
func (l *ledger) recovered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == 0
}

// instances returns the rooms by the instance that answers for them.
func (l *ledger) instances() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := make(map[string][]string)
	for _, r := range l.rooms {
		name := r.instance
		if r.waiting {
			name = ""
		}
		by[name] = append(by[name], r.id)
	}
	return by
}
