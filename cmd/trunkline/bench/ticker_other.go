//go:build !linux

package bench

import "time"

// ticker wakes a goroutine at a steady interval, as precisely as the runtime's timers are.
type ticker struct{ t *time.Ticker }

func newTicker(every time.Duration) (*ticker, error) { return &ticker{time.NewTicker(every)}, nil }

func (t *ticker) wait() error {
	<-t.t.C
	return nil
}

func (t *ticker) close() { t.t.Stop() }
