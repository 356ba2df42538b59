package hathora

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/wire"
)

// The golden bytes of this package's tests were written by the original encoder, bin-serde 1.2.2.
const (
	r1      wire.StateID = 0x0123456789abcdef // mf9g063v08f in base 36
	token                = "e30.eyJpZCI6ImFsaWNlIn0.x"
	tokenHx              = "196533302e65794a705a434936496d467361574e6c496e302e78"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

type storeGolden struct {
	name  string
	got   []byte
	hex   string
	frame StoreFrame
}

var toStore = []storeGolden{
	{"1 new state", AppendNewState(nil, r1, "alice", []byte{1, 2, 3}), "00000012000123456789abcdef05616c696365010203", StoreFrame{NewState, r1, []byte("alice"), []byte{1, 2, 3}}},
	{"2 new state, empty", AppendNewState(nil, r1, "alice", nil), "0000000f000123456789abcdef05616c696365", StoreFrame{NewState, r1, []byte("alice"), nil}},
	{"3 subscribe", AppendSubscribe(nil, r1, "alice"), "0000000f010123456789abcdef05616c696365", StoreFrame{Subscribe, r1, []byte("alice"), nil}},
	{"4 unsubscribe", AppendUnsubscribe(nil, r1, "alice"), "0000000f020123456789abcdef05616c696365", StoreFrame{Unsubscribe, r1, []byte("alice"), nil}},
	{"5 message", AppendMessage(nil, r1, "alice", []byte("hi")), "00000011030123456789abcdef05616c6963656869", StoreFrame{Message, r1, []byte("alice"), []byte("hi")}},
	{"6 message, empty", AppendMessage(nil, r1, "alice", nil), "0000000f030123456789abcdef05616c696365", StoreFrame{Message, r1, []byte("alice"), nil}},
	{"10 connected", AppendConnected(nil, "abc"), "000000050403616263", StoreFrame{Connected, 0, []byte("abc"), nil}},
	{"11 no user", AppendSubscribe(nil, 1<<64-1, ""), "0000000a01ffffffffffffffff00", StoreFrame{Subscribe, 1<<64 - 1, nil, nil}},
	{"12 two-byte character", AppendSubscribe(nil, 0, "Zoë"), "0000000e010000000000000000045a6fc3ab", StoreFrame{Subscribe, 0, []byte("Zoë"), nil}},
	{"13 four-byte character", AppendSubscribe(nil, 1, "u😀"), "0000000f0100000000000000010575f09f9880", StoreFrame{Subscribe, 1, []byte("u😀"), nil}},
	{"14 user of 127", AppendSubscribe(nil, 1, strings.Repeat("a", 127)), "000000890100000000000000017f" + strings.Repeat("61", 127), StoreFrame{Subscribe, 1, bytes.Repeat([]byte("a"), 127), nil}},
	{"15 user of 128", AppendSubscribe(nil, 1, strings.Repeat("a", 128)), "0000008b0100000000000000018100" + strings.Repeat("61", 128), StoreFrame{Subscribe, 1, bytes.Repeat([]byte("a"), 128), nil}},
	{"16 user of 300", AppendSubscribe(nil, 1, strings.Repeat("a", 300)), "0000013701000000000000000182 2c" + strings.Repeat("61", 300), StoreFrame{Subscribe, 1, bytes.Repeat([]byte("a"), 300), nil}},
	{
		"a live capture", AppendNewState(nil, mustState("2mpx0epsw3m1j"), "ua6qbpu", []byte{1, 2, 3}),
		"0000001400ad046164cba4b2570775613671627075010203",
		StoreFrame{NewState, 0xad046164cba4b257, []byte("ua6qbpu"), []byte{1, 2, 3}},
	},
}

var fromStore = []storeGolden{
	{"7 send message", AppendSendMessage(nil, r1, "alice", []byte("yo")), "00000011000123456789abcdef05616c696365796f", StoreFrame{SendMessage, r1, []byte("alice"), []byte("yo")}},
	{"send message, empty", AppendSendMessage(nil, r1, "alice", nil), "0000000f000123456789abcdef05616c696365", StoreFrame{SendMessage, r1, []byte("alice"), nil}},
	{"8 close connection", AppendCloseConnection(nil, r1, "alice"), "0000000f010123456789abcdef05616c696365", StoreFrame{CloseConnection, r1, []byte("alice"), nil}},
	{"9 ping", AppendPing(nil), "0000000102", StoreFrame{Type: Ping}},
}

func mustState(s string) wire.StateID {
	id, err := wire.ParseStateID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func same(a, b StoreFrame) bool {
	return a.Type == b.Type && a.State == b.State && bytes.Equal(a.User, b.User) && bytes.Equal(a.Data, b.Data)
}

func TestGoldenStoreFrames(t *testing.T) {
	check := func(g storeGolden, decode func([]byte) (StoreFrame, error)) {
		want := unhex(g.hex)
		if !bytes.Equal(g.got, want) {
			t.Errorf("%s: encoded\n %x, want\n %x", g.name, g.got, want)
		}
		body, n, err := SplitFrame(append(want[:len(want):len(want)], 0xff), MaxFrame)
		if err != nil || n != len(want) {
			t.Errorf("%s: split %d, %v", g.name, n, err)
		}
		if f, err := decode(body); err != nil || !same(f, g.frame) {
			t.Errorf("%s: decoded %+v, %v", g.name, f, err)
		}
		for cut := range want {
			if _, n, err := SplitFrame(want[:cut], MaxFrame); n != 0 || err != nil {
				t.Errorf("%s: of %d bytes: %d, %v; want to be asked for more", g.name, cut, n, err)
			}
		}
	}
	for _, g := range toStore {
		check(g, DecodeToStore)
	}
	for _, g := range fromStore {
		check(g, DecodeFromStore)
	}
	if got := mustState("mf9g063v08f"); got != r1 {
		t.Errorf("R1 is %v", got)
	}
}

func TestStoreFramesRefused(t *testing.T) {
	cases := []struct {
		body     string
		from, to error
	}{
		{"", ErrShort, ErrShort},
		{"05", ErrType, ErrType},
		{"ff", ErrType, ErrType},
		{"02", nil, ErrShort},
		{"0200", ErrTrailing, ErrShort},
		{"03 0123456789abcdef 00", ErrType, nil},
		{"04 03616263", ErrType, nil},
		{"04 0361626364", ErrType, ErrTrailing},
		{"04 036162", ErrType, ErrShort},
		{"00 0123456789abcd", ErrShort, ErrShort},
		{"00 0123456789abcdef", ErrShort, ErrShort},
		{"00 0123456789abcdef 80", ErrShort, ErrShort},
		{"00 0123456789abcdef 0261", ErrShort, ErrShort},
		{"01 0123456789abcdef 016100", ErrTrailing, ErrTrailing},
		{"01 0123456789abcdef ffffffffff7f", ErrShort, ErrShort},
		{"01 0123456789abcdef ffffffffffffffffffff7f", ErrShort, ErrShort},
		{"01 0123456789abcdef 80800161", nil, nil}, // longer than need be, as the original reader allows
		{"00 0123456789abcdef 03eda080", nil, nil}, // a lone surrogate (vector 28): not UTF-8, and taken
	}
	for _, c := range cases {
		if _, err := DecodeFromStore(unhex(c.body)); !errors.Is(err, c.from) {
			t.Errorf("from store %s: %v, want %v", c.body, err, c.from)
		}
		if _, err := DecodeToStore(unhex(c.body)); !errors.Is(err, c.to) {
			t.Errorf("to store %s: %v, want %v", c.body, err, c.to)
		}
	}
}

func TestSplitRefusesBeforeTheBytesAreThere(t *testing.T) {
	for _, head := range []string{"01", "7b22", "ffffffff", "01000000"} {
		if _, n, err := SplitFrame(unhex(head), MaxFrame); !errors.Is(err, ErrTooBig) || n != 0 {
			t.Errorf("%s: %d, %v", head, n, err)
		}
		if n, err := FrameSize(unhex(head)); !errors.Is(err, ErrTooBig) || n != 0 {
			t.Errorf("size of %s: %d, %v", head, n, err)
		}
	}
	if _, n, err := SplitFrame(unhex("00000100"), 259); !errors.Is(err, ErrTooBig) || n != 0 {
		t.Errorf("a frame of 260 bytes passes 259: %d, %v", n, err)
	}
	if n, err := FrameSize(unhex("00ffffff")); n != MaxFrame || err != nil {
		t.Errorf("the largest frame has %d bytes, %v", n, err)
	}
	if body, n, err := SplitFrame(unhex("00000000"), MaxFrame); len(body) != 0 || n != 4 || err != nil {
		t.Errorf("an empty message takes %d bytes, %v", n, err)
	}
}

func TestFramesOfSixteenMiBAreABug(t *testing.T) {
	AppendMessage(nil, r1, strings.Repeat("u", wire.MaxUser), make([]byte, MaxPayload))
	defer func() {
		if recover() == nil {
			t.Error("a frame of 16 MiB was made")
		}
	}()
	AppendMessage(nil, r1, "", make([]byte, 1<<24-10))
}

func TestNoAllocationPerFrame(t *testing.T) {
	buf := make([]byte, 0, 1024)
	data := []byte("hello")
	body := AppendSendMessage(nil, r1, "alice", data)
	state, user := r1, "alice"
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendMessage(buf[:0], state, user, data)
		b, _, err := SplitFrame(body, MaxFrame)
		if err != nil {
			t.Fail()
		}
		if f, err := DecodeFromStore(b); err != nil || f.State != state {
			t.Fail()
		}
		buf = AppendServerFrame(buf[:0], data)
		if _, _, err := DecodeClientFrame(data[:1]); err == nil {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMessage(b *testing.B) {
	data := bytes.Repeat([]byte("x"), 100)
	enc := AppendSendMessage(nil, r1, "alice", data)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			buf = AppendMessage(buf[:0], r1, "alice", data)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			body, _, err := SplitFrame(enc, MaxFrame)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := DecodeFromStore(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestGoldenNumbers(t *testing.T) {
	for v, want := range map[uint64]string{
		0: "00", 127: "7f", 128: "8100", 300: "822c", 16383: "ff7f", 16384: "818000",
		2097151: "ffff7f", 2097152: "81808000", 268435455: "ffffff7f", 268435456: "8180808000",
		1<<35 - 1: "ffffffff7f", 1 << 35: "818080808000", MaxUVarint: "ffffffffff7f",
	} {
		if got := AppendUVarint(nil, v); hex.EncodeToString(got) != want {
			t.Errorf("%d is %x, want %s", v, got, want)
		}
		if got, n, err := UVarint(append(unhex(want), 0xff)); got != v || n != len(want)/2 || err != nil {
			t.Errorf("%s is %d of %d bytes, %v", want, got, n, err)
		}
	}
	for in, want := range map[string]struct {
		v   uint64
		n   int
		err error
	}{
		"": {}, "80": {}, "8181": {},
		"808001":             {v: 1, n: 3},
		"8080808080808001":   {v: 1, n: 8},
		"808080808080808001": {err: ErrTooBig},
		"81808080808000":     {err: ErrTooBig},
		"ffffffffffffff7f":   {err: ErrTooBig},
	} {
		if v, n, err := UVarint(unhex(in)); v != want.v || n != want.n || !errors.Is(err, want.err) {
			t.Errorf("%s: %d, %d, %v", in, v, n, err)
		}
	}
	for v, want := range map[int64]string{0: "00", -1: "01", 1: "02", 64: "8100", -64: "7f"} {
		if got := AppendVarint(nil, v); hex.EncodeToString(got) != want {
			t.Errorf("%d is %x, want %s", v, got, want)
		}
		if got, n, err := Varint(unhex(want)); got != v || n != len(want)/2 || err != nil {
			t.Errorf("%s is %d", want, got)
		}
	}
	if got := AppendFloat(nil, 1.5); hex.EncodeToString(got) != "0000c03f" {
		t.Errorf("1.5 is %x", got)
	}
	if v, n := Float(unhex("0000c03f")); v != 1.5 || n != 4 {
		t.Errorf("0000c03f is %v", v)
	}
	if _, n := Float(unhex("0000c0")); n != 0 {
		t.Error("three bytes are a float")
	}
	defer func() {
		if recover() == nil {
			t.Error("2^42 was written")
		}
	}()
	AppendUVarint(nil, MaxUVarint+1)
}

// TestMatchmakerVectors: the matchmaker's messages are built from the same parts, so their bytes check these.
func TestMatchmakerVectors(t *testing.T) {
	find := append(AppendUVarint(AppendString(nil, token), 2), 0x0a)
	if got := hex.EncodeToString(find); got != tokenHx+"020a" {
		t.Errorf("23: %s", got)
	}
	if got := hex.EncodeToString(AppendUVarint([]byte{0}, 1)); got != "0001" {
		t.Errorf("24, found: %s", got)
	}
	if got := hex.EncodeToString(AppendString([]byte{1}, r1.String())); got != "010b6d66396730363376303866" {
		t.Errorf("24, matched: %s", got)
	}
	s, n, err := String(unhex("0b6d66396730363376303866ff"), 11)
	if string(s) != "mf9g063v08f" || n != 12 || err != nil {
		t.Errorf("read %q, %d, %v", s, n, err)
	}
	if _, n, err := String(unhex("0b6d"), 10); !errors.Is(err, ErrTooBig) || n != 0 {
		t.Errorf("a string longer than allowed: %d, %v", n, err)
	}
	if _, n, err := String(unhex("0b6d"), 11); err != nil || n != 0 {
		t.Errorf("a string cut off: %d, %v", n, err)
	}
}
