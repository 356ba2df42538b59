package clustertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// sockets are two sockets for packets, on hosts a and b.
func sockets(t *testing.T, seed uint64, p Path) (n *Network, a, b net.PacketConn) {
	t.Helper()
	n = New(seed)
	n.Host("a", "10.0.0.1")
	n.Host("b", "10.0.0.2")
	n.SetAll(p)
	return n, must(n.hosts["a"].ListenPacket(":7946"))(t), must(n.hosts["b"].ListenPacket(":7946"))(t)
}

// drain is what b gets until nothing comes for a second.
func drain(t *testing.T, b net.PacketConn) (got []byte) {
	t.Helper()
	buf := make([]byte, 16)
	for {
		b.SetReadDeadline(time.Now().Add(time.Second))
		k, from, err := b.ReadFrom(buf)
		if err != nil {
			wants(t, err, os.ErrDeadlineExceeded)
			return got
		}
		if from.String() != "10.0.0.1:7946" {
			t.Fatalf("a packet from %v", from)
		}
		got = append(got, buf[:k]...)
	}
}

func TestPacketsAreLostAndOvertakeAsTheSeedSays(t *testing.T) {
	run := func(seed uint64) (got []byte) {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := sockets(t, seed, Path{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.25})
			for i := range 200 {
				must(a.WriteTo([]byte{byte(i)}, b.LocalAddr()))(t)
			}
			start := time.Now()
			got = drain(t, b)
			if took := time.Since(start); took > 1030*time.Millisecond {
				t.Errorf("the last one came after %v", took-time.Second)
			}
			traffic := n.Traffic("a", "b")
			if traffic.Packets != uint64(len(got)) || traffic.Packets+traffic.Lost != 200 {
				t.Errorf("%d came, counted are %+v", len(got), traffic)
			}
		})
		return got
	}
	first, again, other := run(1), run(1), run(2)
	if len(first) < 120 || len(first) > 180 {
		t.Errorf("%d of 200 came with a loss of a quarter", len(first))
	}
	ordered := true
	for i := range first[1:] {
		ordered = ordered && first[i] < first[i+1]
	}
	if ordered {
		t.Error("no packet overtook another")
	}
	if string(first) != string(again) || string(first) == string(other) {
		t.Error("the seed does not decide what happens")
	}
}

func TestPacketsStopAtCutsAndDeadHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := sockets(t, 1, Path{})
		send := func(what string) { must(a.WriteTo([]byte(what), b.LocalAddr()))(t) }
		send("1")
		n.Cut("a", "b")
		send("2")
		must(b.WriteTo([]byte("back"), a.LocalAddr()))(t)
		buf := make([]byte, 4)
		if k, _, err := a.ReadFrom(buf); err != nil || string(buf[:k]) != "back" {
			t.Fatalf("the other direction: %q, %v", buf[:k], err)
		}
		n.Heal()
		send("3")
		if got := drain(t, b); string(got) != "13" {
			t.Fatalf("%q came", got)
		}
		n.hosts["b"].Kill()
		send("4")
		_, _, err := b.ReadFrom(buf)
		wants(t, err, errDown)
		must(a.WriteTo([]byte("5"), &net.UDPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 1}))(t)
		_, err = a.WriteTo(make([]byte, maxPacket+1), b.LocalAddr())
		wants(t, err, syscall.EMSGSIZE)
	})
}

func TestSlowReaderLosesPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := sockets(t, 1, Path{})
		for range maxWaiting + 10 {
			must(a.WriteTo([]byte{1}, b.LocalAddr()))(t)
		}
		if got := len(drain(t, b)); got != maxWaiting {
			t.Fatalf("%d packets came", got)
		}
		if lost := n.Traffic("a", "b").Lost; lost != 10 {
			t.Fatalf("%d are counted as lost", lost)
		}
		go func() { time.Sleep(time.Second); b.Close() }()
		b.SetReadDeadline(time.Time{})
		_, _, err := b.ReadFrom(make([]byte, 1))
		wants(t, err, net.ErrClosed)
	})
}

func TestTLSRunsOnTop(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(1e6 * time.Hour), DNSNames: []string{"b"}}
	cert := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(cert))(t))
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Path{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.1})
		server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
		client := tls.Client(a, &tls.Config{RootCAs: pool, ServerName: "b"})
		go func() {
			defer server.Close()
			_, _ = io.Copy(server, io.LimitReader(server, 100_000))
		}()
		if err := client.Handshake(); err != nil { // first: a goroutine that waits for its lock stops a bubble's clock
			t.Fatal(err)
		}
		go client.Write(make([]byte, 100_000))
		if all := must(io.ReadAll(client))(t); len(all) != 100_000 {
			t.Fatalf("%d bytes came back", len(all))
		}
		client.Close()
	})
}
