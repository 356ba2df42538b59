package api

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/auth"
)

// problem is a refusal: a status, a code for programs, a sentence for people, and
// in how many seconds it may be worth trying again (0: not said).
type problem struct {
	status  int
	code    string
	message string
	retry   int
}

// Error returns the code.
func (p *problem) Error() string { return p.code }

// The refusals.
var (
	problemNotFound    = &problem{404, "not_found", "There is nothing at this address.", 0}
	problemMethod      = &problem{405, "method_not_allowed", "This address does not take that method; see the Allow header.", 0}
	problemInternal    = &problem{500, "internal", "Something went wrong here; the node's log says what.", 0}
	problemApp         = &problem{404, "app_not_found", "There is no such app. An app id is 64 lowercase hexadecimal digits; on this cluster an operator may have to create it with `trunkline apps create`.", 0}
	problemRegister    = &problem{403, "apps_listed", "This cluster takes only apps that its operator made: ask for one to be made with `trunkline apps create`.", 0}
	problemDisabled    = &problem{404, "login_disabled", "This login is not configured for the app: the backend names its logins when it registers.", 0}
	problemRate        = &problem{429, "too_many_requests", "Too many logins from this address: wait and try again.", 1}
	problemJSON        = &problem{400, "malformed_json", "The body is not the JSON that this endpoint takes.", 0}
	problemNickname    = &problem{400, "bad_nickname", "A nickname has at most 128 bytes of UTF-8.", 0}
	problemCredential  = &problem{401, "invalid_credential", "The identity token was not accepted: check its issuer, audience and expiry.", 0}
	problemIssuer      = &problem{503, "issuer_unavailable", "The keys of the identity provider cannot be fetched at the moment.", 10}
	problemForbidden   = &problem{403, "forbidden", "A token of this app is needed in the Authorization header: log in first.", 0}
	problemToken       = &problem{401, "unauthorized", "A token of this app is needed in the Authorization header: log in first.", 0}
	problemSecret      = &problem{401, "unauthorized", "The app's secret, or a token of the app, is needed in the Authorization header.", 0}
	problemTooLarge    = &problem{413, "body_too_large", "The body is larger than this endpoint or the app takes.", 0}
	problemSlow        = &problem{408, "body_too_slow", "The body did not arrive fast enough.", 0}
	problemBody        = &problem{400, "body_cut", "The body ended before its end.", 0}
	problemKeyLength   = &problem{400, "bad_idempotency_key", "An Idempotency-Key has at most 64 bytes.", 0}
	problemKeyReused   = &problem{422, "idempotency_key_reused", "This Idempotency-Key was used with another request.", 0}
	problemNoInstance  = &problem{503, "no_instance", "No backend of this app is connected.", 2}
	problemBusy        = &problem{503, "busy", "The node has too much to do at the moment: try again.", 1}
	problemStates      = &problem{429, "too_many_states", "The app has as many states as it may have at one time.", 10}
	problemState       = &problem{400, "bad_state_id", "A room or state id is a 64-bit number in base 36 (0-9, a-z).", 0}
	problemVisibility  = &problem{400, "bad_lobby", "The visibility of a lobby is private, public or local, its region at most 64 printable characters.", 0}
	problemUser        = &problem{404, "user_not_found", "Nobody with this id has logged in, or more than one app knows it.", 0}
	problemUserID      = &problem{400, "bad_user_id", "A user id has 1 to 255 bytes.", 0}
	problemHost        = &problem{400, "bad_host", "The Host header names no host and port that clients could connect to.", 0}
	problemUpgrade     = &problem{426, "upgrade_required", "This address is for WebSocket connections.", 0}
	problemNotReady    = &problem{503, "not_ready", "The node does not take clients at the moment.", 1}
	problemUnavailable = &problem{503, "shutting_down", "The request was given up before it was done.", 1}
)

// writeProblem writes a refusal. A time to come back is spread, so that many who
// were refused at once do not come back at once.
func writeProblem(w http.ResponseWriter, p *problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry+rand.IntN(p.retry+1)))
	}
	if p.status == http.StatusUpgradeRequired {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	writeJSON(w, p.status, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{p.code, p.message})
}

// writeJSON writes an answer, which nobody may keep unless a header says so.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"internal","message":"The answer could not be written."}`)
	}
	writeRaw(w, status, body)
}

func writeRaw(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// refuse answers with what the error means; one that means nothing to a client is
// logged and answered with 500.
func (a *API) refuse(w http.ResponseWriter, name string, err error) {
	var p *problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, ErrNoInstance):
		p = problemNoInstance
	case errors.Is(err, ErrTooManyStates):
		p = problemStates
	case errors.Is(err, ErrBusy):
		p = problemBusy
	case errors.Is(err, auth.ErrLoginDisabled):
		p = problemDisabled
	case errors.Is(err, auth.ErrUnavailable):
		p = problemIssuer
	case errors.Is(err, auth.ErrCredential):
		p = problemCredential
	case isCanceled(err):
		p = problemUnavailable
	default:
		p = problemInternal
		a.deps.Log.Error("a request failed", "endpoint", name, "err", capped(err.Error()))
	}
	writeProblem(w, p)
}

// capped returns s cut to at most 256 bytes, for logs, whose handler quotes.
func capped(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	r.status, r.wrote = status, true
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController the connection's writer.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// discard takes an answer that is not sent.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// counters counts answers by endpoint and status. Both come from fixed sets.
type counters struct {
	answers  sync.Map // answer -> *atomic.Uint64
	panics   atomic.Uint64
	limited  atomic.Uint64
	replayed atomic.Uint64
	unkept   atomic.Uint64
}

type answer struct {
	endpoint string
	status   int
}

func (c *counters) add(endpoint string, status int) {
	n, ok := c.answers.Load(answer{endpoint, status})
	if !ok {
		n, _ = c.answers.LoadOrStore(answer{endpoint, status}, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// Collect emits the counters of requests.
func (a *API) Collect(emit func(name string, value float64, labels ...string)) {
	a.counters.answers.Range(func(key, n any) bool {
		k := key.(answer)
		emit("http_requests_total", float64(n.(*atomic.Uint64).Load()),
			"endpoint", k.endpoint, "status", strconv.Itoa(k.status))
		return true
	})
	emit("http_panics_total", float64(a.counters.panics.Load()))
	emit("logins_limited_total", float64(a.counters.limited.Load()))
	emit("logins_not_kept_total", float64(a.counters.unkept.Load()))
	emit("create_replayed_total", float64(a.counters.replayed.Load()))
	emit("create_body_bytes", float64(a.bodies.inUse()))
	emit("idempotency_keys", float64(a.attempts.size()))
}
