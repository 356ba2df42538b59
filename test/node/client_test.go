package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// app is a tenant of a test's own.
type app struct{ name, secret, id string }

func newApp(name string) app {
	secret := canary + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return app{name: name, secret: secret, id: hex.EncodeToString(sum[:])}
}

// token returns a token of a user of that name.
func (a app) token(t *testing.T, c *coordinator, user string) string {
	t.Helper()
	token, err := c.operator(t).MintToken(t.Context(), a.id, admin.TestToken{User: user})
	if err != nil {
		t.Fatalf("mint a token: %v", err)
	}
	return token.Token
}

// create makes states, several at a time, and returns their ids.
func (a app) create(t *testing.T, c *coordinator, n int) []string {
	t.Helper()
	token := a.token(t, c, "creator")
	ids := make([]string, n)
	api := c.api()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range ids {
		g.Go(func() (err error) {
			ids[i], err = api.Create(t.Context(), a.id, token, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("create: %v", err)
	}
	return ids
}

// answer is what a backend said, and when it arrived.
type answer struct {
	at                         time.Time
	backend, state, user, text string
}

// player is one client in one state.
type player struct {
	user, state, kind string
	send              func(data []byte) error
	leave             func() // ends the connection; may be called twice

	mu       sync.Mutex
	answers  []answer
	joined   int           // connections that were acknowledged
	end      error         // why it is not connected any more, if so
	mistakes []string      // answers that are not to this player
	changed  chan struct{} // closed and replaced when the fields above change
}

// change changes the fields that p.mu guards.
func (p *player) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits for something that depends on what has arrived; ok is called under the lock. An end of the connection ends
// the wait.
func (p *player) await(ctx context.Context, what string, ok func() bool) error {
	for {
		p.mu.Lock()
		done, end, changed := ok(), p.end, p.changed
		p.mu.Unlock()
		switch {
		case done:
			return nil
		case end != nil:
			return fmt.Errorf("%s of %s in %s: not %s: %w", p.kind, p.user, p.state, what, end)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s of %s in %s: not %s: %w", p.kind, p.user, p.state, what, context.Cause(ctx))
		}
	}
}

// hear takes one message of a backend.
func (p *player) hear(data []byte) {
	now := time.Now()
	words := strings.SplitN(string(data), " ", 4)
	p.change(func() {
		if len(words) != 4 || words[1] != p.state || words[2] != p.user {
			p.mistakes = append(p.mistakes, fmt.Sprintf("%.80q", data))
			return
		}
		p.answers = append(p.answers, answer{now, words[0], words[1], words[2], words[3]})
	})
}

// ask sends a message and waits for the answer to it.
func (p *player) ask(ctx context.Context, text string) (answer, error) {
	p.mu.Lock()
	from := len(p.answers)
	p.mu.Unlock()
	if err := p.send([]byte(text)); err != nil {
		return answer{}, err
	}
	var got answer
	err := p.await(ctx, "answered", func() bool {
		for ; from < len(p.answers); from++ {
			if p.answers[from].text == text {
				got = p.answers[from]
				return true
			}
		}
		return false
	})
	return got, err
}

// heard returns the answers so far.
func (p *player) heard() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers
}

// undisturbed fails the test unless the player has had one connection all the time and no message of somebody else.
func (p *player) undisturbed(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil || p.joined != 1 {
		t.Errorf("%s of %s in %s was connected %d times, its end: %v", p.kind, p.user, p.state, p.joined, p.end)
	}
	if len(p.mistakes) > 0 {
		t.Errorf("%s of %s in %s heard what was not for it: %v", p.kind, p.user, p.state, p.mistakes)
	}
}

// join connects a player by revision D or by package sdk and waits until it is acknowledged.
func (a app) join(t *testing.T, c *coordinator, kind, user, state string) *player {
	t.Helper()
	return a.joinWith(t, c, kind, user, state, a.token(t, c, user))
}

func (a app) joinWith(t *testing.T, c *coordinator, kind, user, state, token string) *player {
	t.Helper()
	p, err := a.tryJoin(t, c, kind, user, state, token)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	return p
}

// tryJoin is joinWith for a node that may refuse.
func (a app) tryJoin(t *testing.T, c *coordinator, kind, user, state, token string) (*player, error) {
	t.Helper()
	p := &player{user: user, state: state, kind: kind, changed: make(chan struct{})}
	dial := p.dialLegacy
	if kind == native {
		dial = p.dialNative
	}
	if err := dial(t, c, a, token); err != nil {
		return nil, err
	}
	return p, p.await(within(t), "acknowledged", func() bool { return p.joined > 0 })
}

func (p *player) dialLegacy(t *testing.T, c *coordinator, a app, token string) error {
	t.Helper()
	ws, err := legacyclient.Dialer{Base: "ws://" + c.web()}.JoinD(within(t), a.id, token, p.state)
	if err != nil {
		return err
	}
	p.send = ws.Send
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for first := true; ; first = false {
			m, err := ws.Next(context.Background())
			switch {
			case err != nil:
				p.change(func() { p.end = err })
				return
			case first && len(m.Data) == 0:
				p.change(func() { p.joined++ })
			default:
				p.hear(m.Data)
			}
		}
	})
	p.leave = func() {
		ws.Close()
		hearing.Wait()
	}
	t.Cleanup(p.leave)
	return nil
}

func (p *player) dialNative(t *testing.T, c *coordinator, a app, token string) error {
	t.Helper()
	client, err := sdk.NewClient(sdk.ClientConfig{
		Addrs: []string{"ws://" + c.web()}, App: a.id, State: p.state, Token: token,
		OnMessage:      p.hear,
		OnConnected:    func(sdk.Connected) { p.change(func() { p.joined++ }) },
		OnDisconnected: func(err error) { p.change(func() { p.end = errors.Join(errors.New("disconnected"), err) }) },
	})
	if err != nil {
		return err
	}
	p.send = client.Send
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := client.Run(ctx); err != nil {
			p.change(func() { p.end = err })
		}
	})
	p.leave = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(p.leave)
	return nil
}

// crowd joins n players, of both kinds in turns, user-1 to user-n, spread over the states in turns.
func (a app) crowd(t *testing.T, c *coordinator, n int, states []string) []*player {
	t.Helper()
	players := make([]*player, n)
	var g errgroup.Group
	g.SetLimit(8)
	tokens := make([]string, n)
	for i := range players {
		g.Go(func() error {
			token, err := c.operator(t).MintToken(t.Context(), a.id, admin.TestToken{User: userName(i)})
			tokens[i] = token.Token
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("mint tokens: %v", err)
	}
	for i := range players {
		players[i] = a.joinWith(t, c, kinds[i%2], userName(i), states[i%len(states)], tokens[i])
	}
	return players
}

func userName(i int) string { return fmt.Sprintf("user-%d", i+1) }

// codeOf returns the close code with which a connection ended.
func codeOf(err error) int {
	var closed *legacyclient.Closed
	var refused *sdk.CloseError
	switch {
	case errors.As(err, &closed):
		return closed.Code
	case errors.As(err, &refused):
		return int(refused.Code)
	}
	return 0
}

// userOf reads the user out of a token.
func userOf(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	var claims struct{ ID string }
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(body, &claims)
	}
	if err != nil || claims.ID == "" {
		t.Fatalf("a token without a user: %v", err)
	}
	return claims.ID
}
