package wire

import (
	"errors"
	"strings"
	"testing"
)

func TestAppID(t *testing.T) {
	const text = "4e738ca5563c06cfd0018299933d58db1dd8bf97f6973dc99bf6cdc64b5550bd"
	id := AppIDOf("s3cr3t")
	if id.String() != text || id.IsZero() {
		t.Fatalf("the app of s3cr3t is %v", id)
	}
	if got, err := ParseAppID(text); err != nil || got != id {
		t.Errorf("parsed %v, %v", got, err)
	}
	for _, bad := range []string{"", text[:63], text + "0", strings.ToUpper(text), text[:63] + "g", "/" + text[1:], text[:63] + "é"} {
		if got, err := ParseAppID(bad); !errors.Is(err, ErrAppID) || !got.IsZero() {
			t.Errorf("%q is taken as %v, %v", bad, got, err)
		}
	}
}

func TestStateID(t *testing.T) {
	for text, want := range map[string]StateID{
		"0":                           0,
		"000":                         0,
		"zz":                          1295,
		"ZZ":                          1295,
		"mf9g063v08f":                 0x0123456789abcdef,
		"MF9G063v08f":                 0x0123456789abcdef,
		"000mf9g063v08f":              0x0123456789abcdef,
		"3w5e11264sgsf":               1<<64 - 1,
		strings.Repeat("0", 63) + "1": 1,
	} {
		got, err := ParseStateID(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		canonical := strings.TrimLeft(strings.ToLower(text), "0")
		if canonical == "" {
			canonical = "0"
		}
		if got.String() != canonical || string(got.Append([]byte("x"))) != "x"+canonical {
			t.Errorf("%q is printed as %q and %q", text, got, got.Append(nil))
		}
	}
	for _, bad := range []string{"", "3w5e11264sgsg", "3w5e11264sgt0", "zzzzzzzzzzzzz", "10000000000000", "+1", "-1", " 1", "1 ", "1_0", "é", "a\x00", strings.Repeat("0", 65)} {
		if got, err := ParseStateID(bad); !errors.Is(err, ErrStateID) || got != 0 {
			t.Errorf("%q is taken as %d, %v", bad, got, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseStateID("mf9g063v08f") }); n != 0 {
		t.Errorf("%v allocations to parse a state id", n)
	}
}

func TestEpochsCompareInTheOrderTheyWereMade(t *testing.T) {
	made := []Epoch{MakeEpoch(0, 0), MakeEpoch(0, 1), MakeEpoch(0, maxEpochIndex), MakeEpoch(1, 0), MakeEpoch(1, 515), MakeEpoch(maxEpochCluster, maxEpochIndex)}
	for i := 1; i < len(made); i++ {
		if made[i-1] >= made[i] {
			t.Errorf("%#x is not before %#x", made[i-1], made[i])
		}
	}
	if e := made[4]; e != gEpoch || e.Generation() != 1 || e.Index() != 515 {
		t.Errorf("%#x is generation %d, index %d", e, e.Generation(), e.Index())
	}
	if made[5] != 1<<64-1 {
		t.Errorf("the last epoch is %#x", made[5])
	}
	for _, f := range []func(){func() { MakeEpoch(1<<24, 0) }, func() { MakeEpoch(0, 1<<40) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("an epoch that does not fit was made")
				}
			}()
			f()
		}()
	}
}

func TestStreamIDText(t *testing.T) {
	if got := streamOf(gStream).String(); got != gStream {
		t.Errorf("printed as %s", got)
	}
}
