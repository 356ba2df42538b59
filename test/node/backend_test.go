package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/test/compat/legacybackend"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	legacy = "legacy"
	native = "native"
)

// kinds are the two kinds of backends.
var kinds = []string{legacy, native}

// backendRole is a backend as a process of its own. It answers every message with its own name, the state, the user and
// the message, so that the client sees who got what; see do for what it does besides.
type backendRole struct {
	Kind, App, Store string
	Addr             string
	// Secret is handed over by the environment, which no log shows.
	Secret string
	// Journal, if set, is a file to which every message is appended, a line each, before it is answered: what a handler
	// got is known even of a process that was killed.
	Journal string
	// Refuses has it turn every user away.
	Refuses bool
	// Silent has it say nothing at all.
	Silent bool

	journal *os.File
}

// run serves until the process is killed.
func (r *backendRole) run() error {
	if r.Journal != "" {
		var err error
		if r.journal, err = os.OpenFile(r.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return err
		}
	}
	if r.Kind == native {
		return r.serveNative()
	}
	return r.serveLegacy()
}

// answer is what a backend says to a message.
func (r *backendRole) answer(state wire.StateID, user string, data []byte) []byte {
	if r.journal != nil {
		fmt.Fprintf(r.journal, "%s %s\n", user, data) // one write, unbuffered
	}
	return fmt.Appendf(nil, "%s/%s %s %s %s", r.App, r.Store, state, user, data)
}

// do obeys a message that is an order: "kick USER", "flood N SIZE" (messages back to who asks) or "block" (the handler
// never returns). It reports false for any other message, which is to be answered.
func do(data []byte, kick func(user string), send func([]byte)) bool {
	words := strings.Fields(string(data[:min(len(data), 64)]))
	switch {
	case len(words) == 2 && words[0] == "kick":
		kick(words[1])
	case len(words) == 3 && words[0] == "flood":
		n, _ := strconv.Atoi(words[1])
		size, _ := strconv.Atoi(words[2])
		filler := make([]byte, size)
		for range n {
			send(filler)
		}
	case len(words) == 1 && words[0] == "block":
		select {}
	default:
		return false
	}
	return true
}

// redial is the pause of a legacy backend between two tries; the published SDK makes one to two seconds.
const redial = time.Second

func (r *backendRole) serveLegacy() error {
	first, err := json.Marshal(map[string]any{
		"appSecret": r.Secret, "storeId": r.Store, "authInfo": map[string]any{"anonymous": map[string]string{"separator": "-"}, "nickname": map[string]any{}},
	})
	if err != nil {
		return err
	}
	for {
		b, err := legacybackend.Dial(context.Background(), r.Addr, first, r.onFrame)
		if err == nil {
			err = b.Ended(context.Background())
		}
		fmt.Fprintln(os.Stderr, r.Store, "is detached:", err)
		time.Sleep(redial)
	}
}

func (r *backendRole) onFrame(b *legacybackend.Backend, f legacybackend.Frame) {
	switch {
	case r.Silent:
	case r.Refuses && f.Type == legacybackend.Subscribe:
		b.Kick(f.Room, f.User)
	case f.Type == legacybackend.Message:
		kick := func(user string) { b.Kick(f.Room, user) }
		send := func(data []byte) { b.Send(f.Room, f.User, data) }
		if !do(f.Data, kick, send) {
			send(r.answer(wire.StateID(f.Room), f.User, f.Data))
		}
	}
}

func (r *backendRole) serveNative() error {
	b, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: []string{r.Addr}, Secret: sdk.Secret(r.Secret), StoreID: r.Store, Plain: true,
		Login: &sdk.Login{Anonymous: &sdk.AnonymousLogin{Separator: "-"}, Nickname: &sdk.NicknameLogin{}},
		Log:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, sdk.Handlers{
		Load: func(*sdk.State) error {
			if r.Refuses {
				return errors.New("no such state")
			}
			return nil
		},
		Message: r.onMessage,
	})
	if err != nil {
		return err
	}
	return b.Run(context.Background())
}

func (r *backendRole) onMessage(s *sdk.State, from *sdk.Session, data []byte) {
	kick := func(user string) {
		for _, c := range s.Sessions() {
			if c.User() == user {
				c.Close(wire.CodeStateNotFound, "kicked")
			}
		}
	}
	send := func(data []byte) { from.Send(data) }
	if !r.Silent && !do(data, kick, send) {
		send(r.answer(s.ID(), from.User(), data))
	}
}

// backend is a started backendRole.
type backend struct {
	*process
	role backendRole
}

// name is how the backend calls itself in its answers.
func (b *backend) name() string { return b.role.App + "/" + b.role.Store }

// startBackend starts a backend and waits until the coordinator has it. An empty address is the coordinator's own.
func (a app) startBackend(t *testing.T, c *coordinator, r backendRole) *backend {
	t.Helper()
	r.App, r.Secret = a.name, a.secret
	if r.Addr == "" {
		r.Addr = c.tunnel()
	}
	gen := c.instances(t, a)[r.Store].Gen
	b := &backend{process: startRole(t, r.App+"-"+r.Store, role{Backend: &r}), role: r}
	until(t, r.Store+" to be attached", func() bool {
		i := c.instances(t, a)[r.Store]
		return i.Connected && i.Gen != gen
	})
	return b
}

// threeBackends starts store-1 to store-3, with journals if so told, and returns them by their names.
func (a app) threeBackends(t *testing.T, c *coordinator, kind string, journals bool) map[string]*backend {
	t.Helper()
	all := map[string]*backend{}
	for i := range 3 {
		r := backendRole{Kind: kind, Store: fmt.Sprintf("store-%d", i+1)}
		if journals {
			r.Journal = filepath.Join(t.TempDir(), r.Store)
		}
		b := a.startBackend(t, c, r)
		all[b.name()] = b
	}
	return all
}
