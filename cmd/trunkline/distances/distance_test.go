package distances

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// loop is a network of one listener in memory.
type loop struct{ conns chan net.Conn }

func (l loop) Listen(string) (net.Listener, error)         { return l, nil }
func (l loop) ListenPacket(string) (net.PacketConn, error) { return nil, net.ErrClosed }
func (l loop) Accept() (net.Conn, error)                   { return named{<-l.conns}, nil }
func (l loop) Close() error                                { return nil }
func (l loop) Addr() net.Addr                              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 1} }

func (l loop) Dial(context.Context, string) (net.Conn, error) {
	a, b := net.Pipe()
	l.conns <- b
	return named{a}, nil
}

// named is a pipe with an address.
type named struct{ net.Conn }

func (named) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 1} }

func TestARoundTripTakesTheTimeBetweenTheRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 80 * time.Millisecond
		far := Delayed{loop{make(chan net.Conn, 1)}, func(string) time.Duration { return rtt }}
		ln, err := far.Listen("")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		near, err := far.Dial(t.Context(), "127.0.0.2:1")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != rtt {
			t.Errorf("dialled in %v", took)
		}
		there, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			b := make([]byte, 8)
			n, _ := there.Read(b)
			_, _ = there.Write(b[:n])
			_ = there.Close()
		}()
		began = time.Now()
		for _, part := range []string{"pi", "ng"} {
			if n, err := near.Write([]byte(part)); n != 2 || err != nil {
				t.Fatal(n, err)
			}
		}
		got := make([]byte, 2)
		if _, err := io.ReadFull(near, got); err != nil || string(got) != "pi" {
			t.Fatalf("%q, %v", got, err)
		}
		if took := time.Since(began); took != rtt {
			t.Errorf("a round trip took %v", took)
		}
		if _, err := near.Read(got); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		_ = near.Close()
		if _, err := near.Write([]byte("x")); err == nil {
			t.Error("written to a closed connection")
		}
		synctest.Wait()
	})
}

func TestWhoIsNearIsNotDelayed(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if delay(a, 0) != a {
		t.Error("wrapped")
	}
	_ = a.Close()
}

// machine is this machine's network.
type machine struct{}

func (machine) Listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

func (machine) ListenPacket(addr string) (net.PacketConn, error) {
	return net.ListenPacket("udp", addr)
}
func (machine) Dial(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }

func TestBothDirectionsOfAConnectionTakeTheirTime(t *testing.T) {
	const rtt = 60 * time.Millisecond
	between := func(ip string) time.Duration {
		if ip == "127.0.0.1" {
			return 0 // the region of neither
		}
		return rtt
	}
	ln, err := Delayed{machine{}, between}.Listen("127.0.0.2:0")
	if err != nil {
		t.Skip("this machine has one loopback address only: ", err)
	}
	defer ln.Close()
	go func() {
		there, err := ln.Accept()
		if err != nil {
			return
		}
		defer there.Close()
		b := make([]byte, 4)
		_, _ = io.ReadFull(there, b)
		_, _ = there.Write(b)
	}()
	near, err := Delayed{From{machine{}, net.IPv4(127, 0, 0, 3)}, between}.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	began := time.Now()
	_, _ = near.Write([]byte("ping"))
	if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < rtt {
		t.Errorf("there and back in %v, less than %v", took, rtt)
	}
}
