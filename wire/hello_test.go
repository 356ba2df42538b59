package wire

import (
	"errors"
	"testing"
)

func TestGoldenHello(t *testing.T) {
	h := Hello{Min: 1, Max: 3, Features: 0x80000001}
	want := unhex("54524b31 01 03 80000001")
	if got := AppendHello(nil, h); string(got) != string(want) || len(got) != HelloSize {
		t.Fatalf("encoded %x", got)
	}
	if got, n, err := ParseHello(append(want, 0xff)); got != h || n != HelloSize || err != nil {
		t.Errorf("parsed %+v, %d, %v", got, n, err)
	}
	for cut := range HelloSize {
		if _, n, err := ParseHello(want[:cut]); n != 0 || err != nil {
			t.Errorf("of %d bytes: %d, %v; want to be asked for more", cut, n, err)
		}
	}
}

func TestHelloRefusesAtTheFirstWrongByte(t *testing.T) {
	for in, want := range map[string]error{
		"7b": ErrMagic, "00": ErrMagic, "5452": nil, "545251": ErrMagic, "54524b32": ErrMagic,
		"54524b31 00 01 00000000": ErrVersion, "54524b31 02 01 00000000": ErrVersion, "54524b31 00 00 00000000": ErrVersion,
	} {
		if h, n, err := ParseHello(unhex(in)); !errors.Is(err, want) || n != 0 || h != (Hello{}) {
			t.Errorf("%s: %+v, %d, %v; want %v", in, h, n, err, want)
		}
	}
}

func TestNegotiation(t *testing.T) {
	cases := []struct {
		ours, theirs Hello
		version      uint8
		features     Features
		err          error
	}{
		{ours: OurHello(), theirs: OurHello(), version: MaxVersion},
		{ours: Hello{1, 2, 7}, theirs: Hello{2, 3, 5}, version: 2, features: 5},
		{ours: Hello{2, 3, 1}, theirs: Hello{1, 2, 2}, version: 2},
		{ours: Hello{1, 9, 0}, theirs: Hello{3, 4, 9}, version: 4},
		{ours: Hello{1, 1, 0}, theirs: Hello{2, 3, 0}, err: ErrVersion},
		{ours: Hello{4, 5, 0}, theirs: Hello{2, 3, 0}, err: ErrVersion},
	}
	for _, c := range cases {
		got, err := c.ours.Answer(c.theirs)
		if !errors.Is(err, c.err) || got.Min != c.version || got.Max != c.version || got.Features != c.features {
			t.Errorf("%+v with %+v: %+v, %v", c.ours, c.theirs, got, err)
		}
		if err == nil && c.theirs.Check(got) != nil {
			t.Errorf("%+v does not take %+v", c.theirs, got)
		}
	}
	offered := Hello{1, 2, 1}
	for _, bad := range []Hello{{1, 2, 0}, {3, 3, 0}, {2, 2, 2}, {2, 2, 3}} {
		if offered.Check(bad) == nil {
			t.Errorf("%+v offered, and %+v taken", offered, bad)
		}
	}
	if (Hello{2, 3, 0}).Check(Hello{1, 1, 0}) == nil {
		t.Error("a version below the range was taken")
	}
}
