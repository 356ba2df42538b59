// Command game is a small game: everyone in a room guesses a number. It shows a
// state with data of its own, joining and leaving, answers to one and to all,
// and turning somebody away.
//
//	go run ./cmd/trunkline dev
//	go run ./sdk/examples/game
//
// Players send numbers as text; the backend answers with lines of text.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/trunkline-edge/trunkline/sdk"
)

func main() {
	addr := flag.String("coordinator", "localhost:7147", "tunnel `address` of a coordinator")
	plain := flag.Bool("plain", true, "speak to it without TLS")
	flag.Parse()
	secret := sdk.Secret(os.Getenv("APP_SECRET"))
	if secret == "" {
		secret = "dev-secret"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	backend, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: []string{*addr}, Plain: *plain, Secret: secret,
		Login: &sdk.Login{Anonymous: &sdk.AnonymousLogin{Separator: "-"}, Nickname: &sdk.NicknameLogin{}},
	}, handlers())
	if err == nil {
		err = backend.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "game:", err)
		os.Exit(1)
	}
}
