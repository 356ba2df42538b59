package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
)

var errOver = fmt.Errorf("table: %w", cluster.ErrSessionOver)

// TestNodeThatIsStoppedBeginsNoLife, even where the cluster ends its session while it stops.
func TestNodeThatIsStoppedBeginsNoLife(t *testing.T) {
	w, lives := &world{}, 0
	err := w.relive(t.Context(), slog.New(slog.DiscardHandler), func() (bool, error) {
		lives++
		return true, errOver
	})
	if lives != 1 || !errors.Is(err, cluster.ErrSessionOver) {
		t.Errorf("%d lives, %v", lives, err)
	}
}

// TestShortLivesComeMoreSlowly: the first again at once, so that who was cut off is soon back.
func TestShortLivesComeMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		broken := errors.New("the disk is full")
		lengths := []time.Duration{0, 0, 0, time.Hour, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		want := []time.Duration{0, 1, 2, 0, 0, 1, 2, 4, 8, 16, 30, 30}
		var waited []time.Duration
		var ended time.Time
		err := w.relive(t.Context(), slog.New(slog.DiscardHandler), func() (bool, error) {
			if !ended.IsZero() {
				waited = append(waited, time.Since(ended)/time.Second)
			}
			life := len(waited)
			time.Sleep(lengths[life])
			ended = time.Now()
			if life == len(want) {
				return false, broken
			}
			return false, errOver
		})
		if !errors.Is(err, broken) || fmt.Sprint(waited) != fmt.Sprint(want) {
			t.Errorf("waited %v, want %v, then %v", waited, want, err)
		}
	})
}

// TestSignalBetweenLivesEndsTheNode.
func TestSignalBetweenLivesEndsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		w, lives := &world{signals: signals}, 0
		err := w.relive(context.Background(), slog.New(slog.DiscardHandler), func() (bool, error) {
			if lives++; lives == 3 {
				signals <- syscall.SIGTERM
			}
			return false, errOver
		})
		if err != nil || lives != 3 {
			t.Errorf("%d lives, %v", lives, err)
		}
	})
}
