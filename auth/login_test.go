package auth

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseLogin(t *testing.T) {
	acme := OIDCLogin{Issuer: "https://id.example.org", Audience: []string{"game"}}
	for in, want := range map[string]LoginConfig{
		"":                                      {},
		"null":                                  {},
		" {} ":                                  {},
		`{"anonymous":{"separator":"-"}}`:       {Configured: true, Anonymous: true, Separator: "-"},
		`{"anonymous":{"separator":""}}`:        {Configured: true, Anonymous: true},
		`{"anonymous":{}}`:                      {Configured: true, Anonymous: true, Separator: "-"},
		`{"anonymous":true}`:                    {Configured: true, Anonymous: true, Separator: "-"},
		`{"anonymous":false,"nickname":null}`:   {},
		`{"nickname":{}}`:                       {Configured: true, Nickname: true},
		`{"google":{"clientId":"g"},"other":7}`: {Configured: true, Google: []string{"g"}},
		`{"email":{"secretApiKey":"k"}}`:        {Configured: true},
		`{"oidc":{"acme":{"issuer":"https://id.example.org","clientId":"game"}}}`: {
			Configured: true, OIDC: map[string]OIDCLogin{"acme": acme},
		},
		`{"oidc":{"acme":{"issuer":"https://id.example.org","clientId":["game"]},"off":null}}`: {
			Configured: true, OIDC: map[string]OIDCLogin{"acme": acme},
		},
		`{"oidc":{"a":{"issuer":"https://i","clientId":["x","y"],"jwks":"https://i/keys"}}}`: {
			Configured: true,
			OIDC:       map[string]OIDCLogin{"a": {Issuer: "https://i", Audience: []string{"x", "y"}, JWKS: "https://i/keys"}},
		},
	} {
		got, err := ParseLogin(json.RawMessage(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s gives %+v, %v, want %+v", in, got, err, want)
		}
	}
}

func TestParseLoginRefuses(t *testing.T) {
	issuer := func(s string) string { return `{"oidc":{"acme":` + s + `}}` }
	many := make([]string, 9)
	for i := range many {
		many[i] = fmt.Sprintf(`"i%d":{"issuer":"https://i","clientId":"c"}`, i)
	}
	for name, in := range map[string]string{
		"not JSON":        `{`,
		"a list":          `[]`,
		"text":            `"anonymous"`,
		"too large":       `{"x":"` + strings.Repeat("x", maxLoginConfig) + `"}`,
		"long separator":  `{"anonymous":{"separator":"` + strings.Repeat("-", 17) + `"}}`,
		"google bare":     `{"google":{}}`,
		"google a number": `{"google":7}`,
		"reserved name":   `{"oidc":{"google":{"issuer":"https://i","clientId":"c"}}}`,
		"odd name":        `{"oidc":{"Ac/me":{"issuer":"https://i","clientId":"c"}}}`,
		"long name":       `{"oidc":{"` + strings.Repeat("a", 33) + `":{"issuer":"https://i","clientId":"c"}}}`,
		"no name":         `{"oidc":{"":{"issuer":"https://i","clientId":"c"}}}`,
		"many issuers":    `{"oidc":{` + strings.Join(many, ",") + `}}`,
		"no client":       issuer(`{"issuer":"https://i"}`),
		"empty client":    issuer(`{"issuer":"https://i","clientId":""}`),
		"empty clients":   issuer(`{"issuer":"https://i","clientId":[]}`),
		"client a number": issuer(`{"issuer":"https://i","clientId":7}`),
		"not an object":   issuer(`7`),
		"no issuer":       issuer(`{"clientId":"c"}`),
		"file":            issuer(`{"issuer":"file:///etc/passwd","clientId":"c"}`),
		"user":            issuer(`{"issuer":"https://u:p@i","clientId":"c"}`),
		"fragment":        issuer(`{"issuer":"https://i#f","clientId":"c"}`),
		"jwks":            issuer(`{"issuer":"https://i","clientId":"c","jwks":"gopher://i"}`),
	} {
		if got, err := ParseLogin(json.RawMessage(in)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestEnabled(t *testing.T) {
	parse := func(s string) LoginConfig {
		c, err := ParseLogin(json.RawMessage(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for in, want := range map[string]string{
		"":                               "anonymous nickname",
		"{}":                             "anonymous nickname",
		`{"anonymous":{}}`:               "anonymous",
		`{"nickname":{}}`:                "nickname",
		`{"google":{"clientId":"c"}}`:    "google",
		`{"email":{"secretApiKey":"k"}}`: "",
		`{"oidc":{"acme":{"issuer":"https://i","clientId":"c"}}}`: "acme",
	} {
		c := parse(in)
		var on []string
		for _, method := range []string{"anonymous", "nickname", "google", "email", "acme", "", "nosuch"} {
			if c.Enabled(method) {
				on = append(on, method)
			}
		}
		if got := strings.Join(on, " "); got != want {
			t.Errorf("%s enables %q, want %q", in, got, want)
		}
	}
	if c := parse(`{"nickname":{}}`); c.NameSeparator() != "-" {
		t.Error("no separator without anonymous")
	}
	if c := parse(`{"anonymous":{"separator":"."}}`); c.NameSeparator() != "." {
		t.Error("the separator is not the configured one")
	}
}

func TestUnion(t *testing.T) {
	one := LoginConfig{Configured: true, Anonymous: true, Separator: ".", Google: []string{"a"}, OIDC: map[string]OIDCLogin{"x": {Issuer: "1"}}}
	two := LoginConfig{Configured: true, Anonymous: true, Separator: "-", Nickname: true, Google: []string{"a", "b"}, OIDC: map[string]OIDCLogin{"x": {Issuer: "2"}, "y": {Issuer: "3"}}}
	got := Union(LoginConfig{}, one, two)
	want := LoginConfig{
		Configured: true, Anonymous: true, Separator: ".", Nickname: true, Google: []string{"a", "b"},
		OIDC: map[string]OIDCLogin{"x": {Issuer: "1"}, "y": {Issuer: "3"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("union %+v, want %+v", got, want)
	}
	if got := Union(); !reflect.DeepEqual(got, LoginConfig{}) {
		t.Errorf("union of nothing %+v", got)
	}
	var many []LoginConfig
	for i := range 200 {
		many = append(many, LoginConfig{
			Configured: true, Google: []string{fmt.Sprint(i)}, OIDC: map[string]OIDCLogin{fmt.Sprint(i): {}},
		})
	}
	if got := Union(many...); len(got.Google) != maxUnion || len(got.OIDC) != maxUnion {
		t.Errorf("union of many has %d and %d", len(got.Google), len(got.OIDC))
	}
	if got := Union(one); &got.Google[0] == &one.Google[0] {
		t.Error("the union shares memory with its parts")
	}
}
