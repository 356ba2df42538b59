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
	nodes   map[string]string // where each instance is attached

	instance death // the one that was killed
	node     death // likewise
	strays   int   // rooms whose instance lived and that moved nevertheless
}

// death is the end of an instance or of a node.
type death struct {
	name    string // empty: nobody has died
	at      time.Duration
	waiting int // rooms that have not answered since
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
	node        string // where it is or was connected
	disconnects int    // other than by the death of that node
	gaps        int

	orphan     bool          // its node was killed
	parted     bool          // and it has noticed
	returned   time.Duration // from then until it was connected elsewhere; 0: not yet
	answeredIn time.Duration // and until it had an answer there; 0: not yet

	last    time.Duration
	longest time.Duration
}

// room is where a state's answers come from.
type room struct {
	id       string
	instance string
	waits    *death        // on whom it depended, as long as nobody has answered since
	moved    time.Duration // from its instance's death until another one answered
	resumed  time.Duration // from its tunnel's death until its instance answered by another one
}

func newLedger(clients int, roomIDs []string) *ledger {
	l := &ledger{clients: make([]tally, clients), rooms: make([]room, len(roomIDs)), nodes: make(map[string]string)}
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

// move tells that a room answers again after a death.
type move struct {
	room     string
	instance string
	node     string
	after    time.Duration
}

// answer enters one answer. It returns a move when it is the first of its room since what the room depended on was killed.
func (l *ledger) answer(client int, a message, now time.Duration) (m move, moved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.clients[client]
	if a.client != client || a.room < 0 || a.room >= len(l.rooms) || a.number == 0 || a.number > t.sent {
		t.strange++
		return m, false
	}
	t.enter(a.number, now)
	if t.returned > 0 && t.answeredIn == 0 {
		t.answeredIn = now - l.node.at
	}
	return l.locate(a, now)
}

// enter notes the answer to a message of this client.
func (t *tally) enter(number uint64, now time.Duration) {
	word, bit := int(number/64), uint64(1)<<(number%64)
	for len(t.got) <= word {
		t.got = append(t.got, 0)
	}
	if t.got[word]&bit != 0 {
		t.repeated++
	} else {
		t.got[word] |= bit
		t.answered++
	}
	if number < t.newest {
		t.backward++
	}
	t.newest = max(t.newest, number)
	t.longest = max(t.longest, now-t.last)
	t.last = now
}

// locate notes where a room's answer came from; l.mu is held.
func (l *ledger) locate(a message, now time.Duration) (m move, moved bool) {
	if a.instance == l.instance.name || a.node == l.node.name && a.node != "" {
		return m, false // it was under way when they died
	}
	r := &l.rooms[a.room]
	before := r.instance
	r.instance, l.nodes[a.instance] = a.instance, a.node
	d := r.waits
	if d == nil {
		return m, false
	}
	after := now - d.at
	if d == &l.instance {
		r.moved = after
	} else {
		r.resumed = after
		if a.instance != before {
			l.strays++
		}
	}
	r.waits = nil
	d.waiting--
	return move{r.id, a.instance, a.node, after}, true
}

// killInstance enters that an instance was killed and returns the rooms it had.
func (l *ledger) killInstance(name string, now time.Duration) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instance = death{name: name, at: now}
	return l.await(&l.instance, func(r *room) bool { return r.instance == name })
}

// killNode enters that a node was killed and returns the rooms whose tunnels it had, and how many clients.
func (l *ledger) killNode(name string, now time.Duration) (rooms []string, clients int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node = death{name: name, at: now}
	for i := range l.clients {
		if t := &l.clients[i]; t.node == name {
			t.orphan, t.parted = true, !t.connected
			clients++
		}
	}
	return l.await(&l.node, func(r *room) bool { return l.nodes[r.instance] == name }), clients
}

// await makes rooms wait for an answer after a death, unless they wait already, and names them; l.mu is held.
func (l *ledger) await(d *death, concerned func(*room) bool) []string {
	var ids []string
	for i := range l.rooms {
		if r := &l.rooms[i]; r.waits == nil && concerned(r) {
			r.waits = d
			d.waiting++
			ids = append(ids, r.id)
		}
	}
	return ids
}

// revived enters that an instance of this name runs again.
func (l *ledger) revived(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.instance.name == name {
		l.instance.name = "its former process"
	}
}

func (l *ledger) connected(client int, node string, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.clients[client]
	t.connected, t.node = true, node
	if t.orphan && t.parted && t.returned == 0 {
		t.returned = now - l.node.at
	}
}

// disconnected enters that a client has lost its connection; expected says that this is the death of its node.
func (l *ledger) disconnected(client int) (expected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.clients[client]
	t.connected = false
	if t.orphan && !t.parted {
		t.parted = true
		return true
	}
	t.disconnects++
	return false
}

func (l *ledger) gap(client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[client].gaps++
}

// ready says whether every client has an answer, so that every room's instance is known.
func (l *ledger) ready() bool {
	return !l.anybody(func(t *tally) bool { return t.answered == 0 })
}

// settled says whether every message has its answer.
func (l *ledger) settled() bool {
	return !l.anybody(func(t *tally) bool { return t.answered < t.sent })
}

// returned says whether all clients of the killed node are connected elsewhere.
func (l *ledger) returned() bool {
	return !l.anybody(func(t *tally) bool { return t.orphan && t.returned == 0 })
}

// served says whether all clients of the killed node are answered again, and all rooms whose tunnels it held.
func (l *ledger) served() bool {
	if l.anybody(func(t *tally) bool { return t.orphan && t.answeredIn == 0 }) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.node.waiting == 0
}

func (l *ledger) anybody(so func(*tally) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.clients {
		if so(&l.clients[i]) {
			return true
		}
	}
	return false
}

// recovered says whether all rooms of the killed instance answer again.
func (l *ledger) recovered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.instance.waiting == 0
}

// place is an instance: where it is attached, and the rooms that it answers for.
type place struct {
	instance string // empty: nobody
	node     string
	rooms    []string
}

// places returns who answers for the rooms, those without any last.
func (l *ledger) places() []place {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []place
	for _, r := range l.rooms {
		name := r.instance
		if r.waits != nil {
			name = ""
		}
		i := slices.IndexFunc(all, func(p place) bool { return p.instance == name })
		if i < 0 {
			i = len(all)
			all = append(all, place{instance: name, node: l.nodes[name]})
		}
		all[i].rooms = append(all[i].rooms, r.id)
	}
	slices.SortFunc(all, func(a, b place) int {
		switch {
		case a.instance == b.instance:
			return 0
		case b.instance == "" || a.instance != "" && a.instance < b.instance:
			return -1
		}
		return 1
	})
	return all
}

// spread returns how many clients are connected to each node.
func (l *ledger) spread() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := make(map[string]int)
	for i := range l.clients {
		if t := &l.clients[i]; t.connected {
			by[t.node]++
		}
	}
	return by
}
