package gossip

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

var metas = []struct {
	meta Meta
	hex  string
}{
	{
		Meta{},
		"01 00 00000000000000000000000000000000 00000000 0000000000000000 0000 0000 00 00 00",
	},
	{
		Meta{
			Incarnation: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Number: 3, Session: 0x123456789a,
			Role: Voter, Draining: true, ProtoMin: 1, ProtoMax: 2, Region: "eu-west", NodeAddr: "192.0.2.7:7947", Version: "1.2.3",
		},
		"01 06 0102030405060708090a0b0c0d0e0f10 00000003 000000123456789a 0001 0002 " +
			"07 65752d77657374 0e 3139322e302e322e373a37393437 05 312e322e33",
	},
	{
		Meta{Incarnation: [16]byte{0xff}, Role: NonVoter, NodeAddr: "[2001:db8::1]:1", Region: "österreich"},
		"01 01 ff000000000000000000000000000000 00000000 0000000000000000 0000 0000 " +
			"0b c3b6737465727265696368 0f 5b323030313a6462383a3a315d3a31 00",
	},
}

var messages = []struct {
	message message
	hex     string
}{
	{message{kind: kindLeaving, name: "node-1"}, "01 02 06 6e6f64652d31"},
	{message{kind: kindLoads, name: "n", loads: []Load{}}, "01 01 01 6e"},
	{
		message{kind: kindLoads, name: "n", loads: []Load{{1, 1000, 12}, {1 << 40, 1<<32 - 1, 1<<64 - 1}}},
		"01 01 01 6e 01 e807 0c 808080808020 ffffffff0f ffffffffffffffffff01",
	},
}

func TestMetaBytes(t *testing.T) {
	for _, g := range metas {
		if got := AppendMeta(nil, g.meta); !bytes.Equal(got, unhex(g.hex)) {
			t.Errorf("%+v is written as %x", g.meta, got)
		}
		if got, err := ParseMeta(unhex(g.hex)); err != nil || got != g.meta {
			t.Errorf("%s is read as %+v, %v", g.hex, got, err)
		}
		later := append(unhex(g.hex), "a field of a later version"...)
		if got, err := ParseMeta(later); err != nil || got != g.meta {
			t.Errorf("with a later field: %+v, %v", got, err)
		}
	}
	longest := Meta{Region: strings.Repeat("r", maxRegion), Version: strings.Repeat("v", maxVersion)}
	longest.NodeAddr = strings.Repeat("a", MaxMeta-metaFixed-3-maxRegion-maxVersion-2) + ":1"
	if err := longest.Validate(); err != nil || len(AppendMeta(nil, longest)) != MaxMeta {
		t.Errorf("the longest has %d bytes: %v", len(AppendMeta(nil, longest)), err)
	}
	longest.NodeAddr = "a" + longest.NodeAddr
	if longest.Validate() == nil {
		t.Error("one byte more is valid")
	}
}

func TestMessageBytes(t *testing.T) {
	for _, g := range messages {
		got := appendHead(nil, g.message.kind, g.message.name)
		if g.message.kind == kindLoads {
			got, _ = appendLoads(nil, g.message.name, g.message.loads)
		}
		if !bytes.Equal(got, unhex(g.hex)) {
			t.Errorf("%+v is written as %x", g.message, got)
		}
		if got, err := parseMessage(unhex(g.hex)); err != nil || !reflect.DeepEqual(got, g.message) {
			t.Errorf("%s is read as %+v, %v", g.hex, got, err)
		}
	}
	for _, bad := range []string{
		"", "01 01", "02 01 01 6e", "01 03 01 6e", "01 02 00", "01 02 02 6e", "01 02 01 6e 00",
		"01 01 01 6e 01", "01 01 01 6e 01 8000 00", "01 01 01 6e 01 8080808010 00", "01 01 01 6e ffffffffffffffffff7f 00 00",
	} {
		if m, err := parseMessage(unhex(bad)); err == nil {
			t.Errorf("%s is read as %+v", bad, m)
		}
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// withinMemory fails when f allocates more than twice its input and 64 KiB, in each of ten runs.
func withinMemory(t *testing.T, input int, f func()) {
	t.Helper()
	limit := uint64(2*input + 64<<10)
	var before, after runtime.MemStats
	for range 10 {
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if after.TotalAlloc-before.TotalAlloc <= limit {
			return
		}
	}
	t.Fatalf("%d bytes allocated for %d bytes of input", after.TotalAlloc-before.TotalAlloc, input)
}

func FuzzMeta(f *testing.F) {
	for _, g := range metas {
		f.Add(unhex(g.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		withinMemory(t, len(data), func() { _, _ = ParseMeta(data) })
		m, err := ParseMeta(data)
		if err != nil {
			return
		}
		if err := m.Validate(); err != nil {
			t.Fatalf("%x was read as %+v, which is not valid: %v", data, m, err)
		}
		again := AppendMeta(nil, m)
		// A reader ignores some flags and what comes behind the fields it knows.
		if len(again) > len(data) || again[0] != data[0] || !bytes.Equal(again[2:], data[2:len(again)]) {
			t.Fatalf("%x was read as %+v, which is written as %x", data, m, again)
		}
		if back, err := ParseMeta(again); err != nil || back != m {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, g := range messages {
		f.Add(unhex(g.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		withinMemory(t, len(data), func() { _, _ = parseMessage(data) })
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		again := appendHead(nil, m.kind, m.name)
		for rest := m.loads; len(rest) > 0; {
			var b []byte
			b, rest = appendLoads(nil, m.name, rest)
			if len(b) > maxMessage {
				t.Fatalf("%d bytes were written", len(b))
			}
			again = append(again, b[3+len(m.name):]...)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("%x was read as %+v, which is written as %x", data, m, again)
		}
	})
}

func FuzzGuard(f *testing.F) {
	label := labelOf("north")
	f.Add([]byte(label+"\x0a\x00\x00\x00\x1e\x01 and more"), 3)
	f.Add([]byte(label+"\x0a\x00\x00\x00\x1d\x01"), 100)
	f.Add([]byte(label+"\x0a\x00\x00\x01\x00\x00"), 1)
	f.Add([]byte("\xf4\x05south\x0a\x00\x00\x00\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		// What is said of a stream does not depend on how it is cut.
		whole, cut := guard{label: label}, guard{label: label}
		want := whole.see(data)
		var got error
		for rest := data; len(rest) > 0 && got == nil; {
			n := min(max(step, 1), len(rest))
			got, rest = cut.see(rest[:n]), rest[n:]
		}
		if got != want {
			t.Fatalf("%x is %v at once and %v in pieces of %d", data, want, got, step)
		}
		rest, ours := bytes.CutPrefix(data, []byte(label))
		bad := ours && len(rest) >= 6 && rest[0] == encrypted && (rest[5] != 1 || string(rest[1:5]) < "\x00\x00\x00\x1e")
		if bad != (want != nil) {
			t.Fatalf("%x is %v", data, want)
		}
		_ = passes(data, label)
	})
}
