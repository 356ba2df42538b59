package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
)

const (
	maxLoginConfig = 1 << 20
	maxSeparator   = 16
	maxIssuers     = 64
	maxClients     = 64
)

// LoginConfig is which logins an app has. The zero value means that nobody configured anything: then
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
	// Ignored says which parts could not be read and are off therefore, in
	// sentences for the log.
	Ignored []string
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
	Anonymous json.RawMessage `json:"anonymous"`
	Nickname  json.RawMessage `json:"nickname"`
	Google    json.RawMessage `json:"google"`
	Email     json.RawMessage `json:"email"`
	OIDC      json.RawMessage `json:"oidc"`
}

// named reports whether a key was there and does not say "off".
func named(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) && !bytes.Equal(raw, []byte("false"))
}

// ParseLogin reads a login configuration as backends register it: the legacy
// authInfo {"anonymous":{"separator"},"nickname":{},"google":{"clientId"}} and,
// beyond it, "oidc":{name:{"issuer","clientId","jwks"}}. Empty input, null and {}
// give the zero value; unknown keys are ignored. A part that cannot be read is
// off and listed in Ignored: a mistake closes a login and never opens one. Only
// what is no JSON object, or more than 1 MiB, is an error.
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
	c.Configured = c.Anonymous || c.Nickname || named(in.Google) || named(in.Email) || named(in.OIDC)
	if c.Anonymous {
		c.parseAnonymous(in.Anonymous)
	}
	if named(in.Google) {
		c.parseGoogle(in.Google)
	}
	if named(in.OIDC) {
		c.parseIssuers(in.OIDC)
	}
	return c, nil
}

func (c *LoginConfig) ignore(format string, args ...any) {
	c.Ignored = append(c.Ignored, fmt.Sprintf(format, args...))
}

func (c *LoginConfig) parseAnonymous(raw json.RawMessage) {
	var a struct {
		Separator *string `json:"separator"`
	}
	c.Separator = Separator
	// Anything but an object is taken as "on".
	if json.Unmarshal(raw, &a) != nil || a.Separator == nil {
		return
	}
	if len(*a.Separator) > maxSeparator {
		c.ignore("anonymous: the separator has more than %d bytes", maxSeparator)
		return
	}
	c.Separator = *a.Separator
}

func (c *LoginConfig) parseGoogle(raw json.RawMessage) {
	var g struct {
		ClientID json.RawMessage `json:"clientId"`
	}
	if json.Unmarshal(raw, &g) != nil {
		c.ignore(`google: not an object like {"clientId": "..."}`)
		return
	}
	clients, err := parseClients(g.ClientID)
	if err != nil {
		c.ignore("google: %v", err)
		return
	}
	c.Google = clients
}

// parseClients reads one client id or a list of them.
func parseClients(raw json.RawMessage) ([]string, error) {
	var one string
	var many []string
	if json.Unmarshal(raw, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(raw, &many) != nil {
		return nil, errors.New("clientId must be text or a list of texts")
	}
	if len(many) == 0 || len(many) > maxClients || slices.Contains(many, "") {
		return nil, fmt.Errorf("clientId must have 1 to %d entries, none empty", maxClients)
	}
	return many, nil
}

func (c *LoginConfig) parseIssuers(raw json.RawMessage) {
	var in map[string]json.RawMessage
	if json.Unmarshal(raw, &in) != nil {
		c.ignore("oidc: not an object of issuers by name")
		return
	}
	if len(in) > maxIssuers {
		c.ignore("oidc: more than %d issuers", maxIssuers)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if !named(in[name]) {
			continue
		}
		if !isProviderName(name) {
			c.ignore("oidc: %q is no name for an issuer (1 to 32 of a-z, 0-9 and -, not the name of another login)", capped(name))
			continue
		}
		login, err := parseIssuer(in[name])
		if err != nil {
			c.ignore("oidc %s: %v", name, err)
			continue
		}
		if c.OIDC == nil {
			c.OIDC = make(map[string]OIDCLogin)
		}
		c.OIDC[name] = login
	}
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
	clients, err := parseClients(in.ClientID)
	if err != nil {
		return OIDCLogin{}, err
	}
	if err := checkURL(in.Issuer); err != nil {
		return OIDCLogin{}, fmt.Errorf("issuer %w", err)
	}
	if in.JWKS != "" {
		if err := checkURL(in.JWKS); err != nil {
			return OIDCLogin{}, fmt.Errorf("jwks %w", err)
		}
	}
	return OIDCLogin{Issuer: in.Issuer, Audience: clients, JWKS: in.JWKS}, nil
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
