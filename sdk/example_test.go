package sdk_test

import (
	"context"
	"fmt"
	"net"

	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// A room in which everyone hears what anyone says.
func ExampleNewBackend() {
	coordinator := listenForBackend()
	backend, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs:  []string{coordinator.addr()},
		Secret: "dev-secret",
		Plain:  true,
	}, sdk.Handlers{
		Join: func(room *sdk.State, who *sdk.Session) error {
			return who.Send([]byte("welcome, " + who.User()))
		},
		Message: func(room *sdk.State, from *sdk.Session, data []byte) {
			room.Broadcast(fmt.Appendf(nil, "%s says %s", from.User(), data))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	go coordinator.converse("alice", "hello")
	go func() {
		coordinator.wait()
		stop()
	}()
	if err := backend.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// to alice: welcome, alice
	// to all: alice says hello
}

// A state with data of its own: no lock is needed, since the handlers of one
// state run one at a time.
func ExampleState() {
	type scores map[string]int
	handlers := sdk.Handlers{
		NewState: func(s *sdk.State, user string, data []byte) error {
			s.Data = scores{}
			return nil
		},
		Load: func(s *sdk.State) error {
			s.Data = scores{} // or read it from where Gone has stored it
			return nil
		},
		Message: func(s *sdk.State, from *sdk.Session, data []byte) {
			all := s.Data.(scores)
			all[from.User()] += len(data)
			from.Send(fmt.Appendf(nil, "you have %d", all[from.User()]))
		},
	}
	runWith(handlers, "bob", "12345", "678")
	// Output:
	// to bob: you have 5
	// to bob: you have 8
}

// A client that says hello, prints the answer and leaves.
func ExampleNewClient() {
	node := listenForClient("you are welcome")
	ctx, stop := context.WithCancel(context.Background())
	client, err := sdk.NewClient(sdk.ClientConfig{
		Addrs: []string{node}, // in earnest wss://host, and more than one
		App:   "298754db2dbab6ec62605ceb0379eb7ee376580359449efe0caa3aa06cd56736",
		State: "2mpx0epsw3m1j",
		Token: "from the login",
		OnMessage: func(data []byte) {
			fmt.Println("heard:", string(data))
			stop()
		},
		OnGap: func(sdk.Gap) { fmt.Println("load the state anew") },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Send([]byte("hello"))
	if err := client.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// node got: hello
	// heard: you are welcome
}

// exampleCoordinator stands in for a coordinator: one user in one state.
type exampleCoordinator struct {
	tunnel.Sink // calls that do not matter here panic
	ln          net.Listener
	user        string
	said        int
	expect      int
	done        chan struct{}
}

func listenForBackend() *exampleCoordinator {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return &exampleCoordinator{ln: ln, expect: 2, done: make(chan struct{})}
}

func runWith(h sdk.Handlers, user string, messages ...string) {
	c := listenForBackend()
	c.expect = len(messages)
	b, err := sdk.NewBackend(sdk.BackendConfig{Addrs: []string{c.addr()}, Secret: "dev-secret", Plain: true}, h)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go c.converse(user, messages...)
	go func() {
		c.wait()
		stop()
	}()
	_ = b.Run(ctx)
}

func (c *exampleCoordinator) addr() string { return c.ln.Addr().String() }
func (c *exampleCoordinator) wait()        { <-c.done }

// converse takes one tunnel and has a user say something on it.
func (c *exampleCoordinator) converse(user string, messages ...string) {
	c.user = user
	nc, err := c.ln.Accept()
	if err != nil {
		panic(err)
	}
	c.ln.Close()
	_, t, err := tunnel.Accept(context.Background(), nc, tunnel.Default())
	if err != nil {
		panic(err)
	}
	t.Confirm(1, 1)
	line := t.Line(5, 1)
	s := &tunnel.Session{Channel: 1, State: 5, Epoch: 1, User: user, Next: 1}
	line.Open(s)
	for i, m := range messages {
		line.Data(s, uint64(i+1), []byte(m), false)
	}
	t.Flush()
	_ = t.Run(context.Background(), c)
}

func (c *exampleCoordinator) count() {
	if c.said++; c.said == c.expect {
		close(c.done)
	}
}

func (c *exampleCoordinator) ToSession(_ uint32, _ uint64, payload []byte, _ bool) {
	fmt.Printf("to %s: %s\n", c.user, payload)
	c.count()
}

func (c *exampleCoordinator) ToAll(_ wire.StateID, _ wire.Epoch, _ uint32, payload []byte, _ bool) {
	fmt.Printf("to all: %s\n", payload)
	c.count()
}

func (c *exampleCoordinator) StateAccepted(wire.StateID, wire.Epoch) {}
func (c *exampleCoordinator) SessionAccepted(uint32)                 {}
func (c *exampleCoordinator) Acked(uint32, uint64)                   {}
func (c *exampleCoordinator) Load(tunnel.Load)                       {}
func (c *exampleCoordinator) Leaving()                               {}
func (c *exampleCoordinator) Drained()                               {}

// listenForClient stands in for a node: it prints the first message and answers.
func listenForClient(answer string) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		defer nc.Close()
		ln.Close()
		buf := make([]byte, 64<<10)
		have := 0
		next := func(from int) (f wire.Frame, end int) {
			for {
				body, n, err := wire.SplitFrame(buf[from:have], wire.MaxFrame)
				if err != nil {
					panic(err)
				}
				if n > 0 && from+n <= have {
					if err := f.Decode(body); err != nil {
						panic(err)
					}
					return f, from + n
				}
				n, err = nc.Read(buf[have:])
				if err != nil {
					panic(err)
				}
				have += n
			}
		}
		for have < wire.HelloSize {
			n, err := nc.Read(buf[have:])
			if err != nil {
				panic(err)
			}
			have += n
		}
		_, at := next(wire.HelloSize) // Connect
		body := wire.ConnectedBody{State: 5, Next: 1, Down: 1}
		b := wire.AppendHello(nil, wire.OurHello())
		b = wire.AppendFrame(b, &wire.Frame{Type: wire.Connected, Payload: body.Append(nil)})
		nc.Write(b)
		f, _ := next(at)
		fmt.Printf("node got: %s\n", f.Payload)
		nc.Write(wire.AppendFrame(nil, &wire.Frame{Type: wire.Data, Seq: 1, Payload: []byte(answer)}))
		_, _ = nc.Read(buf) // Close, or the end
	}()
	return "tcp://" + ln.Addr().String()
}
