package sdk

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	// maxMessage is what a message may have unless the configuration says less.
	maxMessage = 15 << 20
	// stall is how long a peer may read nothing while bytes wait for it.
	stall = 10 * time.Second
	// dialTimeout bounds connecting, TLS and the registration together.
	dialTimeout = 10 * time.Second
	rejoinWait  = 10 * time.Second
)

// Backend is one instance of an app. Make it with NewBackend.
type Backend struct {
	cfg    BackendConfig
	h      Handlers
	tcfg   tunnel.Config
	reg    tunnel.Registration
	secure *tls.Config // nil: plain

	sessions atomic.Int64
	working  atomic.Int64 // states whose handlers run
	wg       sync.WaitGroup

	mu     sync.Mutex
	states map[wire.StateID]*State
	link   *link // nil while detached
}

// NewBackend checks the configuration; it starts nothing.
func NewBackend(cfg BackendConfig, h Handlers) (*Backend, error) {
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("sdk: a backend needs the address of a coordinator")
	}
	for _, addr := range cfg.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("sdk: address %q: %w", addr, err)
		}
	}
	if cfg.Secret == "" {
		return nil, errors.New("sdk: a backend needs the secret of its app")
	}
	if cfg.Capacity < 0 || cfg.MaxMessage < 0 || cfg.MaxMessage > maxMessage {
		return nil, errors.New("sdk: capacity or largest message out of range")
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = maxMessage
	}
	if cfg.RejoinWait <= 0 {
		cfg.RejoinWait = rejoinWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	login, err := cfg.Login.loginJSON()
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, h: h, tcfg: tunnel.Default(), states: make(map[wire.StateID]*State)}
	b.tcfg.Log, b.tcfg.MaxMessage = cfg.Log, cfg.MaxMessage
	b.reg = tunnel.Registration{
		Kind: tunnel.Native, Secret: cfg.Secret, StoreID: cfg.StoreID, Region: cfg.Region,
		Capacity: uint32(cfg.Capacity), Login: login,
	}
	rand.Read(b.reg.Incarnation[:])
	if b.reg.StoreID == "" {
		b.reg.StoreID = hex.EncodeToString(b.reg.Incarnation[:])
	}
	if !cfg.Plain {
		b.secure = secureConfig(cfg.TLS, cfg.RootCAs)
	}
	return b, nil
}

// Run keeps the instance attached until ctx ends, then says goodbye, waits for
// the handlers that run and returns nil. An error is one that no retry can help:
// a refused registration, or another process that took this one's place.
func (b *Backend) Run(ctx context.Context) error {
	defer b.wg.Wait()
	defer b.loseAll()
	retry := newBackoff(b.cfg.Addrs, b.cfg.InOrder)
	for {
		addr, wait := retry.next()
		if !sleep(ctx, wait) {
			return nil
		}
		attached, err := b.attach(ctx, addr)
		if ctx.Err() != nil {
			return nil
		}
		var code *tunnel.CodeError
		if errors.As(err, &code) && hopeless(code.Code) {
			return fmt.Errorf("attach to %s: %w", addr, err)
		}
		if attached {
			retry.reset()
		} else {
			b.cfg.Log.Warn("cannot attach to coordinator", "addr", addr, "error", err)
		}
	}
}

// hopeless says whether a registration that was answered with code is refused
// for good.
func hopeless(code wire.Code) bool {
	switch code {
	case wire.CodeVersion, wire.CodeBadRegistration, wire.CodeUnknownApp, wire.CodeTakenOver:
		return true
	}
	return false
}

// attach dials addr and serves the tunnel until it ends; attached says that the
// coordinator took the registration.
func (b *Backend) attach(ctx context.Context, addr string) (attached bool, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := tunnel.Dial(dialCtx, addr, b.secure, stall, b.tcfg)
	if err != nil {
		return false, err
	}
	reg := b.reg
	reg.Holds = b.holds()
	a, err := tunnel.Attach(dialCtx, nc, &reg, b.load, b.tcfg)
	if err != nil {
		return false, err
	}
	l := newLink(b, a)
	b.resume(l)
	b.cfg.Log.Info("attached to coordinator", "addr", addr, "instance", uint64(a.Instance()), "gen", uint32(a.Gen()))
	if b.cfg.OnAttached != nil {
		b.cfg.OnAttached(addr)
	}
	err = l.serve(ctx)
	b.suspend(l)
	b.cfg.Log.Info("detached from coordinator", "addr", addr, "error", err)
	if b.cfg.OnDetached != nil {
		b.cfg.OnDetached(err)
	}
	return true, err
}

// load is what a heartbeat reports.
func (b *Backend) load() tunnel.Load {
	n := uint64(max(b.sessions.Load(), 0))
	load := tunnel.Load{Sessions: n}
	switch {
	case b.cfg.Load != nil:
		load.Permille = uint32(min(max(b.cfg.Load(), 0), 1000) * 1000)
	case b.cfg.Capacity > 0:
		load.Permille = uint32(min(n*1000/uint64(b.cfg.Capacity), 1<<20))
	}
	return load
}

// Sessions is how many sessions the instance has.
func (b *Backend) Sessions() int { return int(b.sessions.Load()) }

// States is how many states the instance has.
func (b *Backend) States() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.states)
}

// holds names the states that are kept.
func (b *Backend) holds() []tunnel.Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := make([]tunnel.Held, 0, len(b.states))
	for _, s := range b.states {
		held = append(held, tunnel.Held{State: s.id, Epoch: s.epoch})
	}
	return held
}

// resume gives the states that were kept to a new tunnel.
func (b *Backend) resume(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.link = l
	for _, s := range b.states {
		s.resume(l)
	}
}

// suspend stops handlers' contexts, acks and sends: the tunnel has ended. What
// was not yet a state here is given up; what was is kept.
func (b *Backend) suspend(l *link) {
	b.mu.Lock()
	b.link = nil
	kept := b.snapshot()
	b.mu.Unlock()
	for _, s := range kept {
		if !s.suspend() {
			b.drop(s)
		}
	}
}

// snapshot copies the states; b.mu is held.
func (b *Backend) snapshot() []*State {
	all := make([]*State, 0, len(b.states))
	for _, s := range b.states {
		all = append(all, s)
	}
	return all
}

// loseAll gives every state up: the instance ends.
func (b *Backend) loseAll() {
	b.mu.Lock()
	all := b.snapshot()
	b.mu.Unlock()
	for _, s := range all {
		s.lose()
		b.drop(s)
	}
}

// drop forgets a state unless another has taken its place.
func (b *Backend) drop(s *State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.states[s.id] == s {
		delete(b.states, s.id)
	}
}

// state returns the state, made (and then fresh is true) when there is none or
// an older epoch's, which is lost.
func (b *Backend) state(l *link, id wire.StateID, epoch wire.Epoch) (s *State, fresh bool) {
	b.mu.Lock()
	old := b.states[id]
	if old != nil && old.epoch == epoch {
		b.mu.Unlock()
		return old, false
	}
	s = newState(b, l, id, epoch)
	if old != nil {
		s.after = old.finished
	}
	b.states[id] = s
	b.mu.Unlock()
	if old != nil {
		old.lose()
	}
	return s, true
}

// find returns the state of this epoch, or nil.
func (b *Backend) find(id wire.StateID, epoch wire.Epoch) *State {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.states[id]; s != nil && s.epoch == epoch {
		return s
	}
	return nil
}
