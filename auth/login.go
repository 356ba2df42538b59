package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

const (
	maxLoginConfig = 64 << 10
	maxSeparator   = 16
	maxIssuers     = 8  // one backend may configure
	maxUnion       = 64 // client ids, and issuers, of one app
)

// LoginConfig is which logins an app has: what one backend registered, or the
// union over several. The zero value means that nobody configured anything: then
// anonymous and nickname are on.
type LoginConfig struct {
	// Configured says that at least one login was named, even one that is not
	// offered here.
	Configured bool
	// Anonymous and Nickname say whether those are on.
	Anonymous, Nickname bool
	// Separator joins the words of an anonymous name.
	Separator string
	// Google has the accepted client ids; empty is off.
	Google []string
	// OIDC has the custom issuers by name.
	OIDC map[string]OIDCLogin
}

// OIDCLogin is one custom OpenID issuer.
type OIDCLogin struct {
	// Issuer is the iss of its tokens, an https URL.
	Issuer string
	// Audience has the accepted client ids, at least one.
	Audience []string
	// JWKS is the address of its key set; empty asks the issuer's discovery
	// document.
	JWKS string
}

// Enabled reports whether the login may be used.
func (c *LoginConfig) Enabled(method string) bool {
	switch method {
	case TypeAnonymous:
		return c.Anonymous || !c.Configured
	case TypeNickname:
		return c.Nickname || !c.Configured
	case TypeGoogle:
		return len(c.Google) > 0
	}
	_, ok := c.OIDC[method]
	return ok
}

// NameSeparator returns what joins the words of the app's anonymous names.
func (c *LoginConfig) NameSeparator() string {
	if !c.Anonymous {
		return Separator
	}
	return c.Separator
}

// rawLogin is a configuration as it is registered.
type rawLogin struct {
	Anonymous json.RawMessage            `json:"anonymous"`
	Nickname  json.RawMessage            `json:"nickname"`
	Google    json.RawMessage            `json:"google"`
	Email     json.RawMessage            `json:"email"`
	OIDC      map[string]json.RawMessage `json:"oidc"`
}

// named reports whether a key was there and does not say "off".
func named(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) && !bytes.Equal(raw, []byte("false"))
}

// ParseLogin reads a login configuration as backends register it: the legacy
// authInfo {"anonymous":{"separator"},"nickname":{},"google":{"clientId"}} and,
// beyond it, "oidc":{name:{"issuer","clientId","jwks"}}. Empty input, null and {}
// give the zero value; unknown keys are ignored; at most 64 KiB and 8 issuers.
func ParseLogin(raw json.RawMessage) (LoginConfig, error) {
	raw = bytes.TrimSpace(raw)
	if !named(raw) {
		return LoginConfig{}, nil
	}
	if len(raw) > maxLoginConfig {
		return LoginConfig{}, fmt.Errorf("login configuration: %d bytes are more than %d", len(raw), maxLoginConfig)
	}
	var in rawLogin
	if err := json.Unmarshal(raw, &in); err != nil {
		return LoginConfig{}, errors.New("login configuration: not a JSON object of logins")
	}
	c := LoginConfig{Anonymous: named(in.Anonymous), Nickname: named(in.Nickname)}
	c.Configured = c.Anonymous || c.Nickname || named(in.Google) || named(in.Email) || len(in.OIDC) > 0
	if err := c.parseAnonymous(in.Anonymous); err != nil {
		return LoginConfig{}, err
	}
	if named(in.Google) {
		var g struct {
			ClientID string `json:"clientId"`
		}
		if err := json.Unmarshal(in.Google, &g); err != nil || g.ClientID == "" {
			return LoginConfig{}, errors.New(`login configuration: google needs {"clientId": "..."}`)
		}
		c.Google = []string{g.ClientID}
	}
	return c, c.parseIssuers(in.OIDC)
}

func (c *LoginConfig) parseAnonymous(raw json.RawMessage) error {
	if !c.Anonymous {
		return nil
	}
	var a struct {
		Separator *string `json:"separator"`
	}
	// Anything but an object is taken as "on".
	_ = json.Unmarshal(raw, &a)
	c.Separator = Separator
	if a.Separator != nil {
		c.Separator = *a.Separator
	}
	if len(c.Separator) > maxSeparator {
		return fmt.Errorf("login configuration: the separator has more than %d bytes", maxSeparator)
	}
	return nil
}

func (c *LoginConfig) parseIssuers(in map[string]json.RawMessage) error {
	if len(in) > maxIssuers {
		return fmt.Errorf("login configuration: more than %d issuers", maxIssuers)
	}
	for name, raw := range in {
		if !named(raw) {
			continue
		}
		if !isProviderName(name) {
			return fmt.Errorf("login configuration: %q is no name for an issuer (1 to 32 of a-z, 0-9 and -, not the name of another login)", capped(name))
		}
		login, err := parseIssuer(raw)
		if err != nil {
			return fmt.Errorf("login configuration: issuer %q: %w", name, err)
		}
		if c.OIDC == nil {
			c.OIDC = make(map[string]OIDCLogin)
		}
		c.OIDC[name] = login
	}
	return nil
}

func parseIssuer(raw json.RawMessage) (OIDCLogin, error) {
	var in struct {
		Issuer   string          `json:"issuer"`
		ClientID json.RawMessage `json:"clientId"`
		JWKS     string          `json:"jwks"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return OIDCLogin{}, errors.New("not an object with issuer and clientId")
	}
	var one string
	var many []string
	if json.Unmarshal(in.ClientID, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(in.ClientID, &many) != nil {
		return OIDCLogin{}, errors.New("clientId must be text or a list of texts")
	}
	if len(many) == 0 || len(many) > maxIssuers || slices.Contains(many, "") {
		return OIDCLogin{}, fmt.Errorf("clientId must have 1 to %d entries, none empty", maxIssuers)
	}
	if err := checkURL(in.Issuer); err != nil {
		return OIDCLogin{}, fmt.Errorf("issuer %w", err)
	}
	if in.JWKS != "" {
		if err := checkURL(in.JWKS); err != nil {
			return OIDCLogin{}, fmt.Errorf("jwks %w", err)
		}
	}
	return OIDCLogin{Issuer: in.Issuer, Audience: many, JWKS: in.JWKS}, nil
}

// checkURL accepts absolute web addresses without user, fragment or oddities.
// Whether plain HTTP is allowed depends on the host and is decided when fetching.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > 1024 || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" ||
		u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("must be a web address of at most 1024 bytes, without user and fragment")
	}
	return nil
}

func isProviderName(s string) bool {
	if s == "" || len(s) > 32 || s == TypeAnonymous || s == TypeNickname || s == TypeGoogle || s == "email" {
		return false
	}
	for i := range len(s) {
		if (s[i] < 'a' || s[i] > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' {
			return false
		}
	}
	return true
}

// Union returns what any of the configurations allows. Where two differ in the
// separator or in an issuer of one name, the first counts: hand them in a fixed
// order. At most 64 client ids and 64 issuers are taken.
func Union(configs ...LoginConfig) LoginConfig {
	var out LoginConfig
	for i := range configs {
		c := &configs[i]
		if c.Anonymous && !out.Anonymous {
			out.Separator = c.Separator
		}
		out.Configured = out.Configured || c.Configured
		out.Anonymous = out.Anonymous || c.Anonymous
		out.Nickname = out.Nickname || c.Nickname
		for _, id := range c.Google {
			if len(out.Google) < maxUnion && !slices.Contains(out.Google, id) {
				out.Google = append(out.Google, id)
			}
		}
		for name, login := range c.OIDC {
			if _, ok := out.OIDC[name]; ok || len(out.OIDC) >= maxUnion {
				continue
			}
			if out.OIDC == nil {
				out.OIDC = make(map[string]OIDCLogin)
			}
			out.OIDC[name] = login
		}
	}
	return out
}
