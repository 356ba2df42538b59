package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMessages(t *testing.T) {
	m := message{room: 3, client: 17, number: 1 << 40}
	for _, m.instance = range []string{"", "alpha"} {
		for _, m.node = range []string{"", "127.0.0.1:7147"} {
			if back, err := parseMessage(m.append(nil)); err != nil || back != m {
				t.Fatalf("%+v, %v", back, err)
			}
		}
	}
	for _, bad := range []string{"", "1 2 3", "1 2 3 a", "x 2 3 a b", "1 x 3 a b", "1 2 -3 a b"} {
		if _, err := parseMessage([]byte(bad)); !errors.Is(err, errMessage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

const second = time.Second

// answer is the answer of an instance to message n of client 0 in room 0.
func answer(n uint64, instance string) message { return message{number: n, instance: instance} }

func TestLedgerCountsEveryMessage(t *testing.T) {
	l := newLedger(2, []string{"r0", "r1"})
	l.connected(0, "node-1", 0)
	l.connected(1, "node-2", 0)
	for range 5 {
		l.send(0, 1*second)
	}
	for _, n := range []uint64{1, 3, 3, 2} { // 4 and 5 are missing, 3 came twice, 2 came late
		l.answer(0, answer(n, "alpha"), 2*second)
	}
	l.answer(0, answer(99, "alpha"), 2*second)           // never sent
	l.answer(0, message{client: 1, number: 1}, 2*second) // somebody else's
	l.answer(0, message{room: 7, number: 1}, 2*second)   // no such room
	l.send(1, 2*second)                                  // not answered
	s := l.summary(4 * second)
	want := Summary{
		Clients: 2, Connected: 2, Rooms: 2, Sent: 6, Answered: 3, Lost: 3, Duplicated: 1, OutOfOrder: 1, Misrouted: 3,
		LongestGap: 2, Seconds: 4,
	}
	if !reflect.DeepEqual(s, want) {
		t.Fatalf("got  %+v\nwant %+v", s, want)
	}
	if l.settled() || l.ready() {
		t.Fatal("settled or ready with messages missing")
	}
}

func TestLongestGapIsOfOpenQuestionsOnly(t *testing.T) {
	l := newLedger(1, []string{"r0"})
	l.send(0, 10*second) // nothing was asked before, so nothing was missing
	l.answer(0, answer(1, "alpha"), 11*second)
	l.send(0, 30*second) // silence without a question
	l.send(0, 31*second)
	l.answer(0, answer(2, "alpha"), 33*second)
	if s := l.summary(33 * second); s.LongestGap != 3 {
		t.Fatalf("longest gap %v", s.LongestGap)
	}
	if s := l.summary(40 * second); s.LongestGap != 7 {
		t.Fatalf("longest gap with an open question %v", s.LongestGap)
	}
}

// A message that is lost for good is not a gap that never ends: later ones were answered.
func TestALostMessageIsNoEndlessGap(t *testing.T) {
	l := newLedger(1, []string{"r0"})
	l.send(0, 1*second)
	l.send(0, 1*second)
	l.answer(0, answer(2, "alpha"), 2*second)
	if s := l.summary(60 * second); s.LongestGap != 1 || s.Lost != 1 {
		t.Fatalf("%+v", s)
	}
	l.send(0, 70*second)
	l.answer(0, answer(3, "alpha"), 72*second)
	if s := l.summary(80 * second); s.LongestGap != 2 || s.Lost != 1 {
		t.Fatalf("%+v", s)
	}
}

// scene is a ledger with two clients in two rooms, at two nodes.
type scene struct{ *ledger }

func newScene() scene {
	s := scene{newLedger(2, []string{"r0", "r1"})}
	s.connected(0, "node-1", 0)
	s.connected(1, "node-2", 0)
	return s
}

// ask has a client send, and an instance answer through a node at the same time.
func (s scene) ask(client int, at time.Duration, instance, node string) (move, bool) {
	n := s.send(client, at)
	return s.answer(client, message{room: client, client: client, number: n, instance: instance, node: node}, at)
}

func TestLedgerTimesTheFailover(t *testing.T) {
	l := newScene()
	l.ask(0, 1*second, "alpha", "node-1")
	l.ask(1, 1*second, "beta", "node-2")
	if got := l.killInstance("alpha", 2*second); !reflect.DeepEqual(got, []string{"r0"}) {
		t.Fatalf("rooms of alpha: %v", got)
	}
	if _, moved := l.ask(0, 2*second, "alpha", "node-1"); moved || l.recovered() {
		t.Fatal("an answer of the dead is no recovery")
	}
	if _, moved := l.ask(1, 3*second, "beta", "node-2"); moved {
		t.Fatal("a room that was never away does not come back")
	}
	want := []place{{"beta", "node-2", []string{"r1"}}, {"", "", []string{"r0"}}}
	if got := l.places(); !reflect.DeepEqual(got, want) {
		t.Fatalf("while a room waits: %+v", got)
	}
	m, moved := l.ask(0, 5*second, "beta", "node-2")
	if !moved || m != (move{"r0", "beta", "node-2", 3 * second}) || !l.recovered() {
		t.Fatalf("%+v, %v", m, moved)
	}
	s := l.summary(6 * second)
	if len(s.Moved) != 1 || s.Moved[0] != (Moved{"r0", "beta", 3}) || s.Recovery != 3 || s.Unrecovered != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestLedgerTimesTheDeathOfANode(t *testing.T) {
	l := newScene()
	l.ask(0, 1*second, "alpha", "node-1")
	l.ask(1, 1*second, "beta", "node-2")
	rooms, clients := l.killNode("node-2", 10*second)
	if !reflect.DeepEqual(rooms, []string{"r1"}) || clients != 1 {
		t.Fatalf("at node-2: %v, %d clients", rooms, clients)
	}
	if _, moved := l.ask(1, 10*second, "beta", "node-2"); moved || l.returned() || l.served() {
		t.Fatal("what was under way when the node died is no recovery")
	}
	if !l.disconnected(1) {
		t.Fatal("the end of a connection to the dead node is unexpected")
	}
	l.connected(1, "node-3", 11*second)
	if !l.returned() || l.served() {
		t.Fatalf("connected elsewhere: returned %v, served %v", l.returned(), l.served())
	}
	m, moved := l.ask(1, 12*second, "beta", "node-1")
	if !moved || m != (move{"r1", "beta", "node-1", 2 * second}) || !l.served() {
		t.Fatalf("%+v, %v; served %v", m, moved, l.served())
	}
	want := NodeDeath{
		Name: "node-2", Clients: 1, Reconnects: 1, Reconnected: 1, Answered: 2, Rooms: 1, Resumed: 2,
	}
	if s := l.summary(13 * second); s.Node != want || s.Disconnects != 0 || s.Connected != 2 {
		t.Fatalf("%+v", s)
	}
	if l.disconnected(1) || l.disconnected(0) {
		t.Fatal("the end of a connection to a living node is expected")
	}
	if s := l.summary(13 * second); s.Disconnects != 2 {
		t.Fatalf("%d disconnects", s.Disconnects)
	}
}

func TestLedgerNoticesRoomsThatMovedWithoutNeed(t *testing.T) {
	l := newScene()
	l.ask(0, 1*second, "alpha", "node-1")
	l.ask(1, 1*second, "beta", "node-2")
	l.killNode("node-2", 2*second)
	l.ask(1, 3*second, "alpha", "node-1")
	if s := l.summary(4 * second); s.Node.Strays != 1 || s.Node.Unanswered != 1 {
		t.Fatalf("%+v", s.Node)
	}
}

func TestVerdict(t *testing.T) {
	if err := (&Summary{Lost: 5, Node: NodeDeath{Clients: 8, Reconnects: 8, Rooms: 5}}).verdict(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    Summary
		want error
	}{
		{Summary{Disconnects: 1}, ErrDisconnected},
		{Summary{Unrecovered: 1}, ErrUnrecovered},
		{Summary{Node: NodeDeath{Unanswered: 1}}, ErrUnanswered},
		{Summary{Node: NodeDeath{Silent: 1}}, ErrNotResumed},
		{Summary{Node: NodeDeath{Strays: 1}}, ErrNotResumed},
		{Summary{Duplicated: 1}, ErrDisorder},
		{Summary{OutOfOrder: 1}, ErrDisorder},
		{Summary{Misrouted: 1}, ErrDisorder},
	} {
		if err := c.s.verdict(); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.s, err)
		}
	}
}

// Everybody knows every node, and those who lose one do not all meet at the next.
func TestAddressesBeginAtHome(t *testing.T) {
	w := &world{nodes: []*node{{name: "a"}, {name: "b"}, {name: "c"}}}
	name := func(n *node) string { return n.name }
	for _, c := range []struct {
		home int
		down bool
		want string
	}{{0, false, "abc"}, {0, true, "acb"}, {2, false, "cab"}, {2, true, "cba"}} {
		if got := strings.Join(w.addresses(c.home, c.down, name), ""); got != c.want {
			t.Errorf("from %d, down %v: %s", c.home, c.down, got)
		}
	}
}

func TestParse(t *testing.T) {
	var out bytes.Buffer
	o, err := parse(nil, &out)
	if err != nil || o.Clients < 20 || o.Rooms != 5 {
		t.Fatalf("%+v, %v", o, err)
	}
	if _, err := parse([]string{"--help"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-keep") {
		t.Fatalf("%v: %s", err, out.String())
	}
	for _, args := range []string{"extra", "--clients 3", "--rooms 0", "--rate 0", "--before -1s", "--bogus"} {
		if _, err := parse(strings.Fields(args), &out); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestSummaryForms(t *testing.T) {
	s := Summary{
		Clients: 25, Sent: 100, Answered: 99, Lost: 1, Moved: []Moved{{"r", "beta", 1.5}}, Recovery: 1.5,
		Node: NodeDeath{Name: "node-2", Clients: 8, Reconnects: 8, Reconnected: 0.25, Unanswered: 3},
	}
	var out bytes.Buffer
	if err := s.write(options{}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"after 1.50 s", "8 connected elsewhere within 0.25 s", "3 WERE NOT ANSWERED AGAIN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:%s", want, out.String())
		}
	}
	out.Reset()
	if err := s.write(options{JSON: true}, &out); err != nil {
		t.Fatal(err)
	}
	var back Summary
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Fatalf("%+v, %v", back, err)
	}
}
