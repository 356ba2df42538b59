package auth

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNeverShown(t *testing.T) {
	const planted = "canary-7f3a"
	s := Secret(planted)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h)
		l.Info("m", "secret", s, "struct", struct{ S Secret }{s}, "err", fmt.Errorf("with %s", s))
		l.Info("m", "list", []Secret{s}, "any", any(s), "pointer", &s)
	}
	out := log.String()
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, struct{ S Secret }{s})
	}
	encoded, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	out += string(encoded) + s.String() + s.GoString()
	for _, form := range []string{planted, hex.EncodeToString([]byte(planted)), strings.ToUpper(hex.EncodeToString([]byte(planted)))} {
		if strings.Contains(out, form) {
			t.Errorf("the secret is shown: %s", out)
		}
	}
}

func TestMintedSecrets(t *testing.T) {
	seen := map[Secret]bool{}
	for range 100 {
		s := MintSecret()
		if len(s) != 43 || s.Weak() || seen[s] {
			t.Fatalf("minted %d bytes, weak %v, seen %v", len(s), s.Weak(), seen[s])
		}
		seen[s] = true
	}
}

func TestWeakSecrets(t *testing.T) {
	for s, want := range map[Secret]bool{
		"": true, "dev-secret": true, Secret(strings.Repeat("a", 21)): true, Secret(strings.Repeat("a", 22)): false,
	} {
		if s.Weak() != want {
			t.Errorf("%d bytes: weak %v", len(s), s.Weak())
		}
	}
}

func TestSecretMatches(t *testing.T) {
	a, b, c := Secret("a"), Secret("b"), Secret("c")
	if !a.Matches(a.Hash()) || !b.Matches(a.Hash(), b.Hash()) || !a.Matches(a.Hash(), a.Hash()) {
		t.Error("a right secret does not match")
	}
	if c.Matches(a.Hash(), b.Hash()) || a.Matches() || Secret("").Matches(a.Hash()) {
		t.Error("a wrong secret matches")
	}
	if h := Secret("s3cr3t").Hash(); hex.EncodeToString(h[:]) != testApp {
		t.Errorf("the hash is not the app id: %x", h)
	}
}
