package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/auth"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	createTimeout  = 30 * time.Second // a create that nobody may be waiting for
	maxLobbies     = 1000
	maxRegion      = 64
	lobbyOverhead  = 4 << 10 // of a lobby's JSON beside its initialConfig
	lobbyTimestamp = "2006-01-02T15:04:05.000Z"
)

// app reads the app from the path.
func (a *API) app(r *http.Request) (wire.AppID, error) {
	app, err := wire.ParseAppID(r.PathValue("app"))
	if err != nil || !a.deps.Apps.Allowed(app) {
		return wire.AppID{}, problemApp
	}
	return app, nil
}

// credential reads the Authorization header, with or without "Bearer ".
func credential(r *http.Request) string {
	value := strings.TrimSpace(r.Header.Get("Authorization"))
	if len(value) > 7 && strings.EqualFold(value[:7], "Bearer ") {
		return strings.TrimSpace(value[7:])
	}
	return value
}

// userOf checks the request's token; the refusal is the same whatever is wrong.
func (a *API) userOf(r *http.Request, app wire.AppID, otherwise *problem) (string, error) {
	v, err := a.deps.Tokens.Verify([]byte(credential(r)))
	if err != nil || v.App != app.String() {
		return "", otherwise
	}
	return v.ID, nil
}

// create makes a state; its body goes to the backend as it is.
func (a *API) create(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	user, err := a.userOf(r, app, problemForbidden)
	if err != nil {
		return err
	}
	body, release, err := a.readBody(w, r, app, a.deps.Apps.MaxMessage(app))
	if err != nil {
		return err
	}
	defer release()
	made, err := a.makeState(r, "create", body, CreateRequest{App: app, User: user, Data: body})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		StateID string `json:"stateId"`
	}{made.state.String()})
	return nil
}

// makeState asks for the state, once per Idempotency-Key. A create with a key goes on
// when its client leaves: another may be waiting for what it makes.
func (a *API) makeState(r *http.Request, kind string, request []byte, q CreateRequest) (created, error) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxIdempotencyKey {
		return created{}, problemKeyLength
	}
	run := func(ctx context.Context) (created, error) {
		at := time.Time{}
		if q.Lobby != nil {
			at = q.Lobby.CreatedAt
		}
		state, err := a.deps.Rooms.Create(ctx, q)
		return created{state: state, at: at}, err
	}
	if key == "" {
		return run(r.Context())
	}
	q.IdempotencyKey = key
	made, replayed, err := a.attempts.do(r.Context(),
		digest(q.App[:], []byte(q.User), []byte(key)),
		digest([]byte(kind), request),
		a.deps.Clock(),
		func() (created, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), createTimeout)
			defer cancel()
			return run(ctx)
		})
	if replayed {
		a.counters.replayed.Add(1)
	}
	return made, err
}

// lobby is one lobby as @hathora/client-sdk and cloud-sdk read it.
type lobby struct {
	RoomID        string          `json:"roomId"`
	AppID         string          `json:"appId"`
	Region        string          `json:"region"`
	Visibility    string          `json:"visibility"`
	CreatedBy     string          `json:"createdBy"`
	CreatedAt     string          `json:"createdAt"`
	Local         bool            `json:"local"`
	ShortCode     *string         `json:"shortCode"`
	InitialConfig json.RawMessage `json:"initialConfig,omitempty"`
}

func (a *API) describe(app wire.AppID, l *Lobby) lobby {
	return lobby{
		RoomID:     l.State.String(),
		AppID:      app.String(),
		Region:     l.Region,
		Visibility: l.Visibility,
		CreatedBy:  l.CreatedBy,
		CreatedAt:  l.CreatedAt.UTC().Format(lobbyTimestamp),
		Local:      l.Visibility == "local",
	}
}

// lobbyCreate makes a state with a place in the list of lobbies; its
// initialConfig goes to the backend and is not kept.
func (a *API) lobbyCreate(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	user, err := a.userOf(r, app, problemToken)
	if err != nil {
		return err
	}
	limit := a.deps.Apps.MaxMessage(app)
	body, release, err := a.readBody(w, r, app, limit+lobbyOverhead)
	if err != nil {
		return err
	}
	defer release()
	var in struct {
		Visibility    string          `json:"visibility"`
		Region        string          `json:"region"`
		InitialConfig json.RawMessage `json:"initialConfig"`
	}
	if json.Unmarshal(body, &in) != nil {
		return problemJSON
	}
	if in.Visibility != "private" && in.Visibility != "public" && in.Visibility != "local" || !isRegion(in.Region) {
		return problemVisibility
	}
	if len(in.InitialConfig) > limit {
		return problemTooLarge
	}
	if in.InitialConfig == nil {
		in.InitialConfig = json.RawMessage("{}")
	}
	l := Lobby{Visibility: in.Visibility, Region: in.Region, CreatedBy: user, CreatedAt: a.deps.Clock()}
	listed := l // the one below is handed away
	made, err := a.makeState(r, "lobby", body, CreateRequest{App: app, User: user, Data: in.InitialConfig, Region: in.Region, Lobby: &listed})
	if err != nil {
		return err
	}
	l.State, l.CreatedAt = made.state, made.at
	out := a.describe(app, &l)
	out.InitialConfig = in.InitialConfig
	writeJSON(w, http.StatusCreated, out)
	return nil
}

// isRegion accepts "" and short printable text: it is shown to other clients.
func isRegion(s string) bool {
	if len(s) > maxRegion {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// lobbyList lists the newest public lobbies; it needs no token.
func (a *API) lobbyList(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	region := r.URL.Query().Get("region")
	if !isRegion(region) {
		return problemVisibility
	}
	found := a.deps.Rooms.Lobbies(app, region, maxLobbies)
	out := make([]lobby, 0, len(found))
	for i := range found[:min(len(found), maxLobbies)] {
		out = append(out, a.describe(app, &found[i]))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// connectionInfo says where the clients of a room connect. It does not say
// whether there is such a room: connecting to an unknown one is allowed.
func (a *API) connectionInfo(w http.ResponseWriter, r *http.Request) error {
	app, err := a.app(r)
	if err != nil {
		return err
	}
	state, err := wire.ParseStateID(r.PathValue("room"))
	if err != nil {
		return problemState
	}
	type info struct {
		Status        string `json:"status"`
		TransportType string `json:"transportType,omitempty"`
		Host          string `json:"host,omitempty"`
		Port          int    `json:"port,omitempty"`
		RoomID        string `json:"roomId"`
	}
	if !a.deps.Rooms.Status(app, state) {
		writeJSON(w, http.StatusOK, info{Status: "starting", RoomID: state.String()})
		return nil
	}
	at := a.public
	if at == nil {
		var ok bool
		if at, ok = parseHost(r.Host, a.cfg.Secure(r)); !ok {
			return problemHost
		}
	}
	writeJSON(w, http.StatusOK, info{Status: "active", TransportType: at.transport, Host: at.host, Port: at.port, RoomID: state.String()})
	return nil
}

// registerApp makes an app where any secret is taken: nothing is stored, since
// its id is the hash of its secret.
func (a *API) registerApp(w http.ResponseWriter, r *http.Request) error {
	if a.cfg.Listed {
		return problemRegister
	}
	if !a.mayLogin(r) {
		return problemRate
	}
	secret := auth.MintSecret()
	writeJSON(w, http.StatusOK, struct {
		AppID     string `json:"appId"`
		AppSecret string `json:"appSecret"`
	}{wire.AppIDOf(string(secret)).String(), string(secret)})
	return nil
}
