// Command echo is the smallest backend: a room in which everyone hears what
// anyone says. With a coordinator in development mode on this machine,
//
//	go run ./cmd/trunkline dev
//	go run ./sdk/examples/echo
//
// every state of the development app is such a room. With an app of your own and
// several nodes, name its secret and some of their tunnel ports:
//
//	APP_SECRET=... go run ./sdk/examples/echo -coordinator 10.0.0.1:7147,10.0.0.2:7147
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/trunkline-edge/trunkline/sdk"
)

func main() {
	addrs := flag.String("coordinator", "localhost:7147", "tunnel `addresses` of coordinators, with commas between")
	plain := flag.Bool("plain", true, "speak to it without TLS")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "echo is a backend in whose rooms everyone hears what anyone says.\n"+
			"The environment's APP_SECRET is its app's secret; without, it serves the app of `trunkline dev`.")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, strings.Split(*addrs, ","), *plain, secret()); err != nil {
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

func run(ctx context.Context, addrs []string, plain bool, secret sdk.Secret) error {
	backend, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: addrs, Plain: plain, Secret: secret,
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
