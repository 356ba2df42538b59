package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
	"github.com/trunkline-edge/trunkline/wire/hathora"
)

const state1 wire.StateID = 0x0123456789abcdef

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLegacyWritesTheGoldenBytesInOrder(t *testing.T) {
	tun, theirs, _, _ := legacyTunnel(t, testConfig())
	tun.Confirm(1, 1)
	tun.GoAway()
	l := tun.Line(state1, 5)
	alice := &Session{User: "alice", State: state1}
	l.New("alice", []byte{1, 2, 3})
	l.Open(alice)
	l.Data(alice, 1, []byte("hi"), false)
	l.Data(alice, 2, nil, true)
	l.Close(alice, 3, wire.CodeNormal)
	l.NotOwner()
	l.Released()
	if tun.Queued() == 0 {
		t.Error("written before Flush")
	}
	tun.Flush()
	readExactly(t, theirs, unhex(t, "00000012000123456789abcdef05616c696365010203"+
		"0000000f010123456789abcdef05616c696365"+"00000011030123456789abcdef05616c6963656869"+
		"0000000f030123456789abcdef05616c696365"+"0000000f020123456789abcdef05616c696365"))
	tun.Greet("abc")
	readExactly(t, theirs, unhex(t, "000000050403616263"))
}

func TestLegacyReadsEveryFrameAndAnswersNoPing(t *testing.T) {
	_, theirs, sink, run := legacyTunnel(t, testConfig())
	big := bytes.Repeat([]byte("x"), 9<<20)
	b := hathora.AppendSendMessage(nil, state1, "alice", []byte("yo"))
	b = hathora.AppendPing(b)
	b = hathora.AppendSendMessage(b, state1, "", nil)
	b = hathora.AppendCloseConnection(b, state1, "alice")
	b = hathora.AppendSendMessage(b, state1, "alice", big)
	go theirs.Write(b)
	want := []string{"user " + state1.String() + " 0 alice yo", "user " + state1.String() + " 0  ", "close user " + state1.String() + " alice", "user " + state1.String() + " 0 alice 9437184 bytes"}
	for i, got := range sink.await(t, 4) {
		if got != want[i] {
			t.Errorf("frame %d: %q, want %q", i, got, want[i])
		}
	}
	theirs.CloseWrite()
	if reason := run.ended(t); reason != ReasonPeer {
		t.Fatal(reason)
	}
	if rest, _ := io.ReadAll(theirs); len(rest) > 0 {
		t.Fatalf("answered with %x", rest)
	}
}

func TestLegacyFramesThatEndTheTunnel(t *testing.T) {
	ping := string(hathora.AppendPing(nil))
	for _, c := range []struct{ name, said, reason string }{
		{"4 GiB length", ping + "\xff\xff\xff\xff", ReasonLength},
		{"4 GiB length first", "\xff\xff\xff\xff", ReasonLength},
		{"16 MiB length", ping + "\x01\x00\x00\x00\x00", ReasonLength},
		{"unknown type", ping + "\x00\x00\x00\x01\x07", ReasonType},
		{"unknown type first", "\x00\x00\x00\x01\x07", ReasonOldFraming},
		{"little endian (2021)", "\x12\x00\x00\x00abcdefghijklmnopqr", ReasonOldFraming},
		{"no type byte (January 2022)", "\x00\x00\x00\x0a\x12\x34\x56\x78\x9a\xbc\xde\xf0\x00x", ReasonOldFraming},
		{"short body", ping + "\x00\x00\x00\x03\x00\x01\x02", ReasonFrame},
		{"user longer than the frame", ping + "\x00\x00\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x01\x7fx", ReasonFrame},
		{"empty frame", ping + "\x00\x00\x00\x00", ReasonFrame},
		{"cut off", ping + "\x00\x00\x00\x09\x00", ReasonPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			_, theirs, _, run := legacyTunnel(t, cfg)
			io.WriteString(theirs, c.said)
			theirs.CloseWrite()
			if reason := run.ended(t); reason != c.reason {
				t.Fatalf("reason %s, want %s", reason, c.reason)
			}
		})
	}
}

// A backend that never pinged may be silent; one that did may not.
func TestLegacyIdleBeginsWithTheFirstPing(t *testing.T) {
	cfg := testConfig()
	cfg.LegacyIdle = 50 * time.Millisecond
	_, quiet, _, quietRun := legacyTunnel(t, cfg)
	_, pinged, _, run := legacyTunnel(t, cfg)
	pinged.Write(hathora.AppendPing(nil))
	if reason := run.ended(t); reason != ReasonIdle {
		t.Fatal(reason)
	}
	select {
	case err := <-quietRun.err:
		t.Fatal(err)
	default:
	}
	quiet.Close()
	if reason := quietRun.ended(t); reason != ReasonPeer {
		t.Fatal(reason)
	}
}

// fillSocket writes for one state until the connection holds more than the
// kernel takes.
func fillSocket(t *testing.T, tun Tunnel, l Line, s *Session, atLeast int) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for i := 0; tun.Queued() < atLeast; i++ {
		if i > 1000 {
			t.Fatal("the kernel takes everything")
		}
		l.Data(s, 0, chunk, false)
		tun.Flush()
	}
}

func TestLegacyAdmitWaitsForTheStateThatFillsTheQueue(t *testing.T) {
	cfg := testConfig()
	tun, theirs, _, run := legacyTunnel(t, cfg)
	loud, quiet := tun.Line(1, 1), tun.Line(2, 1)
	if loud.Admit(1000) != nil {
		t.Fatal("an idle tunnel does not admit")
	}
	fillSocket(t, tun, loud, &Session{User: "u", State: 1}, 2*cfg.StateMark)
	wait := loud.Admit(1000)
	if wait == nil {
		t.Fatal("the state that filled the queue is admitted")
	}
	if quiet.Admit(1000) != nil {
		t.Error("another state has to wait too")
	}
	fillSocket(t, tun, loud, &Session{User: "u", State: 1}, cfg.TunnelMark+1)
	all := quiet.Admit(1000)
	if all == nil {
		t.Fatal("a full tunnel admits")
	}
	go io.Copy(io.Discard, theirs)
	for _, w := range []<-chan struct{}{wait, all} {
		select {
		case <-w:
		case <-time.After(patience):
			t.Fatal("drained, and nobody says so")
		}
	}
	if loud.Admit(1000) != nil {
		t.Error("a drained state has to wait")
	}
	run.cancel()
	if reason := run.ended(t); reason != ReasonContext {
		t.Fatal(reason)
	}
}

func TestLegacyWaitersAreFreedWhenTheTunnelEnds(t *testing.T) {
	cfg := testConfig()
	tun, theirs, _, run := legacyTunnel(t, cfg)
	l := tun.Line(1, 1)
	fillSocket(t, tun, l, &Session{User: "u", State: 1}, 2*cfg.StateMark)
	wait := l.Admit(1)
	theirs.SetLinger(0)
	theirs.Close()
	run.ended(t)
	select {
	case <-wait:
	case <-time.After(patience):
		t.Fatal("still waiting")
	}
	if l.Admit(1<<20) != nil {
		t.Error("a tunnel that has ended makes wait")
	}
}

func TestBackendThatNeverReadsIsCut(t *testing.T) {
	cfg := testConfig()
	ours, theirs := sockets(t)
	io.WriteString(theirs, registration)
	opt := cfg.PipeOptions(100 * time.Millisecond)
	nc := wrapWith(ours, opt)
	_, tun, err := Accept(context.Background(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	run := start(t, func(ctx context.Context) error { return tun.Run(ctx, newNotes()) })
	fillSocket(t, tun, tun.Line(1, 1), &Session{User: "u", State: 1}, cfg.StateMark)
	if reason := run.ended(t); reason != ReasonStalled {
		t.Fatal(reason)
	}
	if q := tun.Queued(); q > opt.MaxPending {
		t.Fatalf("%d bytes are still queued", q)
	}
}

func TestLegacyCloseCutsNoFrameInHalf(t *testing.T) {
	tun, theirs, _, run := legacyTunnel(t, testConfig())
	l := tun.Line(1, 1)
	payload := make([]byte, 10_007)
	for range 400 {
		l.Data(&Session{User: "u", State: 1}, 0, payload, false)
	}
	tun.Close("taken_over")
	if reason := run.ended(t); reason != "taken_over" {
		t.Fatal(reason)
	}
	all, err := io.ReadAll(theirs)
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	for len(all) > 0 {
		n := 4 + int(binary.BigEndian.Uint32(all))
		if n > len(all) {
			t.Fatalf("frame %d is cut at %d of %d bytes", frames, len(all), n)
		}
		all = all[n:]
		frames++
	}
	if frames != 400 {
		t.Fatalf("%d frames", frames)
	}
	l.Data(&Session{User: "u", State: 1}, 0, payload, false)
	tun.Flush()
	if tun.Queued() != 0 {
		t.Error("a closed tunnel queues")
	}
}

func TestLegacyMessageThatNoFrameHoldsIsDropped(t *testing.T) {
	cfg := testConfig()
	tun, theirs, _, _ := legacyTunnel(t, cfg)
	l := tun.Line(state1, 1)
	l.Data(&Session{User: "u"}, 0, make([]byte, 16<<20), false)
	l.Close(&Session{User: "alice"}, 0, 0)
	tun.Flush()
	readExactly(t, theirs, unhex(t, "0000000f020123456789abcdef05616c696365"))
	if n := cfg.Counters.dropped[dropTooBig].Load(); n != 1 {
		t.Fatalf("%d dropped", n)
	}
}

func TestLegacyProbe(t *testing.T) {
	tun, theirs, _, run := legacyTunnel(t, testConfig())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, ok := tun.(*legacy).tcpInfo(); ok {
		if err := tun.Probe(ctx); err != nil {
			t.Fatalf("a live peer's kernel acknowledges keepalives: %v", err)
		}
		if tun.RTT() <= 0 {
			t.Error("no round trip")
		}
	}
	done := make(chan error, 1)
	go func() { done <- tun.Probe(ctx) }()
	theirs.Close()
	run.ended(t)
	if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	over, cancel2 := context.WithCancel(context.Background())
	cancel2()
	if tun.Probe(over) == nil {
		t.Error("a tunnel that has ended lives")
	}
}

func TestPanicOfASinkEndsOnlyItsTunnel(t *testing.T) {
	cfg := testConfig()
	ours, theirs := sockets(t)
	io.WriteString(theirs, registration)
	theirs.Write(hathora.AppendSendMessage(nil, 1, "u", nil))
	_, tun, err := Accept(context.Background(), wrap(ours, cfg), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var sink Sink // nil: every call panics
	if err := tun.Run(context.Background(), sink); ReasonOf(err) != ReasonPanic {
		t.Fatal(err)
	}
}
