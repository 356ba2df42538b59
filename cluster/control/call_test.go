package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster/control"
	"github.com/trunkline-edge/trunkline/cluster/nodeport"
)

func TestCallsInParallelEachGetTheirAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		cfg := control.Default()
		cfg.MaxCalls = 16
		var now, most atomic.Int64
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(_ context.Context, from nodeport.Peer, body []byte) ([]byte, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return fmt.Appendf(nil, "%s says %s", from.NodeID, body), nil
		}})
		c := client(t, plain{here}, control.Default())
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				body := strings.Repeat(fmt.Sprint(i, " "), i)
				got, err := c.Call(t.Context(), b.addr, "b", control.Status, []byte(body))
				if err != nil || string(got) != "a says "+body {
					t.Errorf("call %d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		wg.Wait()
		if n := most.Load(); n > int64(cfg.MaxCalls) {
			t.Errorf("%d calls at a time", n)
		}
		if n := c.Counters(); n.Dialled != 1 || n.Calls != 500 || n.Connections != 1 || b.Counters().Calls != 500 {
			t.Errorf("%+v, %+v", n, b.Counters())
		}
	})
}

func TestAQuickCallOvertakesASlowOne(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		began, release := make(chan struct{}), make(chan struct{})
		b := serve(t, there, anywhere, control.Default(), known, handlers{
			control.Status: echo,
			control.Probe: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
				close(began)
				<-release
				return nil, nil
			},
		})
		c := client(t, plain{here}, control.Default())
		slow := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), b.addr, "b", control.Probe, nil)
			slow <- err
		}()
		<-began
		large := bytes.Repeat([]byte("x"), control.Default().MaxBody)
		if got, err := c.Call(t.Context(), b.addr, "b", control.Status, large); err != nil || !bytes.Equal(got, large) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		close(release)
		if err := <-slow; err != nil {
			t.Error(err)
		}
	})
}

var errNoSuchNode = &control.Error{Code: 100, Text: "no such node"}

func TestErrorsCrossWithCodeAndSentence(t *testing.T) {
	_, here, there := hosts()
	var fails error
	cfg := control.Default()
	b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
		return []byte("not seen"), fails
	}})
	c := client(t, plain{here}, cfg)
	for _, given := range []struct {
		err  error
		is   []error
		not  error
		text string
	}{
		{errNoSuchNode, []error{errNoSuchNode}, control.ErrUnknown, "no such node"},
		{fmt.Errorf("bind b: %w", errNoSuchNode), []error{errNoSuchNode}, control.ErrPanicked, "bind b: no such node"},
		{errors.New("disk on fire"), []error{&control.Error{Code: control.CodeFailed}}, control.ErrUnknown, "disk on fire"},
		{errors.New(strings.Repeat("long ", 1000)), nil, nil, "long long"},
		{context.DeadlineExceeded, []error{context.DeadlineExceeded, control.ErrUnknown}, control.ErrNotSent, "deadline"},
		{fmt.Errorf("wait: %w", context.Canceled), []error{context.Canceled, control.ErrUnknown}, context.DeadlineExceeded, "wait"},
		{fmt.Errorf("forward: %w", control.ErrUnknown), []error{control.ErrUnknown}, control.ErrNotSent, "forward"},
		{fmt.Errorf("forward: %w: %w", control.ErrNotSent, errNoSuchNode), []error{control.ErrNotSent}, control.ErrUnknown, "forward"},
		{control.ErrPanicked, []error{control.ErrUnknown}, control.ErrNotSent, "panicked"}, // of the node it was passed on to
	} {
		fails = given.err
		got, err := c.Call(t.Context(), b.addr, "b", control.Status, nil)
		if got != nil || err == nil || !strings.Contains(err.Error(), given.text) || len(err.Error()) > 2000 {
			t.Errorf("%v came as %q, %v", given.err, got, err)
		}
		for _, is := range given.is {
			if !errors.Is(err, is) {
				t.Errorf("%v came as %v, which is no %v", given.err, err, is)
			}
		}
		if given.not != nil && errors.Is(err, given.not) {
			t.Errorf("%v came as %v, which is a %v", given.err, err, given.not)
		}
	}
	if n := c.Counters(); n.Failed != 9 || n.Unknown != 0 || n.NotSent != 0 || n.Dialled != 1 {
		t.Errorf("%+v", n)
	}
}

func TestAPanicEndsItsCallOnly(t *testing.T) {
	_, here, there := hosts()
	b := serve(t, there, anywhere, control.Default(), known, handlers{
		control.Status: echo,
		control.Probe:  func(context.Context, nodeport.Peer, []byte) ([]byte, error) { panic("broken") },
	})
	c := client(t, plain{here}, control.Default())
	if _, err := c.Call(t.Context(), b.addr, "b", control.Probe, nil); !errors.Is(err, control.ErrPanicked) || !errors.Is(err, control.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if got, err := c.Call(t.Context(), b.addr, "b", control.Status, []byte("hi")); err != nil || string(got) != "hi" {
		t.Errorf("%q, %v", got, err)
	}
	if n := b.Counters(); n.Panics != 1 || c.Counters().Dialled != 1 {
		t.Errorf("%+v", n)
	}
}

func TestTheLogIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		var log bytes.Buffer // written by one call at a time
		cfg := control.Default()
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		b := serve(t, there, anywhere, cfg, known, handlers{
			control.Probe: func(context.Context, nodeport.Peer, []byte) ([]byte, error) { panic("broken") },
		})
		c := client(t, plain{here}, control.Default())
		for i := range 21 {
			if i == 20 {
				time.Sleep(10 * time.Second) // the bubble's
			}
			_, _ = c.Call(t.Context(), b.addr, "b", control.Probe, nil)
		}
		if n := strings.Count(log.String(), "a handler panicked"); n != 2 || b.Counters().Panics != 21 {
			t.Errorf("%d lines, %+v", n, b.Counters())
		}
	})
}

func TestWhatIsTooLargeIsAnErrorOfItsCall(t *testing.T) {
	_, here, there := hosts()
	cfg := control.Default()
	size := cfg.MaxBody
	b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
		return make([]byte, size), nil
	}})
	c := client(t, plain{here}, cfg)
	if got, err := c.Call(t.Context(), b.addr, "b", control.Status, nil); err != nil || len(got) != size {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	size++
	if _, err := c.Call(t.Context(), b.addr, "b", control.Status, nil); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("an answer: %v", err)
	}
	if _, err := c.Call(t.Context(), b.addr, "b", control.Status, make([]byte, size)); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("a request: %v", err)
	}
	if _, err := c.Call(t.Context(), b.addr, "b", control.Leave, nil); !errors.Is(err, control.ErrUnknownVerb) {
		t.Errorf("a verb without handler: %v", err)
	}
	if n := b.Counters(); n.Calls != 2 || n.Refused != 1 || c.Counters().Dialled != 1 {
		t.Errorf("%+v", n)
	}
}

func TestTheCallersPatienceTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		cfg := control.Default()
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(ctx context.Context, _ nodeport.Peer, _ []byte) ([]byte, error) {
			at, _ := ctx.Deadline()
			return []byte(time.Until(at).String()), nil
		}})
		c := client(t, plain{here}, cfg)
		for _, given := range []struct{ patience, want time.Duration }{
			{0, cfg.MaxTime}, {1500 * time.Millisecond, 1500 * time.Millisecond}, {time.Hour, cfg.MaxTime},
		} {
			ctx, cancel := t.Context(), func() {}
			if given.patience > 0 {
				ctx, cancel = context.WithTimeout(ctx, given.patience)
			}
			got, err := c.Call(ctx, b.addr, "b", control.Status, nil)
			cancel()
			if err != nil || string(got) != given.want.String() {
				t.Errorf("with %v the handler has %s, %v; want %v", given.patience, got, err, given.want)
			}
		}
	})
}

func TestACancelledCallEndsHereAndThere(t *testing.T) {
	onBoth(t, func(t *testing.T, here, there nodeport.Network) {
		began, ended := make(chan struct{}), make(chan error, 1)
		b := serve(t, there, anywhere, control.Default(), known, handlers{
			control.Status: echo,
			control.Probe: func(ctx context.Context, _ nodeport.Peer, _ []byte) ([]byte, error) {
				close(began)
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			},
		})
		c := client(t, plain{here}, control.Default())
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := c.Call(ctx, b.addr, "b", control.Probe, nil)
			result <- err
		}()
		<-began
		cancel()
		if err := <-result; !errors.Is(err, control.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("here: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("there: %v", err)
		}
		if got, err := c.Call(t.Context(), b.addr, "b", control.Status, []byte("hi")); err != nil || string(got) != "hi" {
			t.Errorf("the next call: %q, %v", got, err)
		}
		if n := c.Counters(); b.Counters().Cancelled != 1 || n.Unknown != 1 || n.Dialled != 1 {
			t.Errorf("%+v, %+v", b.Counters(), n)
		}
	})
}

func TestACallThatWaitsForItsTurnWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		cfg := control.Default()
		cfg.MaxCalls = 1
		release := make(chan struct{})
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
			<-release // also when its caller has gone
			return nil, nil
		}})
		c := client(t, plain{here}, control.Default())
		call := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Call(ctx, b.addr, "b", control.Status, nil)
			return err
		}
		if err := call(); !errors.Is(err, control.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first: %v", err)
		}
		if err := call(); !errors.Is(err, control.ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second: %v", err)
		}
		close(release)
		if err := call(); err != nil {
			t.Errorf("the third: %v", err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Call(over, b.addr, "b", control.Status, nil); !errors.Is(err, control.ErrNotSent) {
			t.Errorf("with a context that is over: %v", err)
		}
		if n := b.Counters(); n.Calls != 2 || n.Broken != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestBodiesOfAConnectionHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, here, there := hosts()
		cfg := control.Default()
		cfg.Budget = 4 << 20
		release := make(chan struct{})
		b := serve(t, there, anywhere, cfg, known, handlers{control.Status: func(context.Context, nodeport.Peer, []byte) ([]byte, error) {
			<-release
			return nil, nil
		}})
		c := client(t, plain{here}, cfg)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := c.Call(t.Context(), b.addr, "b", control.Status, make([]byte, 1<<20)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := b.Counters().Running; n != 4 {
			t.Errorf("%d calls of 1 MiB run within a budget of 4 MiB", n)
		}
		close(release)
		wg.Wait()
	})
}
