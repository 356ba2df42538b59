package bench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options is what a benchmark was asked for.
type options struct {
	Kind     string        `json:"benchmark"`
	Conns    int           `json:"conns"`
	Window   int           `json:"window,omitempty"`
	Size     int           `json:"size,omitempty"`
	Rate     float64       `json:"rate,omitempty"`
	Duration time.Duration `json:"duration_ns"`
	Warmup   time.Duration `json:"warmup_ns"`
	Rounds   int           `json:"rounds"`
	PerRoom  int           `json:"per_room,omitempty"`
	TLS      bool          `json:"tls"`
	Native   bool          `json:"native"`
	Peers    bool          `json:"peers"`
	JSON     bool          `json:"-"`
	Only     string        `json:"only,omitempty"`
	Nodes    int           `json:"nodes,omitempty"`
	InFlight int           `json:"in_flight,omitempty"`
	States   []int         `json:"states,omitempty"`
	Profile  string        `json:"-"`

	Target string `json:"target,omitempty"`
	Admin  string `json:"-"`
	Tunnel string `json:"-"`
	App    string `json:"-"`
	CA     string `json:"-"`
}

// kinds are the benchmarks with what they are for and their defaults.
var kinds = []struct {
	name, about string
	defaults    options
}{
	{"echo", "round trips client -> backend -> client", options{Conns: 100, Window: 1, Size: 64, Duration: 2 * time.Second, Warmup: 500 * time.Millisecond, Rounds: 3, PerRoom: 10}},
	{"fanout", "one message to everyone in a room", options{Conns: 1000, Window: 1, Size: 64, Duration: 2 * time.Second, Warmup: 500 * time.Millisecond, Rounds: 3}},
	{"idle", "memory of connections that only exist", options{Conns: 10000, Duration: 3 * time.Second, Rounds: 1, PerRoom: 10}},
	{"create", "full joins: login, create, connect", options{Conns: 19000, Rounds: 1}},
	{"link", "bytes between two nodes for a message to everyone in a room", options{Conns: 1000, Window: 1, Size: 1024, Duration: 2 * time.Second, Warmup: 500 * time.Millisecond, Rounds: 3, Nodes: 2, Native: true}},
	{"states", "states created in a cluster of three: in the process, over HTTP", options{InFlight: 256, Duration: 3 * time.Second, Warmup: time.Second, Rounds: 3}},
	{"table", "the table of states: memory, look-ups, snapshots", options{Rounds: 3, States: []int{million}}},
	{"targets", "the project's targets P1 to P17: measured, met or not", options{Size: 64, Duration: 2 * time.Second, Warmup: 500 * time.Millisecond, Rounds: 3, InFlight: 256, States: []int{million}}},
}

// million is how many states the targets ask for first.
const million = 1_000_000

const usageText = `Usage: trunkline bench BENCHMARK [flags]

Starts a coordinator (trunkline dev), a backend and the floor (a direct WebSocket server) as child processes on free
loopback ports, lets them take turns, and prints messages per second, latency, and the coordinator's CPU time per
message, each as the median of the rounds with the smallest and the largest.

`

// parse reads a command line. Its errors wrap ErrUsage, or are flag.ErrHelp after the help was written to out.
func parse(args []string, out io.Writer) (options, error) {
	if len(args) == 0 {
		writeUsage(out)
		return options{}, fmt.Errorf("%w: name a benchmark", ErrUsage)
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		writeUsage(out)
		return options{}, flag.ErrHelp
	}
	for _, k := range kinds {
		if k.name == args[0] {
			o := k.defaults
			o.Kind = k.name
			return parseFlags(o, args[1:], out)
		}
	}
	return options{}, fmt.Errorf("%w: no benchmark %q; there are %s", ErrUsage, args[0], kindNames())
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func writeUsage(out io.Writer) {
	io.WriteString(out, usageText)
	for _, k := range kinds {
		fmt.Fprintf(out, "  %-8s %s\n", k.name, k.about)
	}
	io.WriteString(out, "\n`trunkline bench BENCHMARK --help` lists the flags.\n")
}

func parseFlags(o options, args []string, out io.Writer) (options, error) {
	f := flag.NewFlagSet("trunkline bench "+o.Kind, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	clientFlags(f, &o)
	if o.is("table", "targets") {
		f.Func("states", "`N` states in the table; with several numbers, commas between, memory and look-ups are measured for all and snapshots for the first: 10000000 takes 2 GB of memory and a minute (default 1000000)", o.setStates)
	}
	if o.Kind == "states" {
		f.StringVar(&o.Profile, "profile", "", "write a CPU profile of the node that is asked to `FILE`, and of the leader to FILE.leader")
	}
	if o.is("states", "targets") {
		f.IntVar(&o.InFlight, "in-flight", o.InFlight, "creates in flight")
	}
	if o.Kind == "targets" {
		f.StringVar(&o.Only, "only", "", "measure these only, for example `P1,P4`")
	}
	if o.Duration > 0 {
		f.DurationVar(&o.Duration, "duration", o.Duration, "how long each round measures (idle: how long memory may settle)")
	}
	if o.Warmup > 0 {
		f.DurationVar(&o.Warmup, "warmup", o.Warmup, "how long each round runs before it measures")
	}
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "rounds; in each everybody has a turn")
	if o.is("echo", "idle", "targets") {
		f.BoolVar(&o.Peers, "peers", o.Peers, "also measure HAProxy (http mode) and nginx, where installed, in front of the floor")
	}
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, "Usage: trunkline bench %s [flags]\n\n", o.Kind)
		f.SetOutput(out)
		f.PrintDefaults()
		return o, flag.ErrHelp
	case err != nil:
		return o, fmt.Errorf("%w: %w", ErrUsage, err)
	case f.NArg() > 0:
		return o, fmt.Errorf("%w: unexpected %q", ErrUsage, f.Arg(0))
	}
	return o, o.check()
}

// clientFlags are those of benchmarks that load a coordinator through its clients' ports.
func clientFlags(f *flag.FlagSet, o *options) {
	if o.is("echo", "fanout", "idle", "create", "link") {
		f.IntVar(&o.Conns, "conns", o.Conns, "client connections")
	}
	if o.is("echo", "fanout", "idle", "create") {
		f.BoolVar(&o.TLS, "tls", o.TLS, "clients use TLS (the floor as well)")
		f.BoolVar(&o.Native, "native", o.Native, "the backend uses the Go SDK instead of the legacy protocol")
		f.StringVar(&o.Target, "target", "", "measure the coordinator at this `URL` instead of starting one")
		f.StringVar(&o.Admin, "admin", "", "`URL` of that coordinator's admin port, for CPU and memory")
		f.StringVar(&o.Tunnel, "tunnel", "", "`HOST:PORT` where its backends attach (default: the target's host, port 7147)")
		f.StringVar(&o.App, "app", "", "`ID` of an app whose backend already answers; else one is started with the secret in "+secretVariable+" (default dev-secret)")
		f.StringVar(&o.CA, "ca", "", "PEM `FILE` with the authorities of the target's certificate (default: the system's)")
	}
	if o.Kind == "echo" {
		f.Float64Var(&o.Rate, "rate", o.Rate, "open loop: messages per second and connection, sent by the clock; latency counts from when a message was due")
	}
	if o.is("echo", "idle") {
		f.IntVar(&o.PerRoom, "per-room", o.PerRoom, "connections per room")
	}
	if o.is("echo", "fanout", "link") {
		f.IntVar(&o.Window, "window", o.Window, "closed loop: messages in flight (echo: per connection)")
		f.IntVar(&o.Size, "size", o.Size, "bytes per message")
	}
	if o.is("echo", "fanout") {
		f.IntVar(&o.Nodes, "nodes", o.Nodes, "also measure a cluster of `N` nodes, with the backend at the first and the clients at the last")
		f.StringVar(&o.Profile, "profile", "", "afterwards, write a CPU profile of the coordinator under this load to `FILE` (with --nodes: of the clients' node; of the backend's to FILE.owner)")
	}
}

func (o *options) is(kinds ...string) bool { return slices.Contains(kinds, o.Kind) }

// setStates reads --states.
func (o *options) setStates(text string) error {
	o.States = nil
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < minStates || n > maxStates {
			return fmt.Errorf("%q: want numbers from %d to %d", field, minStates, maxStates)
		}
		o.States = append(o.States, n)
	}
	return nil
}

// Largest values that make sense on one machine.
const (
	maxWindow   = 4096
	maxSize     = 8 << 20
	maxRounds   = 1000
	maxDuration = time.Hour
	maxNodes    = 9
	maxInFlight = 1 << 16
	minStates   = 10_000
	maxStates   = 100_000_000
)

func (o *options) check() error {
	for _, c := range []struct {
		flag     string
		n        int
		min, max int
		skip     bool
	}{
		{"conns", o.Conns, 1, 1 << 20, !o.is("echo", "fanout", "idle", "create", "link")},
		{"window", o.Window, 1, maxWindow, o.Window == 0 && !o.is("echo", "fanout", "link")},
		{"size", o.Size, 8, maxSize, !o.is("echo", "fanout", "link")},
		{"rounds", o.Rounds, 1, maxRounds, false},
		{"per-room", o.PerRoom, 1, 1 << 20, !o.is("echo", "idle")},
		{"nodes", o.Nodes, 0, maxNodes, false},
		{"in-flight", o.InFlight, 1, maxInFlight, !o.is("states", "targets")},
	} {
		if !c.skip && (c.n < c.min || c.n > c.max) {
			return fmt.Errorf("%w: --%s %d: from %d to %d", ErrUsage, c.flag, c.n, c.min, c.max)
		}
	}
	if !o.is("create", "table") && (o.Duration <= 0 || o.Duration > maxDuration) || o.Warmup < 0 || o.Warmup > maxDuration {
		return fmt.Errorf("%w: durations go up to %v", ErrUsage, maxDuration)
	}
	if o.Rate < 0 || o.Rate > 1e6 {
		return fmt.Errorf("%w: --rate %v: from 0 (closed loop) to 1e6", ErrUsage, o.Rate)
	}
	return o.checkTarget()
}

func (o *options) checkTarget() error {
	if o.Target == "" {
		if o.Admin != "" || o.Tunnel != "" || o.App != "" || o.CA != "" {
			return fmt.Errorf("%w: --admin, --tunnel, --app and --ca belong to --target", ErrUsage)
		}
		return nil
	}
	if o.Nodes > 1 {
		return fmt.Errorf("%w: --nodes starts a cluster, --target measures one that runs", ErrUsage)
	}
	u, err := url.Parse(o.Target)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%w: --target %q: want http://HOST:PORT or https://HOST:PORT", ErrUsage, o.Target)
	}
	if o.TLS && u.Scheme == "http" {
		return fmt.Errorf("%w: --tls with an http:// target", ErrUsage)
	}
	o.TLS = u.Scheme == "https"
	if o.Tunnel == "" {
		o.Tunnel = net.JoinHostPort(u.Hostname(), "7147")
	}
	if o.App != "" && len(o.App) != 64 {
		return fmt.Errorf("%w: --app %q: an app's id has 64 hexadecimal digits", ErrUsage, o.App)
	}
	return nil
}
