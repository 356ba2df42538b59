package sdk

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// scribe is a set of handlers that write down what is called.
func scribe(j *journal) Handlers {
	return Handlers{
		NewState: func(s *State, user string, data []byte) error {
			j.note("new %v %s %s", s.ID(), user, data)
			return nil
		},
		Load: func(s *State) error { j.note("load %v", s.ID()); return nil },
		Join: func(s *State, who *Session) error {
			j.note("join %v %s", s.ID(), who.User())
			return nil
		},
		Leave:   func(s *State, who *Session) { j.note("leave %v %s", s.ID(), who.User()) },
		Message: func(_ *State, from *Session, data []byte) { j.note("message %s %s", from.User(), data) },
		Gone:    func(s *State) { j.note("gone %v", s.ID()) },
	}
}

func TestBackendLivesThroughAState(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	h.Message = func(s *State, from *Session, data []byte) {
		j.note("message %s %s", from.User(), data)
		switch string(data) {
		case "all":
			s.Broadcast([]byte("to all"))
			s.BroadcastExcept(from, []byte("to others"))
			s.SendUser("alice", []byte("to alice"))
			from.Send([]byte("to you"))
			from.SendUnreliable([]byte("perhaps"))
		case "out":
			from.Close(4321, "out you go")
		case "release":
			s.Release()
		}
	}
	b, stop := runBackend(t, BackendConfig{
		Addrs: []string{c.addr()}, Plain: true, StoreID: "store-1", Region: "eu", Capacity: 10,
		Login: &Login{Anonymous: &AnonymousLogin{Separator: "-"}},
	}, h)
	a := c.attached(t)
	if a.reg.StoreID != "store-1" || a.reg.Region != "eu" || a.reg.Capacity != 10 || a.reg.Secret != "s3cr3t" ||
		string(a.reg.Login) != `{"anonymous":{"separator":"-"}}` || a.reg.Incarnation == [16]byte{} {
		t.Fatalf("registration %+v", a.reg)
	}
	l := a.Line(5, 9)
	alice := &tunnel.Session{Channel: 1, User: "alice", Stream: stream(1), Next: 1}
	bob := &tunnel.Session{Channel: 2, User: "bob", Stream: stream(2), Next: 5}
	l.New("alice", []byte("map"))
	l.Open(alice)
	l.Data(alice, 1, []byte("all"), false)
	l.Open(bob)
	l.Data(bob, 5, []byte("out"), false)
	a.Flush()
	j.expect(t, "new 5 alice map", "join 5 alice", "message alice all", "join 5 bob", "message bob out", "leave 5 bob")
	said := c.await(t, 10)
	for _, want := range []string{
		"accepted 5 9", "joined 1", "all 5 9 but 0 to all", "all 5 9 but 1 to others", "user 5 9 alice to alice",
		"session 1 1 to you", "session 1 2 perhaps", "acked 1 1", "joined 2", "close 2 4321 out you go",
	} {
		if !strings.Contains(strings.Join(said, "\n")+"\n", want+"\n") {
			t.Errorf("%q was not said: %q", want, said)
		}
	}
	l.Close(alice, 2, wire.CodeNormal)
	a.Flush()
	j.expect(t, "leave 5 alice")
	if b.Sessions() != 0 || b.States() != 1 {
		t.Errorf("%d sessions in %d states", b.Sessions(), b.States())
	}
	l.Close(bob, 6, 4321)
	carol := &tunnel.Session{Channel: 3, User: "carol", Stream: stream(3), Next: 1}
	l.Open(carol)
	l.Data(carol, 1, []byte("release"), false)
	l.Data(carol, 2, []byte("too late"), false)
	a.Flush()
	j.expect(t, "join 5 carol", "message carol release")
	c.awaitLine(t, "released 5 9")
	l.Released()
	a.Flush()
	j.expect(t, "gone 5")
	if b.Sessions() != 0 || b.States() != 0 {
		t.Errorf("%d sessions in %d states", b.Sessions(), b.States())
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.awaitLine(t, "leaving")
}

func TestStatesThatCannotBeHad(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	h.NewState = func(*State, string, []byte) error { return &CloseError{Code: wire.CodeTryLater, Reason: "full"} }
	h.Load = func(*State) error { return errors.New("no such file") }
	b, _ := runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, h)
	a := c.attached(t)
	a.Line(1, 1).New("u", nil)
	a.Flush()
	c.expect(t, "refused 1 1 1013 full")
	s := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	l := a.Line(2, 1)
	l.Open(s)
	l.Data(s, 1, []byte("hi"), false)
	a.Flush()
	c.expect(t, "refused 2 1 4000 ")
	l.Close(s, 2, 4000)
	a.Flush()
	if b.States() != 0 || b.Sessions() != 0 {
		t.Errorf("%d states, %d sessions", b.States(), b.Sessions())
	}
	j.expect(t)
}

func TestJoinTurnsAway(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	h.Join = func(_ *State, who *Session) error {
		if who.User() == "bob" {
			return &CloseError{Code: 4123, Reason: "not bob"}
		}
		return errors.New("nobody")
	}
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, h)
	a := c.attached(t)
	l := a.Line(2, 1)
	l.Open(&tunnel.Session{Channel: 1, User: "bob", Stream: stream(1), Next: 1})
	l.Open(&tunnel.Session{Channel: 2, User: "eve", Stream: stream(2), Next: 1})
	a.Flush()
	c.expect(t, "accepted 2 1", "close 1 4123 not bob", "close 2 1008 nobody")
	j.expect(t, "load 2")
}

// Duplicates of a stream are acknowledged and dropped, a hole is answered, and
// a client that resumes is the same session.
func TestNumbersOfAStream(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, scribe(j))
	a := c.attached(t)
	l := a.Line(2, 1)
	s := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	l.Open(s)
	l.Data(s, 1, []byte("one"), false)
	a.Flush()
	j.expect(t, "load 2", "join 2 u", "message u one")
	c.expect(t, "accepted 2 1", "joined 1", "acked 1 1")
	l.Data(s, 1, []byte("one"), false)
	l.Data(s, 3, []byte("three"), false)
	l.Data(s, 4, []byte("four"), false)
	a.Flush()
	c.expect(t, "acked 1 1", "expected 1 2")
	l.Data(s, 2, []byte("two"), false)
	a.Flush()
	j.expect(t, "message u two")
	c.expect(t, "acked 1 2")
	// The client comes back elsewhere, and repeats what it had no ack for,
	// before its old connection is known to be gone.
	again := &tunnel.Session{Channel: 2, User: "u", Stream: stream(1), Next: 2, Resumed: true}
	l.Open(again)
	l.Data(again, 2, []byte("two"), false)
	l.Data(again, 3, []byte("three"), false)
	l.Close(s, 3, wire.CodeNormal)
	a.Flush()
	j.expect(t, "message u three")
	c.expect(t, "joined 2", "acked 2 3")
	l.Close(again, 4, wire.CodeNormal)
	a.Flush()
	j.expect(t, "leave 2 u")
}

// A client went to another node, and the one it had left, which was cut off, opens its session once more before it finds
// that the client is gone: the session goes on where the client is.
func TestLateNodeTakesNoStreamAway(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, scribe(j))
	a := c.attached(t)
	l := a.Line(2, 1)
	here := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	late := &tunnel.Session{Channel: 2, User: "u", Stream: stream(1), Next: 1, Resumed: true}
	l.Open(here)
	l.Open(late)
	l.Data(here, 1, []byte("one"), false)
	l.Close(late, 1, wire.CodeNormal)
	a.Flush()
	j.expect(t, "load 2", "join 2 u", "message u one")
	l.Data(here, 2, []byte("two"), false)
	a.Flush()
	j.expect(t, "message u two")
	l.Close(here, 3, wire.CodeNormal)
	a.Flush()
	j.expect(t, "leave 2 u")
}

func TestTunnelBreakStopsEverythingAndKeepsStates(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	blocked, sendErr := make(chan struct{}), make(chan error, 1)
	h.Message = func(s *State, from *Session, data []byte) {
		j.note("message %s %s", from.User(), data)
		if string(data) == "block" {
			ctx := s.Context()
			close(blocked)
			<-ctx.Done()
			sendErr <- from.Send([]byte("into the void"))
		}
	}
	b, _ := runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true, RejoinWait: 200 * time.Millisecond}, h)
	a := c.attached(t)
	l := a.Line(2, 1)
	u := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	v := &tunnel.Session{Channel: 2, User: "v", Stream: stream(2), Next: 1}
	l.Open(u)
	l.Open(v)
	l.Data(u, 1, []byte("block"), false)
	l.Data(u, 2, []byte("never handled"), false)
	a.Flush()
	<-blocked
	c.expect(t, "accepted 2 1", "joined 1", "joined 2")
	a.cut()
	if err := <-sendErr; !errors.Is(err, ErrDetached) {
		t.Fatalf("a send on a broken tunnel: %v", err)
	}
	again := c.attached(t)
	if again.reg.Incarnation != a.reg.Incarnation || again.reg.StoreID != a.reg.StoreID ||
		len(again.reg.Holds) != 1 || again.reg.Holds[0] != (tunnel.Held{State: 2, Epoch: 1}) {
		t.Fatalf("registered again as %+v", again.reg)
	}
	j.expect(t, "load 2", "join 2 u", "join 2 v", "message u block")
	// u resumes, and message 1, which was handled but not acknowledged, is
	// repeated; v does not come back.
	l = again.Line(2, 1)
	u2 := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1, Resumed: true}
	l.Open(u2)
	l.Data(u2, 1, []byte("block"), false)
	l.Data(u2, 2, []byte("handled now"), false)
	again.Flush()
	j.expect(t, "message u handled now", "leave 2 v")
	c.expect(t, "joined 1", "acked 1 2")
	if b.Sessions() != 1 {
		t.Errorf("%d sessions", b.Sessions())
	}
	// The next break moves the state away.
	again.cut()
	third := c.attached(t)
	third.Line(2, 1).NotOwner()
	third.Flush()
	j.expect(t, "gone 2")
	if b.States() != 0 || b.Sessions() != 0 {
		t.Errorf("%d states, %d sessions", b.States(), b.Sessions())
	}
}

// A state that comes back with a later epoch is loaded anew, after Gone of what
// was here has returned.
func TestLaterEpochReplacesTheState(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	release := make(chan struct{})
	h.Gone = func(*State) { <-release; j.note("gone") }
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, h)
	a := c.attached(t)
	a.Line(2, 1).Open(&tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1})
	a.Flush()
	j.expect(t, "load 2", "join 2 u")
	a.Line(2, 7).Open(&tunnel.Session{Channel: 2, User: "u", Stream: stream(1), Next: 1})
	a.Flush()
	close(release)
	j.expect(t, "gone", "load 2", "join 2 u")
}

func TestPanicLosesTheStateOnly(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	h.Message = func(_ *State, _ *Session, data []byte) {
		if string(data) == "boom" {
			panic("handler says boom")
		}
		j.note("message %s", data)
	}
	var log bytes.Buffer
	b, stop := runBackend(t, BackendConfig{
		Addrs: []string{c.addr()}, Plain: true, Log: slog.New(slog.NewTextHandler(&log, nil)),
	}, h)
	a := c.attached(t)
	for id := wire.StateID(1); id <= 2; id++ {
		s := &tunnel.Session{Channel: uint32(id), User: "u", Stream: stream(byte(id)), Next: 1}
		a.Line(id, 1).Open(s)
		if id == 1 {
			a.Line(id, 1).Data(s, 1, []byte("boom"), false)
		}
	}
	a.Flush()
	c.awaitLine(t, "released 1 1")
	a.Line(1, 1).Released()
	a.Line(2, 1).Data(&tunnel.Session{Channel: 2}, 1, []byte("fine"), false)
	a.Flush()
	j.awaitLine(t, "message fine")
	j.awaitLine(t, "gone 1")
	if b.States() != 1 {
		t.Errorf("%d states", b.States())
	}
	_ = stop()
	if !strings.Contains(log.String(), "handler says boom") || strings.Contains(log.String(), "s3cr3t") {
		t.Errorf("log: %s", &log)
	}
}

func TestRefusedRegistrationEndsRun(t *testing.T) {
	c := newCoordinator(t)
	c.refuse <- "shutdown" // tried again,
	c.refuse <- "unknown_app"
	b, err := NewBackend(BackendConfig{Addrs: []string{c.addr()}, Plain: true, Secret: "x"}, Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = b.Run(ctx)
	var code *tunnel.CodeError
	if !errors.As(err, &code) || code.Code != wire.CodeUnknownApp {
		t.Fatalf("Run returned %v", err)
	}
}

func TestBackendTriesEveryAddressAndHonoursGoAway(t *testing.T) {
	dead := newCoordinator(t)
	dead.ln.Close()
	c1, c2 := newCoordinator(t), newCoordinator(t)
	runBackend(t, BackendConfig{Addrs: []string{dead.addr(), c1.addr(), c2.addr()}, Plain: true}, Handlers{})
	next := func() *attached {
		select {
		case a := <-c1.tunnels:
			return a
		case a := <-c2.tunnels:
			return a
		case <-time.After(patience):
			t.Fatal("no tunnel")
			return nil
		}
	}
	first := next()
	first.GoAway()
	second := next()
	if first.raw.LocalAddr().String() == second.raw.LocalAddr().String() {
		t.Error("it came back to the node that is going away")
	}
	<-first.ended
}

// Handlers of one state run one at a time and in order; of many, beside each
// other; everything that was sent arrives.
func TestManyStatesAtOnce(t *testing.T) {
	c := newCoordinator(t)
	c.quiet = true
	const states, each = 50, 200
	var handled atomic.Int64
	type count struct {
		last, inside int
	}
	all := make(chan struct{})
	h := Handlers{
		Load: func(s *State) error { s.Data = &count{}; return nil },
		Message: func(s *State, from *Session, data []byte) {
			n := s.Data.(*count)
			if n.inside++; n.inside != 1 {
				t.Error("two handlers at once")
			}
			var seq int
			fmt.Sscan(string(data), &seq)
			if seq != n.last+1 {
				t.Errorf("message %d after %d", seq, n.last)
			}
			n.last = seq
			if seq%100 == 0 {
				s.Broadcast(data)
			}
			n.inside--
			if handled.Add(1) == states*each {
				close(all)
			}
		},
	}
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, h)
	a := c.attached(t)
	for id := 1; id <= states; id++ {
		a.Line(wire.StateID(id), 1).Open(&tunnel.Session{Channel: uint32(id), User: "u", Stream: stream(byte(id)), Next: 1})
	}
	for seq := 1; seq <= each; seq++ {
		for id := 1; id <= states; id++ {
			l := a.Line(wire.StateID(id), 1)
			l.Data(&tunnel.Session{Channel: uint32(id)}, uint64(seq), fmt.Append(nil, seq), false)
		}
		a.Flush()
	}
	select {
	case <-all:
	case <-time.After(patience):
		t.Fatalf("%d handled", handled.Load())
	}
	if lines := c.await(t, states+states*each/100); len(lines) != states+states*each/100 {
		t.Errorf("%d lines", len(lines))
	}
}

// Large messages both ways pass, although they are above the window.
func TestLargeMessages(t *testing.T) {
	c := newCoordinator(t)
	c.quiet = true
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, Handlers{
		Message: func(_ *State, from *Session, data []byte) {
			if err := from.Send(data); err != nil {
				t.Error(err)
			}
			if err := from.Send(make([]byte, maxMessage+1)); !errors.Is(err, ErrTooBig) {
				t.Error(err)
			}
		},
	})
	a := c.attached(t)
	l := a.Line(1, 1)
	s := &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	l.Open(s)
	for i := range 5 {
		l.Data(s, uint64(i+1), make([]byte, 3<<20), false)
		a.Flush()
	}
	c.expect(t, "accepted 1 1", "session 1 1 3145728 bytes", "session 1 2 3145728 bytes",
		"session 1 3 3145728 bytes", "session 1 4 3145728 bytes", "session 1 5 3145728 bytes")
}

// certificate makes a server's certificate for 127.0.0.1 and the roots that know it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}, roots
}

// TLS is what a backend speaks unless it is told not to, and it checks who answers.
func TestBackendSpeaksTLSByDefault(t *testing.T) {
	server, roots := certificate(t)
	c, j := newSecureCoordinator(t, server), newJournal()
	_, stop := runBackend(t, BackendConfig{Addrs: []string{c.addr()}}, Handlers{})
	c.awaitPrefix(t, "refused: ") // its certificate is not known
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, RootCAs: roots}, scribe(j))
	a := c.attached(t)
	l, s := a.Line(2, 1), &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	l.Open(s)
	l.Data(s, 1, make([]byte, 1<<20), false)
	a.Flush()
	c.awaitLine(t, "acked 1 1")
}

// After Close, nothing that the session had sent is handled.
func TestKickedSessionIsNotHeard(t *testing.T) {
	c, j := newCoordinator(t), newJournal()
	h := scribe(j)
	h.Message = func(_ *State, from *Session, data []byte) {
		j.note("message %s", data)
		j.note("%v %v %v", from.Close(4200, "bye"), from.Close(4200, "again"), from.Send([]byte("x")))
	}
	runBackend(t, BackendConfig{Addrs: []string{c.addr()}, Plain: true}, h)
	a := c.attached(t)
	l, s := a.Line(2, 1), &tunnel.Session{Channel: 1, User: "u", Stream: stream(1), Next: 1}
	l.Open(s)
	l.Data(s, 1, []byte("one"), false)
	l.Data(s, 2, []byte("two"), false)
	a.Flush()
	j.expect(t, "load 2", "join 2 u", "message one", fmt.Sprintf("<nil> %v %v", ErrGone, ErrGone), "leave 2 u")
}

func TestBackendConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]BackendConfig{
		"no address":   {Secret: "s"},
		"no port":      {Secret: "s", Addrs: []string{"localhost"}},
		"no secret":    {Addrs: []string{"localhost:1"}},
		"huge message": {Addrs: []string{"localhost:1"}, Secret: "s", MaxMessage: 1 << 30},
	} {
		if _, err := NewBackend(cfg, Handlers{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
