package main

import (
	"context"
	"errors"
	"fmt"
)

// stages are the running parts of a node in the order in which they were
// started. Each ends on its own context, so that they can be ended in the
// opposite order, one after the other.
type stages struct {
	list []*stage
	// failed gets the first part that ended before it was told to.
	failed chan error
}

type stage struct {
	name  string
	end   context.CancelFunc
	ended chan struct{}
	err   error // set when ended is closed
}

func newStages() *stages { return &stages{failed: make(chan error, 1)} }

// start runs a part in a goroutine of its own until stop ends it.
func (s *stages) start(ctx context.Context, name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	st := &stage{name: name, end: cancel, ended: make(chan struct{})}
	s.list = append(s.list, st)
	go func() {
		defer close(st.ended)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return // it was told to
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		st.err = fmt.Errorf("%s: %w", name, err)
		select {
		case s.failed <- st.err:
		default:
		}
	}()
}

// stop ends every part, the last started first, and answers what went wrong with
// them. It gives up when ctx ends.
func (s *stages) stop(ctx context.Context) error {
	var all []error
	for len(s.list) > 0 {
		st := s.list[len(s.list)-1]
		s.list = s.list[:len(s.list)-1]
		st.end()
		select {
		case <-st.ended:
			all = append(all, st.err)
		case <-ctx.Done():
			return errors.Join(append(all, fmt.Errorf("%s did not end: %w", st.name, ctx.Err()))...)
		}
	}
	return errors.Join(all...)
}
