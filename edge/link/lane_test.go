package link

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// alone returns Links that nothing is started of, and a lane whose bytes stay in its ring.
func alone(t testing.TB, accept func(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver, notified func(wire.NodeSession, []byte)) (*Links, *lane) {
	l, err := New(Default(), Deps{
		Self: 1, Dial: func(context.Context, wire.NodeSession) (net.Conn, error) { return nil, net.ErrClosed },
		Accept: accept, Notified: notified,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, l.newStream(streamID{}, 1, 2).lane
}

func refuseAll(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver { return nil }

// golden is what a node says that opens a route, sends two frames, a notice, and closes the route.
const golden = "01" + "00000c" + "00000001" + "0000000000000007" + "00000003" + // open
	"02" + "000029" + "00000001" + // frames
	"00000010" + "0200" + "00000001" + "0000000000000001" + "6869" +
	"00000011" + "0200" + "00000001" + "0000000000000001" + "796f75" +
	"04" + "000002" + "00000000" + "6265" + // notice
	"03" + "000001" + "00000001" + "00" // closed

func TestBytesOfALaneAreFixed(t *testing.T) {
	l, lane := alone(t, refuseAll, nil)
	lane.s.mine = true
	l.opened[end{2, 1}] = lane.s
	rt := lane.open(7, 3, newInbox("e"))
	mustSend(t, rt, append(frame("hi"), frame("you")...))
	if err := l.Notify(2, 1, []byte("be")); err != nil {
		t.Fatal(err)
	}
	rt.Close()
	b := make([]byte, lane.s.out.len())
	lane.s.out.read(b, 0)
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestBytesOfALaneAreUnderstoodHoweverTheyAreCut(t *testing.T) {
	b, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= len(b); step++ {
		in := newInbox("o")
		var opened, notices string
		_, lane := alone(t, func(from wire.NodeSession, instance wire.InstanceID, gen wire.Gen, _ *Route) Receiver {
			opened = fmt.Sprint(from, instance, gen)
			return in
		}, func(from wire.NodeSession, body []byte) { notices += fmt.Sprint(from, string(body)) })
		var have []byte
		for at := 0; at < len(b); at += step {
			have = append(have, b[at:min(at+step, len(b))]...)
			used, err := lane.take(have)
			if err != nil {
				t.Fatal(err)
			}
			have = have[used:]
		}
		want(t, in.said, "hi", "you")
		if opened != "2 7 3" || notices != "2be" || len(in.ended) != 1 || lane.size() != 0 || len(have) != 0 {
			t.Errorf("in steps of %d: opened %q, notices %q, %d ends, %d routes", step, opened, notices, len(in.ended), lane.size())
		}
	}
}

func TestItemsThatEndTheLane(t *testing.T) {
	open := "0100000c" + "00000001" + "0000000000000007" + "00000003"
	for name, said := range map[string]string{
		"kind 0": "0000000000000001", "kind 9": "0900000000000001", "an open of 4 bytes": "0100000400000001",
		"no frames": "0200000000000001", "16 MiB of frames": "02ffffff00000001", "a close of two bytes": "0300000200000001",
		"a long notice": "0400040100000001", "a route that is opened twice": open + open,
	} {
		b, err := hex.DecodeString(said)
		if err != nil {
			t.Fatal(err)
		}
		_, lane := alone(t, func(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver { return newInbox("o") }, nil)
		if _, err := lane.take(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	_, lane := alone(t, refuseAll, nil)
	lane.s.mine = true
	if b, _ := hex.DecodeString(open); true {
		if _, err := lane.take(b); err == nil {
			t.Error("a route against the direction of the lane: taken")
		}
	}
}

// FuzzLane feeds whatever bytes to a lane.
func FuzzLane(f *testing.F) {
	b, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:30])
	f.Add([]byte{2, 0, 0, 4, 0, 0, 0, 1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, said []byte) {
		_, lane := alone(t, func(_ wire.NodeSession, instance wire.InstanceID, _ wire.Gen, _ *Route) Receiver {
			if instance%2 == 0 {
				return nil
			}
			return newInbox("o")
		}, func(wire.NodeSession, []byte) {})
		used, err := lane.take(said)
		if used > len(said) || err == nil && len(said)-used > itemHead+maxFrames {
			t.Fatalf("%d of %d bytes are used", used, len(said))
		}
		lane.drained()
		if n := lane.size(); n > len(said)/(itemHead+openSize) {
			t.Fatalf("%d routes of %d bytes", n, len(said))
		}
	})
}

// FuzzHandshake feeds whatever bytes as hello and as the head of a record.
func FuzzHandshake(f *testing.F) {
	h := hello{fresh: true, lane: 1, from: 1, to: 2, received: 3}
	f.Add(h.bytes())
	f.Fuzz(func(t *testing.T, said []byte) {
		if len(said) >= recordHead {
			if _, n, err := recordLength(said); err == nil && n > maxRecord {
				t.Fatal(n)
			}
		}
		if len(said) != helloSize {
			return
		}
		if got, err := readHello(bytes.NewReader(said)); err == nil && string(got.bytes()) != string(said) {
			t.Fatalf("%x became %x", said, got.bytes())
		}
	})
}
