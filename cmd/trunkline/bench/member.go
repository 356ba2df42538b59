package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/cluster"
	"github.com/trunkline-edge/trunkline/cluster/trust"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

// memberConfig is what a member process is started with: a node without clients and tunnels.
type memberConfig struct {
	id, dir, keyFile, join string
	// voters is how many the cluster must have before the load begins; 0: this member only votes, until it ends.
	voters  int
	pids    string // processes whose CPU time counts, with commas between
	profile string
	load    options
}

// memberReady is the line that a member without load prints.
type memberReady struct {
	Address string `json:"address"`
}

// memberResult is the line of one with load.
type memberResult struct {
	Leader string `json:"leader"`
	Full   []Cell `json:"full"`
	Half   []Cell `json:"half"`
}

const memberRegion = "bench"

func runMember(ctx context.Context, args []string, stdout io.Writer) error {
	var cfg memberConfig
	f := flag.NewFlagSet("child-member", flag.ContinueOnError)
	f.StringVar(&cfg.id, "node-id", "", "name of the node")
	f.StringVar(&cfg.dir, "dir", "", "data directory")
	f.StringVar(&cfg.keyFile, "key-file", "", "key file of the cluster")
	f.StringVar(&cfg.join, "join", "", "host:port of a member")
	f.StringVar(&cfg.profile, "profile", "", "file for a CPU profile")
	f.StringVar(&cfg.pids, "pids", "", "processes to measure")
	f.IntVar(&cfg.voters, "load", 0, "create states when there are so many voters")
	f.IntVar(&cfg.load.InFlight, "in-flight", 1, "creates in flight")
	f.IntVar(&cfg.load.Rounds, "rounds", 1, "rounds")
	f.DurationVar(&cfg.load.Warmup, "warmup", 0, "before each measurement")
	f.DurationVar(&cfg.load.Duration, "duration", time.Second, "of each measurement")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	node, err := openMember(&cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- node.Run(ctx)
		cancel() // whatever waits for the node waits in vain
	}()
	err = cfg.serve(ctx, node, stdout)
	cancel()
	if ran := <-ended; ran != nil && !errors.Is(ran, context.Canceled) {
		return fmt.Errorf("member %s: %w", cfg.id, ran)
	}
	return err
}

func openMember(cfg *memberConfig) (*cluster.Node, error) {
	keys, err := trust.LoadKeys(cfg.keyFile)
	if err != nil {
		return nil, err
	}
	c := cluster.Default()
	c.NodeID, c.Region, c.DataDir, c.Keys = cfg.id, memberRegion, cfg.dir, keys
	if cfg.join != "" {
		c.Join = []string{cfg.join}
	}
	return cluster.Open(c)
}

// serve says where the member is and waits for the end, or creates states and says what it measured.
func (cfg *memberConfig) serve(ctx context.Context, node *cluster.Node, stdout io.Writer) error {
	if err := node.Joined(ctx); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if cfg.voters == 0 {
		stop, err := profileSelf(cfg.profile)
		if err != nil {
			return err
		}
		err = json.NewEncoder(stdout).Encode(memberReady{Address: node.NodeAddr()})
		if err == nil {
			<-ctx.Done()
		}
		return errors.Join(err, stop())
	}
	result, err := cfg.create(ctx, node)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// create measures creates through this member, which must not lead.
func (cfg *memberConfig) create(ctx context.Context, node *cluster.Node) (*memberResult, error) {
	if err := cfg.awaitVoters(ctx, node); err != nil {
		return nil, err
	}
	app := wire.AppIDOf("trunkline-bench")
	if err := node.PutApp(ctx, app, app, placement.AppSettings{MaxStates: maxStates}); err != nil {
		return nil, fmt.Errorf("make an app: %w", err)
	}
	if _, err := node.Register(ctx, placement.RegisterRequest{App: app, StoreID: "bench", Region: memberRegion}); err != nil {
		return nil, fmt.Errorf("register an instance: %w", err)
	}
	one := func(ctx context.Context) error {
		_, err := node.Create(ctx, placement.CreateRequest{App: app, Region: memberRegion})
		return err
	}
	creators := make([]creator, cfg.load.InFlight)
	for i := range creators {
		creators[i] = one
	}
	var meters nodesMeter
	for text := range strings.SplitSeq(cfg.pids, ",") {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --pids: %w", ErrUsage, err)
		}
		meters = append(meters, processMeter{pid: pid})
	}
	meters = append(meters, processMeter{pid: os.Getpid()})
	before, _ := node.Leader()
	stop, err := profileSelf(cfg.profile)
	if err != nil {
		return nil, err
	}
	r := &memberResult{}
	r.Full, r.Half, err = createRounds(ctx, cfg.load, creators, meters)
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	for _, cells := range [][]Cell{r.Full, r.Half} {
		for i := range cells {
			cells[i].PerCPU = 1e6 / cells[i].CPUMicros // the load is one of the processes that are measured
		}
	}
	if r.Leader, _ = node.Leader(); r.Leader != before || r.Leader == cfg.id {
		return nil, fmt.Errorf("the leader was %s and is %s, and this is %s: it has to be another one, all the time", before, r.Leader, cfg.id)
	}
	return r, nil
}

// awaitVoters waits until the cluster has all its voters and another one leads.
func (cfg *memberConfig) awaitVoters(ctx context.Context, node *cluster.Node) error {
	for {
		voters := 0
		for _, p := range node.Peers() {
			if p.Voter {
				voters++
			}
		}
		if leader, ok := node.Leader(); ok && leader != cfg.id && voters == cfg.voters {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d voters of %d: %w", voters, cfg.voters, ctx.Err())
		}
	}
}

// profileSelf begins a CPU profile of this process; without a file it does nothing.
func profileSelf(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Clean(file))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
