// Package demo runs a small world with two deaths in it and checks every message: a cluster of three nodes, two backends
// attached to two of them, and clients of a few rooms at all three, each a program that knows nothing of failure. One
// backend is killed with SIGKILL; its rooms must answer from the other, and no client may be disconnected. Then the node
// is killed that holds the other's tunnel; its clients must go on at other nodes and the backend must attach to another
// one, by themselves, its rooms must stay with it, and no other client may be disconnected.
//
// It is a program on package sdk. It listens on free ports of 127.0.0.1, writes to a temporary folder only, and
// refuses to leave anything behind: processes and folder are gone when Run returns.
//
// Goroutines: Run waits for the clients' and for the child.Group, which owns the processes.
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/child"
)

var (
	// ErrUsage is wrapped by errors about the command line itself; the program then ends with status 2.
	ErrUsage = errors.New("demo: misused")
	// ErrDisconnected says that a client lost its connection, which is what Trunkline promises not to happen.
	ErrDisconnected = errors.New("demo: a client was disconnected though its node lived")
	// ErrUnrecovered says that a room of the killed backend did not answer again.
	ErrUnrecovered = errors.New("demo: a room of the killed backend did not answer again")
	// ErrUnanswered says that a client of the killed node was not answered at another one.
	ErrUnanswered = errors.New("demo: a client of the killed node did not come back")
	// ErrNotResumed says that a room did not go on in its backend when the node between had died.
	ErrNotResumed = errors.New("demo: a room did not go on where it was when its node had died")
	// ErrDisorder says that an answer came twice, late or to the wrong client.
	ErrDisorder = errors.New("demo: answers came twice, out of order or to somebody else")
)

// options is what the demo was asked for.
type options struct {
	Clients int
	Rooms   int
	Rate    float64 // messages per second and client
	Before  time.Duration
	After   time.Duration
	Keep    bool
	JSON    bool
}

// Smallest and largest worlds.
const (
	maxClients = 5000
	maxRate    = 1000
	maxPhase   = time.Hour
)

// Run runs the demonstration and writes its progress and summary to stdout, or it is one of its backends. It returns one
// of the errors above (wrapped) when the world did not keep what it promises.
func Run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "child-backend" {
		return runBackend(ctx, args[1:], stdout)
	}
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	progress := stdout
	if o.JSON {
		progress = os.Stderr
	}
	s, err := show(ctx, o, progress)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := s.write(o, stdout); err != nil {
		return err
	}
	return s.verdict()
}

func parse(args []string, out io.Writer) (options, error) {
	o := options{Clients: 25, Rooms: 5, Rate: 20, Before: 3 * time.Second, After: 3 * time.Second}
	f := flag.NewFlagSet("trunkline demo", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&o.Clients, "clients", o.Clients, "clients, spread over the rooms and over three nodes")
	f.IntVar(&o.Rooms, "rooms", o.Rooms, "rooms, spread over two backends")
	f.Float64Var(&o.Rate, "rate", o.Rate, "messages per second and client")
	f.DurationVar(&o.Before, "before", o.Before, "how long the world lives before a backend is killed")
	f.DurationVar(&o.After, "after", o.After, "how long it lives on after each death when all is well again")
	f.BoolVar(&o.Keep, "keep", false, "go on until interrupted")
	f.BoolVar(&o.JSON, "json", false, "print the summary as JSON, progress to the standard error")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(out, "Usage: trunkline demo [flags]\n\nA small world with two deaths to watch: a backend's and a node's.\n\n")
		f.SetOutput(out)
		f.PrintDefaults()
		return o, flag.ErrHelp
	case err != nil:
		return o, fmt.Errorf("%w: %w", ErrUsage, err)
	case f.NArg() > 0:
		return o, fmt.Errorf("%w: unexpected %q", ErrUsage, f.Arg(0))
	case o.Rooms < 1 || o.Clients < o.Rooms || o.Clients > maxClients:
		return o, fmt.Errorf("%w: want at least 1 room, a client in each, and at most %d clients", ErrUsage, maxClients)
	case o.Rate <= 0 || o.Rate > maxRate:
		return o, fmt.Errorf("%w: --rate: above 0, up to %d", ErrUsage, maxRate)
	case o.Before < 0 || o.After < 0 || o.Before > maxPhase || o.After > maxPhase:
		return o, fmt.Errorf("%w: --before and --after: from 0s to %v", ErrUsage, maxPhase)
	}
	return o, nil
}

// show builds the world, plays the script and tears everything down.
func show(ctx context.Context, o options, progress io.Writer) (Summary, error) {
	dir, err := os.MkdirTemp("", "trunkline-demo-")
	if err != nil {
		return Summary{}, err
	}
	defer os.RemoveAll(dir)
	groupCtx, endGroup := context.WithCancel(context.WithoutCancel(ctx))
	group, ended := child.NewGroup(), make(chan error, 1)
	go func() { ended <- group.Run(groupCtx) }()
	defer func() {
		endGroup()
		<-ended
	}()
	w := &world{
		o: o, group: group, began: time.Now(), names: make(map[string]string), backends: make(map[string]*child.Process),
		http: http.Client{Transport: &http.Transport{}},
	}
	var printing sync.Mutex
	w.say = func(format string, args ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Fprintf(progress, "%5.1f s  %s\n", w.now().Seconds(), fmt.Sprintf(format, args...))
	}
	if err := w.build(ctx, dir); err != nil {
		return Summary{}, err
	}
	return w.live(ctx)
}
