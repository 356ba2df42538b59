package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// startLimit is how long a coordinator may take until it has bound its ports.
const startLimit = 20 * time.Second

// Dev is a running `trunkline dev` and where it listens, as host:port.
type Dev struct {
	*Process
	Client string // plain and TLS
	Tunnel string
	TCP    string
	Admin  string
	CAFile string // of its throw-away authority
}

// StartDev starts `trunkline dev` of this binary on free ports of 127.0.0.1 and waits until it listens. Everything it
// writes goes into dir, which must exist; flags are added to its command line.
func (g *Group) StartDev(ctx context.Context, dir string, flags ...string) (*Dev, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	own, err := os.MkdirTemp(dir, "dev-")
	if err != nil {
		return nil, fmt.Errorf("start trunkline dev: %w", err)
	}
	file := filepath.Join(own, "ports.json")
	p, err := g.Start(ctx, Command{
		Name: "trunkline dev", Env: []string{"TMPDIR=" + own},
		Args: append([]string{
			"dev", "--bind-addr", "127.0.0.1", "--client-addr", "127.0.0.1:0", "--tunnel-addr", "127.0.0.1:0",
			"--tcp-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0", "--node-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--ports-file", file,
		}, flags...),
	})
	if err != nil {
		return nil, err
	}
	d, err := awaitPorts(ctx, file, p)
	if err != nil {
		return nil, fmt.Errorf("start trunkline dev: %w%s", err, p.tail.quoted())
	}
	return d, nil
}

// awaitPorts looks for the ports file, which appears whole.
func awaitPorts(ctx context.Context, file string, p *Process) (*Dev, error) {
	for {
		text, err := os.ReadFile(file)
		if err == nil {
			return readPorts(text, p)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.Done():
			return nil, errors.New("it ended")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func readPorts(text []byte, p *Process) (*Dev, error) {
	var ports struct {
		Client, Tunnel, TCP, Admin []string
		CAFile                     string
	}
	if err := json.Unmarshal(text, &ports); err != nil {
		return nil, fmt.Errorf("read its ports file: %w", err)
	}
	d := &Dev{Process: p, CAFile: ports.CAFile}
	for _, a := range []struct {
		name string
		from []string
		to   *string
	}{{"client", ports.Client, &d.Client}, {"tunnel", ports.Tunnel, &d.Tunnel}, {"tcp", ports.TCP, &d.TCP}, {"admin", ports.Admin, &d.Admin}} {
		if len(a.from) == 0 {
			return nil, fmt.Errorf("its ports file names no %s address", a.name)
		}
		*a.to = a.from[0]
	}
	return d, nil
}
