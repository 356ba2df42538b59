package pipe

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// tcpPair is two ends of one loopback connection.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	// The kernel is to take little, so that something waits. Much less than this, and loopback's large segments make
	// it open a closed window only after seconds.
	_, _ = a.(*net.TCPConn).SetWriteBuffer(256<<10), b.(*net.TCPConn).SetReadBuffer(256<<10)
	_ = b.SetDeadline(time.Now().Add(patience))
	return a, b
}

// pattern is at most 3 MiB that show where they belong.
func pattern(n int) []byte { return wholePattern()[:n] }

var wholePattern = sync.OnceValue(func() []byte {
	b := make([]byte, 3<<20)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
})

// until polls what no channel tells.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func readAllAsync(c net.Conn) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(c)
		got <- b
	}()
	return got
}

func TestWriteNeverBlocksAndLosesNothing(t *testing.T) {
	for name, make := range map[string]func() (net.Conn, net.Conn){
		"tcp":  func() (net.Conn, net.Conn) { return tcpPair(t) },
		"pipe": func() (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := make()
			c := NewConn(a, Options{MaxPending: 64 << 20})
			defer func() { _ = c.Close() }()
			want := pattern(3 << 20)
			for rest := want; len(rest) > 0; { // nobody reads yet
				n := min(len(rest), 100_001)
				if m, err := c.Write(rest[:n]); m != n || err != nil {
					t.Fatalf("wrote %d, %v", m, err)
				}
				rest = rest[n:]
			}
			if c.Pending() == 0 {
				t.Fatal("the kernel took 3 MiB at once")
			}
			got := readAllAsync(b)
			until(t, "everything is taken", func() bool { return c.Pending() == 0 })
			_ = c.Close()
			if got := <-got; !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, want %d, or they differ", len(got), len(want))
			}
		})
	}
}

func TestPeerOverItsBoundIsCut(t *testing.T) {
	a, _ := tcpPair(t)
	c := NewConn(a, Options{MaxPending: 1 << 20, Stall: time.Minute})
	chunk := make([]byte, 1<<20)
	var err error
	for range 100 {
		if _, err = c.Write(chunk); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrSlow) || !errors.Is(c.Err(), ErrSlow) {
		t.Fatalf("got %v, Err %v", err, c.Err())
	}
	if _, err := c.Read(chunk); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading gives %v, want closed", err)
	}
	if _, err := c.Write(chunk); !errors.Is(err, ErrSlow) {
		t.Errorf("writing again gives %v", err)
	}
}

func TestAllowPendingRaisesTheBound(t *testing.T) {
	a, _ := net.Pipe()
	c := NewConn(a, Options{MaxPending: 10})
	defer func() { _ = c.Close() }()
	c.AllowPending(5) // never lowers
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	c.AllowPending(20)
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte{0}); !errors.Is(err, ErrSlow) {
		t.Fatalf("got %v", err)
	}
}

func TestStalledPeerIsCut(t *testing.T) {
	for name, make := range map[string]func() (net.Conn, net.Conn){
		"tcp":  func() (net.Conn, net.Conn) { return tcpPair(t) },
		"pipe": func() (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := make()
			c := NewConn(a, Options{MaxPending: 64 << 20, Stall: 50 * time.Millisecond})
			if _, err := c.Write(pattern(3 << 20)); err != nil {
				t.Fatal(err)
			}
			until(t, "it is cut", func() bool { return errors.Is(c.Err(), ErrSlow) })
		})
	}
}

func TestSlowPeerThatMakesProgressIsNotCut(t *testing.T) {
	a, b := tcpPair(t)
	const stall = 1500 * time.Millisecond
	c := NewConn(a, Options{MaxPending: 64 << 20, Stall: stall})
	defer func() { _ = c.Close() }()
	want := pattern(3 << 20)
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 32<<10)
	for start := time.Now(); len(got) < len(want); {
		if time.Since(start) < stall*3/2 {
			time.Sleep(stall / 50) // the peer's pace, not an outcome
		}
		n, err := b.Read(buf)
		if err != nil {
			t.Fatalf("after %d bytes: %v (%v)", len(got), err, c.Err())
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
}

func TestConcurrentWritesAreWhole(t *testing.T) {
	a, b := tcpPair(t)
	c := NewConn(a, Options{MaxPending: 64 << 20})
	got := readAllAsync(b)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.CloseAfterFlush(patience)
	all := <-got
	_ = c.Close()
	if len(all) != 8*500*1000 {
		t.Fatalf("%d bytes arrived", len(all))
	}
	for ; len(all) > 0; all = all[1000:] {
		if !bytes.Equal(all[:1000], bytes.Repeat(all[:1], 1000)) {
			t.Fatal("two writes are mixed")
		}
	}
}

func TestCloseAfterFlush(t *testing.T) {
	a, b := tcpPair(t)
	c := NewConn(a, Options{MaxPending: 64 << 20})
	want := pattern(3 << 20)
	_, _ = c.Write(want)
	c.CloseAfterFlush(patience)
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write afterwards gives %v", err)
	}
	if got := <-readAllAsync(b); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(want))
	}
	// Our reading side is open until the peer closes too.
	if _, err := b.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d %v", n, err)
	}
	_ = c.Close()

	a, _ = tcpPair(t)
	c = NewConn(a, Options{MaxPending: 64 << 20})
	_, _ = c.Write(want) // nobody reads: linger ends it
	c.CloseAfterFlush(20 * time.Millisecond)
	until(t, "linger closes", func() bool { return errors.Is(c.Err(), net.ErrClosed) })
}

func TestPeekByte(t *testing.T) {
	for name, make := range map[string]func() (net.Conn, net.Conn){
		"tcp":  func() (net.Conn, net.Conn) { return tcpPair(t) },
		"pipe": func() (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := make()
			go func() { _, _ = b.Write([]byte("xyz")); _ = b.Close() }()
			c := NewConn(a, Options{})
			for range 2 {
				if p, err := c.PeekByte(); p != 'x' || err != nil {
					t.Fatalf("peeked %q, %v", p, err)
				}
			}
			if all, err := io.ReadAll(c); string(all) != "xyz" || err != nil {
				t.Errorf("read %q, %v", all, err)
			}
			if _, err := c.PeekByte(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end %v", err)
			}
			_ = c.Close()
		})
	}
	a, _ := tcpPair(t)
	c := NewConn(a, Options{})
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.PeekByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without input %v", err)
	}
}

func TestWriterCombines(t *testing.T) {
	a, b := tcpPair(t)
	c := NewConn(a, Options{MaxPending: 64 << 20})
	w := NewWriter(c)
	got := readAllAsync(b)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 300 {
				record := bytes.Repeat([]byte{byte(i)}, 1+n*7)
				buf := Grow(w.Acquire(), 2+len(record))
				buf = append(buf, byte(len(record)>>8), byte(len(record)))
				w.Release(append(buf, record...))
				if err := w.Flush(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	w.CloseAfterFlush(patience)
	all, records := <-got, 0
	_ = c.Close()
	for ; len(all) > 0; records++ {
		n := int(all[0])<<8 | int(all[1])
		if !bytes.Equal(all[2:2+n], bytes.Repeat(all[2:3], n)) {
			t.Fatal("a record is torn")
		}
		all = all[2+n:]
	}
	if records != 8*300 {
		t.Errorf("%d records", records)
	}
	if w.buf != nil || w.Queued() != 0 {
		t.Errorf("an idle writer holds %d bytes", cap(w.buf))
	}
}

func TestWriterKeepsNothingAfterAnError(t *testing.T) {
	a, _ := tcpPair(t)
	c := NewConn(a, Options{})
	w := NewWriter(c)
	_ = c.Close()
	w.Release(append(w.Acquire(), 'x'))
	if w.Queued() != 1 {
		t.Errorf("%d bytes are queued", w.Queued())
	}
	if err := w.Flush(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("flush gives %v", err)
	}
	w.Release(append(w.Acquire(), 'x'))
	if w.Queued() != 0 || w.buf != nil {
		t.Error("something is kept for a dead connection")
	}
}

func TestReaderGrowsAsBytesArrive(t *testing.T) {
	for name, make := range map[string]func() (net.Conn, net.Conn){
		"tcp":  func() (net.Conn, net.Conn) { return tcpPair(t) },
		"pipe": func() (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := make()
			c := NewConn(a, Options{})
			defer func() { _ = c.Close() }()
			rd := NewReader(c, 1000)
			want := pattern(3 << 20)
			go func() { _, _ = b.Write([]byte("head")); _, _ = b.Write(want); _ = b.Close() }()
			if p, err := rd.Fill(2); err != nil || string(p[:2]) != "he" {
				t.Fatalf("%q %v", p, err)
			}
			if cap(rd.buf) != class1K {
				t.Errorf("took %d bytes for two", cap(rd.buf))
			}
			rd.Discard(2)
			rd.Unread([]byte("the "))
			p, err := rd.Fill(6 + len(want))
			if err != nil || string(p[:6]) != "the ad" || !bytes.Equal(p[6:], want) {
				t.Fatalf("%d bytes, %v", len(p), err)
			}
			if rd.Drained() {
				t.Error("drained, with bytes unread")
			}
			if p, err := rd.Fill(len(p) + 1); !errors.Is(err, io.ErrUnexpectedEOF) || len(p) != 6+len(want) {
				t.Errorf("at the end %v with %d bytes", err, len(p))
			}
			rd.Discard(6 + len(want))
			if !rd.Drained() || rd.buf != nil {
				t.Error("a drained reader holds a buffer")
			}
			if _, err := rd.Fill(1); !errors.Is(err, io.EOF) {
				t.Errorf("at the end %v", err)
			}
			rd.Close()
		})
	}
}

func TestReaderWaitsWithoutABuffer(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			c, b := readerPair(t, secure)
			rd := NewReader(c, class16K)
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := rd.Fill(1); !errors.Is(err, os.ErrDeadlineExceeded) || rd.buf != nil {
				t.Fatalf("%v, and holds %d bytes", err, cap(rd.buf))
			}
			_ = c.SetReadDeadline(time.Time{})
			go func() { _, _ = b.Write([]byte("on")) }()
			if p, err := rd.Fill(2); string(p) != "on" || err != nil {
				t.Errorf("after a deadline %q %v", p, err)
			}
			rd.Discard(2)
		})
	}
}

// readerPair is a Conn, under TLS if secure, and the client's end.
func readerPair(t testing.TB, secure bool) (c net.Conn, client net.Conn) {
	a, b := tcpPair(t)
	pc := NewConn(a, Options{MaxPending: 64 << 20})
	t.Cleanup(func() { _ = pc.Close() })
	if !secure {
		return pc, b
	}
	server := tls.Server(pc, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, DynamicRecordSizingDisabled: true})
	tc := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- tc.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return server, tc
}

var certificate = func() func(testing.TB) tls.Certificate {
	var once sync.Once
	var cert tls.Certificate
	return func(t testing.TB) tls.Certificate {
		once.Do(func() {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
			der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		})
		return cert
	}
}()

func TestTLSReaderTakesAllRecordsOfOneRead(t *testing.T) {
	c, client := readerPair(t, true)
	rd := NewReader(c, class16K)
	want := pattern(3 << 20)
	done := make(chan error, 1)
	go func() {
		rest, n := want, 1
		for len(rest) > 0 { // records of every size up to 16 KiB
			n = min(n*3%20_011+1, len(rest))
			if _, err := client.Write(rest[:n]); err != nil {
				done <- err
				return
			}
			rest = rest[n:]
		}
		done <- client.(*tls.Conn).CloseWrite()
	}()
	var got []byte
	for {
		p, err := rd.Fill(1)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		got = append(got, p...)
		rd.Discard(len(p))
	}
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, %d bytes", err, len(got))
	}
}

func TestTLSSmallRecordsComeTogether(t *testing.T) {
	c, client := readerPair(t, true)
	rd := NewReader(c, class16K)
	for range 2 { // the first round makes TLS's own buffer large enough
		if _, err := client.Write(make([]byte, 8000)); err != nil {
			t.Fatal(err)
		}
		if _, err := rd.Fill(8000); err != nil {
			t.Fatal(err)
		}
		rd.Discard(8000)
	}
	for range 8 {
		_, _ = client.Write(make([]byte, 64))
	}
	p, err := rd.Fill(64)
	if err != nil {
		t.Fatal(err)
	}
	if len(p) != 8*64 {
		// The kernel may have split them; what matters is that all of them are there in the end.
		if p, err = rd.Fill(8 * 64); err != nil || len(p) != 8*64 {
			t.Errorf("%d bytes, %v", len(p), err)
		}
	}
}

func TestTLSNeverBlocks(t *testing.T) {
	c, client := readerPair(t, true)
	w := NewWriter(c)
	want := pattern(3 << 20)
	w.Release(append(Grow(w.Acquire(), len(want)), want...))
	if err := w.Flush(); err != nil || w.Queued() == 0 {
		t.Fatalf("%v, %d queued", err, w.Queued())
	}
	w.CloseAfterFlush(patience)
	if got := <-readAllAsync(client); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived", len(got))
	}
}

func TestBuffers(t *testing.T) {
	for _, n := range []int{0, 1, class1K, class1K + 1, class4K + 1, class16K + 1, class64K + 1, class256K + 1, class1M, class1M + 1} {
		b := TakeBuffer(n)
		if len(b) != 0 || cap(b) < n {
			t.Errorf("TakeBuffer(%d): len %d cap %d", n, len(b), cap(b))
		}
		ReturnBuffer(b)
	}
	ReturnBuffer(nil)
	ReturnBuffer(make([]byte, 5))
	b := append(TakeBuffer(10), "0123456789"...)
	for n := 1; n < 3<<20; n *= 3 {
		if b = Grow(b, n); cap(b)-len(b) < n || string(b) != "0123456789" {
			t.Fatalf("Grow(%d): %q, cap %d", n, b, cap(b))
		}
	}
}

func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	const n = 1000
	a, _ := tcpPair(t)
	var before, after runtime.MemStats
	keep := make([]any, 0, 3*n)
	for range 3 { // the pools of earlier tests are empty after two
		runtime.GC()
	}
	runtime.ReadMemStats(&before)
	for range n {
		c := NewConn(a, Options{})
		keep = append(keep, c, NewWriter(c), NewReader(c, class16K))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / n; per > 600 {
		t.Errorf("%d bytes for an idle Conn, Writer and Reader", per)
	} else {
		t.Logf("%d bytes", per)
	}
	runtime.KeepAlive(keep)
}

// BenchmarkEcho is one 512-byte batch each way; it must not allocate.
func BenchmarkEcho(b *testing.B) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		b.Run(name, func(b *testing.B) {
			c, client := readerPair(b, secure)
			rd, w := NewReader(c, class16K), NewWriter(c)
			in := make([]byte, 512)
			_ = client.SetDeadline(time.Time{})
			b.ReportAllocs()
			for range b.N {
				if _, err := client.Write(in); err != nil {
					b.Fatal(err)
				}
				p, err := rd.Fill(len(in))
				if err != nil {
					b.Fatal(err)
				}
				w.Release(append(w.Acquire(), p...))
				rd.Discard(len(p))
				if err := w.Flush(); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriterContended(b *testing.B) {
	a, peer := tcpPair(b)
	_ = peer.SetDeadline(time.Time{})
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	w := NewWriter(NewConn(a, Options{MaxPending: 64 << 20}))
	record := make([]byte, 64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Release(append(Grow(w.Acquire(), len(record)), record...))
			if err := w.Flush(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
