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
	Node   string // for other nodes: Join of theirs
	CAFile string // of its throw-away authority
}

// StartNodes starts a cluster of n `trunkline dev` on free ports of 127.0.0.1, as StartDev does: the second and those
// after it join the first. flags are added to the command line of each.
func (g *Group) StartNodes(ctx context.Context, dir string, n int, flags ...string) ([]*Dev, error) {
	return g.startNodes(ctx, dir, n, false, flags)
}

// StartStoredNodes is StartNodes with a data directory for each node, below dir.
func (g *Group) StartStoredNodes(ctx context.Context, dir string, n int, flags ...string) ([]*Dev, error) {
	return g.startNodes(ctx, dir, n, true, flags)
}

func (g *Group) startNodes(ctx context.Context, dir string, n int, stored bool, flags []string) ([]*Dev, error) {
	own, err := os.MkdirTemp(dir, "nodes-")
	if err != nil {
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	key := filepath.Join(own, "cluster.key")
	p, err := g.Start(ctx, Command{Name: "trunkline keygen", Args: []string{"keygen", "-o", key, "small-world"}})
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var nodes []*Dev
	for i := range n {
		id := fmt.Sprintf("node-%d", i+1)
		line := append([]string{"--node-id", id, "--key-file", key}, flags...)
		if stored {
			line = append(line, "--data-dir", filepath.Join(own, id))
		}
		if i > 0 {
			line = append(line, "--join", nodes[0].Node)
		}
		d, err := g.StartDev(ctx, own, line...)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, d)
	}
	return nodes, nil
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
			"--tcp-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--node-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0",
			"--ports-file", file,
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
		Client, Tunnel, TCP, Admin, Node []string
		CAFile                           string
	}
	if err := json.Unmarshal(text, &ports); err != nil {
		return nil, fmt.Errorf("read its ports file: %w", err)
	}
	d := &Dev{Process: p, CAFile: ports.CAFile}
	for _, a := range []struct {
		name string
		from []string
		to   *string
	}{{"client", ports.Client, &d.Client}, {"tunnel", ports.Tunnel, &d.Tunnel}, {"tcp", ports.TCP, &d.TCP}, {"admin", ports.Admin, &d.Admin}, {"node", ports.Node, &d.Node}} {
		if len(a.from) == 0 {
			return nil, fmt.Errorf("its ports file names no %s address", a.name)
		}
		*a.to = a.from[0]
	}
	return d, nil
}
