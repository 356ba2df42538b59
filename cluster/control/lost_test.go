package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

// hang is a handler that says when it has begun, and ends with its context.
func hang(began chan<- struct{}) control.Handler {
	return func(ctx context.Context, _ nodeport.Peer, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

func TestAConnectionLostDuringACallLeavesItUnknown(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		began := make(chan struct{}, 1)
		b := serve(t, there, anywhere, control.Default(), known, handlers{control.Propose: hang(began)})
		c := client(t, plain{here}, control.Default())
		result := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), b.addr, "b", control.Propose, nil)
			result <- err
		}()
		<-began
		b.end()
		if err := <-result; !errors.Is(err, control.ErrUnknown) || errors.Is(err, control.ErrNotSent) {
			t.Errorf("%v", err)
		}
		if n := c.Counters(); n.Unknown != 1 || n.Connections != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestACallToNobodyWasNotSent(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		b := serve(t, there, anywhere, control.Default(), known, nil)
		b.end()
		c := client(t, plain{here}, control.Default())
		for range 2 {
			if _, err := c.Call(t.Context(), b.addr, "b", control.Propose, nil); !errors.Is(err, control.ErrNotSent) || errors.Is(err, control.ErrUnknown) {
				t.Errorf("%v", err)
			}
		}
		if n := c.Counters(); n.NotSent != 2 || n.DialFailed != 2 || n.Connections != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestANodeThatCameBackIsDialledAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		c := client(t, plain{here}, control.Default())
		addr := anywhere
		for range 3 {
			b := serve(t, there, addr, control.Default(), known, handlers{control.Status: echo})
			addr = b.addr
			if got, err := c.Call(t.Context(), addr, "b", control.Status, []byte("hi")); err != nil || string(got) != "hi" {
				t.Errorf("%q, %v", got, err)
			}
			b.end()
			until(t, "the old connection is gone", func() bool { return c.Counters().Connections == 0 })
		}
		elsewhere := serve(t, there, anywhere, control.Default(), known, handlers{control.Status: echo})
		if _, err := c.Call(t.Context(), elsewhere.addr, "b", control.Status, nil); err != nil {
			t.Errorf("at another address: %v", err)
		}
	})
}

func TestAConnectionThatShowsNoLifeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, here, there := hosts()
		cfg := control.Default()
		began := make(chan struct{}, 1)
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: echo, control.Propose: hang(began)})
		c := client(t, plain{here}, cfg)
		go func() {
			<-began
			n.Partition([]string{"a"})
		}()
		start := time.Now()
		_, err := c.Call(t.Context(), b.addr, "b", control.Propose, nil)
		if took := time.Since(start); !errors.Is(err, control.ErrUnknown) || took > cfg.Silence {
			t.Errorf("after %v: %v", took, err)
		}
		time.Sleep(cfg.Silence) // the bubble's: the other end gives up as well
		synctest.Wait()
		if n := b.Counters(); n.Running != 0 || n.Connections != 0 || n.Stalled != 1 {
			t.Errorf("%+v", n)
		}
		n.Heal()
		if _, err := c.Call(t.Context(), b.addr, "b", control.Status, nil); err != nil {
			t.Errorf("after healing: %v", err)
		}
	})
}

func TestBeatsKeepAnIdleConnectionForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		cfg := control.Default()
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: echo})
		c := client(t, plain{here}, cfg)
		call := func() {
			if _, err := c.Call(t.Context(), b.addr, "b", control.Status, nil); err != nil {
				t.Error(err)
			}
		}
		call()
		time.Sleep(cfg.Idle - time.Second) // the bubble's, as below
		call()
		if n := c.Counters(); n.Dialled != 1 || n.Connections != 1 {
			t.Errorf("%+v", n)
		}
		time.Sleep(cfg.Idle + 2*cfg.Beat)
		if n := c.Counters(); n.Connections != 0 || b.Counters().Connections != 0 {
			t.Errorf("%+v, %+v", n, b.Counters())
		}
		call()
		if n := c.Counters().Dialled; n != 2 {
			t.Errorf("%d dialled", n)
		}
	})
}

func TestTheEndOfRunEndsCalls(t *testing.T) {
	_, here, there := hosts()
	began := make(chan struct{}, 1)
	b := serve(t, there, anywhere, control.Default(), known, handlers{control.Propose: hang(began)})
	c := must(control.NewClient(control.Default(), plain{here}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	result := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), b.addr, "b", control.Propose, nil)
		result <- err
	}()
	<-began
	cancel()
	if err := <-result; !errors.Is(err, control.ErrUnknown) {
		t.Errorf("a call on its way: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := c.Call(t.Context(), b.addr, "b", control.Propose, nil); !errors.Is(err, control.ErrNotSent) {
		t.Errorf("a later call: %v", err)
	}
}

// slow dials when it is told to.
type slow struct {
	plain
	dial chan struct{}
}

func (s slow) Dial(ctx context.Context, addr, node string, kind nodeport.Kind) (net.Conn, error) {
	select {
	case <-s.dial:
		return s.plain.Dial(ctx, addr, node, kind)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestOneDialServesAllWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		b := serve(t, there, anywhere, control.Default(), known, handlers{control.Status: echo})
		dial := slow{plain{here}, make(chan struct{})}
		c := client(t, dial, control.Default())
		results := make(chan error, 10)
		impatient, cancel := context.WithCancel(t.Context())
		for i := range 10 {
			ctx := t.Context()
			if i == 0 {
				ctx = impatient
			}
			go func() {
				_, err := c.Call(ctx, b.addr, "b", control.Status, nil)
				results <- err
			}()
			synctest.Wait()
		}
		cancel() // of the one that began it
		if err := <-results; !errors.Is(err, control.ErrNotSent) || !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up: %v", err)
		}
		close(dial.dial)
		for range 9 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := c.Counters(); n.Dialled != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// The first call fills the connection, the second waits behind it when the connection goes.
func TestACallBehindAnotherWasNotSentWhenTheConnectionGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		l := must(there.Listen(":1"))
		c := client(t, plain{here}, control.Default())
		call := func() chan error {
			result := make(chan error, 1)
			go func() {
				_, err := c.Call(t.Context(), there.Addr(1), "b", control.Propose, make([]byte, 1<<20))
				result <- err
			}()
			synctest.Wait()
			return result
		}
		first := call()
		in := must(l.Accept())
		_, _ = io.WriteString(in, reply(0, 3, hello)) // and reads nothing
		synctest.Wait()
		second := call()
		_ = l.Close()
		_, _ = io.WriteString(in, "\xff\xff\xff\xff")
		defer in.Close()
		if err := <-first; !errors.Is(err, control.ErrUnknown) {
			t.Errorf("the first: %v", err)
		}
		if err := <-second; !errors.Is(err, control.ErrNotSent) || errors.Is(err, control.ErrUnknown) {
			t.Errorf("the second: %v", err)
		}
	})
}
