package demo

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
	"github.com/trunkline-edge/trunkline/sdk"
)

// secretVariable hands a backend its app secret: a command line is visible to every user of the machine.
const secretVariable = "TRUNKLINE_DEMO_SECRET"

// runBackend is one backend process: it answers every message with its own name and where it is attached. Nothing in it is
// about failure.
func runBackend(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("child-backend", flag.ContinueOnError)
	tunnel := f.String("tunnel", "", "host:port of every node, with commas between, the nearest first")
	name := f.String("name", "", "name of this instance")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		child.WaitForParent(ctx)
		cancel()
	}()
	var node atomic.Value
	node.Store("")
	ready := sync.OnceFunc(func() { fmt.Fprintln(stdout, node.Load()) })
	b, err := sdk.NewBackend(sdk.BackendConfig{
		Addrs: strings.Split(*tunnel, ","), InOrder: true,
		Secret: sdk.Secret(os.Getenv(secretVariable)), StoreID: *name, Plain: true,
		OnAttached: func(addr string) {
			node.Store(addr)
			ready()
		},
	}, sdk.Handlers{
		Message: func(_ *sdk.State, from *sdk.Session, data []byte) {
			m, err := parseMessage(data)
			if err != nil {
				return // the sender will miss an answer, and the ledger shows it
			}
			m.instance, m.node = *name, node.Load().(string)
			_ = from.Send(m.append(nil)) // fails when the session or the tunnel has gone: as above
		},
	})
	if err != nil {
		return err
	}
	return b.Run(ctx)
}
