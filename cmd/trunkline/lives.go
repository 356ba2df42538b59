package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
)

const (
	// shortLife is what a node must have lived for the next life to begin at once.
	shortLife = time.Minute
	// firstWait is what comes before the second of several short lives that follow each other; it doubles up to longestWait.
	firstWait   = time.Second
	longestWait = 30 * time.Second
)

// relive lives one life after the other for as long as the cluster ends them: not where one was told to end, nor where
// it ends for another reason. Who is removed again and again begins more and more slowly.
func (w *world) relive(ctx context.Context, log *slog.Logger, life func() (told bool, err error)) error {
	for short := 0; ; {
		began := time.Now()
		told, err := life()
		if told || !errors.Is(err, cluster.ErrSessionOver) || ctx.Err() != nil {
			return err
		}
		wait := time.Duration(0)
		if short++; time.Since(began) >= shortLife {
			short = 0
		} else if short > 1 {
			wait = min(firstWait<<min(short-2, 10), longestWait)
		}
		log.Warn("the cluster has ended the session of this node; it begins a new life", "in", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-w.signals:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
