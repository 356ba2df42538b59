package placement

import (
	"slices"

	"github.com/trunkline-edge/trunkline/wire"
)

// SetApp makes an app or replaces its secrets and settings as a whole.
type SetApp struct {
	App      wire.AppID
	Expect   uint64     // App.Version; 0: nobody has listed it
	Secrets  [][32]byte // SHA-256 of each, at least one, at most MaxSecrets
	Settings AppSettings
}

// Kind returns KindSetApp.
func (*SetApp) Kind() Kind { return KindSetApp }

func (s *SetApp) append(dst []byte) []byte {
	dst = appendU64(append(dst, s.App[:]...), s.Expect)
	return appendSettings(appendSecrets(dst, s.Secrets), &s.Settings)
}

func (s *SetApp) decode(r *reader) {
	s.App, s.Expect = r.app(), r.u64()
	s.Secrets, s.Settings = r.secrets(), r.settings()
}

func (s *SetApp) apply(c *content, index uint64) Result {
	if len(s.Secrets) == 0 {
		return Result{Outcome: Refused}
	}
	e := c.dir.find(s.App)
	switch {
	case e == nil && s.Expect != 0, e != nil && e.version != s.Expect:
		return Result{Outcome: Stale}
	case e != nil && e.deleting:
		return Result{Outcome: NoApp}
	case e == nil:
		e = c.addTenant(s.App)
	}
	c.wake(e)
	e.listed, e.version = true, index
	e.secrets, e.settings = s.Secrets, s.Settings
	c.note(Change{Kind: AppChanged, App: s.App})
	return Result{Outcome: Done}
}

// DeleteApp begins to delete an app: its instances are gone, nothing new is taken. When its last row has been removed
// the app is no longer known.
type DeleteApp struct {
	App    wire.AppID
	Expect uint64 // App.Version
}

// Kind returns KindDeleteApp.
func (*DeleteApp) Kind() Kind { return KindDeleteApp }

func (d *DeleteApp) append(dst []byte) []byte {
	return appendU64(append(dst, d.App[:]...), d.Expect)
}

func (d *DeleteApp) decode(r *reader) { d.App, d.Expect = r.app(), r.u64() }

func (d *DeleteApp) apply(c *content, _ uint64) Result {
	e := c.dir.find(d.App)
	switch {
	case e == nil || e.deleting:
		return Result{Outcome: NoApp}
	case e.version != d.Expect:
		return Result{Outcome: Stale}
	}
	c.wake(e)
	e.deleting, e.listed, e.secrets, e.settings = true, false, nil, AppSettings{}
	c.note(Change{Kind: AppRemoved, App: d.App})
	live := slices.Clone(e.live)
	for _, slot := range live {
		c.leave(slot)
	}
	if len(live) == 0 {
		c.settle(e)
	}
	return Result{Outcome: Done}
}

func appendSecrets(dst []byte, secrets [][32]byte) []byte {
	dst = append(dst, byte(len(secrets)))
	for i := range secrets {
		dst = append(dst, secrets[i][:]...)
	}
	return dst
}

func (r *reader) secrets() [][32]byte {
	n := int(r.upTo(MaxSecrets))
	if n == 0 || r.bad {
		return nil
	}
	secrets := make([][32]byte, n)
	for i := range secrets {
		secrets[i] = r.hash()
	}
	return secrets
}

func appendSettings(dst []byte, s *AppSettings) []byte {
	dst = appendU64(appendText(dst, s.Name), s.MaxStates)
	dst = appendU32(appendU32(dst, s.MaxMessage), s.MaxConns)
	dst = append(appendBool(dst, s.Greeting), byte(s.URLTokens))
	return appendText(dst, s.PinnedLogin)
}

func (r *reader) settings() AppSettings {
	return AppSettings{
		Name: r.text(MaxName), MaxStates: r.u64(), MaxMessage: r.u32(), MaxConns: r.u32(),
		Greeting: r.bool(), URLTokens: Switch(r.upTo(uint8(Off))), PinnedLogin: r.bytes(MaxLogin),
	}
}
