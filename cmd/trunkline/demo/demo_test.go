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
	m := message{room: 3, client: 17, number: 1 << 40, instance: "alpha"}
	back, err := parseMessage(m.append(nil))
	if err != nil || back != m {
		t.Fatalf("%+v, %v", back, err)
	}
	for _, bad := range []string{"", "1 2 3", "x 2 3 a", "1 x 3 a", "1 2 -3 a"} {
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
	l.connected(0)
	l.connected(1)
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

func TestLedgerTimesTheFailover(t *testing.T) {
	l := newLedger(2, []string{"r0", "r1"})
	ask := func(client int, at time.Duration, instance string) (move, bool) {
		n := l.send(client, at)
		return l.answer(client, message{room: client, client: client, number: n, instance: instance}, at)
	}
	ask(0, 1*second, "alpha")
	ask(1, 1*second, "beta")
	if got := l.kill("alpha", 2*second); !reflect.DeepEqual(got, []string{"r0"}) {
		t.Fatalf("rooms of alpha: %v", got)
	}
	if _, moved := ask(0, 2*second, "alpha"); moved || l.recovered() {
		t.Fatal("an answer of the dead is no recovery")
	}
	if _, moved := ask(1, 3*second, "beta"); moved {
		t.Fatal("a room that was never away does not come back")
	}
	m, moved := ask(0, 5*second, "beta")
	if !moved || m != (move{"r0", "beta", 3 * second}) || !l.recovered() {
		t.Fatalf("%+v, %v", m, moved)
	}
	s := l.summary(6 * second)
	if len(s.Moved) != 1 || s.Moved[0] != (Moved{"r0", "beta", 3}) || s.Recovery != 3 || s.Unrecovered != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestVerdict(t *testing.T) {
	if err := (&Summary{Lost: 5, Duplicated: 5}).verdict(); err != nil {
		t.Fatal(err)
	}
	if err := (&Summary{Disconnects: 1}).verdict(); !errors.Is(err, ErrDisconnected) {
		t.Fatal(err)
	}
	if err := (&Summary{Unrecovered: 1}).verdict(); !errors.Is(err, ErrUnrecovered) {
		t.Fatal(err)
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
	s := Summary{Clients: 25, Sent: 100, Answered: 99, Lost: 1, Moved: []Moved{{"r", "beta", 1.5}}, Recovery: 1.5}
	var out bytes.Buffer
	if err := s.write(options{}, &out); err != nil || !strings.Contains(out.String(), "after 1.50 s") {
		t.Fatalf("%v: %s", err, out.String())
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
