package wire

import (
	"bytes"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// withinMemory runs f and fails if it allocates more than twice its input and 64 KiB. Other goroutines of the test
// binary count too, so only what ten runs in a row exceed is blamed on f.
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

func FuzzFrame(f *testing.F) {
	for _, g := range goldens {
		f.Add(unhex(g.hex))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		withinMemory(t, len(data), func() {
			var frame Frame
			for rest := data; ; {
				body, n, err := SplitFrame(rest, MaxFrame)
				if n == 0 || err != nil || frame.Decode(body) != nil {
					return
				}
				rest = rest[n:]
			}
		})
		for rest := data; ; {
			body, n, err := SplitFrame(rest, MaxFrame)
			if n == 0 || err != nil {
				return
			}
			var frame, again Frame
			if frame.Decode(body) != nil {
				return
			}
			enc := AppendFrame(nil, &frame)
			if !bytes.Equal(enc, rest[:n]) {
				t.Fatalf("%x was read as %+v, which is written as %x", rest[:n], frame, enc)
			}
			if again.Decode(enc[4:]) != nil || !same(again, frame) {
				t.Fatalf("%+v came back as %+v", frame, again)
			}
			rest = rest[n:]
		}
	})
}

// What stands in a handshake: hello, bodies, and the texts of ids.
func FuzzHandshake(f *testing.F) {
	for _, g := range goldenBodies {
		f.Add(unhex(g.hex))
	}
	f.Add(AppendHello(nil, OurHello()))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 2, 3}, 8))
	for _, id := range []string{"0", "00", "zz", "3w5e11264sgsf", "3w5e11264sgsg", "+1", AppIDOf("s").String()} {
		f.Add([]byte(id))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkIDs(t, string(data))
		withinMemory(t, len(data), func() {
			if h, n, err := ParseHello(data); err == nil && n > 0 && !bytes.Equal(AppendHello(nil, h), data[:n]) {
				t.Errorf("%x was read as %+v", data[:n], h)
			}
			held, err := DecodeHolds(nil, data, MaxHeld)
			if enc := AppendHolds(nil, held); err == nil && len(held) <= maxHolds && !bytes.Equal(enc[headerSize:], data) {
				t.Errorf("%x was read as %+v", data, held)
			}
		})
		for _, g := range goldenBodies {
			b := reflect.New(reflect.TypeOf(g.body).Elem()).Interface().(body)
			var err error
			withinMemory(t, len(data), func() { err = b.Decode(data) })
			if err == nil && !bytes.Equal(b.Append(nil), data) {
				t.Errorf("%x was read as %+v", data, b)
			}
		}
	})
}

// checkIDs reads a text as an app's id and as a state's.
func checkIDs(t *testing.T, s string) {
	t.Helper()
	withinMemory(t, len(s), func() {
		if app, err := ParseAppID(s); err == nil && app.String() != s {
			t.Errorf("%q was read as the app %v", s, app)
		}
	})
	got, err := ParseStateID(s)
	alphabet := strings.Trim(strings.ToLower(s), "0123456789abcdefghijklmnopqrstuvwxyz") == "" && s != "" && len(s) <= maxStateText
	if strings.ContainsRune(s, '\u212a') { // the Kelvin sign is a k in lower case
		alphabet = false
	}
	want, ok := new(big.Int), false
	if alphabet { // math/big takes memory for texts of any length
		want, ok = want.SetString(s, 36)
	}
	if ok = ok && want.IsUint64(); ok != (err == nil) {
		t.Fatalf("%q: %v, want allowed %v", s, err, ok)
	}
	if ok && (uint64(got) != want.Uint64() || got.String() != want.Text(36)) {
		t.Errorf("%q is %v, want %s", s, got, want.Text(36))
	}
	if again, err := ParseStateID(got.String()); err != nil || again != got {
		t.Errorf("%v came back as %v, %v", got, again, err)
	}
}
