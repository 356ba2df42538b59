package api

import (
	"net/http"

	"github.com/trunkline-edge/trunkline/auth"
)

// jwks hands out the public halves of the keys that sign tokens.
func (a *API) jwks(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "public, max-age=60")
	writeRaw(w, http.StatusOK, auth.JWKS(a.deps.Keys()))
	return nil
}

type status struct {
	Status string `json:"status"`
}

// livez says that the process answers.
func (a *API) livez(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, status{"ok"})
	return nil
}

// readyz says whether clients should be sent here.
func (a *API) readyz(w http.ResponseWriter, _ *http.Request) error {
	if err := a.deps.Ready(); err != nil {
		return &problem{problemNotReady.status, problemNotReady.code, "The node does not take clients at the moment: " + capped(err.Error()) + ".", problemNotReady.retry}
	}
	writeJSON(w, http.StatusOK, status{"ok"})
	return nil
}

// upgradeOnly answers a plain request where a WebSocket lives.
func (a *API) upgradeOnly(w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("segment") == "registerApp" {
		w.Header().Set("Allow", http.MethodPost)
		return problemMethod
	}
	return problemUpgrade
}
