package nodeport_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/clustertest"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// secure shakes hands as a TLS client.
func secure(t testing.TB, raw net.Conn, conf *tls.Config) *tls.Conn {
	t.Helper()
	t.Cleanup(func() { _ = raw.Close() })
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBytesThatAreNoTLSAreClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		b := run(t, a.config(t, there, "b"))
		noise := make([]byte, 4096)
		_, _ = rand.Read(noise)
		noise[0] = 0x80
		for i, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x01", "\x16\x7f", "\x02", string(noise)} {
			c := must(here.Dial(t.Context(), b.Addr().String()))
			_, _ = c.Write([]byte(text))
			ends(t, c)
			_ = c.Close()
			refused(t, b, nodeport.NotTLS, uint64(i+1))
		}
	})
}

func TestBytesThatAreNoTLSCostNoMemory(t *testing.T) {
	a := newAuthority(t)
	b := run(t, a.config(t, nodeport.OS(), "b"))
	record := []byte("\x80\xff\xff\xff\xff\xff\xff\xff\xff")
	const rounds = 200
	var buf [1]byte
	knock := func() {
		c := must(net.Dial("tcp", b.Addr().String()))
		_, _ = c.Write(record)
		_, _ = c.Read(buf[:])
		_ = c.Close()
	}
	knock()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		knock()
	}
	refused(t, b, nodeport.NotTLS, rounds+1)
	runtime.ReadMemStats(&after)
	// Both ends together, with their goroutines and TLS's state.
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 16<<10 {
		t.Errorf("each takes %d bytes, more than one record of TLS", each)
	}
}

func TestALongHandshakeIsClosed(t *testing.T) {
	a := newAuthority(t)
	b := run(t, a.config(t, nodeport.OS(), "b"))
	c := must(net.Dial("tcp", b.Addr().String()))
	defer c.Close()
	first := true
	for {
		record := make([]byte, 5+16384)
		copy(record, []byte{0x16, 3, 1, 0x40, 0x00})
		if first { // a client hello of 60,000 bytes
			copy(record[5:], []byte{1, 0, 0xea, 0x60})
		}
		first = false
		if _, err := c.Write(record); err != nil {
			break
		}
		if b.Counters().Refused[nodeport.TooMuch] > 0 {
			break
		}
	}
	refused(t, b, nodeport.TooMuch, 1)
}

func TestWithoutCertificateOnlyControlIsServed(t *testing.T) {
	onBoth(t, func(t *testing.T, a *authority, here, there nodeport.Network) {
		cfg := a.config(t, there, "b")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo, nodeport.Link: func(context.Context, net.Conn, nodeport.Peer) {
			t.Error("a link without certificate was served")
		}}
		b := run(t, cfg)
		raft := b.Listener(nodeport.Raft)
		go func() {
			if _, err := raft.Accept(); err == nil {
				t.Error("raft got a connection without certificate")
			}
		}()
		for i, kind := range []byte{1, 3, 0, 4, 255} {
			c := secure(t, must(here.Dial(t.Context(), b.Addr().String())), a.client(""))
			_, _ = c.Write([]byte{kind})
			ends(t, c)
			refused(t, b, nodeport.NoCertificate, uint64(i+1))
		}
		c := secure(t, must(here.Dial(t.Context(), b.Addr().String())), a.client(""))
		_, _ = c.Write([]byte{2})
		reads(t, c, "nobody\n")
	})
}

func TestAnUnknownKindIsClosed(t *testing.T) {
	a := newAuthority(t)
	b := run(t, a.config(t, nodeport.OS(), "b"))
	for i, kind := range []byte{0, 1, 2, 3, 4} {
		c := secure(t, must(net.Dial("tcp", b.Addr().String())), a.client("a"))
		_, _ = c.Write([]byte{kind})
		ends(t, c)
		refused(t, b, nodeport.UnknownKind, uint64(i+1))
	}
}

func TestCertificatesOfOthersAreRefused(t *testing.T) {
	a := newAuthority(t)
	b := run(t, a.config(t, nodeport.OS(), "b"))
	raw := must(net.Dial("tcp", b.Addr().String()))
	conf := a.client("a")
	conf.Certificates = newAuthority(t).issue("a")
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &conf.Certificates[0], nil }
	c := secure(t, raw, conf) // in TLS 1.3 the client is done before the server looks at its certificate
	ends(t, c)
	refused(t, b, nodeport.BadHandshake, 1)
}

// torn lets only some bytes through, once it is told to.
type torn struct {
	net.Conn
	left int
}

func (c *torn) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	if _, err := c.Conn.Write(b[:n]); err != nil {
		return 0, err
	}
	return len(b), nil
}

func TestStalledConnectionsAreCut(t *testing.T) {
	for name, say := range map[string]func(t *testing.T, a *authority, raw net.Conn){
		"nothing":       func(*testing.T, *authority, net.Conn) {},
		"one byte":      func(_ *testing.T, _ *authority, raw net.Conn) { _, _ = raw.Write([]byte{0x16}) },
		"a record torn": func(_ *testing.T, _ *authority, raw net.Conn) { _, _ = raw.Write([]byte{0x16, 3, 1, 0x40, 0, 1}) },
		"a drop a second": func(_ *testing.T, _ *authority, raw net.Conn) {
			for _, b := range []byte{0x16, 3, 1, 0x40} {
				_, _ = raw.Write([]byte{b})
				time.Sleep(time.Second) // the bubble's: it is the attack
			}
		},
		"no kind": func(t *testing.T, a *authority, raw net.Conn) { secure(t, raw, a.client("a")) },
		"half a kind": func(t *testing.T, a *authority, raw net.Conn) {
			half := &torn{raw, 1 << 20}
			c := secure(t, half, a.client("a"))
			half.left = 9
			_, _ = c.Write([]byte{byte(nodeport.Control)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, n := newAuthority(t), clustertest.New(1)
				cfg := a.config(t, n.Host("b", "10.0.0.2"), "b")
				b := run(t, cfg)
				start := time.Now()
				raw := must(n.Host("a", "10.0.0.1").Dial(t.Context(), b.Addr().String()))
				defer raw.Close()
				say(t, a, raw)
				ends(t, raw)
				if took := time.Since(start); took != cfg.Handshake {
					t.Errorf("closed after %v, want %v", took, cfg.Handshake)
				}
				synctest.Wait()
				if n := b.Counters(); n.Refused[nodeport.Stalled] != 1 || n.Strangers != 0 {
					t.Errorf("counters %+v", n)
				}
			})
		})
	}
}

func TestAnonymousConnectionsDoNotLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := newAuthority(t), clustertest.New(1)
		cfg := a.config(t, n.Host("b", "10.0.0.2"), "b")
		cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Control: echo}
		b, from := run(t, cfg), run(t, a.config(t, n.Host("a", "10.0.0.1"), "a"))
		start := time.Now()
		c := must(from.DialAnonymous(t.Context(), b.Addr().String()))
		reads(t, c, "nobody\n")
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != cfg.AnonymousLife {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		synctest.Wait()
		if n := b.Counters(); n.Refused[nodeport.Overstayed] != 1 || n.Strangers != 0 {
			t.Errorf("counters %+v", n)
		}
	})
}

// A flood from the very address that a node has: it must get through while the flood goes on.
func TestAFloodOfStrangersLocksNoNodeOut(t *testing.T) {
	a := newAuthority(t)
	cfg := a.config(t, nodeport.OS(), "b")
	cfg.Serve = map[nodeport.Kind]nodeport.Handler{nodeport.Link: echo}
	var log lines
	cfg.Log = log.logger()
	b := run(t, cfg)
	from := run(t, a.config(t, nodeport.OS(), "a"))

	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	for range 2 {
		flood.Go(func() {
			var open []net.Conn
			for ctx.Err() == nil {
				if c, err := net.Dial("tcp", b.Addr().String()); err == nil {
					_, _ = c.Write([]byte{0x16, 3, 1})
					open = append(open, c)
				}
				if len(open) > 500 {
					_ = open[0].Close()
					open = open[1:]
				}
				select { // some thousands a second
				case <-ctx.Done():
				case <-time.After(500 * time.Microsecond):
				}
			}
			for _, c := range open {
				_ = c.Close()
			}
		})
	}
	refused(t, b, nodeport.Crowded, 200)
	through := 0
	for range 20 {
		c, err := from.Dial(t.Context(), b.Addr().String(), "b", nodeport.Link)
		if err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, _ := c.Read(make([]byte, 2)); n > 0 {
			through++
		}
		if n := b.Counters().Strangers; n > cfg.StrangersPerAddr {
			t.Errorf("%d strangers of one address", n)
		}
	}
	cancel()
	flood.Wait()
	if through < 10 {
		t.Errorf("%d of 20 attempts came through the flood", through)
	}
	if n := log.count("reason=crowded"); n < 1 || n > 3 {
		t.Errorf("%d lines about the crowd", n)
	}
}

func TestTheCrowdOfOneAddressPushesOutItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := newAuthority(t), clustertest.New(1)
		cfg := a.config(t, n.Host("b", "10.0.0.2"), "b")
		cfg.Strangers, cfg.StrangersPerAddr = 8, 6
		b := run(t, cfg)
		crowd, few, late := n.Host("crowd", "10.0.1.1"), n.Host("few", "10.0.1.2"), n.Host("late", "10.0.1.3")
		var conns []net.Conn
		dial := func(h *clustertest.Host) net.Conn {
			c := must(h.Dial(t.Context(), b.Addr().String()))
			conns = append(conns, c)
			synctest.Wait()
			return c
		}
		open := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			late, ok := err.(net.Error)
			return ok && late.Timeout()
		}
		first := dial(few)
		for range 20 {
			dial(crowd)
		}
		if !open(first) || b.Counters().Strangers != 7 || b.Counters().Refused[nodeport.Crowded] != 14 {
			t.Errorf("after the crowd: open %v, %+v", open(first), b.Counters())
		}
		dial(late)
		dial(late) // the ninth: one of the crowd goes
		if !open(first) || b.Counters().Strangers != 8 || b.Counters().Refused[nodeport.Crowded] != 15 {
			t.Errorf("after the late: open %v, %+v", open(first), b.Counters())
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
}

func TestTheLogIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, n := newAuthority(t), clustertest.New(1)
		cfg := a.config(t, n.Host("b", "10.0.0.2"), "b")
		var log lines
		cfg.Log = log.logger()
		b := run(t, cfg)
		h := n.Host("a", "10.0.0.1")
		knock := func(times int) {
			for range times {
				c := must(h.Dial(t.Context(), b.Addr().String()))
				_, _ = fmt.Fprint(c, "hello")
				ends(t, c)
				_ = c.Close()
			}
			synctest.Wait()
		}
		knock(50)
		if n := log.count("not tls"); n != 1 {
			t.Errorf("%d lines for 50 refusals", n)
		}
		time.Sleep(10 * time.Second) // the bubble's
		knock(1)
		if log.count("reason=\"not tls\"") != 2 || log.count("more=49") != 1 {
			t.Errorf("the log says %s", log.buf.String())
		}
	})
}
