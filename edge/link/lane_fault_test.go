package link

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

// knocker dials the Links of one node by hand, as node session 9, on lane 0.
type knocker struct {
	t  *testing.T
	l  *Links
	id streamID
}

// knocks says hello on a connection of its own and returns its near end.
func (k knocker) knocks(fresh bool) (nc net.Conn, served <-chan error) {
	k.t.Helper()
	near, far := net.Pipe()
	k.t.Cleanup(func() { near.Close() })
	_ = near.SetDeadline(time.Now().Add(patience))
	done := make(chan error, 1)
	go func() { done <- k.l.Serve(context.Background(), far, 9) }()
	h := hello{fresh: fresh, id: k.id, from: 9, to: k.l.self}
	if _, err := near.Write(h.bytes()); err != nil {
		k.t.Fatal(err)
	}
	return near, done
}

// enters knocks and reads the answer.
func (k knocker) enters(fresh bool) net.Conn {
	k.t.Helper()
	nc, _ := k.knocks(fresh)
	var b [answerSize]byte
	if _, err := io.ReadFull(nc, b[:]); err != nil || b[0] != statusFine {
		k.t.Fatalf("status %d, %v", b[0], err)
	}
	go func() { _, _ = io.Copy(io.Discard, nc) }()
	return nc
}

// says sends one item of the lane.
func says(t *testing.T, nc net.Conn, kind byte, route uint32, body []byte) {
	t.Helper()
	var head [itemHead]byte
	putHead(&head, kind, len(body), route)
	b := append(appendHead(nil, kindData, itemHead+len(body)), head[:]...)
	if _, err := nc.Write(append(b, body...)); err != nil {
		t.Fatal(err)
	}
}

func openBody(instance wire.InstanceID) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(instance)), 1)
}

// running returns Links that run until the test ends.
func running(t *testing.T, deps Deps) *Links {
	t.Helper()
	deps.Self = 1
	deps.Dial = func(context.Context, wire.NodeSession) (net.Conn, error) { return nil, io.ErrClosedPipe }
	if deps.Accept == nil {
		deps.Accept = refuseAll
	}
	l, err := New(Default(), deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = l.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func awaits[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it does not come")
		panic("unreachable")
	}
}

func TestLaneWhoseFirstConnectionBrokeIsRead(t *testing.T) {
	notices := make(chan string, 1)
	l := running(t, Deps{Notified: func(_ wire.NodeSession, body []byte) { notices <- string(body) }})
	k := knocker{t: t, l: l, id: streamID{1}}
	nc, served := k.knocks(true)
	nc.Close() // before the answer is read
	if err := awaits(t, served); err == nil {
		t.Fatal("the answer was written to nobody")
	}
	says(t, k.enters(true), itemNotice, 0, []byte("heard"))
	if got := awaits(t, notices); got != "heard" {
		t.Errorf("got %q", got)
	}
}

func TestLaneOfAnotherNodeIsNotOneToReachItBy(t *testing.T) {
	l := running(t, Deps{})
	k := knocker{t: t, l: l, id: streamID{2}}
	k.enters(true).Close()
	for deadline := time.Now().Add(patience); l.Peers()[0].Connected > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the connection is still there")
		}
		time.Sleep(time.Millisecond)
	}
	if lost := l.Unreachable(0); len(lost) > 0 {
		t.Errorf("nodes %v count as unreachable", lost)
	}
}

func TestPanicOfWhatALaneCallsEndsTheLaneOnly(t *testing.T) {
	for name, deps := range map[string]Deps{
		"Notified": {Notified: func(wire.NodeSession, []byte) { panic("a bug") }},
		"Accept":   {Accept: func(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver { panic("a bug") }},
		"Drained": {Accept: func(wire.NodeSession, wire.InstanceID, wire.Gen, *Route) Receiver {
			return bug{newInbox("bug")}
		}},
	} {
		l := running(t, deps)
		k := knocker{t: t, l: l, id: streamID{3}}
		nc := k.enters(true)
		switch name {
		case "Notified":
			says(t, nc, itemNotice, 0, nil)
		default:
			says(t, nc, itemOpen, 1, openBody(7))
			if name == "Drained" {
				says(t, nc, itemFrames, 1, frame("x"))
			}
		}
		for deadline := time.Now().Add(patience); len(l.streams()) > 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the lane goes on", name)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// bug is a Receiver that cannot flush.
type bug struct{ *inbox }

func (bug) Drained() { panic("a bug") }

func TestNodeThatClosesWhatItTakesIsNotDialledWithoutAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		l, err := New(Default(), Deps{Self: 1, Accept: refuseAll, Dial: func(ctx context.Context, _ wire.NodeSession) (net.Conn, error) {
			if dials.Add(1) > 100 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			near, far := net.Pipe()
			go func() {
				_, _ = readHello(far)
				_, _ = far.Write(answer(statusFine, 0))
				far.Close()
			}()
			return near, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		l.open(2, 0)
		_ = l.Run(ctx)
		if n := dials.Load(); n < 3 || n > 20 {
			t.Errorf("it was dialled %d times within 5 s", n)
		}
	})
}
