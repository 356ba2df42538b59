package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A newcomer gets its certificate over a connection on which it has none, and is a node from then on.
func TestNewcomerProvesTheSecretAndIsGranted(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	member, newcomer := node(t, ca, c, Claims{ours, "a"}), stranger(t, c)
	theirKeys, itsKeys := fixedKeys("games", fixedSecret(1)), fixedKeys("games", fixedSecret(1))

	atServer, atClient := shake(t, member.ServerTLS(nil), EnrolTLS())
	if atServer.err != nil || atClient.err != nil {
		t.Fatal(atServer.err, atClient.err)
	}
	there, here := bindingOf(t, atServer), bindingOf(t, atClient)
	if there != here {
		t.Fatal("the two ends of a connection have two bindings")
	}
	request := seal(t, itsKeys, newcomer.NewRequest("games", "b", [16]byte{}), here)

	asked, err := theirKeys.OpenRequest(request, there)
	if err != nil {
		t.Fatal(err)
	}
	if asked.NodeID != "b" || KeyHash(asked.Public) != newcomer.KeyHash() || asked.Key != fixedSecret(1).ID() || asked.Check("games", ours) != nil {
		t.Errorf("%+v", asked.Request)
	}
	g, err := ca.Issue(asked.Public, Claims{ours, asked.NodeID}, c.now(), CertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := asked.Answer(Answer{Cluster: "games", Incarnation: ours, Generation: 1, Grant: g})
	if err != nil {
		t.Fatal(err)
	}

	got, err := itsKeys.OpenAnswer(answer, request, here)
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster != "games" || got.Incarnation != ours || got.Generation != 1 {
		t.Errorf("%+v", got)
	}
	if err := newcomer.SetGrant(got.Grant); err != nil {
		t.Fatal(err)
	}
	if atServer, atClient := shake(t, member.ServerTLS(nil), newcomer.ClientTLS("a", nil)); atServer.err != nil || atClient.err != nil {
		t.Error(atServer.err, atClient.err)
	}
}

func bindingOf(t *testing.T, e end) Binding {
	t.Helper()
	b, err := BindingOf(e.state)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func seal(t testing.TB, k *Keys, r Request, b Binding) []byte {
	t.Helper()
	sealed, err := k.SealRequest(r, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) > MaxRequest {
		t.Fatalf("a request of %d bytes", len(sealed))
	}
	return sealed
}

// fixedRequest is the same in every run.
func fixedRequest() Request {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return Request{Cluster: "games", NodeID: "b", Incarnation: [16]byte{5}, Public: key.Public().(ed25519.PublicKey), Nonce: [32]byte{6}}
}

func codeOf(t *testing.T, err error) Code {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v is no refusal", err)
	}
	return r.Code
}

func TestRequestsAreBoundToTheirConnection(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	a := node(t, ca, c, Claims{ours, "a"})
	_, one := shake(t, a.ServerTLS(nil), EnrolTLS())
	_, two := shake(t, a.ServerTLS(nil), EnrolTLS())
	first, second := bindingOf(t, one), bindingOf(t, two)
	if first == second {
		t.Fatal("two connections have one binding")
	}
	keys := fixedKeys("games", fixedSecret(1))
	// Somebody between the two nodes passes the request on.
	_, err := keys.OpenRequest(seal(t, keys, fixedRequest(), first), second)
	if err == nil || codeOf(t, err) != NotProved {
		t.Error(err)
	}
	if _, err := BindingOf(end{}.state); err == nil {
		t.Error("a binding without a connection")
	}
}

func TestAnySecretOfTheRingProves(t *testing.T) {
	old, next, other := fixedSecret(1), fixedSecret(101), fixedSecret(201)
	for name, test := range map[string]struct {
		asker, member []Secret
		proved        bool
	}{
		"the same":               {[]Secret{old}, []Secret{old}, true},
		"asker not told of next": {[]Secret{old}, []Secret{next, old}, true},
		"asker ahead":            {[]Secret{next, old}, []Secret{old}, true},
		"old one dropped there":  {[]Secret{old, next}, []Secret{next}, true},
		"away for all of it":     {[]Secret{old}, []Secret{next}, false},
		"another cluster's":      {[]Secret{other}, []Secret{next, old}, false},
	} {
		asker, member := fixedKeys("games", test.asker...), fixedKeys("games", test.member...)
		request := seal(t, asker, fixedRequest(), Binding{})
		asked, err := member.OpenRequest(request, Binding{})
		if !test.proved {
			if err == nil || codeOf(t, err) != NotProved {
				t.Errorf("%s: %v", name, err)
			}
			_, err = asker.OpenAnswer(Refuse(err), request, Binding{})
			var r *Refusal
			if !errors.As(err, &r) || r.Code != NotProved || r.Proved || !strings.Contains(r.Text, "key file") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer, err := asked.Answer(Answer{Cluster: "games", Voters: []string{"10.0.0.1:7947"}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := asker.OpenAnswer(answer, request, Binding{}); err != nil || len(got.Voters) != 1 || got.Voters[0] != "10.0.0.1:7947" {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

func TestProvedRefusalsSayOfWhichClusterTheyAre(t *testing.T) {
	keys := fixedKeys("games", fixedSecret(1))
	request := seal(t, keys, fixedRequest(), Binding{})
	asked, err := keys.OpenRequest(request, Binding{})
	if err != nil {
		t.Fatal(err)
	}
	r := asked.Check("games", ours)
	if r == nil || r.Code != OtherCluster {
		t.Fatalf("a node of another incarnation: %v", r)
	}
	if asked.Check("games", [16]byte{5}) != nil {
		t.Error("a node of the same incarnation is refused")
	}
	if r := asked.Check("work", [16]byte{5}); r == nil || !strings.Contains(r.Text, `"work"`) || !strings.Contains(r.Text, `"games"`) {
		t.Errorf("a node with another cluster's name: %v", r)
	}
	answer, err := asked.Answer(Answer{Cluster: "games", Incarnation: ours, Generation: 2, Refusal: r})
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.OpenAnswer(answer, request, Binding{})
	var back *Refusal
	if !errors.As(err, &back) || back.Code != OtherCluster || !back.Proved || back.Text != r.Text {
		t.Fatalf("%v", err)
	}
	if got.Cluster != "games" || got.Incarnation != ours || got.Generation != 2 {
		t.Errorf("%+v", got)
	}
}

func TestAnswersThatAreForgedAreRefused(t *testing.T) {
	c, ca := newClock(), newAuthority(t)
	newcomer := stranger(t, c)
	keys, thief := fixedKeys("games", fixedSecret(1)), fixedKeys("games", fixedSecret(2))
	request := seal(t, keys, newcomer.NewRequest("games", "b", [16]byte{}), Binding{1})
	asked, err := keys.OpenRequest(request, Binding{1})
	if err != nil {
		t.Fatal(err)
	}
	grant := func(to *Identity, claims Claims) Answer {
		g, err := ca.Issue(to.Public(), claims, start, CertificateLife)
		if err != nil {
			t.Fatal(err)
		}
		return Answer{Cluster: "games", Incarnation: ours, Generation: 1, Grant: g}
	}
	sealed := func(a Answer) []byte {
		b, err := asked.Answer(a)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := sealed(grant(newcomer, Claims{ours, "b"}))
	if _, err := keys.OpenAnswer(good, request, Binding{1}); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := keys.OpenAnswer(bad, request, Binding{1}); err == nil {
			t.Fatalf("byte %d changed, and taken", i)
		}
	}
	unproved := append(bytes.Clone(good[:len(good)-41]), 0)
	other := seal(t, keys, newcomer.NewRequest("games", "b", [16]byte{}), Binding{1})
	elsewhere := grant(newcomer, Claims{ours, "b"})
	elsewhere.Cluster = "work"
	for name, test := range map[string]struct {
		answer, request []byte
		binding         Binding
	}{
		"without proof":           {unproved, request, Binding{1}},
		"to another request":      {good, other, Binding{1}},
		"of another connection":   {good, request, Binding{2}},
		"which is the request":    {request, request, Binding{1}},
		"for another node":        {sealed(grant(newcomer, Claims{ours, "c"})), request, Binding{1}},
		"for another key":         {sealed(grant(stranger(t, c), Claims{ours, "b"})), request, Binding{1}},
		"for another incarnation": {sealed(grant(newcomer, Claims{[16]byte{9}, "b"})), request, Binding{1}},
		"of another cluster":      {sealed(elsewhere), request, Binding{1}},
		"of nothing":              {nil, request, Binding{1}},
	} {
		if _, err := keys.OpenAnswer(test.answer, test.request, test.binding); err == nil {
			t.Errorf("an answer %s is taken", name)
		}
	}
	if _, err := thief.OpenAnswer(good, request, Binding{1}); err == nil {
		t.Error("an answer with a secret that is not ours is taken")
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	keys := fixedKeys("games", fixedSecret(1))
	good := seal(t, keys, fixedRequest(), Binding{})
	if _, err := keys.OpenRequest(good, Binding{}); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := keys.OpenRequest(bad, Binding{}); err == nil {
			t.Fatalf("byte %d changed, and taken", i)
		}
		if _, err := keys.OpenRequest(good[:i], Binding{}); err == nil || codeOf(t, err) != BadRequest {
			t.Fatalf("cut off after %d bytes: %v", i, err)
		}
	}
	version := append([]byte{2}, good[1:]...)
	if _, err := keys.OpenRequest(version, Binding{}); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{"too long": append(bytes.Clone(good), 0), "huge": make([]byte, MaxRequest+1)} {
		if _, err := keys.OpenRequest(bad, Binding{}); err == nil || codeOf(t, err) != BadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]Request{
		"no key": {Cluster: "games", NodeID: "b"}, "no id": {Cluster: "games", Public: fixedRequest().Public},
		"no cluster": {NodeID: "b", Public: fixedRequest().Public},
	} {
		if _, err := keys.SealRequest(r, Binding{}); err == nil {
			t.Errorf("a request with %s is sent", name)
		}
	}
}

func TestAnswersBeyondTheLimitsAreNotSent(t *testing.T) {
	keys := fixedKeys("games", fixedSecret(1))
	asked, err := keys.OpenRequest(seal(t, keys, fixedRequest(), Binding{}), Binding{})
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]Answer{
		"nothing":          {Cluster: "games"},
		"no cluster":       {Voters: []string{"a:1"}},
		"too many voters":  {Cluster: "games", Voters: strings.Split(strings.Repeat("a:1 ", MaxVoters)+"b:1", " ")},
		"an empty address": {Cluster: "games", Voters: []string{""}},
		"a long address":   {Cluster: "games", Voters: []string{strings.Repeat("x", maxAddress+1)}},
		"no code":          {Cluster: "games", Refusal: &Refusal{Text: "no"}},
		"a long sentence":  {Cluster: "games", Refusal: &Refusal{Code: Denied, Text: strings.Repeat("x", MaxRefusal+1)}},
		"half a grant":     {Cluster: "games", Grant: Grant{Certificate: []byte{1}}},
	} {
		if _, err := asked.Answer(a); err == nil {
			t.Errorf("an answer with %s is sent", name)
		}
	}
	// Whatever went wrong, a stranger is told no more than a sentence.
	_, err = keys.OpenAnswer(Refuse(errors.New("the disk is on fire")), seal(t, keys, fixedRequest(), Binding{}), Binding{})
	if codeOf(t, err) != NotNow || strings.Contains(err.Error(), "fire") {
		t.Error(err)
	}
	long := &Refusal{Code: Denied, Text: strings.Repeat("ö", MaxRefusal)}
	if _, err = keys.OpenAnswer(Refuse(long), seal(t, keys, fixedRequest(), Binding{}), Binding{}); codeOf(t, err) != Denied {
		t.Error(err)
	}
}

// answers has one of each kind.
func answers() []Answer {
	return []Answer{
		{Cluster: "games", Incarnation: ours, Generation: 1, Grant: Grant{[]byte("certificate"), []byte("authority")}},
		{Cluster: "games", Incarnation: ours, Generation: 2, Voters: []string{"10.0.0.1:7947", "[fd00::1]:7947"}},
		{Cluster: "games", Incarnation: ours, Generation: 3, Refusal: &Refusal{Code: Denied, Text: "revoked"}},
	}
}

func TestEnrolmentGolden(t *testing.T) {
	keys := fixedKeys("games", fixedSecret(1), fixedSecret(101))
	binding := Binding{1, 2, 3}
	request := seal(t, keys, fixedRequest(), binding)
	text := fmt.Sprintf("request %x\n", request)
	asked, err := keys.OpenRequest(request, binding)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers() {
		sealed, err := asked.Answer(a)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("answer %x\n", sealed)
	}
	golden(t, "enrolment", text+fmt.Sprintf("unproved %s\n", hex.EncodeToString(Refuse(&Refusal{Code: NotProved, Text: "no"}))))
}

func FuzzRequest(f *testing.F) {
	keys := fixedKeys("games", fixedSecret(1), fixedSecret(101))
	f.Add(seal(f, keys, fixedRequest(), Binding{}))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, body, proofs, err := parseRequest(b)
		if err != nil {
			return
		}
		again := append(r.append(nil), byte(len(proofs)))
		if !bytes.Equal(again[:len(again)-1], body) {
			t.Fatalf("%x becomes %x", body, again)
		}
		for _, p := range proofs {
			again = p.append(again)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	keys := fixedKeys("games", fixedSecret(1))
	asked, err := keys.OpenRequest(seal(f, keys, fixedRequest(), Binding{}), Binding{})
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range answers() {
		sealed, err := asked.Answer(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Add(Refuse(&Refusal{Code: NotProved, Text: "no"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, body, p, err := parseAnswer(b)
		if err != nil {
			return
		}
		again := a.append(nil)
		if !bytes.Equal(again, body) {
			t.Fatalf("%x becomes %x", body, again)
		}
		if p != nil {
			again = p.append(append(again, 1))
		} else {
			again = append(again, 0)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
	})
}
