package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

// answer writes v as JSON, indented for people who use curl.
func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client is gone: nobody is left to tell
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func answerError(w http.ResponseWriter, code int, name, message string) {
	answer(w, code, errorBody{errorDetail{name, message}})
}

// refuse turns an error of a dependency into an answer.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		answerError(w, http.StatusNotFound, "not_found", err.Error())
	case errors.Is(err, ErrExists):
		answerError(w, http.StatusConflict, "exists", err.Error())
	case errors.Is(err, ErrNotYet):
		answerError(w, http.StatusConflict, "not_yet", err.Error())
	case errors.Is(err, ErrUnavailable):
		answerError(w, http.StatusServiceUnavailable, "unavailable", err.Error())
	case errors.Is(err, ErrUnreachable):
		answerError(w, http.StatusBadGateway, "unreachable", err.Error())
	case errors.Is(err, ErrRefused):
		answerError(w, http.StatusBadRequest, "refused", err.Error())
	default:
		s.cfg.Log.Error("an operator's request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		answerError(w, http.StatusInternalServerError, "internal", err.Error())
	}
}

func badRequest(w http.ResponseWriter, format string, args ...any) {
	answerError(w, http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...))
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.deps.Node.Status(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, st)
}

// appQuery reads ?app=; nil means all apps. It answers the request itself when
// the text is no app id.
func appQuery(w http.ResponseWriter, r *http.Request) (*wire.AppID, bool) {
	text := r.URL.Query().Get("app")
	if text == "" {
		return nil, true
	}
	id, err := wire.ParseAppID(text)
	if err != nil {
		badRequest(w, "app: %v (an app id is 64 lowercase hex digits)", err)
		return nil, false
	}
	return &id, true
}

// InstanceList is the answer to a listing of instances.
type InstanceList struct {
	Instances []Instance `json:"instances"`
}

func (s *Server) instances(w http.ResponseWriter, r *http.Request) {
	app, ok := appQuery(w, r)
	if !ok {
		return
	}
	list, err := s.deps.Instances.Instances(r.Context(), app)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, InstanceList{Instances: notNil(list)})
}

// StateList is one page of states. Next, when set, goes into ?after= for the
// page behind it.
type StateList struct {
	States []State `json:"states"`
	Next   string  `json:"next,omitempty"`
}

func (s *Server) states(w http.ResponseWriter, r *http.Request) {
	app, ok := appQuery(w, r)
	if !ok {
		return
	}
	q := StatesQuery{App: app, Limit: DefaultPage}
	query := r.URL.Query()
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxPage {
			badRequest(w, "limit is a number from 1 to %d", MaxPage)
			return
		}
		q.Limit = n
	}
	if text := query.Get("after"); text != "" {
		name, err := parseStateName(text)
		if err != nil {
			badRequest(w, "after is APP/STATE, the next of the page before: %v", err)
			return
		}
		q.After = &name
	}
	list, err := s.deps.States.States(r.Context(), q)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := StateList{States: notNil(list)}
	if n := len(list); n >= q.Limit {
		out.Next = list[n-1].App + "/" + list[n-1].State
	}
	answer(w, http.StatusOK, out)
}

func parseStateName(text string) (StateName, error) {
	app, state, ok := strings.Cut(text, "/")
	if !ok {
		return StateName{}, errors.New("the slash is missing")
	}
	var n StateName
	var err error
	if n.App, err = wire.ParseAppID(app); err != nil {
		return StateName{}, err
	}
	n.State, err = wire.ParseStateID(state)
	return n, err
}

// WhereList is the answer to where: one entry per app that has the state.
type WhereList struct {
	Where []Where `json:"where"`
}

func (s *Server) where(w http.ResponseWriter, r *http.Request) {
	app, ok := appQuery(w, r)
	if !ok {
		return
	}
	id, err := wire.ParseStateID(r.PathValue("state"))
	if err != nil {
		badRequest(w, "state: %v (a state id is base 36)", err)
		return
	}
	list, err := s.deps.States.Where(r.Context(), app, id)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, WhereList{Where: notNil(list)})
}

// notNil makes an empty listing [] instead of null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
