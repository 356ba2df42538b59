package compat

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/compat/legacybackend"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// echo answers every message with itself.
func echo(b *legacybackend.Backend, f legacybackend.Frame) {
	if f.Type == legacybackend.Message {
		b.Send(f.Room, f.User, f.Data)
	}
}

// Every registration that a published backend ever wrote in JSON is taken.
func TestRegistrationsOfEveryYear(t *testing.T) {
	t.Parallel()
	n := startDev(t)
	for name, form := range map[string]string{
		"builder of 2021":        `{"appSecret":"SECRET","authInfo":{"anonymous":{"separator":"-"}}}`,
		"builder of May 2022":    `{"appSecret":"SECRET","storeRegion":"unknown","authInfo":{}}`,
		"builder of July 2022":   `{"appSecret":"SECRET","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"},"nickname":{}}}`,
		"server-sdk 0.0.3":       `{"appSecret":"SECRET","storeRegion":"0.123456789","authInfo":{"anonymous":{"separator":"-"}}}`,
		"server-sdk 0.4.1":       `{"appId":"APPID","appSecret":"SECRET","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"}}}`,
		"server-sdk 0.5.1":       `{"appSecret":"SECRET","storeId":"store-1","authInfo":{"anonymous":{"separator":"-"}}}`,
		"no authInfo":            `{"appSecret":"SECRET","storeId":"store-1"}`,
		"a key of another world": `{"appSecret":"SECRET","storeId":"store-1","color":{"of":["}","{"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApp()
			first := strings.NewReplacer("SECRET", a.secret, "APPID", a.id).Replace(form)
			b := a.raw(t, n, []byte(first), echo)
			a.awaitInstance(t, n, connected)
			token, user := a.login(t, n)
			state := a.create(t, n, token, []byte("data"))
			p := a.joinAs(t, n, state, token, user)
			p.say(t, "hello")
			p.hear(t, "hello")
			if kind := b.Frames()[0].Type; kind != legacybackend.NewState {
				t.Errorf("the first frame is of type %d, want NEW_STATE", kind)
			}
		})
	}
}

// Some registrations are refused, by closing: there is no other way to say so.
func TestRegistrationsThatAreRefused(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	other := newApp()
	for name, first := range map[string]string{
		"bare text of 2021":        a.secret,
		"an appId of another":      `{"appId":"` + other.id + `","appSecret":"` + a.secret + `","storeId":"store-1"}`,
		"no secret":                `{"storeId":"store-1"}`,
		"a frame of the first era": "\x00\x00\x00\x10\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x05alice",
		"not JSON":                 `{appSecret}`,
		"64 KiB and more of JSON":  `{"appSecret":"` + a.secret + `","storeId":"` + strings.Repeat("x", 70_000) + `"}`,
		"something else":           "GET / HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := a.raw(t, n, []byte(first), nil)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := b.Ended(ctx); err != nil {
				t.Errorf("not closed: %v", err)
			}
			if frames := b.Frames(); len(frames) > 0 {
				t.Errorf("got frames: %v", frames)
			}
		})
	}
}

// Nothing in the old protocol marks where a registration ends: frames may share its segment, or it comes byte by byte.
func TestRegistrationHasNoEndMark(t *testing.T) {
	t.Parallel()
	n := startDev(t)
	frame := func(f string) []byte {
		b, err := hex.DecodeString(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ping, send := frame("0000000102"), frame("00000011000123456789abcdef05616c696365797b")
	t.Run("frames behind it", func(t *testing.T) {
		t.Parallel()
		a := newApp()
		b := a.raw(t, n, append(append(a.registration(t, "store-1"), ping...), send...), echo)
		a.works(t, n, b)
	})
	t.Run("frames before it", func(t *testing.T) {
		t.Parallel()
		a := newApp()
		first := append(append(append([]byte{}, send...), ping...), send...)
		b := a.raw(t, n, append(append(first, a.registration(t, "store-1")...), send...), echo)
		a.works(t, n, b)
	})
	t.Run("byte by byte", func(t *testing.T) {
		t.Parallel()
		a := newApp()
		all := append(append(append([]byte{}, send...), a.registration(t, "store-1")...), ping...)
		b := a.raw(t, n, all[:1], echo)
		for i := range all[1:] {
			if err := b.Write(all[1+i : 2+i]); err != nil {
				t.Fatal(err)
			}
		}
		a.works(t, n, b)
	})
}

// works creates a state and talks to it.
func (a app) works(t *testing.T, n *node, b *legacybackend.Backend) {
	t.Helper()
	a.awaitInstance(t, n, connected)
	token, user := a.login(t, n)
	state := a.create(t, n, token, nil)
	p := a.joinAs(t, n, state, token, user)
	p.say(t, "hello")
	p.hear(t, "hello")
	for _, f := range b.Frames() {
		if f.Type == legacybackend.Connected {
			t.Errorf("a greeting was sent: the SDKs before 0.5.0 crash on it")
		}
	}
}

// A PING is not answered, by anything: the SDK would take the answer for a frame.
func TestPingsAreNotAnswered(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	b := a.attached(t, n, echo)
	for range 5 {
		if err := b.Ping(); err != nil {
			t.Fatal(err)
		}
	}
	a.works(t, n, b)
	for i, f := range b.Frames() {
		if i == 0 && f.Type != legacybackend.NewState {
			t.Errorf("the first frame is %v, want NEW_STATE", f)
		}
	}
}

// The order of a room: NEW_STATE, SUBSCRIBE, MESSAGE as sent, UNSUBSCRIBE, for many rooms and users at once.
func TestOrderInEveryRoom(t *testing.T) {
	t.Parallel()
	const roomsCount, messages = 40, 50
	n, a := startDev(t), newApp()
	b := a.attached(t, n, nil)
	token, user := a.login(t, n)
	a.create(t, n, token, nil)

	type room struct {
		id  uint64
		err error
	}
	done := make(chan room, roomsCount)
	for range roomsCount {
		go func() {
			id, err := a.talk(t.Context(), n, token, messages)
			done <- room{id, err}
		}()
	}
	for range roomsCount {
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, _, err := b.Await(ctx, 0, func(f legacybackend.Frame) bool {
			return f.Room == r.id && f.Type == legacybackend.Unsubscribe
		}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range b.Frames() {
			if f.Room == r.id {
				got = append(got, fmt.Sprintf("%d %s %s", f.Type, f.User, f.Data))
			}
		}
		want := []string{fmt.Sprintf("%d %s init", legacybackend.NewState, user), fmt.Sprintf("%d %s ", legacybackend.Subscribe, user)}
		for i := range messages {
			want = append(want, fmt.Sprintf("%d %s %d", legacybackend.Message, user, i))
		}
		want = append(want, fmt.Sprintf("%d %s ", legacybackend.Unsubscribe, user))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("room %x saw\n%s\nwant\n%s", r.id, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// talk creates a room, joins it, says some numbers and leaves.
func (a app) talk(ctx context.Context, n *node, token string, messages int) (uint64, error) {
	state, err := n.api().Create(ctx, a.id, token, []byte("init"))
	if err != nil {
		return 0, err
	}
	id, err := legacyclient.ParseState(state)
	if err != nil {
		return 0, err
	}
	c, err := n.ws().JoinD(ctx, a.id, token, state)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for i := range messages {
		if err := c.Send(fmt.Appendf(nil, "%d", i)); err != nil {
			return 0, err
		}
	}
	if _, err := c.Next(ctx); err != nil {
		return 0, err
	}
	c.Leave(1000)
	return id, nil
}

// After a reconnect the old SDK still lists who it knew: users who are there are subscribed again, users who left
// meanwhile are unsubscribed.
func TestUsersAfterAReconnect(t *testing.T) {
	t.Parallel()
	n, a := startDev(t, "--legacy-grace", "20s"), newApp()
	b := a.attached(t, n, echo)
	token, _ := a.login(t, n)
	state := a.create(t, n, token, nil)
	stays, leaves := a.join(t, n, state), a.join(t, n, state)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, p := range []*player{stays, leaves} {
		if _, _, err := b.Await(ctx, 0, func(f legacybackend.Frame) bool {
			return f.Type == legacybackend.Subscribe && f.User == p.user
		}); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	a.awaitInstance(t, n, func(i admin.Instance) bool { return !i.Connected })
	leaves.conn.(*legacyclient.WebSocket).Leave(1000)
	a.awaitInstance(t, n, func(i admin.Instance) bool { return !i.Connected && i.Sessions == 1 })

	b = a.attached(t, n, echo)
	for kind, p := range map[byte]*player{legacybackend.Subscribe: stays, legacybackend.Unsubscribe: leaves} {
		if _, _, err := b.Await(ctx, 0, func(f legacybackend.Frame) bool {
			return f.Type == kind && f.User == p.user
		}); err != nil {
			t.Errorf("frame of type %d for %s after the reconnect: %v", kind, p.user, err)
		}
	}
	for _, f := range b.Frames() {
		if f.Type == legacybackend.NewState || f.Type == legacybackend.Subscribe && f.User == leaves.user {
			t.Errorf("%v after the reconnect", f)
		}
	}
	stays.say(t, "hello")
	stays.hear(t, "hello")
}

// A slow registration does not hold a connection for ever.
func TestARegistrationThatNeverComes(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	began := time.Now()
	b := a.raw(t, n, []byte(`{"appSecret":"`), nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.Ended(ctx); err != nil {
		t.Fatalf("not closed: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("closed after %v, want about 10 s", took)
	}
}

// Logins must take whatever the clients of each language post.
func TestLoginBodiesOfEveryLanguage(t *testing.T) {
	t.Parallel()
	n, a := startDev(t), newApp()
	for name, call := range map[string]struct{ path, kind, body string }{
		"TypeScript, anonymous": {"/login/anonymous", "application/x-www-form-urlencoded", ""},
		"C#, anonymous":         {"/login/anonymous", "", ""},
		"Godot, anonymous":      {"/login/anonymous", "application/json", "{}"},
		"TypeScript, nickname":  {"/login/nickname", "application/json", `{"nickname":"Zoë"}`},
		"Rust, nickname":        {"/login/nickname", "", ""},
		"C#, nickname":          {"/login/nickname", "text/plain; charset=utf-8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string][]string{}
			if call.kind != "" {
				header["Content-Type"] = []string{call.kind}
			}
			answer, err := n.api().Call(t.Context(), "POST", "/"+a.id+call.path, header, []byte(call.body))
			if err != nil || answer.Status != 200 {
				t.Fatalf("status %d (%v): %s", answer.Status, err, answer.Body)
			}
			var out struct{ Token string }
			if err := json.Unmarshal(answer.Body, &out); err != nil {
				t.Fatal(err)
			}
			everyReader(t, out.Token)
			if id := claims(t, out.Token)["id"]; id == "" || id == nil {
				t.Errorf("a token without an id")
			}
		})
	}
}

// everyReader checks what the SDKs of all languages need of a token: three parts, an alphabet that base64 and base64url
// share, ASCII in the payload.
func everyReader(t *testing.T, token string) {
	t.Helper()
	parts := strings.Split(plant(token), ".")
	if len(parts) != 3 || strings.ContainsAny(parts[1], "-_+/=") {
		t.Fatalf("a token that C# or Rust cannot read: %d parts, payload %s", len(parts), parts[1])
	}
}
