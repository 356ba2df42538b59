package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of the script's steps; with the pauses before and after they keep it below half a minute.
const (
	firstAnswers  = 8 * time.Second
	recoveryLimit = 10 * time.Second
	drainLimit    = 3 * time.Second
	look          = 10 * time.Millisecond
	reportEvery   = time.Second
	keepEvery     = 10 * time.Second
)

// live runs the clients while the script plays, and reckons up.
func (w *world) live(ctx context.Context) (Summary, error) {
	clientsCtx, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	stopSending, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		w.runClients(clientsCtx, stopSending)
	}()
	err := w.script(ctx)
	close(stopSending)
	if err == nil {
		w.until(context.WithoutCancel(ctx), drainLimit, reportEvery, w.ledger.settled)
	}
	s := w.ledger.summary(w.now())
	disconnect()
	<-over
	return s, err
}

// script is what happens, in order.
func (w *world) script(ctx context.Context) error {
	if err := w.until(ctx, firstAnswers, reportEvery, w.ledger.ready); err != nil {
		return fmt.Errorf("not every client got its first answer: %w", err)
	}
	w.say("all clients have their first answer")
	if err := w.wait(ctx, w.o.Before); err != nil {
		return err
	}
	victim := w.kill()
	if err := w.until(ctx, recoveryLimit, reportEvery, w.ledger.recovered); err != nil && !errors.Is(err, errTooLong) {
		return err
	}
	if err := w.wait(ctx, w.o.After); err != nil || !w.o.Keep {
		return err
	}
	s := w.ledger.summary(w.now())
	w.say("so far: sent %d, lost %d, duplicated %d, longest gap %.2f s, disconnects %d", s.Sent, s.Lost, s.Duplicated, s.LongestGap, s.Disconnects)
	if err := w.startBackend(ctx, victim); err != nil {
		return err
	}
	w.say("the world goes on until you interrupt it (Ctrl-C); app %s", w.app)
	err := w.until(ctx, 0, keepEvery, func() bool { return false })
	if ctx.Err() != nil {
		return nil // interrupted, as it was asked to be
	}
	return err
}

// kill ends the backend that has the most rooms, as a crash would.
func (w *world) kill() (victim string) {
	by := w.ledger.instances()
	victim = slices.MaxFunc(backendNames, func(a, b string) int { return len(by[a]) - len(by[b]) })
	rooms := w.ledger.kill(victim, w.now())
	w.backends[victim].Kill()
	w.say("kill -9         %s (pid %d), which had %d rooms: %s", victim, w.backends[victim].PID(), len(rooms), strings.Join(rooms, " "))
	return victim
}

var errTooLong = errors.New("it took too long")

// wait lets the world live for a while.
func (w *world) wait(ctx context.Context, d time.Duration) error {
	end := w.now() + d
	return w.until(ctx, 0, reportEvery, func() bool { return w.now() >= end })
}

// until lets the world live until something is so, at most for limit (0: for ever), and reports now and then. It
// fails when a client gives up or the coordinator ends.
func (w *world) until(ctx context.Context, limit, report time.Duration, so func() bool) error {
	looks, reports := time.NewTicker(look), time.NewTicker(report)
	defer looks.Stop()
	defer reports.Stop()
	end := w.now() + limit
	for !so() {
		select {
		case <-looks.C:
			if limit > 0 && w.now() > end {
				return errTooLong
			}
		case <-reports.C:
			w.report()
		case m := <-w.moves:
			w.moved(m)
		case err := <-w.failed:
			return err
		case <-w.dev.Done():
			return fmt.Errorf("the coordinator ended; it said: %s", w.dev.Tail())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		select {
		case m := <-w.moves:
			w.moved(m)
		default:
			return nil
		}
	}
}

func (w *world) moved(m move) {
	w.say("room            %s answers again, from %s, %.2f s after the kill", m.room, m.instance, m.after.Seconds())
}

// report is the live line.
func (w *world) report() {
	s := w.ledger.summary(w.now())
	by := w.ledger.instances()
	var where []string
	for _, name := range backendNames {
		where = append(where, fmt.Sprintf("%s %d", name, len(by[name])))
	}
	if n := len(by[""]); n > 0 {
		where = append(where, fmt.Sprintf("nobody %d", n))
	}
	w.say("%d of %d clients connected, sent %d, answered %d; rooms: %s", s.Connected, s.Clients, s.Sent, s.Answered, strings.Join(where, ", "))
}
