package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/test/compat/legacybackend"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	legacy = "legacy"
	native = "native"
)

// backendRole is a backend as a process. It notes every message before it answers it with its own name, the user and the
// message, and every state that comes and goes.
type backendRole struct {
	Kind, Store, Region string
	Addrs               []string // tunnel ports
	Secret              string   // handed over by the environment, which no log shows
}

func (r *backendRole) run() error {
	if r.Kind == native {
		return r.serveNative()
	}
	return r.serveLegacy()
}

func (r *backendRole) note(op string, state wire.StateID, user string, data []byte) {
	e := event{Op: op, Store: r.Store, State: state.String(), User: user}
	if n, err := strconv.Atoi(string(data)); err == nil {
		e.N = n
	} else {
		e.Key = string(data)
	}
	say(e)
}

func (r *backendRole) serveNative() error {
	b, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: r.Addrs, Secret: sdk.Secret(r.Secret), StoreID: r.Store, Region: r.Region, Plain: true,
		OnAttached: func(addr string) { say(event{Op: "attached", Store: r.Store, Addr: addr}) },
		OnDetached: func(err error) { say(event{Op: "detached", Store: r.Store, Text: fmt.Sprint(err)}) },
		Log:        slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, sdk.Handlers{
		NewState: func(s *sdk.State, user string, data []byte) error {
			r.note("made", s.ID(), user, data)
			return nil
		},
		Load: func(s *sdk.State) error {
			r.note("loaded", s.ID(), "", nil)
			return nil
		},
		Leave: func(s *sdk.State, who *sdk.Session) { r.note("left", s.ID(), who.User(), nil) },
		Gone:  func(s *sdk.State) { r.note("gone", s.ID(), "", nil) },
		Message: func(s *sdk.State, from *sdk.Session, data []byte) {
			r.note("got", s.ID(), from.User(), data)
			from.Send(fmt.Appendf(nil, "%s %s %s", r.Store, from.User(), data))
		},
	})
	if err != nil {
		return err
	}
	return b.Run(context.Background())
}

// redial is the pause of a legacy backend between two tries; the published SDK makes one to two seconds.
const redial = time.Second

func (r *backendRole) serveLegacy() error {
	first, err := json.Marshal(map[string]any{"appSecret": r.Secret, "storeId": r.Store, "authInfo": map[string]any{"anonymous": map[string]string{"separator": "-"}}})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		addr := r.Addrs[i%len(r.Addrs)]
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		b, err := legacybackend.Dial(ctx, addr, first, r.onFrame)
		cancel()
		if err == nil {
			say(event{Op: "attached", Store: r.Store, Addr: addr})
			err = r.keep(b)
			b.Close()
		}
		say(event{Op: "detached", Store: r.Store, Text: fmt.Sprint(err)})
		time.Sleep(redial)
	}
}

// keep pings until the connection has ended: an address that has moved to another host answers with a reset.
func (r *backendRole) keep(b *legacybackend.Backend) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := b.Ended(ctx)
		cancel()
		if err == nil {
			return errors.New("closed")
		}
		if err := b.Ping(); err != nil {
			return err
		}
	}
}

func (r *backendRole) onFrame(b *legacybackend.Backend, f legacybackend.Frame) {
	switch f.Type {
	case legacybackend.NewState:
		r.note("made", wire.StateID(f.Room), f.User, f.Data)
	case legacybackend.Message:
		r.note("got", wire.StateID(f.Room), f.User, f.Data)
		b.Send(f.Room, f.User, fmt.Appendf(nil, "%s %s %s", r.Store, f.User, f.Data))
	}
}

// crowdRole is players in one process. Each sends a number more with every message, whatever happens to its connection.
type crowdRole struct {
	App     string
	Pace    time.Duration
	Players []playerRole
}

// playerRole is one client in one state.
type playerRole struct {
	Kind, User, State, Token string
	Addrs                    []string // "ws://host:port" or "tcp://host:port"
}

func (r *crowdRole) run() error {
	var all sync.WaitGroup
	for _, p := range r.Players {
		all.Go(func() {
			if p.Kind == native {
				r.playNative(p)
			} else {
				r.playLegacy(p)
			}
		})
	}
	all.Wait()
	return errors.New("all players have been turned away")
}

// heard notes an answer: "store user n".
func (r *crowdRole) heard(p playerRole, data []byte) {
	words := strings.Fields(string(data))
	if len(words) != 3 || words[1] != p.User {
		say(event{Op: "mistake", User: p.User, State: p.State, Text: fmt.Sprintf("%.80q", data)})
		return
	}
	n, _ := strconv.Atoi(words[2])
	say(event{Op: "heard", User: p.User, State: p.State, Store: words[0], N: n})
}

func (r *crowdRole) playNative(p playerRole) {
	about := func(op string, e event) {
		e.Op, e.User, e.State = op, p.User, p.State
		say(e)
	}
	client, err := sdk.NewClient(sdk.ClientConfig{
		Addrs: p.Addrs, App: r.App, State: p.State, Token: p.Token,
		OnMessage:      func(data []byte) { r.heard(p, data) },
		OnConnected:    func(c sdk.Connected) { about("connected", event{Addr: c.Addr}) },
		OnGap:          func(g sdk.Gap) { about("gap", event{N: g.Lost, Text: fmt.Sprintf("%+v", g)}) },
		OnDisconnected: func(err error) { about("disconnected", event{Text: fmt.Sprint(err)}) },
	})
	if err != nil {
		about("refused", event{Text: err.Error()})
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		about("ended", event{Text: fmt.Sprint(client.Run(ctx))})
		cancel()
	}()
	r.send(ctx, p, client.Send)
}

// send sends numbers until ctx ends.
func (r *crowdRole) send(ctx context.Context, p playerRole, send func([]byte) error) {
	tick := time.NewTicker(r.Pace)
	defer tick.Stop()
	for n := 1; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := send(strconv.AppendInt(nil, int64(n), 10)); err == nil {
			say(event{Op: "sent", User: p.User, State: p.State, N: n})
			n++
		} else {
			say(event{Op: "unsent", User: p.User, State: p.State, N: n, Text: err.Error()})
		}
	}
}

// playLegacy connects by revision D, and again to the next address when the connection has ended.
func (r *crowdRole) playLegacy(p playerRole) {
	var mu sync.Mutex
	var now *legacyclient.WebSocket
	go r.send(context.Background(), p, func(data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if now == nil {
			return errors.New("not connected")
		}
		return now.Send(data)
	})
	for i := 0; ; i++ {
		addr := p.Addrs[i%len(p.Addrs)]
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		ws, err := legacyclient.Dialer{Base: addr}.JoinD(ctx, r.App, p.Token, p.State)
		cancel()
		for first := true; err == nil; first = false {
			var m legacyclient.Message
			if m, err = ws.Next(context.Background()); err != nil {
				break
			}
			if first && len(m.Data) == 0 {
				mu.Lock()
				now = ws
				mu.Unlock()
				say(event{Op: "connected", User: p.User, State: p.State, Addr: addr})
				continue
			}
			r.heard(p, m.Data)
		}
		mu.Lock()
		now = nil
		mu.Unlock()
		if ws != nil {
			ws.Close()
		}
		say(event{Op: "disconnected", User: p.User, State: p.State, Text: err.Error()})
		time.Sleep(200 * time.Millisecond)
	}
}
