package nodeport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

func TestKindsReachWhoServesThem(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		cfg := a.config(t, there, "b")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo, nodeport.Link: echo}
		b := run(t, cfg)
		raft := b.Listener(nodeport.Raft)
		from := run(t, a.config(t, here, "a"))

		for _, kind := range []nodeport.Kind{nodeport.Control, nodeport.Link} {
			c, err := from.Dial(t.Context(), b.Addr().String(), "b", kind)
			if err != nil {
				t.Fatal(err)
			}
			reads(t, c, "a\n")
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			reads(t, c, "hello")
			if peer, ok := nodeport.PeerOf(c); !ok || peer.NodeID != "b" || peer.KeyHash == [32]byte{} || peer.TLS == nil {
				t.Errorf("the other end is %+v", peer)
			}
		}

		out, err := from.Dial(t.Context(), b.Addr().String(), "", nodeport.Raft)
		if err != nil {
			t.Fatal(err)
		}
		in, err := raft.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if peer, _ := nodeport.PeerOf(in); peer.NodeID != "a" {
			t.Errorf("raft's connection comes from %+v", peer)
		}
		if n := b.Counters(); n.Open != 3 || n.Served != 3 || n.Strangers != 0 {
			t.Errorf("counters %+v", n)
		}
		_ = in.Close()
		ends(t, out)

		nobody, err := from.DialAnonymous(t.Context(), b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		reads(t, nobody, "nobody\n")
		if n := b.Counters().Strangers; n != 1 {
			t.Errorf("%d strangers, want 1", n)
		}
		_ = raft.Close()
		if _, err := raft.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept on a closed listener: %v", err)
		}
	})
}

func TestDialMeetsTheNodeItMeansOrFails(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		b := run(t, a.config(t, there, "b"))
		from := run(t, a.config(t, here, "a"))
		if _, err := from.Dial(t.Context(), b.Addr().String(), "c", nodeport.Raft); err == nil || !strings.Contains(err.Error(), "of node b") {
			t.Errorf("another node was there, and Dial says %v", err)
		}
		other := run(t, newAuthority(t).config(t, there, "b"))
		if _, err := from.Dial(t.Context(), other.Addr().String(), "b", nodeport.Raft); err == nil {
			t.Error("Dial takes a certificate of another authority")
		}
		if n := from.Counters(); n.DialFailed != 2 || n.Open != 0 {
			t.Errorf("counters %+v", n)
		}
	})
}

func TestDialEndsWithItsContextAndItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := newAuthority(t), clustertest.New(1)
		here, there := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
		silent := must(there.Listen(":1")) // takes connections and says nothing
		defer silent.Close()
		cfg := a.config(t, here, "a")
		from := run(t, cfg)
		start := time.Now()
		if _, err := from.Dial(t.Context(), there.Addr(1), "b", nodeport.Raft); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a silent peer: %v", err)
		}
		if took := time.Since(start); took != cfg.DialTimeout {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := from.Dial(ctx, there.Addr(1), "b", nodeport.Raft); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestCutEndsAllConnectionsOfANode(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		cfg := a.config(t, there, "b")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo}
		b := run(t, cfg)
		cfg = a.config(t, here, "a")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Link: echo}
		bad := run(t, cfg)
		good := run(t, a.config(t, here, "c"))
		dial := func(from, to *nodeport.Port, kind nodeport.Kind, says string) net.Conn {
			c, err := from.Dial(t.Context(), to.Addr().String(), "", kind)
			if err != nil {
				t.Fatal(err)
			}
			reads(t, c, says)
			return c
		}
		in := dial(bad, b, nodeport.Control, "a\n")
		out := dial(b, bad, nodeport.Link, "b\n")
		other := dial(good, b, nodeport.Control, "c\n")

		b.Cut("a")
		ends(t, in)
		ends(t, out)
		if _, err := io.WriteString(other, "still"); err != nil {
			t.Fatal(err)
		}
		reads(t, other, "still")
		if n := b.Counters().Cut; n != 2 {
			t.Errorf("%d connections cut, want 2", n)
		}
	})
}

// Certificates expire and are replaced: what was let in with an old one does not stay for ever.
func TestAConnectionLastsAsLongAsItMay(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		cfg := a.config(t, there, "b")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo}
		cfg.MaxAge = 50 * time.Millisecond
		b := run(t, cfg)
		from := run(t, a.config(t, here, "a"))
		for range 2 { // and a new one is welcome
			c, err := from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Control)
			if err != nil {
				t.Fatal(err)
			}
			reads(t, c, "a\n")
			ends(t, c)
		}
		if n := b.Counters().Aged; n != 2 {
			t.Errorf("%d connections were counted, want 2", n)
		}
	})
}

func TestAHandshakeThatBeganBeforeCutEndsWithIt(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo}
	b := run(t, cfg)
	raw := must(net.Dial("tcp", b.Addr().String()))
	c := secure(t, raw, a.client("a"))
	b.Cut("a")
	_, _ = c.Write([]byte{byte(nodeport.Control)})
	refused(t, b, nodeport.WasCut, 1)
	ends(t, c)
}

func TestANodeHasABoundedNumberOfConnections(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	cfg.PerNode = 2
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Link: echo}
	b := run(t, cfg)
	from := run(t, a.config(t, nodeport.OS(), "a"))
	for range cfg.PerNode {
		c := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link))
		reads(t, c, "a\n")
	}
	c := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link))
	ends(t, c)
	refused(t, b, nodeport.TooMany, 1)
	other := run(t, a.config(t, nodeport.OS(), "c"))
	reads(t, must(other.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link)), "c\n")
}

func TestAPanicEndsOneConnection(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	var log lines
	cfg.Log = log.logger()
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{
		nodeport.Link: func(context.Context, net.Conn, nodeport.Peer) { panic("broken") }, nodeport.Control: echo,
	}
	b := run(t, cfg)
	from := run(t, a.config(t, nodeport.OS(), "a"))
	other := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Control))
	reads(t, other, "a\n")
	for i := range 5 {
		ends(t, must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link)))
		refused(t, b, nodeport.Panicked, uint64(i+1))
	}
	if _, err := io.WriteString(other, "alive"); err != nil {
		t.Fatal(err)
	}
	reads(t, other, "alive")
	if n := log.count("panic=broken"); n != 1 {
		t.Errorf("%d lines about five panics", n)
	}
}

func TestTheEndOfRunClosesEverything(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Link: echo}
	b := must(nodeport.New(cfg))
	raft := b.Listener(nodeport.Raft)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	from := run(t, a.config(t, nodeport.OS(), "a"))
	link := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link))
	reads(t, link, "a\n")
	waits := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Raft))
	half := must(net.Dial("tcp", b.Addr().String()))
	defer half.Close()
	own := must(b.Dial(t.Context(), from.Addr().String(), "a", nodeport.Raft))
	until(t, "all three are there", func() bool { n := b.Counters(); return n.Served == 2 && n.Accepted == 3 })

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, c := range []net.Conn{link, waits, half, own} {
		ends(t, c)
	}
	if _, err := raft.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if _, err := b.Listener(nodeport.Raft).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept from a listener made later: %v", err)
	}
	if _, err := b.Dial(t.Context(), from.Addr().String(), "a", nodeport.Raft); !errors.Is(err, nodeport.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
}

// broken is a listener whose Accept fails with what it is told, one after the other, and then waits for Close.
type broken struct {
	net.Listener
	errs chan error
}

func (b *broken) Accept() (net.Conn, error) {
	if err, ok := <-b.errs; ok {
		return nil, err
	}
	return b.Listener.Accept()
}

func TestAcceptOutlivesAShortageAndReportsADeadListener(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Link: echo}
	errs := make(chan error, 2)
	cfg.Listener = &broken{cfg.Listener, errs}
	errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
	close(errs)
	b := run(t, cfg)
	from := run(t, a.config(t, nodeport.OS(), "a"))
	reads(t, must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link)), "a\n")

	cfg = a.config(t, nodeport.OS(), "c")
	errs = make(chan error, 1)
	cfg.Listener = &broken{cfg.Listener, errs}
	errs <- syscall.EINVAL
	if err := must(nodeport.New(cfg)).Run(t.Context()); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Run with a dead listener: %v", err)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	good := newAuthority(t).config(t, clustertest.New(1).Host("a", "10.0.0.1"), "a")
	for name, spoil := range map[string]func(*nodeport.Config){
		"no listener":     func(c *nodeport.Config) { c.Listener = nil },
		"no TLS":          func(c *nodeport.Config) { c.ServerTLS = nil },
		"no names":        func(c *nodeport.Config) { c.Peer = nil },
		"no time":         func(c *nodeport.Config) { c.Handshake = 0 },
		"no places":       func(c *nodeport.Config) { c.StrangersPerAddr = 0 },
		"an unknown kind": func(c *nodeport.Config) { c.Serve = map[nodeport.Kind]nodeport.Handler{9: echo} },
		"a nil handler":   func(c *nodeport.Config) { c.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Raft: nil} },
	} {
		cfg := good
		if spoil(&cfg); cfg.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := nodeport.New(good); err != nil {
		t.Error(err)
	}
}

// What nodes of other versions say.
func TestKindsAreTheBytesOfTheWire(t *testing.T) {
	if nodeport.Raft != 1 || nodeport.Control != 2 || nodeport.Link != 3 {
		t.Error("a kind has another byte than it had")
	}
}

func TestConnectionsThatNobodyAcceptsAreClosed(t *testing.T) {
	a := newAuthority(t)
	b := run(t, a.config(t, nodeport.OS(), "b"))
	raft := b.Listener(nodeport.Raft)
	from := run(t, a.config(t, nodeport.OS(), "a"))
	var first net.Conn
	for i := range 65 { // one more than may wait
		c := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Raft))
		if i == 0 {
			first = c
		}
		until(t, "it is there", func() bool { n := b.Counters(); return n.Served+n.Refused[nodeport.NobodyAccepts] == uint64(i+1) })
	}
	refused(t, b, nodeport.NobodyAccepts, 1)
	_ = raft.Close() // ends those that waited
	ends(t, first)
	refused(t, b, nodeport.NobodyAccepts, 1)
	next := b.Listener(nodeport.Raft)
	c := must(from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Raft))
	in := must(next.Accept())
	_ = in.Close()
	ends(t, c)
}
