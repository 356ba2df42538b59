package legacyclient

import (
	"encoding/hex"
	"strings"
	"testing"
)

const (
	token = "e30.eyJpZCI6ImFsaWNlIn0.x"
	room  = 0x0123456789abcdef
)

// The bytes were recorded from the published SDKs.
func TestFirstBytesAreThoseOfThePublishedClients(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"7148", Handshake(token, "app", room), "196533302e65794a705a434936496d467361574e6c496e302e78036170700123456789abcdef"},
		{"C", FirstC(token, room), "00196533302e65794a705a434936496d467361574e6c496e302e780123456789abcdef"},
		{"B create", FirstB(token, true, room), "00196533302e65794a705a434936496d467361574e6c496e302e78"},
		{"B join", FirstB(token, false, room), "01196533302e65794a705a434936496d467361574e6c496e302e780123456789abcdef"},
		{"0", appendUVarint(nil, 0), "00"},
		{"127", appendUVarint(nil, 127), "7f"},
		{"128", appendUVarint(nil, 128), "8100"},
		{"300", appendUVarint(nil, 300), "822c"},
		{"16384", appendUVarint(nil, 16384), "818000"},
		{"2^42-1", appendUVarint(nil, 1<<42-1), "ffffffffff7f"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if long := Handshake(strings.Repeat("t", 300), "app", 0); hex.EncodeToString(long[:2]) != "822c" {
		t.Errorf("a token of 300 bytes begins %x, want 822c", long[:2])
	}
}
