package bench

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

// runChild is the other side of the lab's start functions: one process that ends with its parent.
func runChild(ctx context.Context, mode string, args []string, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		child.WaitForParent(ctx)
		cancel()
	}()
	switch mode {
	case "child-floor":
		return runFloor(ctx, args, stdout)
	case "child-backend":
		return runBackend(ctx, args, stdout)
	case "child-member":
		return runMember(ctx, args, stdout)
	default:
		return fmt.Errorf("%w: no child mode %q", ErrUsage, mode)
	}
}

func runFloor(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("child-floor", flag.ContinueOnError)
	hub := f.Bool("hub", false, "everything to everyone")
	secure := f.Bool("tls", false, "TLS")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	var cfg *tls.Config
	var ready floorReady
	if *secure {
		cert, err := throwAwayCertificate()
		if err != nil {
			return err
		}
		cfg, ready.Certificate = &tls.Config{Certificates: []tls.Certificate{cert}}, cert.Certificate[0]
	}
	ln, err := listenFloor(cfg)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	ready.Address = ln.Addr().String()
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		ln.Close()
		return err
	}
	return newFloor(*hub).serve(ctx, ln)
}

func runBackend(ctx context.Context, args []string, stdout io.Writer) error {
	cfg := backendConfig{secret: os.Getenv(secretVariable)}
	f := flag.NewFlagSet("child-backend", flag.ContinueOnError)
	f.StringVar(&cfg.tunnel, "tunnel", "", "host:port")
	f.StringVar(&cfg.storeID, "store-id", "", "name of the instance")
	f.BoolVar(&cfg.broadcast, "broadcast", false, "everything to everyone in the room")
	f.BoolVar(&cfg.native, "native", false, "use the Go SDK")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	ready := func() { fmt.Fprintln(stdout, "ready") }
	if cfg.native {
		return runNativeBackend(ctx, cfg, ready)
	}
	return runLegacyBackend(ctx, cfg, ready)
}
