package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"

	"github.com/trunkline-edge/trunkline/auth"
)

const (
	maxLoginBody = 16 << 10
	maxUserID    = 255
)

// mayLogin takes one login out of the address's bucket.
func (a *API) mayLogin(r *http.Request) bool {
	from := remote(r)
	if a.cfg.LiftLoopback && from.IsLoopback() || a.buckets.take(from, a.deps.Clock()) {
		return true
	}
	a.counters.limited.Add(1)
	return false
}

// login answers every way to log in with a token.
func (a *API) login(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	if !a.mayLogin(r) {
		return problemRate
	}
	q := auth.LoginRequest{Method: r.PathValue("method"), Config: a.deps.Apps.Login(app)}
	if !q.Config.Enabled(q.Method) {
		return problemDisabled
	}
	body, release, err := a.readBody(w, r, app, maxLoginBody)
	if err != nil {
		return err
	}
	defer release()
	in, err := readLogin(r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	if q.Method == auth.TypeNickname {
		if len(in.Nickname) > auth.MaxNickname {
			return problemNickname
		}
		q.Nickname = in.Nickname
	}
	q.IDToken = in.IDToken
	id, err := a.deps.Providers.Login(r.Context(), q)
	if err != nil {
		return err
	}
	token, err := a.deps.Tokens.Mint(app.String(), id)
	if err != nil {
		return err
	}
	if id.Type != auth.TypeAnonymous && !a.deps.Logins.Put(app.String(), id) {
		a.counters.unkept.Add(1)
	}
	writeJSON(w, http.StatusOK, struct {
		Token string `json:"token"`
	}{token})
	return nil
}

type loginBody struct {
	Nickname string `json:"nickname"`
	IDToken  string `json:"idToken"`
}

// readLogin reads the body of a login whatever its content type says: two SDKs
// send none, one says that nothing is a form, and one sends {} for everything.
// Text that is neither JSON nor a form is refused.
func readLogin(contentType string, body []byte) (loginBody, error) {
	var in loginBody
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return in, nil
	}
	if body[0] != '{' {
		if kind, _, err := mime.ParseMediaType(contentType); err == nil && kind == "application/x-www-form-urlencoded" {
			form, err := url.ParseQuery(string(body))
			if err != nil {
				return in, problemJSON
			}
			return loginBody{Nickname: form.Get("nickname"), IDToken: form.Get("idToken")}, nil
		}
	}
	if json.Unmarshal(body, &in) != nil {
		return loginBody{}, problemJSON
	}
	return in, nil
}

// profile is what is told of a user.
type profile struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

func writeProfile(w http.ResponseWriter, id auth.Identity) {
	writeJSON(w, http.StatusOK, profile{Type: id.Type, ID: id.ID, Name: id.Name})
}

// user tells anybody who a user is, if no more than one app knows the id.
func (a *API) user(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if id == "" || len(id) > maxUserID {
		return problemUserID
	}
	who, ok := a.deps.Providers.Anonymous(id, auth.Separator)
	if !ok {
		who, ok = a.deps.Logins.Find(id)
	}
	if !ok {
		return problemUser
	}
	writeProfile(w, who)
	return nil
}

// appUser tells those who have the app's secret or one of its tokens who a user
// of the app is.
func (a *API) appUser(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	given := credential(r)
	if given == "" || len(given) > auth.MaxToken {
		return problemSecret
	}
	if !a.deps.Apps.HasSecret(app, auth.Secret(given)) {
		if _, err := a.userOf(r, app, problemSecret); err != nil {
			return err
		}
	}
	id := r.PathValue("id")
	if id == "" || len(id) > maxUserID {
		return problemUserID
	}
	config := a.deps.Apps.Login(app)
	who, ok := a.deps.Providers.Anonymous(id, config.NameSeparator())
	if !ok {
		who, ok = a.deps.Logins.Get(app.String(), id)
	}
	if !ok {
		return problemUser
	}
	writeProfile(w, who)
	return nil
}
