package control_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// frame is a request as anybody may write it.
func frame(id uint64, verb byte, body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(13+len(body)))
	b = binary.BigEndian.AppendUint64(b, id)
	b = append(b, verb, 0, 0, 0, 0)
	return string(b) + body
}

// reply is an answer as anybody may write it.
func reply(id uint64, status byte, body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(9+len(body)))
	b = binary.BigEndian.AppendUint64(b, id)
	return string(append(b, status)) + body
}

const hello = "\x01\x00\x10\x00\x00\x01\x00" // version 1, 1 MiB, 256 calls

const helloFrame = 4 + 9 + 7

// greetedBy connects without a client and reads what the server allows.
func greetedBy(t testing.TB, here nodeport.Network, addr string) net.Conn {
	t.Helper()
	c := must(here.Dial(t.Context(), addr))
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.ReadFull(c, make([]byte, helloFrame)); err != nil {
		t.Fatal(err)
	}
	return c
}

func ends(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.Copy(io.Discard, c)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Fatalf("the connection is still open: %v", err)
	}
}

func TestBrokenClientsAreClosed(t *testing.T) {
	many, few := "", ""
	for i := range 300 {
		many += frame(uint64(i), byte(control.Probe), "")
	}
	for i := range 5 {
		few += frame(uint64(i), byte(control.Enrol), "")
	}
	large := string(make([]byte, 16<<10+1))
	for name, given := range map[string]struct {
		peer nodeport.Peer
		say  string
	}{
		"4 GiB":                        {known, "\xff\xff\xff\xff"},
		"1 MiB and one":                {known, "\x00\x10\x00\x0e"},
		"no length":                    {known, "\x00\x00\x00\x00"},
		"a length below its head":      {known, "\x00\x00\x00\x0c\x00"},
		"a beat with a body":           {known, frame(0, 254, "x")},
		"a cancel with a body":         {known, frame(1, 255, "x")},
		"the same call twice":          {known, frame(1, byte(control.Probe), "") + frame(1, byte(control.Probe), "")},
		"too many calls":               {known, many},
		"16 KiB and one of a stranger": {nodeport.Peer{}, frame(1, byte(control.Enrol), large)},
		"too many calls of a stranger": {nodeport.Peer{}, few},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, here, there nodeport.Network) {
				wait := func(ctx context.Context, _ nodeport.Peer, _ []byte) ([]byte, error) {
					<-ctx.Done()
					return nil, nil
				}
				b := serve(t, there, anywhere, control.Default(), given.peer, handlers{control.Probe: wait, control.Enrol: wait})
				c := greetedBy(t, here, b.addr)
				_, _ = io.WriteString(c, given.say)
				ends(t, c)
				until(t, "it is counted", func() bool { n := b.Counters(); return n.Broken == 1 && n.Running == 0 && n.Connections == 0 })
			})
		})
	}
}

func TestAStrangerMayEnrolOnly(t *testing.T) {
	_, here, there := hosts()
	h := handlers{control.Enrol: echo, control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
		t.Error("a stranger asked for the status")
		return nil, nil
	}}
	b := serve(t, there, anywhere, control.Default(), nodeport.Peer{}, h)
	c := client(t, plain{here}, control.Default())
	if got, err := c.Call(t.Context(), b.addr, "", control.Enrol, make([]byte, 16<<10)); err != nil || len(got) != 16<<10 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := c.Call(t.Context(), b.addr, "", control.Enrol, make([]byte, 16<<10+1)); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("%v", err)
	}
	for verb := control.Enter; verb <= control.Gossip; verb++ {
		if _, err := c.Call(t.Context(), b.addr, "", verb, nil); !errors.Is(err, control.ErrRefused) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if n := c.Counters(); n.Dialled != 1 {
		t.Errorf("%+v", n)
	}
}

func TestAbsurdLengthsCostNoMemory(t *testing.T) {
	b := serve(t, nodeport.OS(), anywhere, control.Default(), known, nil)
	greeting := make([]byte, helloFrame)
	knock := func() {
		c := must(net.Dial("tcp", b.addr))
		_, _ = io.ReadFull(c, greeting)
		_, _ = c.Write([]byte("\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\x08\x00\x00\x00\x00"))
		_, _ = c.Read(greeting)
		_ = c.Close()
	}
	const rounds = 200
	knock()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		knock()
	}
	until(t, "all are counted", func() bool { return b.Counters().Broken == rounds+1 })
	runtime.ReadMemStats(&after)
	// Both ends together: two buffers of 4 KiB, room for 256 answers, what the kernel is asked with.
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 40<<10 {
		t.Errorf("each takes %d bytes", each)
	}
}

func TestStalledClientsAreCut(t *testing.T) {
	cfg := control.Default()
	for name, given := range map[string]struct {
		say  func(c net.Conn)
		ends time.Duration
	}{
		"no beat":      {func(net.Conn) {}, cfg.Silence},
		"half a frame": {func(c net.Conn) { _, _ = io.WriteString(c, frame(1, 8, "body")[:15]) }, cfg.Silence},
		"half a head":  {func(c net.Conn) { _, _ = io.WriteString(c, "\x00\x00") }, cfg.Silence},
		"drops": {func(c net.Conn) {
			for i := range 11 {
				_, _ = io.WriteString(c, frame(1, 8, "a body")[i:i+1])
				time.Sleep(time.Second) // the bubble's: it is the attack
			}
		}, cfg.Stall},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, here, there := hosts()
				b := serve(t, there, anywhere, cfg, known, handlers{control.Status: echo})
				c := greetedBy(t, here, b.addr)
				start := time.Now()
				go given.say(c)
				ends(t, c)
				if took := time.Since(start); took != given.ends {
					t.Errorf("closed after %v, want %v", took, given.ends)
				}
				synctest.Wait()
				if n := b.Counters(); n.Stalled != 1 || n.Connections != 0 {
					t.Errorf("%+v", n)
				}
				time.Sleep(cfg.Stall) // the bubble's: until nobody drips any more
			})
		})
	}
}

func TestAClientThatReadsNoAnswersIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		cfg := control.Default()
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
			return make([]byte, 1<<20), nil
		}})
		c := greetedBy(t, here, b.addr)
		start := time.Now()
		for i := range 4 {
			_, _ = io.WriteString(c, frame(uint64(i), byte(control.Status), ""))
		}
		for { // beats, so that it is not its silence for which it is cut
			if _, err := io.WriteString(c, frame(0, 254, "")); err != nil {
				break
			}
			time.Sleep(time.Second) // the bubble's
		}
		if took := time.Since(start); took < cfg.Stall || took > cfg.Stall+2*time.Second {
			t.Errorf("cut after %v", took)
		}
		synctest.Wait()
		if n := b.Counters(); n.Stalled != 1 || n.Connections != 0 || n.Running != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestBrokenServersAreLeft(t *testing.T) {
	cfg := control.Default()
	for name, given := range map[string]struct {
		say  string
		want error
		text string
	}{
		"silence":               {"", control.ErrNotSent, "greeting"},
		"half a greeting":       {reply(0, 3, hello)[:10], control.ErrNotSent, "greeting"},
		"a long greeting":       {reply(0, 3, string(make([]byte, 257))), control.ErrNotSent, "greeting"},
		"an answer first":       {reply(1, 0, "yes"), control.ErrNotSent, "greeting"},
		"another version":       {reply(0, 3, "\x02\x00\x10\x00\x00\x01\x00"), control.ErrNotSent, "version 2"},
		"no answer":             {reply(0, 3, hello), control.ErrUnknown, ""},
		"4 GiB":                 {reply(0, 3, hello) + "\xff\xff\xff\xff", nil, "malformed"},
		"an answer to no call":  {reply(0, 3, hello) + reply(77, 0, "yes"), nil, "no call"},
		"an unknown status":     {reply(0, 3, hello) + reply(1, 4, "yes"), nil, "status 4"},
		"greetings":             {reply(0, 3, hello) + reply(0, 3, hello), nil, "second greeting"},
		"an error without code": {reply(0, 3, hello) + reply(1, 1, "x"), nil, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, here, there := hosts()
				l := must(there.Listen(":1"))
				defer l.Close()
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						t.Cleanup(func() { _ = c.Close() })
						_, _ = io.WriteString(c, given.say)
					}
				}()
				c := client(t, plain{here}, cfg)
				start := time.Now()
				_, err := c.Call(t.Context(), there.Addr(1), "b", control.Status, nil)
				// Where it depends on who is first, the call was sent or not; it must have failed for the reason, and soon.
				if err == nil || !strings.Contains(err.Error(), given.text) || given.want != nil && !errors.Is(err, given.want) || time.Since(start) > cfg.Silence {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				var answered *control.Error
				if errors.As(err, &answered) {
					t.Errorf("it is taken for an answer: %v", err)
				}
				if n := c.Counters(); n.Connections != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

func TestHandlersAndLimitsThatCannotBeAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*control.Config){
		"no room for an error": func(c *control.Config) { c.MaxBody = 10 },
		"no calls":             func(c *control.Config) { c.MaxCalls = 0 },
		"no budget":            func(c *control.Config) { c.Budget = 1 },
		"no time":              func(c *control.Config) { c.Stall = 0 },
		"no second beat":       func(c *control.Config) { c.Silence = c.Beat },
		"a large stranger":     func(c *control.Config) { c.MaxAnonymous = c.MaxBody + 1 },
	} {
		cfg := control.Default()
		if spoil(&cfg); cfg.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
		if _, err := control.NewClient(cfg, plain{}); err == nil {
			t.Errorf("a client with %s is made", name)
		}
	}
	for name, h := range map[string]handlers{"verb 0": {0: echo}, "the beat's verb": {254: echo}, "nil": {control.Status: nil}} {
		if _, err := control.NewServer(control.Default(), h); err == nil {
			t.Errorf("a handler for %s is accepted", name)
		}
	}
	if _, err := control.NewClient(control.Default(), nil); err == nil {
		t.Error("a client that cannot dial is made")
	}
}
