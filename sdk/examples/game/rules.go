package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/trunkline-edge/trunkline/sdk"
)

const (
	most       = 100 // the number is between 1 and most
	maxPlayers = 8
	closeFull  = 4100 // a code of the application: the room is full
)

// match is what a state of the game is made of. Handlers of one state run one
// at a time, so it needs no lock.
type match struct {
	secret  int
	guesses map[string]int // by user
}

func handlers() sdk.Handlers {
	return sdk.Handlers{NewState: create, Load: load, Join: join, Leave: leave, Message: guess}
}

// create makes a match. Whoever creates it may choose the number, as text.
func create(s *sdk.State, _ string, data []byte) error {
	secret := 1 + rand.IntN(most)
	if len(data) > 0 {
		n, err := number(data)
		if err != nil {
			return err
		}
		secret = n
	}
	s.Data = &match{secret: secret, guesses: make(map[string]int)}
	return nil
}

// load is for a match that was elsewhere: it was in that process's memory only,
// so a new one begins.
func load(s *sdk.State) error { return create(s, "", nil) }

func join(s *sdk.State, who *sdk.Session) error {
	if len(s.Sessions()) >= maxPlayers {
		return &sdk.CloseError{Code: closeFull, Reason: "the room is full"}
	}
	_ = who.Send(fmt.Appendf(nil, "guess a number from 1 to %d", most))
	_ = s.BroadcastExcept(who, []byte("a player joined"))
	return nil
}

func leave(s *sdk.State, _ *sdk.Session) { _ = s.Broadcast([]byte("a player left")) }

// guess judges one guess and ends the match when it is right.
func guess(s *sdk.State, from *sdk.Session, data []byte) {
	m := s.Data.(*match)
	n, err := number(data)
	if err != nil {
		_ = from.Send([]byte(err.Error()))
		return
	}
	m.guesses[from.User()]++
	switch {
	case n < m.secret:
		_ = from.Send([]byte("higher"))
	case n > m.secret:
		_ = from.Send([]byte("lower"))
	default:
		_ = s.Broadcast(fmt.Appendf(nil, "it was %d, found with %d guesses", n, m.guesses[from.User()]))
		m.secret, m.guesses = 1+rand.IntN(most), make(map[string]int)
	}
}

var errNumber = errors.New("send a number")

func number(text []byte) (int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > most {
		return 0, errNumber
	}
	return n, nil
}
