package logins

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Stores follow each other: each asks every other for what changed since its cursor there, and merges the answer. Asking
// waits at the other store while nothing is new, so a login is elsewhere some milliseconds after it was written. The
// cursor of the next question acknowledges the last answer; it is kept with the logins, so that a store that was away
// goes on where it was. What a store has merged it passes on like its own: a login comes over also when the node that
// took it is gone.

// Peer is the store of another node.
type Peer struct {
	// Name is the node's stable name, at most 128 bytes.
	Name string
	// Ask carries a question to the other store's Answer and returns what that answered.
	Ask func(ctx context.Context, question []byte) ([]byte, error)
}

const (
	// waitAnswer is how long Answer waits for something new, askTime when a question without answer has failed.
	waitAnswer = 10 * time.Second
	askTime    = waitAnswer + 10*time.Second
	// askAgain is the pause after a failure.
	askAgain = time.Second
	maxPeer  = 128
	// maxFollowed bounds the cursors kept; beyond it a store that was away is asked from the beginning.
	maxFollowed = 4096
)

var errAnswer = errors.New("the answer of another login store is cut or of another version")

// Answer answers a question of another store's Follow: its cursor, empty at first. It waits some seconds while there is
// nothing new.
func (s *Store) Answer(ctx context.Context, question []byte) ([]byte, error) {
	if len(question) != 0 && len(question) != cursorLength {
		return nil, fmt.Errorf("a cursor of %d bytes: %w", len(question), errBatch)
	}
	timer := time.NewTimer(waitAnswer)
	defer timer.Stop()
	for over := false; ; {
		changed := s.watch()
		batch, next, err := s.Export(question)
		if err != nil {
			return nil, err
		}
		// A question from the beginning is answered at once, so that the other store has a cursor to go on with.
		if batch != nil || over || len(question) == 0 {
			return append(next, batch...), nil
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watch returns a channel that is closed at the next change.
func (s *Store) watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// tell wakes those who wait for a change.
func (s *Store) tell() {
	s.mu.Lock()
	changed := s.changed
	s.changed = nil
	s.mu.Unlock()
	if changed != nil {
		close(changed)
	}
}

// Follow merges what the stores of other nodes have until ctx ends. peers returns those that live, without this one, and
// a channel that is closed when it should be asked again. One goroutine a peer; all have ended when Follow returns.
func (s *Store) Follow(ctx context.Context, peers func() ([]Peer, <-chan struct{})) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	followed := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range followed {
			stop()
		}
	}()
	for {
		list, changed := peers()
		alive := make(map[string]bool, len(list))
		for _, p := range list {
			alive[p.Name] = true
			if followed[p.Name] != nil || p.Name == "" || len(p.Name) > maxPeer {
				continue
			}
			var one context.Context
			one, followed[p.Name] = context.WithCancel(ctx)
			wg.Go(func() { s.follow(one, p) })
		}
		for name, stop := range followed {
			if !alive[name] {
				stop()
				delete(followed, name)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// follow asks one store until ctx ends.
func (s *Store) follow(ctx context.Context, p Peer) {
	failing := false
	for ctx.Err() == nil {
		err := s.askOnce(ctx, p)
		switch {
		case err == nil:
			failing = false
			continue
		case ctx.Err() != nil:
			return
		case !failing:
			s.cfg.Log.Warn("the logins of another node cannot be had; it is asked again", "peer", p.Name, "err", err)
		}
		failing = true
		s.askFailed.Add(1)
		pause(ctx, askAgain)
	}
}

func (s *Store) askOnce(ctx context.Context, p Peer) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cursor := s.back.cursor(p.Name)
	answer, err := p.Ask(ctx, cursor)
	if err != nil {
		return err
	}
	if len(answer) < cursorLength {
		return errAnswer
	}
	next, batch := answer[:cursorLength], answer[cursorLength:]
	if len(batch) > 0 {
		if _, err := s.Import(batch); err != nil {
			return err
		}
	} else if len(cursor) == cursorLength && string(cursor[:16]) == string(next[:16]) &&
		binary.BigEndian.Uint64(cursor[16:]) == binary.BigEndian.Uint64(next[16:]) {
		return nil
	}
	if err := s.back.keepCursor(p.Name, next); err != nil {
		return fmt.Errorf("keep the place in the logins of %s: %w", p.Name, err)
	}
	return nil
}
