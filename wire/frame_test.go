package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const (
	gState  StateID = 0x0123456789abcdef
	gEpoch  Epoch   = 0x0000010000000203
	gStream         = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
)

// goldens are written by hand from the package doc, one column per field.
var goldens = []struct {
	name  string
	frame Frame
	hex   string
}{
	{
		"open",
		Frame{
			Type: Open, Flags: Resumed, Channel: 7, Seq: 9, State: gState, Epoch: gEpoch, Gen: 4,
			Conn: ConnID{5, 6}, Stream: streamOf(gStream), User: []byte("alice"),
		},
		"00000049 01 08 00000007 0000000000000009 0123456789abcdef 0000010000000203 00000004 " +
			"0000000000000005 0000000000000006 " + gStream + " 0005 616c696365",
	},
	{"data", Frame{Type: Data, Channel: 7, Seq: 9, Payload: []byte("hi")}, "00000010 02 00 00000007 0000000000000009 6869"},
	{"data empty", Frame{Type: Data, Channel: 7, Seq: 9}, "0000000e 02 00 00000007 0000000000000009"},
	{"data unreliable", Frame{Type: Data, Flags: Unreliable, Channel: 7, Payload: []byte("hi")}, "00000010 02 04 00000007 0000000000000000 6869"},
	{"data first", Frame{Type: Data, Flags: More, Channel: 7, Seq: 9, Size: 5, Payload: []byte("hi")}, "00000014 02 01 00000007 0000000000000009 00000005 6869"},
	{"data middle", Frame{Type: Data, Flags: More | Cont, Channel: 7, Seq: 9, Payload: []byte("yo")}, "00000010 02 03 00000007 0000000000000009 796f"},
	{"data last", Frame{Type: Data, Flags: Cont, Channel: 7, Seq: 9, Payload: []byte("u")}, "0000000f 02 02 00000007 0000000000000009 75"},
	{"close", Frame{Type: Close, Channel: 7, Seq: 10, Code: CodeNormal, Payload: []byte("bye")}, "00000013 03 00 00000007 000000000000000a 03e8 627965"},
	{"ack", Frame{Type: Ack, Channel: 7, Seq: 9}, "0000000e 04 00 00000007 0000000000000009"},
	{"expected", Frame{Type: Expected, Channel: 7, Seq: 9}, "0000000e 05 00 00000007 0000000000000009"},
	{"stale", Frame{Type: Stale, Channel: 7, Index: 515}, "0000000e 06 00 00000007 0000000000000203"},
	{"behind", Frame{Type: Behind, Channel: 7, Index: 515}, "0000000e 07 00 00000007 0000000000000203"},
	{"accept", Frame{Type: Accept, Channel: 7}, "00000006 08 00 00000007"},
	{"credit", Frame{Type: Credit, State: gState, Size: 65536}, "0000000e 09 00 0123456789abcdef 00010000"},
	{
		"broadcast",
		Frame{Type: Broadcast, Seq: 3, State: gState, Epoch: gEpoch, Payload: []byte("hi")},
		"0000001c 0a 00 0000000000000003 0123456789abcdef 0000010000000203 6869",
	},
	{
		"broadcast except",
		Frame{Type: Broadcast, Flags: Except, Channel: 7, Seq: 3, State: gState, Epoch: gEpoch, Payload: []byte("hi")},
		"00000020 0a 10 00000007 0000000000000003 0123456789abcdef 0000010000000203 6869",
	},
	{
		"broadcast user first",
		Frame{Type: Broadcast, Flags: ToUser | More, Seq: 3, State: gState, Epoch: gEpoch, Size: 3, User: []byte("al"), Payload: []byte("hi")},
		"00000024 0a 21 0000000000000003 0123456789abcdef 0000010000000203 00000003 0002 616c 6869",
	},
	{
		"new_state",
		Frame{Type: NewState, Seq: 1, State: gState, Epoch: gEpoch, User: []byte("alice"), Payload: []byte{1, 2, 3}},
		"00000024 0b 00 0000000000000001 0123456789abcdef 0000010000000203 0005 616c696365 010203",
	},
	{"state_accept", Frame{Type: StateAccept, State: gState, Epoch: gEpoch}, "00000012 0c 00 0123456789abcdef 0000010000000203"},
	{
		"state_refuse",
		Frame{Type: StateRefuse, State: gState, Epoch: gEpoch, Code: CodeStateNotFound, Payload: []byte("no")},
		"00000016 0d 00 0123456789abcdef 0000010000000203 0fa0 6e6f",
	},
	{"state_release", Frame{Type: StateRelease, State: gState, Epoch: gEpoch}, "00000012 0e 00 0123456789abcdef 0000010000000203"},
	{"state_released", Frame{Type: StateReleased, State: gState, Epoch: gEpoch}, "00000012 0f 00 0123456789abcdef 0000010000000203"},
	{"not_owner", Frame{Type: NotOwner, State: gState, Epoch: gEpoch}, "00000012 10 00 0123456789abcdef 0000010000000203"},
	{"heartbeat", Frame{Type: Heartbeat, Seq: 2, Index: 20, Size: 500}, "00000016 11 00 0000000000000002 0000000000000014 000001f4"},
	{"heartbeat_ack", Frame{Type: HeartbeatAck, Seq: 2}, "0000000a 12 00 0000000000000002"},
	{"go_away", Frame{Type: GoAway, Code: CodeRestart, Payload: []byte("bye")}, "00000007 13 00 03f4 627965"},
	{"register", Frame{Type: Register, Payload: []byte{1}}, "00000003 14 00 01"},
	{"registered", Frame{Type: Registered, Payload: []byte{1}}, "00000003 15 00 01"},
	{"hold", Frame{Type: Hold, Payload: []byte{1}}, "00000003 16 00 01"},
	{"connect", Frame{Type: Connect, Flags: Resumed, Payload: []byte{1}}, "00000003 17 08 01"},
	{"connected", Frame{Type: Connected, Payload: []byte{1}}, "00000003 18 00 01"},
	{"gap", Frame{Type: Gap, Channel: 7, Seq: 9, Index: 8}, "00000016 19 00 00000007 0000000000000009 0000000000000008"},
	{"token", Frame{Type: Token, Size: 60, Payload: []byte("t")}, "00000007 1a 00 0000003c 74"},
}

func streamOf(s string) (id StreamID) {
	copy(id[:], unhex(s))
	return id
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestGoldenFrames(t *testing.T) {
	seen := map[Type]bool{}
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			seen[g.frame.Type] = true
			want := unhex(g.hex)
			if got := AppendFrame([]byte("x"), &g.frame); string(got) != "x"+string(want) {
				t.Fatalf("encoded\n %x, want\n %x", got[1:], want)
			}
			body, n, err := SplitFrame(append(want[:len(want):len(want)], 0xff), MaxFrame)
			if err != nil || n != len(want) {
				t.Fatalf("split: %d bytes, %v", n, err)
			}
			f := Frame{Channel: 99, Size: 99, User: []byte("old"), Code: 99} // whatever was there must go
			if err := f.Decode(body); err != nil {
				t.Fatalf("decode: %v", err)
			}
			if !same(f, g.frame) {
				t.Errorf("decoded %+v, want %+v", f, g.frame)
			}
			for cut := range want {
				if _, n, err := SplitFrame(want[:cut], MaxFrame); n != 0 || err != nil {
					t.Errorf("split of the first %d bytes: %d, %v; want to be asked for more", cut, n, err)
				}
			}
		})
	}
	for typ := Open; typ < typeEnd; typ++ {
		if !seen[typ] {
			t.Errorf("type %v has no golden bytes", typ)
		}
		if !strings.HasPrefix(typ.String(), goldenName(typ)) || typ.String() == "" {
			t.Errorf("type %d is called %q", typ, typ)
		}
	}
}

func goldenName(t Type) string {
	for _, g := range goldens {
		if g.frame.Type == t {
			return strings.Fields(g.name)[0]
		}
	}
	return "?"
}

// same compares frames, where no bytes and nil are the same.
func same(a, b Frame) bool {
	for _, f := range []*Frame{&a, &b} {
		if len(f.User) == 0 {
			f.User = nil
		}
		if len(f.Payload) == 0 {
			f.Payload = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

func TestDecodeRefuses(t *testing.T) {
	long := strings.Repeat("61", MaxFragment+1)
	cases := []struct {
		name, body string
		want       error
	}{
		{"nothing", "", ErrShort},
		{"a type alone", "02", ErrShort},
		{"type 0", "0000", ErrType},
		{"a type after the last", "1b00", ErrType},
		{"type 255", "ff00", ErrType},
		{"an unknown flag", "0240 00000007 0000000000000009", ErrFlags},
		{"a flag of another type", "0401 00000007 0000000000000009", ErrFlags},
		{"except and user at once", "0a30 00000007 0000000000000003 0123456789abcdef 0000010000000203 0000", ErrFlags},
		{"an unreliable fragment", "0205 00000007 0000000000000009 00000005", ErrFlags},
		{"a field cut off", "0200 00000007 00000000000000", ErrShort},
		{"bytes after the last field", "0800 00000007 00", ErrTrailing},
		{"a user that ends outside", "0b00 0000000000000001 0123456789abcdef 0000010000000203 0006 616c696365", ErrShort},
		{"a user without its length", "0b00 0000000000000001 0123456789abcdef 0000010000000203 00", ErrShort},
		{"a user too long", "0b00 0000000000000001 0123456789abcdef 0000010000000203 0401 " + long[:2*1025], ErrTooBig},
		{"a payload too long", "1400" + long, ErrTooBig},
		{"a body longer than any frame", "1400" + strings.Repeat("61", MaxFrame), ErrTooBig},
		{"a reason too long", "1300 03f4" + long[:2*124], ErrTooBig},
		{"a whole smaller than its fragment", "0201 00000007 0000000000000009 00000001 6869", ErrField},
		{"a whole as large as its first fragment", "0201 00000007 0000000000000009 00000002 6869", ErrField},
		{"a whole larger than any message", "0201 00000007 0000000000000009 01000001 6869", ErrField},
		{"a whole of 4 GiB", "0201 00000007 0000000000000009 ffffffff 6869", ErrField},
	}
	for _, c := range cases {
		var f Frame
		if err := f.Decode(unhex(c.body)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestSplitRefusesBeforeTheBytesAreThere(t *testing.T) {
	cases := []struct {
		head string
		max  int
		want error
	}{
		{"ffffffff", MaxFrame, ErrTooBig},
		{"00008800", MaxFrame, ErrTooBig},
		{"000087fd", MaxFrame, ErrTooBig},
		{"000087fd", 1 << 30, ErrTooBig}, // max cannot be lifted beyond MaxFrame
		{"000087fc", MaxFrame, nil},
		{"00000100", 255, ErrTooBig},
		{"000000fb", 255, nil},
		{"00000001", MaxFrame, ErrShort},
		{"00000000", MaxFrame, ErrShort},
	}
	for _, c := range cases {
		if body, n, err := SplitFrame(unhex(c.head), c.max); !errors.Is(err, c.want) || n != 0 || body != nil {
			t.Errorf("%s of at most %d: %d, %v; want %v", c.head, c.max, n, err, c.want)
		}
	}
}

func TestEveryFullFrameFits(t *testing.T) {
	for typ := Open; typ < typeEnd; typ++ {
		f := Frame{Type: typ, Flags: layouts[typ].flags &^ (Unreliable | Except | Cont), Size: MaxMessage, User: make([]byte, MaxUser), Payload: make([]byte, MaxFragment)}
		b := AppendFrame(nil, &f)
		body, n, err := SplitFrame(b, MaxFrame)
		if err != nil || n != len(b) {
			t.Fatalf("%v of %d bytes: %v", typ, len(b), err)
		}
		var got Frame
		if err := got.Decode(body); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

func TestAppendFramePanicsOnBugs(t *testing.T) {
	for name, f := range map[string]Frame{
		"type":    {Type: typeEnd},
		"flags":   {Type: Ack, Flags: More},
		"payload": {Type: Data, Payload: make([]byte, MaxFragment+1)},
		"user":    {Type: Open, User: make([]byte, MaxUser+1)},
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "wire: ") {
					t.Errorf("%s: recovered %v, want a panic of wire", name, r)
				}
			}()
			AppendFrame(nil, &f)
		}()
	}
}

func TestReasonsAreClippedBetweenCharacters(t *testing.T) {
	for in, want := range map[string]int{
		"":                              0,
		strings.Repeat("a", MaxReason):  MaxReason,
		strings.Repeat("a", 500):        MaxReason,
		"a" + strings.Repeat("é", 100):  MaxReason,
		strings.Repeat("é", 100):        MaxReason - 1,
		strings.Repeat("😀", 100):        120,
		strings.Repeat("\x80", 500):     MaxReason - 4, // not UTF-8: cut anyhow
		strings.Repeat("a", 122) + "😀b": 122,
	} {
		if got := ClipReason(in); len(got) != want || !strings.HasPrefix(in, got) {
			t.Errorf("%.10q...: %d bytes, want %d", in, len(got), want)
		}
	}
	f := Frame{Type: GoAway, Code: CodeNormal, Payload: bytes.Repeat([]byte("é"), 100)}
	body, _, _ := SplitFrame(AppendFrame(nil, &f), MaxFrame)
	var got Frame
	if err := got.Decode(body); err != nil || len(got.Payload) != MaxReason-1 {
		t.Errorf("a long reason came through as %d bytes, %v", len(got.Payload), err)
	}
}

func TestTypeNames(t *testing.T) {
	if Type(0).String() != "type_0" || typeEnd.String() != fmt.Sprintf("type_%d", typeEnd) {
		t.Errorf("types without a name are called %q and %q", Type(0), typeEnd)
	}
}

func TestNoAllocationPerFrame(t *testing.T) {
	buf := make([]byte, 0, MaxFrame)
	for _, g := range goldens {
		f := g.frame
		if n := testing.AllocsPerRun(100, func() { buf = AppendFrame(buf[:0], &f) }); n != 0 {
			t.Errorf("%s: %v allocations to encode", g.name, n)
		}
		wire := AppendFrame(nil, &f)
		var got Frame
		if n := testing.AllocsPerRun(100, func() {
			body, _, err := SplitFrame(wire, MaxFrame)
			if err != nil || got.Decode(body) != nil {
				t.Fail()
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations to decode", g.name, n)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 100)
	for _, f := range []Frame{
		{Type: Data, Channel: 7, Seq: 9, Payload: payload},
		{Type: Broadcast, Flags: ToUser, State: gState, Epoch: gEpoch, User: []byte("alice"), Payload: payload},
		{Type: Open, Channel: 7, Seq: 9, State: gState, User: []byte("alice")},
		{Type: Ack, Channel: 7, Seq: 9},
	} {
		enc := AppendFrame(nil, &f)
		b.Run("append/"+f.Type.String(), func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, MaxFrame)
			for b.Loop() {
				buf = AppendFrame(buf[:0], &f)
			}
		})
		b.Run("decode/"+f.Type.String(), func(b *testing.B) {
			b.ReportAllocs()
			var got Frame
			for b.Loop() {
				body, _, err := SplitFrame(enc, MaxFrame)
				if err != nil || got.Decode(body) != nil {
					b.Fatal("decode failed")
				}
			}
		})
	}
}
