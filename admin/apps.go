package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trunkline-edge/trunkline/wire"
)

// AppList is the answer to a listing of apps.
type AppList struct {
	Apps []App `json:"apps"`
}

// CreatedApp is the answer to making an app.
type CreatedApp struct {
	App
	Secret string `json:"appSecret,omitempty"` // only when the node made it, only this once
}

// decode reads a JSON body into v: unknown fields, a second value and another
// content type are refused. An empty body leaves v as it is.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" {
		answerError(w, http.StatusUnsupportedMediaType, "content_type", "send the body as application/json")
		return false
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return true
	}
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows the JSON value")
		}
	}
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		answerError(w, http.StatusRequestEntityTooLarge, "too_big", fmt.Sprintf("a body holds at most %d bytes", maxBodyBytes))
		return false
	case err != nil:
		badRequest(w, "body: %v", err)
		return false
	}
	return true
}

// appPath reads the {app} of the path and answers the request itself when it is
// no app id.
func appPath(w http.ResponseWriter, r *http.Request) (wire.AppID, bool) {
	id, err := wire.ParseAppID(r.PathValue("app"))
	if err != nil {
		badRequest(w, "app: %v (an app id is 64 lowercase hex digits)", err)
		return wire.AppID{}, false
	}
	return id, true
}

// pickSecret answers the secret to use: the given one, unless it is weak, or a
// new one.
func pickSecret(given Secret, allowWeak bool) (secret Secret, made bool, err error) {
	switch n := len(given); {
	case n == 0:
		return newSecret(), true, nil
	case n > maxSecretLength:
		return "", false, fmt.Errorf("a secret of %d bytes: the longest is %d: %w", n, maxSecretLength, ErrRefused)
	case n < MinSecretLength && !allowWeak:
		return "", false, fmt.Errorf("a secret of %d bytes can be guessed: leave it out to get a random one, or insist with --allow-weak-secret: %w", n, ErrRefused)
	}
	return given, false, nil
}

func checkSettings(name *string, maxStates, maxMessage *int) error {
	if name != nil && (len(*name) > maxNameLength || !printable(*name)) {
		return fmt.Errorf("a name is printable text of at most %d bytes: %w", maxNameLength, ErrRefused)
	}
	if maxStates != nil && *maxStates < 0 {
		return fmt.Errorf("max-states is negative: %w", ErrRefused)
	}
	if maxMessage != nil && (*maxMessage < 0 || *maxMessage > MaxMessageLimit) {
		return fmt.Errorf("max-message is at most %d bytes: %w", MaxMessageLimit, ErrRefused)
	}
	return nil
}

// maxNameLength bounds an app's name, in bytes.
const maxNameLength = 128

// printable says whether a name can be shown without steering a terminal.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// MaxMessageLimit is the most that an app may allow for one message: the length
// of a legacy frame must begin with a zero byte.
const MaxMessageLimit = 15 << 20

func (s *Server) listApps(w http.ResponseWriter, r *http.Request) {
	list, err := s.deps.Apps.Apps(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, AppList{Apps: notNil(list)})
}

func (s *Server) getApp(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	app, err := s.deps.Apps.App(r.Context(), id)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, app)
}

func (s *Server) createApp(w http.ResponseWriter, r *http.Request) {
	var req CreateApp
	if !decode(w, r, &req) {
		return
	}
	secret, made, err := pickSecret(req.Secret, req.AllowWeakSecret)
	if err == nil {
		err = checkSettings(&req.Settings.Name, &req.Settings.MaxStates, &req.Settings.MaxMessage)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	app, err := s.deps.Apps.CreateApp(r.Context(), secret, req.Settings)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := CreatedApp{App: app}
	if made {
		out.Secret = string(secret)
	}
	answer(w, http.StatusCreated, out)
}

func (s *Server) setApp(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	var change SettingsChange
	if !decode(w, r, &change) {
		return
	}
	if err := checkSettings(change.Name, change.MaxStates, change.MaxMessage); err != nil {
		s.refuse(w, r, err)
		return
	}
	app, err := s.deps.Apps.SetApp(r.Context(), id, change)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, app)
}

func (s *Server) deleteApp(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	if err := s.deps.Apps.DeleteApp(r.Context(), id); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) addSecret(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	var req AddSecret
	if !decode(w, r, &req) {
		return
	}
	secret, made, err := pickSecret(req.Secret, req.AllowWeakSecret)
	if err == nil {
		err = s.deps.Apps.AddSecret(r.Context(), id, secret)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := AppSecret{AppID: id.String(), Fingerprint: wire.AppIDOf(string(secret)).String()}
	if made {
		out.Secret = string(secret)
	}
	answer(w, http.StatusCreated, out)
}

func (s *Server) removeSecret(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	fingerprint, err := wire.ParseAppID(r.PathValue("id"))
	if err != nil {
		badRequest(w, "secret: %v (a fingerprint is 64 lowercase hex digits, as `trunkline apps list` shows it)", err)
		return
	}
	if err := s.deps.Apps.RemoveSecret(r.Context(), id, fingerprint); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) mintToken(w http.ResponseWriter, r *http.Request) {
	id, ok := appPath(w, r)
	if !ok {
		return
	}
	var req TestToken
	if !decode(w, r, &req) {
		return
	}
	token, err := s.deps.Tokens.MintTest(r.Context(), id, req)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusCreated, token)
}
