package legacybackend

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The bytes were recorded from a coordinator of the time.
func TestParseFramesOfACoordinator(t *testing.T) {
	const room = 0x0123456789abcdef
	for _, c := range []struct {
		body string
		want Frame
	}{
		{"000123456789abcdef05616c696365010203", Frame{NewState, room, "alice", []byte{1, 2, 3}}},
		{"010123456789abcdef05616c696365", Frame{Subscribe, room, "alice", nil}},
		{"020123456789abcdef05616c696365", Frame{Unsubscribe, room, "alice", nil}},
		{"030123456789abcdef05616c6963656869", Frame{Message, room, "alice", []byte("hi")}},
		{"01ffffffffffffffff00", Frame{Subscribe, 1<<64 - 1, "", nil}},
		{"01000000000000000181" + "00" + strings.Repeat("61", 128), Frame{Subscribe, 1, strings.Repeat("a", 128), nil}},
		{"0403616263", Frame{Connected, 0, "abc", nil}},
	} {
		body, err := hex.DecodeString(c.body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(body)
		if err != nil || got.String() != c.want.String() {
			t.Errorf("parse %s = %v, %v, want %v", c.body, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "05", "01", "010123456789abcdef", "010123456789abcdef05616c6963", "010123456789abcdef0161ff"} {
		body, _ := hex.DecodeString(bad)
		if f, err := parse(body); err == nil {
			t.Errorf("parse %q = %v, want an error", bad, f)
		}
	}
}
