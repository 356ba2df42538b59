package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/wire"
)

var testApp = wire.AppIDOf("s3cr3t").String()

// runClient runs a client that notes all its callbacks.
func runClient(t testing.TB, j *journal, cfg ClientConfig) (c *Client, stop func() error) {
	t.Helper()
	cfg.App, cfg.State = testApp, "5"
	if cfg.Token == "" && cfg.TokenSource == nil {
		cfg.Token = "a-token"
	}
	cfg.OnMessage = func(b []byte) { j.note("message %s", short(b)) }
	cfg.OnConnected = func(c Connected) { j.note("connected %v resumed %v", c.State, c.Resumed) }
	cfg.OnGap = func(g Gap) { j.note("gap %d-%d lost %d certain %v", g.From, g.To, g.Lost, g.Certain) }
	cfg.OnDisconnected = func(error) { j.note("disconnected") }
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var once sync.Once
	var result error
	wait := func() {
		select {
		case result = <-ended:
		case <-time.After(patience):
			t.Error("the client does not end")
		}
	}
	stop = func() error { once.Do(func() { cancel(); wait() }); return result }
	t.Cleanup(func() { _ = stop() })
	return c, stop
}

func data(seq uint64, text string) wire.Frame {
	return wire.Frame{Type: wire.Data, Seq: seq, Payload: []byte(text)}
}

func TestClientTalksByWebSocketAndTCP(t *testing.T) {
	for _, web := range []bool{true, false} {
		t.Run(fmt.Sprintf("web=%v", web), func(t *testing.T) {
			n, j := newNode(t, web), newJournal()
			c, stop := runClient(t, j, ClientConfig{Addrs: []string{n.addr()}})
			if err := c.Send([]byte("before connecting")); err != nil {
				t.Fatal(err)
			}
			g := n.guest(t)
			if web && g.path != "/connect/"+testApp {
				t.Errorf("path %q", g.path)
			}
			if g.body.App.String() != testApp || string(g.body.State) != "5" || string(g.body.Token) != "a-token" ||
				g.body.Next != 1 || g.body.Seen != 0 || g.resumed || g.body.Stream == (wire.StreamID{}) {
				t.Fatalf("connect %+v, resumed %v", g.body, g.resumed)
			}
			g.accept(1, 1)
			big := bytes.Repeat([]byte("x"), 3*wire.MaxFragment+5)
			c.Send(big)
			if got := g.data(1); string(got) != "before connecting" {
				t.Errorf("got %q", got)
			}
			if got := g.data(2); !bytes.Equal(got, big) {
				t.Errorf("%d bytes", len(got))
			}
			g.say(data(1, "hello"), wire.Frame{Type: wire.Heartbeat, Seq: 99},
				wire.Frame{Type: wire.Data, Flags: wire.More, Seq: 2, Size: 6, Payload: []byte("abc")},
				wire.Frame{Type: wire.Data, Flags: wire.Cont, Seq: 2, Payload: []byte("def")},
				data(2, "again"), data(5, "five"))
			j.expect(t, "connected 5 resumed false", "message hello", "message abcdef",
				"gap 3-4 lost 0 certain true", "message five")
			if f := g.next(); f.Type != wire.HeartbeatAck || f.Seq != 99 {
				t.Errorf("%v %d", f.Type, f.Seq)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if f := g.next(); f.Type != wire.Close || f.Code != wire.CodeNormal {
				t.Errorf("%v %v", f.Type, f.Code)
			}
			if err := c.Send(nil); !errors.Is(err, ErrGone) {
				t.Error(err)
			}
		})
	}
}

func TestClientReconnectsRepeatsAndTellsOfGaps(t *testing.T) {
	a, b, j := newNode(t, true), newNode(t, false), newJournal()
	c, _ := runClient(t, j, ClientConfig{Addrs: []string{a.addr(), b.addr()}})
	next := func() *guest {
		select {
		case g := <-a.clients:
			return g
		case g := <-b.clients:
			return g
		case <-time.After(patience):
			t.Fatal("no client")
			return nil
		}
	}
	g := next()
	g.accept(1, 1)
	for i := 1; i <= 3; i++ {
		c.Send(fmt.Append(nil, "m", i))
		g.data(uint64(i))
	}
	g.say(wire.Frame{Type: wire.Ack, Seq: 1}, data(1, "one"))
	j.expect(t, "connected 5 resumed false", "message one")
	g.nc.Close()

	second := next()
	if !second.resumed || second.body.Stream != g.body.Stream || second.body.Next != 2 || second.body.Seen != 1 {
		t.Fatalf("reconnected with %+v", second.body)
	}
	if second.web == g.web {
		t.Error("the same node was asked first")
	}
	second.accept(2, 4) // numbers 2 and 3 from the backend are lost
	second.say(wire.Frame{Type: wire.Gap, Seq: 4, Index: 4})
	if string(second.data(2)) != "m2" || string(second.data(3)) != "m3" {
		t.Error("what was not acknowledged is not repeated")
	}
	j.expect(t, "disconnected", "connected 5 resumed true", "gap 2-3 lost 0 certain true", "gap 0-0 lost 0 certain false")
	second.say(wire.Frame{Type: wire.Expected, Seq: 3})
	if string(second.data(3)) != "m3" {
		t.Error("Expected is not answered")
	}
	// This node never acknowledges: what was sent is not repeated, but told.
	second.nc.Close()
	third := next()
	if third.body.Next != 4 {
		t.Fatalf("the stream goes on at %d", third.body.Next)
	}
	third.accept(4, 4)
	j.expect(t, "disconnected", "connected 5 resumed true", "gap 0-0 lost 2 certain false")
	third.say(wire.Frame{Type: wire.GoAway, Code: wire.CodeGoingAway})
	next()
}

func TestClientHonoursCodes(t *testing.T) {
	for _, c := range []struct {
		code  wire.Code
		again bool
	}{
		{wire.CodeGoingAway, true},
		{wire.CodeNoInstance, true},
		{wire.CodeSlow, true},
		{wire.CodeBadToken, false},
		{wire.CodeStateNotFound, false},
		{wire.CodeNormal, false},
		{4250, true},
		{4750, false},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/late=%v", c.code, late), func(t *testing.T) {
				n := newNode(t, false)
				client, err := NewClient(ClientConfig{Addrs: []string{n.addr()}, App: testApp, State: "5"})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- client.Run(ctx) }()
				g := n.guest(t)
				if late {
					g.accept(1, 1)
					g.say(wire.Frame{Type: wire.Close, Code: c.code, Payload: []byte("because")})
				} else {
					g.refuse(c.code, "because")
				}
				if c.again {
					n.guest(t)
					cancel()
					if err := <-ended; err != nil {
						t.Fatal(err)
					}
					return
				}
				var closed *CloseError
				if err := <-ended; !errors.As(err, &closed) || closed.Code != c.code || closed.Reason != "because" {
					t.Fatalf("Run returned %v", err)
				}
			})
		}
	}
}

func TestClientRenewsItsToken(t *testing.T) {
	n, j := newNode(t, false), newJournal()
	asked := 0
	runClient(t, j, ClientConfig{Addrs: []string{n.addr()}, TokenSource: func(context.Context) (string, error) {
		asked++
		return fmt.Sprint("token-", asked), nil
	}})
	g := n.guest(t)
	if string(g.body.Token) != "token-1" {
		t.Fatalf("token %q", g.body.Token)
	}
	g.accept(1, 1)
	g.say(wire.Frame{Type: wire.Token, Size: 60})
	if f := g.next(); f.Type != wire.Token || string(f.Payload) != "token-2" {
		t.Fatalf("%v %q", f.Type, f.Payload)
	}
	g.say(wire.Frame{Type: wire.Close, Code: wire.CodeTokenExpired})
	if g = n.guest(t); string(g.body.Token) != "token-3" {
		t.Fatalf("token %q", g.body.Token)
	}
}

func TestClientKeepsABoundedAmount(t *testing.T) {
	n, j := newNode(t, false), newJournal()
	c, _ := runClient(t, j, ClientConfig{Addrs: []string{n.addr()}, Keep: 10_000})
	g := n.guest(t)
	var err error
	sent := 0
	for ; err == nil; sent++ {
		if sent > 100 {
			t.Fatal("an unconnected client keeps everything")
		}
		err = c.Send(make([]byte, 1000))
	}
	if !errors.Is(err, ErrFull) || sent < 5 {
		t.Fatalf("after %d messages: %v", sent, err)
	}
	g.accept(1, 1)
	for i := 1; i < sent; i++ {
		g.data(uint64(i))
	}
	for range 3 * sent { // none of it acknowledged: the oldest make room
		for c.Send(make([]byte, 1000)) != nil {
			g.data(uint64(sent))
			sent++
		}
		g.data(uint64(sent))
		sent++
	}
	if c.bytes > 10_000 {
		t.Errorf("%d bytes are kept", c.bytes)
	}
}

func TestClientRefusesNonsense(t *testing.T) {
	for name, answer := range map[string]string{
		"not native":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"4 GiB frame":  "TRK1\x01\x01\x00\x00\x00\x00\xff\xff\xff\xff",
		"unknown type": "TRK1\x01\x01\x00\x00\x00\x00\x00\x00\x00\x02\xee\x00",
		"nothing":      "",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, false)
			c, err := NewClient(ClientConfig{Addrs: []string{n.addr()}, App: testApp, State: "5"})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				g := <-n.clients
				g.nc.Write([]byte(answer))
				g.nc.(*net.TCPConn).CloseWrite()
			}()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if worked, err := c.connect(ctx, n.addr()); worked || err == nil {
				t.Fatalf("worked: %v, %v", worked, err)
			}
		})
	}
}

func TestClientConfigIsChecked(t *testing.T) {
	good := ClientConfig{Addrs: []string{"wss://localhost"}, App: testApp, State: "5"}
	for name, change := range map[string]func(*ClientConfig){
		"no address": func(c *ClientConfig) { c.Addrs = nil },
		"scheme":     func(c *ClientConfig) { c.Addrs = []string{"http://x"} },
		"no port":    func(c *ClientConfig) { c.Addrs = []string{"tcp://x"} },
		"no host":    func(c *ClientConfig) { c.Addrs = []string{"wss://"} },
		"app":        func(c *ClientConfig) { c.App = strings.ToUpper(testApp) },
		"state":      func(c *ClientConfig) { c.State = "no state" },
		"message":    func(c *ClientConfig) { c.MaxMessage = 1 << 30 },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := NewClient(good); err != nil {
		t.Error(err)
	}
}

// A backend may acknowledge more than this connection has carried, since an earlier one carried more. What was not sent
// yet is sent all the same: a coordinator that misses a number takes none that follows.
func TestAckOfAnEarlierConnectionSkipsNothing(t *testing.T) {
	c := &Client{cfg: ClientConfig{Keep: 1 << 20, MaxMessage: 100}}
	for range 5 {
		if err := c.Send([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	c.begin(2)
	c.next = 2 // 2 and 3 are sent
	c.acked(4)
	if c.next != 0 || len(c.kept) != 2 || c.kept[0].seq != 4 {
		t.Errorf("kept %v, the next is at %d", c.kept, c.next)
	}
	c.begin(6)
	if len(c.kept) != 0 || c.bytes != 0 {
		t.Errorf("kept %v, %d bytes", c.kept, c.bytes)
	}
}
