package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// app is a tenant.
type app struct{ secret, id string }

func newApp() app {
	secret := canary + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return app{secret: secret, id: hex.EncodeToString(sum[:])}
}

// plan says what works on a world while it is broken.
type plan struct {
	backends int           // native ones, on n1, n2 and so on in turns
	players  int           // a third of them of the oldest protocol, the others of the SDK, by WebSocket and TCP in turns
	hosts    int           // backends and players run on so many hosts, the first ones; 0: on all
	tunnels  []string      // nodes that backends attach to; nil: any
	edges    []string      // nodes that players connect to; nil: any, their own host's first where the SDK does not choose
	pace     time.Duration // between two messages of a player; 0: 100 ms
	moves    bool          // whether states may move: instances die
}

// load is what works on a world, and what it did.
type load struct {
	*history
	w        *world
	app      app
	plan     plan
	backends []*process
	states   []string // those of the players
	players  []playerRole

	ctx     context.Context
	cancel  context.CancelFunc
	working sync.WaitGroup
	number  atomic.Uint32
	busy    atomic.Bool // creators may ask
}

// note adds an event of the story itself; a world without a load has no history.
func (l *load) note(e event) {
	if l != nil {
		e.At, e.Proc = time.Now().UnixNano(), "story"
		l.add(e)
	}
}

// work starts a load and returns when every player has had an answer.
func (w *world) work(p plan) *load {
	t := w.t
	t.Helper()
	if p.pace == 0 {
		p.pace = 100 * time.Millisecond
	}
	if p.hosts == 0 {
		p.hosts = len(w.nodes)
	}
	l := &load{history: newHistory(t), w: w, app: newApp(), plan: p}
	w.load = l
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	for i := range p.backends {
		l.attach(i)
	}
	until(t, "every node to know all backends", patience, func() bool {
		for _, n := range w.live() {
			if len(l.tunnels(n)) != p.backends {
				return false
			}
		}
		return true
	})
	l.busy.Store(true)
	for range max(2, p.backends*2) {
		l.states = append(l.states, l.mustCreate())
	}
	l.join("")
	for i := range 2 {
		l.repeat(fmt.Sprintf("creator-%d", i+1), 60*time.Millisecond, l.creates)
		l.repeat(fmt.Sprintf("lister-%d", i+1), 150*time.Millisecond, l.lists)
	}
	l.repeat("reader", 20*time.Millisecond, l.reads)
	l.answered("every player", time.Now().Add(-time.Minute), func(string) bool { return true })
	return l
}

// attach starts a native backend on the host of the node in turn; it tries all nodes.
func (l *load) attach(i int) *process {
	host := l.w.nodes[i%l.plan.hosts].host
	r := backendRole{Kind: native, Store: fmt.Sprintf("store-%d", i+1), Region: host.Region, Secret: l.app.secret}
	for _, n := range l.w.nodes {
		if l.plan.tunnels == nil || slices.Contains(l.plan.tunnels, n.name) {
			r.Addrs = append(r.Addrs, n.host.Addr.String()+":7147")
		}
	}
	p := startRole(l.w.t, l.history, host, r.Store, role{Backend: &r})
	l.backends = append(l.backends, p)
	return p
}

// tunnels answers which node holds the tunnel of each backend, as a node knows it.
func (l *load) tunnels(n *node) map[string]string {
	ctx, cancel := call()
	defer cancel()
	list, err := n.operator().Instances(ctx, l.app.id)
	if err != nil {
		return nil
	}
	all := map[string]string{}
	for _, i := range list {
		if i.NodeID != "" {
			all[i.StoreID] = i.NodeID
		}
	}
	return all
}

// token mints a token at a node that answers.
func (l *load) token(user string) (token string) {
	l.w.t.Helper()
	until(l.w.t, "a token", patience, func() bool {
		ctx, cancel := call()
		defer cancel()
		t, err := l.w.any(l.w.live()).operator().MintToken(ctx, l.app.id, admin.TestToken{User: user})
		token = t.Token
		return err == nil
	})
	return token
}

func (l *load) mustCreate() (state string) {
	l.w.t.Helper()
	token := l.token("creator")
	until(l.w.t, "a state to be created", patience, func() bool {
		state = l.create("story", l.w.any(l.w.live()), token)
		return state != ""
	})
	return state
}

// create asks a node to make a state, whose data is a number of its own, and notes the outcome.
func (l *load) create(who string, at *node, token string) string {
	ctx, cancel := context.WithTimeout(l.ctx, 12*time.Second)
	defer cancel()
	e := event{At: time.Now().UnixNano(), Proc: who, Op: "create", Node: at.name, Key: fmt.Sprintf("key-%d", l.number.Add(1))}
	state, err := at.api().Create(ctx, l.app.id, token, []byte(e.Key))
	e.Ret, e.Result, e.State = time.Now().UnixNano(), "ok", state
	if err != nil {
		e.Result, e.State, e.Text = "unknown", "", strings.ReplaceAll(err.Error(), l.app.id, "APP")
	}
	l.add(e)
	return e.State
}

// join starts the players: on every host those whose first node is there. What is put before their names tells those of
// two loads apart.
func (l *load) join(before string) {
	w := l.w
	crowds := make([]crowdRole, len(w.nodes))
	for i := range l.plan.players {
		home := i % l.plan.hosts
		p := playerRole{Kind: native, User: fmt.Sprintf("%suser-%d", before, i+1), State: l.states[i%len(l.states)]}
		p.Token = l.token(p.User)
		form := "ws://%s:8080"
		switch i / l.plan.hosts % 3 {
		case 0:
			p.Kind = legacy
		case 1:
			form = "tcp://%s:7148"
		}
		for k := range w.nodes {
			if at := w.nodes[(home+k)%len(w.nodes)]; l.plan.edges == nil || slices.Contains(l.plan.edges, at.name) {
				p.Addrs = append(p.Addrs, fmt.Sprintf(form, at.host.Addr))
			}
		}
		crowds[home].Players = append(crowds[home].Players, p)
		l.players = append(l.players, p)
	}
	for i, c := range crowds {
		if len(c.Players) > 0 {
			c.App, c.Pace = l.app.id, l.plan.pace
			startRole(w.t, l.history, w.nodes[i].host, before+"crowd-"+w.nodes[i].name, role{Crowd: &c})
		}
	}
}

// repeat has something done again and again, at random nodes, until the load stops.
func (l *load) repeat(who string, every time.Duration, do func(who string, at *node, dice *mathrand.Rand)) {
	dice := mathrand.New(mathrand.NewPCG(l.w.seed, uint64(len(who))<<8|uint64(who[len(who)-1])))
	l.working.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-l.ctx.Done():
				return
			}
			if l.busy.Load() {
				do(who, l.w.nodes[dice.IntN(len(l.w.nodes))], dice)
			}
		}
	})
}

func (l *load) creates(who string, at *node, _ *mathrand.Rand) {
	ctx, cancel := call()
	defer cancel()
	t, err := at.operator().MintToken(ctx, l.app.id, admin.TestToken{User: who})
	if err == nil {
		l.create(who, at, t.Token)
	}
}

// reads looks a state up that was made before.
func (l *load) reads(who string, at *node, dice *mathrand.Rand) {
	made := l.acked()
	if len(made) == 0 {
		return
	}
	// Mostly one of the last ones: those that not every node may know yet.
	from := max(0, len(made)-8)
	if dice.IntN(4) == 0 {
		from = 0
	}
	l.look(who, at, made[from+dice.IntN(len(made)-from)].State)
}

// look looks a state up at a node and notes what it said.
func (l *load) look(who string, at *node, state string) (found bool) {
	ctx, cancel := call()
	defer cancel()
	e := event{At: time.Now().UnixNano(), Proc: who, Op: "where", Node: at.name, State: state}
	rows, err := at.operator().Where(ctx, l.app.id, state)
	e.Ret = time.Now().UnixNano()
	var failed *admin.Failure
	switch {
	case err == nil && len(rows) == 1:
		e.Result, e.Epoch, e.Inst = "ok", rows[0].Epoch, rows[0].Instance
	case err == nil && len(rows) == 0, errors.As(err, &failed) && failed.Status == http.StatusNotFound:
		e.Result = "missing"
	default:
		return false // says nothing
	}
	l.add(e)
	return e.Result == "ok"
}

// listed are the apps that listers make and delete: registers of the control plane.
var listed = [3]app{newApp(), newApp(), newApp()}

func (l *load) lists(who string, at *node, dice *mathrand.Rand) {
	ctx, cancel := context.WithTimeout(l.ctx, 12*time.Second)
	defer cancel()
	which := dice.IntN(len(listed))
	e := event{At: time.Now().UnixNano(), Proc: who, Node: at.name, Key: fmt.Sprintf("app-%d", which+1), Op: "list"}
	var err error
	if dice.IntN(2) == 0 {
		_, err = at.operator().CreateApp(ctx, admin.CreateApp{Secret: admin.Secret(listed[which].secret)})
	} else {
		e.Op = "delete"
		err = at.operator().DeleteApp(ctx, listed[which].id)
	}
	e.Ret = time.Now().UnixNano()
	var failed *admin.Failure
	switch {
	case err == nil:
		e.Result = "ok"
	case errors.As(err, &failed) && failed.Status == http.StatusNotFound:
		e.Result = "missing"
	case errors.As(err, &failed) && failed.Status == http.StatusConflict:
		e.Result = "exists"
	default:
		e.Result, e.Text = "unknown", strings.ReplaceAll(err.Error(), listed[which].id, "APP")
	}
	l.add(e)
}

// acked are the creates that were acknowledged so far.
func (l *load) acked() (made []event) {
	for _, e := range l.of("create") {
		if e.Result == "ok" {
			made = append(made, e)
		}
	}
	return made
}

// stop ends creators and readers; players and backends go on.
func (l *load) stop() {
	l.cancel()
	l.working.Wait()
}
