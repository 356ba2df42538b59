// Command echo is the smallest backend: a room in which everyone hears what
// anyone says. With a coordinator in development mode on this machine,
//
//	go run ./cmd/trunkline dev
//	go run ./sdk/examples/echo
//
// every state of the development app is such a room.
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *plain, secret()); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

// secret is the app's: from the environment, or that of the development app.
func secret() sdk.Secret {
	if s := os.Getenv("APP_SECRET"); s != "" {
		return sdk.Secret(s)
	}
	return "dev-secret"
}

func run(ctx context.Context, addr string, plain bool, secret sdk.Secret) error {
	backend, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: []string{addr}, Plain: plain, Secret: secret,
		Login: &sdk.Login{Anonymous: &sdk.AnonymousLogin{Separator: "-"}},
	}, sdk.Handlers{
		Message: func(room *sdk.State, _ *sdk.Session, data []byte) {
			_ = room.Broadcast(data)
		},
	})
	if err != nil {
		return err
	}
	return backend.Run(ctx)
}
