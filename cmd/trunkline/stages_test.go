package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestStagesEndInOppositeOrder(t *testing.T) {
	s := newStages()
	var mu sync.Mutex
	var ended []string
	for _, name := range []string{"table", "router", "clients"} {
		s.start(t.Context(), name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	if err := s.stop(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"clients", "router", "table"}; !slices.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
}

func TestPartThatEndsByItselfFailsTheNode(t *testing.T) {
	broken := errors.New("disk full")
	for _, err := range []error{nil, broken} {
		s := newStages()
		s.start(t.Context(), "table", func(context.Context) error { return err })
		failed := <-s.failed
		if !strings.HasPrefix(failed.Error(), "table: ") || err != nil && !errors.Is(failed, err) {
			t.Errorf("%v: %v", err, failed)
		}
		if got := s.stop(t.Context()); got == nil {
			t.Error("stop forgets the failure")
		}
	}
}

func TestStopGivesUp(t *testing.T) {
	s := newStages()
	release := make(chan struct{})
	s.start(t.Context(), "stuck", func(context.Context) error { <-release; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.stop(ctx); err == nil || !strings.Contains(err.Error(), "stuck did not end") {
		t.Errorf("%v", err)
	}
	close(release)
}
