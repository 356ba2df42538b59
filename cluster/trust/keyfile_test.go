package trust

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestKeyFileGolden(t *testing.T) {
	r := &ring{name: "games", secrets: []Secret{fixedSecret(1), fixedSecret(101)}, primary: 1}
	golden(t, "keyfile", string(r.text()))
}

func TestDerivedKeysGolden(t *testing.T) {
	s := fixedSecret(1)
	golden(t, "derived", fmt.Sprintf("id %s\ngossip %s\nenrolment %s\n", s.ID(),
		hex.EncodeToString(s.derive(labelGossip, 32)), hex.EncodeToString(s.derive(labelEnrol, 32))))
}

func TestGeneratedKeyFileIsReadBack(t *testing.T) {
	text, err := Generate("games-eu.1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRing(text)
	if err != nil || r.name != "games-eu.1" || len(r.secrets) != 1 || r.primary != 0 {
		t.Fatalf("%s: %+v, %v", text, r, err)
	}
	again, err := Generate("games-eu.1")
	if err != nil || bytes.Equal(text, again) {
		t.Fatalf("two key files are alike (%v)", err)
	}
}

func TestNamesOfClusters(t *testing.T) {
	for _, name := range []string{"", "two words", "a/b", "ü", "a\n", strings.Repeat("x", MaxName+1)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q passes", name)
		}
		if _, err := Generate(name); err == nil {
			t.Errorf("a key file for %q", name)
		}
	}
	if err := CheckName(strings.Repeat("x", MaxName)); err != nil {
		t.Error(err)
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	a, b := fixedSecret(1).Reveal(), fixedSecret(2).Reveal()
	many := "trunkline-key 1 games\n" + a + " primary\n"
	for i := range MaxSecrets {
		many += fixedSecret(byte(10+i)).Reveal() + "\n"
	}
	for text, want := range map[string]string{
		"":                                  "keygen",
		"\n":                                "keygen",
		a + "\n":                            "keygen",
		"trunkline-key\n":                   "three",
		"trunkline-key 1\n":                 "three",
		"trunkline-key 1 my games\n":        "three",
		"trunkline-key 2 games\n" + a:       "version",
		"trunkline-key 1 g/mes\n" + a:       "letters",
		"trunkline-key 1 games\n":           "no secret",
		"trunkline-key 1 games\n" + a:       "primary",
		"trunkline-key 1 games\nabc\n":      "line 2",
		"trunkline-key 1 games\n" + a + "=": "line 2",
		"trunkline-key 1 games\n" + a + " primary\n# old\n":             "line 3",
		"trunkline-key 1 games\n" + a + " old\n":                        "line 2",
		"trunkline-key 1 games\n" + a + " primary now\n":                "line 2",
		"trunkline-key 1 games\n" + a + " primary\n" + a + "\n":         "twice",
		"trunkline-key 1 games\n" + a + " primary\n" + b + " primary\n": "two secrets",
		"trunkline-key 1 games\n" + strings.Repeat("\n", maxKeyFile):    "more than",
		many: "more than 8",
	} {
		_, err := parseRing([]byte(text))
		if err == nil {
			t.Errorf("%q is read", text)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q does not say %q", text, err, want)
		}
		if strings.Contains(err.Error(), a) || strings.Contains(err.Error(), b) {
			t.Errorf("%q: the error has a secret: %q", text, err)
		}
	}
}

func TestKeyFileAsAnEditorLeavesIt(t *testing.T) {
	r, err := parseRing([]byte("trunkline-key 1 games\r\n\r\n  " + fixedSecret(1).Reveal() + "\tprimary\r\n\n"))
	if err != nil || r.secrets[0] != fixedSecret(1) {
		t.Fatalf("%v", err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	s := fixedSecret(1)
	keys := fixedKeys("games", s)
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	log.Info("said", "secret", s, "keys", keys, "struct", struct{ S Secret }{s})
	marshalled, err := json.Marshal(map[string]any{"secret": s, "keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	shown := logged.String() + string(marshalled) +
		fmt.Sprintf("%v %+v %#v %s %q %x %d %X", s, s, s, s, s, s, s, s) +
		fmt.Sprintf("%v %+v %#v %s %x %d", keys, keys, keys, keys, keys, keys)
	raw := s.bytes[:]
	for _, leak := range []string{
		s.Reveal(), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), string(raw),
		strings.Trim(fmt.Sprint(raw), "[]"), strings.Trim(fmt.Sprintf("%#v", raw), "[]byte{}"),
	} {
		if strings.Contains(shown, leak) {
			t.Errorf("%q is shown in\n%s", leak, shown)
		}
	}
	if !strings.Contains(shown, "***") || !strings.Contains(shown, "games") {
		t.Errorf("nothing is shown: %s", shown)
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte("trunkline-key 1 games\n" + fixedSecret(1).Reveal() + " primary\n" + fixedSecret(2).Reveal() + "\n"))
	f.Add([]byte("trunkline-key 1 games\n"))
	f.Add([]byte("trunkline-key 2 \xff\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRing(text)
		if err != nil {
			return
		}
		again, err := parseRing(r.text())
		if err != nil {
			t.Fatalf("%q is read, %q is not: %v", text, r.text(), err)
		}
		if !bytes.Equal(again.text(), r.text()) || len(r.secrets) > MaxSecrets {
			t.Fatalf("%q becomes %q", r.text(), again.text())
		}
	})
}
