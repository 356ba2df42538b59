package hathora

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestGoldenFirstMessages(t *testing.T) {
	for name, c := range map[string]struct {
		text bool
		hex  string
		want First
	}{
		"A":              {true, tokenHx[2:], First{Revision: 'A', Token: []byte(token)}},
		"20 C":           {false, "00" + tokenHx + "0123456789abcdef", First{Revision: 'C', Token: []byte(token), State: r1}},
		"21 B, create":   {false, "00" + tokenHx, First{Revision: 'B', Token: []byte(token), Create: true}},
		"21 B, join":     {false, "01" + tokenHx + "0123456789abcdef", First{Revision: 'B', Token: []byte(token), State: r1}},
		"C, empty token": {false, "0000 0000000000000000", First{Revision: 'C', Token: []byte{}}},
	} {
		got, err := ParseFirst(c.text, unhex(c.hex))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if b := got.Append([]byte("x")); !bytes.Equal(b[1:], unhex(c.hex)) {
			t.Errorf("%s: written as %x", name, b)
		}
	}
}

func TestFirstMessagesRefused(t *testing.T) {
	longToken := AppendString([]byte{0}, strings.Repeat("a", MaxToken+1))
	for in, want := range map[string]error{
		"":                                    ErrFirst,
		"02" + tokenHx:                        ErrFirst,
		"19" + tokenHx:                        ErrFirst, // what the matchmaker's clients write begins with a length
		"7b7d":                                ErrFirst,
		"00":                                  ErrFirst,
		"01" + tokenHx:                        ErrFirst, // a join without a state
		"00" + tokenHx[:20]:                   ErrFirst,
		"00" + tokenHx + "01":                 ErrFirst,
		"00" + tokenHx + "0123456789":         ErrFirst,
		"00" + tokenHx + "0123456789abcdef00": ErrFirst,
		"00ffffffffff7f":                      ErrTooBig,
		hex.EncodeToString(longToken):         ErrTooBig,
	} {
		if got, err := ParseFirst(false, unhex(in)); !errors.Is(err, want) {
			t.Errorf("%.40s: %+v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := ParseFirst(true, make([]byte, MaxToken+1)); !errors.Is(err, ErrTooBig) {
		t.Errorf("a text token of 8 KiB and a byte: %v", err)
	}
}

func TestConnectOfEveryClient(t *testing.T) {
	const golden = "7b2273746174654964223a226d66396730363376303866222c22746f6b656e223a226533302e65794a705a434936496d467361574e6c496e302e78227d"
	want := Connect{State: "mf9g063v08f", Token: token}
	if b, err := want.Append(nil); err != nil || hex.EncodeToString(b) != golden {
		t.Errorf("22: written as %s, %v", b, err)
	}
	for name, text := range map[string]string{
		"TypeScript":  string(unhex(golden)),
		"C#":          `{"token": "` + token + `", "stateId": "mf9g063v08f"}`,
		"unknown key": `{"token":"` + token + `","v":{"a":[1]},"stateId":"mf9g063v08f"}`,
	} {
		if got, err := ParseConnect([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := ParseConnect([]byte(`{"stateId":"Z Z"}`)); err != nil || got != (Connect{State: "Z Z"}) {
		t.Errorf("what is missing or no state id is the caller's to refuse: %+v, %v", got, err)
	}
	for in, want := range map[string]error{
		"":                       ErrFirst,
		"{":                      ErrFirst,
		`"x"`:                    ErrFirst,
		`{"stateId":5}`:          ErrFirst,
		`{"token":"` + "\xff\"}": ErrFirst,
		`{"token":"` + strings.Repeat("a", MaxToken+1) + `"}`: ErrTooBig,
		strings.Repeat(" ", MaxConnect+1):                     ErrTooBig,
	} {
		if got, err := ParseConnect([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%.30q: %+v, %v; want %v", in, got, err, want)
		}
	}
}

func TestGoldenTCP(t *testing.T) {
	want := unhex(tokenHx + "03617070 0123456789abcdef") // vector 17
	h := TCPHandshake{Token: []byte(token), App: []byte("app"), State: r1}
	if b := h.Append([]byte("x")); !bytes.Equal(b[1:], want) {
		t.Errorf("17: written as %x", b)
	}
	for cut := range want {
		if _, n, err := ParseTCPHandshake(want[:cut]); n != 0 || err != nil {
			t.Errorf("17: of %d bytes: %d, %v; want to be asked for more", cut, n, err)
		}
	}
	got, n, err := ParseTCPHandshake(append(want, AppendClientData(nil, []byte("hi"))...))
	if err != nil || n != len(want) || !reflect.DeepEqual(got, h) {
		t.Errorf("17: %+v, %d, %v", got, n, err)
	}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"18 data":                {AppendClientData(nil, []byte("hi")), "00000003006869"},
		"18 data, empty":         {AppendClientData(nil, nil), "0000000100"},
		"18 pong":                {AppendClientPong(nil), "0000000101"},
		"19 to the client":       {AppendServerFrame(nil, []byte("hi")), "000000026869"},
		"19 ping of the builder": {AppendServerFrame(nil, []byte{3}), "0000000103"},
		"19 nothing":             {AppendServerFrame(nil, nil), "00000000"},
	} {
		if hex.EncodeToString(c.got) != c.want {
			t.Errorf("%s: %x", name, c.got)
		}
	}
}

func TestTCPHandshakeWithATokenOfTwoLengthBytes(t *testing.T) {
	h := TCPHandshake{Token: bytes.Repeat([]byte("t"), 300), App: bytes.Repeat([]byte("a"), 64), State: r1}
	b := h.Append(nil)
	if !bytes.HasPrefix(b, unhex("822c74")) {
		t.Fatalf("begins with %x", b[:3])
	}
	if got, n, err := ParseTCPHandshake(b); err != nil || n != len(b) || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %d, %v", got, n, err)
	}
	longest := TCPHandshake{Token: make([]byte, MaxToken), App: make([]byte, maxAppText)}
	if b := longest.Append(nil); len(b) > MaxTCPHandshake {
		t.Errorf("a handshake of %d bytes is longer than the longest", len(b))
	}
}

func TestTCPHandshakesRefusedAtTheLength(t *testing.T) {
	for _, in := range []string{
		hex.EncodeToString(AppendUVarint(nil, MaxToken+1)),
		"ffffffffffffffff7f",
		tokenHx + "8101",
		tokenHx + "ffffffffffffffff7f",
	} {
		if got, n, err := ParseTCPHandshake(unhex(in)); !errors.Is(err, ErrTooBig) || n != 0 {
			t.Errorf("%s: %+v, %d, %v", in, got, n, err)
		}
	}
}

func TestClientFrames(t *testing.T) {
	for in, c := range map[string]struct {
		kind    byte
		payload string
		err     error
	}{
		"00": {}, "006869": {payload: "hi"}, "01": {kind: ClientPong},
		"": {err: ErrShort}, "0100": {err: ErrTrailing}, "02": {err: ErrType}, "ff68": {err: ErrType},
	} {
		kind, payload, err := DecodeClientFrame(unhex(in))
		if kind != c.kind || string(payload) != c.payload || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %q, %v", in, kind, payload, err)
		}
	}
}

func TestFirstChunkBeginsWithZero(t *testing.T) {
	for in, want := range map[string]struct {
		chunk string
		sent  bool
	}{
		"": {"\x00", false}, "hi": {"\x00", false}, "\x01\x00": {"\x00", false},
		"\x00": {"\x00", true}, "\x00snapshot": {"\x00snapshot", true},
	} {
		if chunk, sent := FirstChunk([]byte(in)); string(chunk) != want.chunk || sent != want.sent {
			t.Errorf("%q: %q, %v", in, chunk, sent)
		}
	}
}
