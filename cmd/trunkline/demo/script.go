package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of the script's steps; with the start and the pauses they keep it well below a minute.
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
	victim, survivor := w.killBackend()
	if err := w.reach(ctx, w.ledger.recovered); err != nil {
		return err
	}
	if err := w.wait(ctx, w.o.After); err != nil {
		return err
	}
	leader, err := w.awaitVoters(ctx)
	if err != nil {
		return err
	}
	if err := w.endNode(ctx, survivor, leader); err != nil {
		return err
	}
	if err := w.wait(ctx, w.o.After); err != nil || !w.o.Keep {
		return err
	}
	return w.keep(ctx, victim)
}

// killBackend ends the backend that has the most rooms, as a crash would.
func (w *world) killBackend() (victim, survivor string) {
	by := w.ledger.places()
	victim = slices.MaxFunc(by, func(a, b place) int { return len(a.rooms) - len(b.rooms) }).instance
	survivor = backendNames[0]
	if victim == survivor {
		survivor = backendNames[1]
	}
	rooms := w.ledger.killInstance(victim, w.now())
	w.backends[victim].Kill()
	w.say("kill -9         %s (pid %d), which had %d rooms: %s", victim, w.backends[victim].PID(), len(rooms), strings.Join(rooms, " "))
	return victim, survivor
}

// endNode kills the node that holds the tunnel of the backend that is left, and waits until all is well again.
func (w *world) endNode(ctx context.Context, survivor, leader string) error {
	n := w.killNode(survivor, leader)
	if err := w.reach(ctx, w.ledger.returned); err != nil {
		return err
	}
	d := w.ledger.summary(w.now()).Node
	w.say("clients         %d of the %d of %s are connected elsewhere after %.2f s", d.Reconnects, d.Clients, n.name, d.Reconnected)
	if err := w.reach(ctx, w.ledger.served); err != nil {
		return err
	}
	d = w.ledger.summary(w.now()).Node
	w.say("clients         %d of the %d of %s are answered again after %.2f s", d.Clients-d.Unanswered, d.Clients, n.name, d.Answered)
	return nil
}

// killNode ends the node that holds the tunnel of a backend, with its clients, as a crash would.
func (w *world) killNode(backend, leader string) *node {
	n := w.nodes[0]
	for _, p := range w.ledger.places() {
		if i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == p.node }); i >= 0 && p.instance == backend {
			n = w.nodes[i]
		}
	}
	rooms, clients := w.ledger.killNode(n.name, w.now())
	n.killed = true
	n.Kill()
	leads := ""
	if n.name == leader {
		leads = ", and which led the cluster"
	}
	w.say("kill -9         %s (pid %d), which had %d clients and the tunnel of %s with %d rooms%s", n.name, n.PID(), clients, backend, len(rooms), leads)
	return n
}

// keep lets the world go on without the node.
func (w *world) keep(ctx context.Context, victim string) error {
	s := w.ledger.summary(w.now())
	w.say("so far: sent %d, lost %d, duplicated %d, longest gap %.2f s, disconnects %d", s.Sent, s.Lost, s.Duplicated, s.LongestGap, s.Disconnects)
	w.ledger.revived(victim)
	if err := w.startBackend(ctx, victim, slices.IndexFunc(w.nodes, func(n *node) bool { return !n.killed })); err != nil {
		return err
	}
	w.say("the world goes on until you interrupt it (Ctrl-C); app %s", w.app)
	err := w.until(ctx, 0, keepEvery, func() bool { return false })
	if ctx.Err() != nil {
		return nil // interrupted, as it was asked to be
	}
	return err
}

var errTooLong = errors.New("it took too long")

// reach lets the world live until something is so, or for as long as that may take: what is not so then is seen in the
// summary.
func (w *world) reach(ctx context.Context, so func() bool) error {
	err := w.until(ctx, recoveryLimit, reportEvery, so)
	if errors.Is(err, errTooLong) {
		return nil
	}
	return err
}

// wait lets the world live for a while.
func (w *world) wait(ctx context.Context, d time.Duration) error {
	end := w.now() + d
	return w.until(ctx, 0, reportEvery, func() bool { return w.now() >= end })
}

// until lets the world live until something is so, at most for limit (0: for ever), and reports now and then. It
// fails when a client gives up or a node ends that was not killed.
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
			if err := w.checkNodes(); err != nil {
				return err
			}
		case <-reports.C:
			w.report()
		case m := <-w.moves:
			w.moved(m)
		case err := <-w.failed:
			return err
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

// checkNodes says which node has ended though nobody killed it.
func (w *world) checkNodes() error {
	for _, n := range w.nodes {
		select {
		case <-n.Done():
			if !n.killed {
				return fmt.Errorf("%s ended; it said: %s", n.name, n.Tail())
			}
		default:
		}
	}
	return nil
}

func (w *world) moved(m move) {
	w.say("room            %s answers again, from %s at %s, %.2f s after the kill", m.room, m.instance, m.node, m.after.Seconds())
}

// report is the live line.
func (w *world) report() {
	s := w.ledger.summary(w.now())
	var where []string
	for _, p := range w.ledger.places() {
		if p.instance == "" {
			where = append(where, fmt.Sprintf("nobody %d", len(p.rooms)))
			continue
		}
		where = append(where, fmt.Sprintf("%s at %s %d", p.instance, p.node, len(p.rooms)))
	}
	spread := w.ledger.spread()
	var at []string
	for _, n := range w.nodes {
		if !n.killed {
			at = append(at, fmt.Sprintf("%s %d", n.name, spread[n.name]))
		}
	}
	w.say("%d of %d clients connected (%s), sent %d, answered %d; rooms: %s", s.Connected, s.Clients, strings.Join(at, ", "), s.Sent, s.Answered, strings.Join(where, ", "))
}
