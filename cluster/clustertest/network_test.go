package clustertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a network of two hosts, a and b, and a stream that a opened to b.
func pair(t *testing.T, p Path) (n *Network, dialed, accepted net.Conn) {
	t.Helper()
	n = New(1)
	a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
	n.SetAll(p)
	ln := must(b.Listen("10.0.0.2:7946"))(t)
	dialed = must(a.Dial(t.Context(), "10.0.0.2:7946"))(t)
	accepted = must(ln.Accept())(t)
	return n, dialed, accepted
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wants fails the test unless err is target.
func wants(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("the error is %v, not %v", err, target)
	}
}

func TestStreamsTakeThePathsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, a, b := pair(t, Path{Delay: 40 * time.Millisecond})
		if took := time.Since(start); took != 80*time.Millisecond {
			t.Fatalf("dialling took %v, not one round trip", took)
		}
		go a.Write([]byte("hello"))
		start = time.Now()
		got := make([]byte, 16)
		k := must(b.Read(got))(t)
		if took := time.Since(start); took != 40*time.Millisecond || string(got[:k]) != "hello" {
			t.Fatalf("%q came after %v", got[:k], took)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := b.Read(got)
		wants(t, err, io.EOF)
		_, err = a.Read(got)
		wants(t, err, net.ErrClosed)
	})
}

func TestStreamsKeepOrderThroughLossJitterAndCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Path{Delay: 5 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: 0.2})
		const count = 5000
		go func() {
			for i := range uint64(count) {
				if i%500 == 250 {
					n.Cut("a", "b")
					time.AfterFunc(time.Second, n.Heal)
				}
				if _, err := a.Write(binary.BigEndian.AppendUint64(nil, i)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
			a.Close()
		}()
		all := must(io.ReadAll(b))(t)
		if len(all) != 8*count {
			t.Fatalf("%d bytes came of %d", len(all), 8*count)
		}
		for i := range uint64(count) {
			if got := binary.BigEndian.Uint64(all[8*i:]); got != i {
				t.Fatalf("number %d came where %d belongs", got, i)
			}
		}
	})
}

func TestWriterWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Path{})
		a.SetWriteDeadline(time.Now().Add(time.Second))
		k, err := a.Write(make([]byte, window+1))
		if k != window {
			t.Fatalf("%d bytes fit into a window of %d", k, window)
		}
		wants(t, err, os.ErrDeadlineExceeded)
		a.SetWriteDeadline(time.Time{})
		go func() { a.Write([]byte("x")); a.Close() }()
		synctest.Wait()
		if all := must(io.ReadAll(b))(t); len(all) != window+1 {
			t.Fatalf("%d bytes came", len(all))
		}
	})
}

func TestOneWayCutStallsOneDirection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Path{Delay: time.Millisecond})
		n.Cut("a", "b")
		a.Write([]byte("late"))
		b.Write([]byte("now"))
		got := make([]byte, 8)
		if k := must(a.Read(got))(t); string(got[:k]) != "now" {
			t.Fatalf("%q came back", got[:k])
		}
		b.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err := b.Read(got)
		wants(t, err, os.ErrDeadlineExceeded)
		b.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = n.hosts["b"].Dial(ctx, "10.0.0.1:1")
		wants(t, err, context.DeadlineExceeded)
		n.HealPath("a", "b")
		if k := must(b.Read(got))(t); string(got[:k]) != "late" {
			t.Fatalf("%q came after the heal", got[:k])
		}
	})
}

func TestStreamBreaksWhenPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Path{})
		n.Partition([]string{"a"}, []string{"b"})
		a.Write([]byte("x"))
		start := time.Now()
		_, err := a.Read(make([]byte, 1))
		wants(t, err, syscall.ETIMEDOUT)
		if took := time.Since(start); took != patience {
			t.Fatalf("it broke after %v", took)
		}
		n.Heal()
		b.Write([]byte("y")) // to an end that is gone
		_, err = b.Read(make([]byte, 1))
		wants(t, err, syscall.ECONNRESET)
	})
}

func TestKilledHostSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Path{})
		n.hosts["b"].Kill()
		a.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := a.Read(make([]byte, 1))
		wants(t, err, os.ErrDeadlineExceeded)
		_, err = b.Write([]byte("x"))
		wants(t, err, errDown)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = n.hosts["a"].Dial(ctx, "10.0.0.2:7946")
		wants(t, err, context.DeadlineExceeded)
		_, err = n.hosts["b"].Listen(":7946")
		wants(t, err, errDown)

		a.SetReadDeadline(time.Time{})
		a.Write([]byte("x"))
		n.hosts["b"].Start()
		_, err = a.Read(make([]byte, 1))
		wants(t, err, syscall.ECONNRESET)
		must(n.hosts["b"].Listen(":7946"))(t)
		must(n.hosts["a"].Dial(t.Context(), "b:7946"))(t)
	})
}

func TestCrashedProcessIsResetByItsKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _ := pair(t, Path{})
		n.hosts["b"].Crash()
		_, err := a.Read(make([]byte, 1))
		wants(t, err, syscall.ECONNRESET)
		_, err = n.hosts["a"].Dial(t.Context(), "10.0.0.2:7946")
		wants(t, err, syscall.ECONNREFUSED)
		must(n.hosts["b"].Listen("10.0.0.2:7946"))(t)
		must(n.hosts["a"].Dial(t.Context(), "10.0.0.2:7946"))(t)
	})
}

func TestBreakResetsBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Path{})
		if broken := n.Break("b", "a"); broken != 1 {
			t.Fatalf("%d streams broke", broken)
		}
		for _, c := range []net.Conn{a, b} {
			_, err := c.Read(make([]byte, 1))
			wants(t, err, syscall.ECONNRESET)
			c.Close()
		}
		if len(n.conns) != 0 {
			t.Fatal("the network remembers a stream that both ends have closed")
		}
	})
}

func TestPartitionGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		hosts := map[string]*Host{}
		for i, name := range []string{"a", "b", "c", "d"} {
			hosts[name] = n.Host(name, net.IPv4(10, 0, 0, byte(i+1)).String())
			must(hosts[name].Listen(":1"))(t)
		}
		reach := func(from, to string) bool {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := hosts[from].Dial(ctx, to+":1")
			return err == nil
		}
		n.Partition([]string{"a", "b"}, []string{"c"})
		for pair, want := range map[string]bool{"ab": true, "ac": false, "ca": false, "cd": false, "da": false, "dd": true} {
			if reach(pair[:1], pair[1:]) != want {
				t.Errorf("%s: reached is %v", pair, !want)
			}
		}
		n.Heal()
		if !reach("a", "c") || !reach("d", "b") {
			t.Error("something is cut after the heal")
		}
	})
}

func TestBindingAsAnOperatingSystemWould(t *testing.T) {
	n := New(1)
	h := n.Host("a", "10.0.0.1")
	ln := must(h.Listen("0.0.0.0:0"))(t)
	if got := ln.Addr().String(); got != "10.0.0.1:32768" {
		t.Errorf("port 0 gave %s", got)
	}
	_, err := h.Listen(ln.Addr().String())
	wants(t, err, syscall.EADDRINUSE)
	must(h.ListenPacket(ln.Addr().String()))(t)
	_, err = h.Listen("10.0.0.2:1")
	wants(t, err, syscall.EADDRNOTAVAIL)
	for _, bad := range []string{"10.0.0.1", "nowhere:1", "10.0.0.1:70000", "10.0.0.1:http"} {
		if _, err := h.Listen(bad); err == nil {
			t.Errorf("%s was bound", bad)
		}
	}
	ln.Close()
	must(h.Listen("10.0.0.1:32768"))(t)
	_, err = ln.Accept()
	wants(t, err, net.ErrClosed)
	var dns *net.DNSError
	if _, err := h.Dial(t.Context(), "nowhere:1"); !errors.As(err, &dns) {
		t.Errorf("dialling a name that nobody has: %v", err)
	}
}

func TestManyStreamsAtOnce(t *testing.T) {
	n := New(7)
	a, b := n.Host("a", "10.0.0.1"), n.Host("b", "10.0.0.2")
	n.SetAll(Path{Jitter: 2 * time.Millisecond, Loss: 0.01})
	ln := must(b.Listen(":1"))(t)
	var all sync.WaitGroup
	defer all.Wait()
	defer ln.Close()
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); _, _ = io.Copy(c, c) })
		}
	})
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			c, err := a.Dial(t.Context(), "10.0.0.2:1")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent := bytes.Repeat([]byte{byte(i)}, 300<<10)
			go func() { _, _ = c.Write(sent) }()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("stream %d: what came back differs, error %v", i, err)
			}
		})
	}
	clients.Wait()
}
