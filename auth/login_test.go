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
	for name, in := range map[string]string{
		"not JSON":  `{`,
		"a list":    `[]`,
		"text":      `"anonymous"`,
		"too large": `{"x":"` + strings.Repeat("x", maxLoginConfig) + `"}`,
	} {
		if got, err := ParseLogin(json.RawMessage(in)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestMistakesCloseLogins(t *testing.T) {
	issuer := func(s string) string { return `{"oidc":{"acme":` + s + `}}` }
	many := make([]string, maxIssuers+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"i%d":{"issuer":"https://i","clientId":"c"}`, i)
	}
	for name, in := range map[string]string{
		"google bare":      `{"google":{}}`,
		"google a number":  `{"google":7}`,
		"oidc a list":      `{"oidc":[]}`,
		"reserved name":    `{"oidc":{"google":{"issuer":"https://i","clientId":"c"}}}`,
		"odd name":         `{"oidc":{"Ac/me":{"issuer":"https://i","clientId":"c"}}}`,
		"long name":        `{"oidc":{"` + strings.Repeat("a", 33) + `":{"issuer":"https://i","clientId":"c"}}}`,
		"no name":          `{"oidc":{"":{"issuer":"https://i","clientId":"c"}}}`,
		"many issuers":     `{"oidc":{` + strings.Join(many, ",") + `}}`,
		"no client":        issuer(`{"issuer":"https://i"}`),
		"empty client":     issuer(`{"issuer":"https://i","clientId":""}`),
		"empty clients":    issuer(`{"issuer":"https://i","clientId":[]}`),
		"client a number":  issuer(`{"issuer":"https://i","clientId":7}`),
		"not an object":    issuer(`7`),
		"no issuer":        issuer(`{"clientId":"c"}`),
		"file":             issuer(`{"issuer":"file:///etc/passwd","clientId":"c"}`),
		"user":             issuer(`{"issuer":"https://u:p@i","clientId":"c"}`),
		"fragment":         issuer(`{"issuer":"https://i#f","clientId":"c"}`),
		"key set a gopher": issuer(`{"issuer":"https://i","clientId":"c","jwks":"gopher://i"}`),
	} {
		got, err := ParseLogin(json.RawMessage(in))
		if err != nil || len(got.Ignored) != 1 || !got.Configured {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for _, method := range []string{"anonymous", "nickname", "google", "acme", "i1", ""} {
			if got.Enabled(method) {
				t.Errorf("%s: %q is on", name, method)
			}
		}
	}
	// What can be read beside a mistake counts.
	got, err := ParseLogin(json.RawMessage(`{"anonymous":{"separator":"` + strings.Repeat("-", 17) + `"},"oidc":{"a":{"issuer":"https://i","clientId":"c"},"b":7}}`))
	if err != nil || len(got.Ignored) != 2 || !got.Enabled("anonymous") || got.NameSeparator() != "-" || !got.Enabled("a") || got.Enabled("b") {
		t.Errorf("beside mistakes: %+v, %v", got, err)
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
