package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
	"github.com/trunkline-edge/trunkline/test/faultnet"
)

// world is a cluster of processes on a network that can be broken.
type world struct {
	t     *testing.T
	seed  uint64
	dice  *rand.Rand
	net   *faultnet.World
	nodes []*node
	load  *load
}

// node is a trunkline on a host of its own, with all ports at their defaults but the clients', which is 8080.
type node struct {
	*process
	world *world
	name  string
	host  *faultnet.Host
	dir   string // its data and its copy of the key file
	flags []string
	began time.Time
}

// newWorld starts a cluster on as many hosts as regions are named, n1, n2 and so on, and waits until every node serves.
func newWorld(t *testing.T, seed uint64, regions ...string) *world {
	t.Helper()
	w := plannedWorld(t, seed, regions...)
	for _, n := range w.nodes {
		n.start()
		w.ready(n)
	}
	w.together(patience)
	return w
}

// plannedWorld is newWorld with no node started.
func plannedWorld(t *testing.T, seed uint64, regions ...string) *world {
	t.Helper()
	hosts := make([]string, len(regions))
	for i, region := range regions {
		hosts[i] = fmt.Sprintf("n%d:%s", i+1, region)
	}
	w := &world{t: t, seed: seed, dice: rand.New(rand.NewPCG(seed, 2)), net: faultnet.New(t, seed, hosts...)}
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	key, err := exec.Command(path, "keygen", "soak").Output()
	if err != nil {
		t.Fatalf("keygen: %v", err)
	}
	base := t.TempDir()
	for i, host := range w.net.Hosts() {
		n := &node{world: w, name: host.Name, host: host, dir: filepath.Join(base, host.Name)}
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			n.flags = []string{"--join", w.nodes[0].host.Addr.String()}
		}
		w.nodes = append(w.nodes, n)
		n.putKey(key)
	}
	return w
}

func (n *node) putKey(text []byte) {
	if err := os.WriteFile(filepath.Join(n.dir, "key"), text, 0o600); err != nil {
		n.world.t.Fatal(err)
	}
}

func (n *node) data() string { return filepath.Join(n.dir, "data") }

// start starts the process, at first or once more with the same flags.
func (n *node) start() {
	t := n.world.t
	t.Helper()
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"serve", "--node-id", n.name, "--region", n.host.Region, "--data-dir", n.data(), "--key-file", filepath.Join(n.dir, "key"),
		"--tls", "off", "--client-addr", ":8080", "--apps", "open", "--drain", "1s",
	}, n.flags...)
	log := ""
	if n.process != nil {
		log = n.log
	} else {
		t.Cleanup(func() {
			if strings.Contains(n.said(), "DATA RACE") {
				t.Errorf("the race detector found something at %s, see %s", n.name, n.log)
			}
		})
	}
	n.began = time.Now()
	n.process = start(t, n.name, log, n.host.Command(path, args...), nil)
}

// kill ends the process with SIGKILL.
func (n *node) kill() time.Time {
	at := n.process.kill()
	n.world.load.note(event{Op: "kill", Node: n.name})
	return at
}

// restart starts a node that was killed and waits until it serves.
func (n *node) restart() time.Duration {
	n.world.t.Helper()
	n.start()
	return n.world.ready(n)
}

func (n *node) up() bool { return n.process != nil && n.runs() }

// http reaches ports of the node's host from within, whatever is broken around it.
func (n *node) http() *http.Transport {
	return &http.Transport{DialContext: n.host.Dial, DisableKeepAlives: true}
}

// operator speaks to the operators' port.
func (n *node) operator() *admin.Client {
	o, err := admin.NewClient("http://127.0.0.1:7180", "", n.http())
	if err != nil {
		n.world.t.Fatal(err)
	}
	return o
}

// api speaks to the clients' port.
func (n *node) api() legacyclient.API {
	return legacyclient.API{Base: "http://127.0.0.1:8080", HTTP: &http.Client{Timeout: 15 * time.Second, Transport: n.http()}}
}

// verb runs a command of the program on the node's host.
func (n *node) verb(args ...string) (string, error) {
	path, err := binaryPath()
	if err != nil {
		return "", err
	}
	out, err := n.host.Command(path, args...).CombinedOutput()
	return string(out), err
}

// call makes a context for one question.
func call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Second)
}

// ready waits until the node serves.
func (w *world) ready(n *node) time.Duration {
	w.t.Helper()
	return until(w.t, n.name+" to serve", patience, func() bool {
		if !n.runs() {
			w.t.Fatalf("%s ended:\n%s", n.name, n.said())
		}
		return n.serves()
	})
}

func (n *node) serves() bool {
	ctx, cancel := call()
	defer cancel()
	r, err := n.operator().Ready(ctx)
	return err == nil && r.Ready
}

// live are the nodes that run.
func (w *world) live() (all []*node) {
	for _, n := range w.nodes {
		if n.up() {
			all = append(all, n)
		}
	}
	return all
}

// others are the live nodes but some.
func (w *world) others(but ...*node) (all []*node) {
	for _, n := range w.live() {
		if !slices.Contains(but, n) {
			all = append(all, n)
		}
	}
	return all
}

func (w *world) named(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *world) any(of []*node) *node { return of[w.dice.IntN(len(of))] }

// leader waits until the nodes agree on one that they name, of those asked (all live ones if none is given).
func (w *world) leader(asked ...*node) (leader *node) {
	w.t.Helper()
	if len(asked) == 0 {
		asked = w.live()
	}
	until(w.t, "a leader that all agree on", patience, func() bool {
		name := ""
		for _, n := range asked {
			ctx, cancel := call()
			p, err := n.operator().Peers(ctx)
			cancel()
			if err != nil || p.Leader == "" || name != "" && name != p.Leader {
				return false
			}
			name = p.Leader
		}
		leader = w.named(name)
		return leader != nil && leader.up()
	})
	return leader
}

// together waits until every live node counts every live node as a live member.
func (w *world) together(most time.Duration) time.Duration {
	w.t.Helper()
	return until(w.t, "all nodes to count each other as live", most, func() bool {
		for _, n := range w.live() {
			states := n.members()
			for _, other := range w.live() {
				if states[other.name].State != "live" {
					return false
				}
			}
		}
		return true
	})
}

// members are the members as a node knows them, nil when it does not answer.
func (n *node) members() map[string]admin.Member {
	ctx, cancel := call()
	defer cancel()
	list, err := n.operator().Members(ctx)
	if err != nil {
		return nil
	}
	all := map[string]admin.Member{}
	for _, m := range list {
		all[m.NodeID] = m
	}
	return all
}

// voters waits until raft has that many voters and nobody else half way, and every one of them runs.
func (w *world) voters(count int) {
	w.t.Helper()
	until(w.t, fmt.Sprintf("%d voters that run", count), patience, func() bool {
		ctx, cancel := call()
		defer cancel()
		p, err := w.any(w.live()).operator().Peers(ctx)
		if err != nil {
			return false
		}
		found := 0
		for _, peer := range p.Peers {
			if n := w.named(peer.NodeID); peer.Voter {
				if n == nil || !n.up() {
					return false
				}
				found++
			}
		}
		return found == count
	})
}

// status asks a node how the cluster is.
func (n *node) status() (admin.ClusterStatus, error) {
	ctx, cancel := call()
	defer cancel()
	return n.operator().ClusterStatus(ctx)
}

func (n *node) session() uint64 {
	ctx, cancel := call()
	defer cancel()
	s, err := n.operator().Status(ctx)
	if err != nil {
		return 0
	}
	return s.NodeSession
}

func (n *node) index() uint64 {
	ctx, cancel := call()
	defer cancel()
	s, err := n.operator().Status(ctx)
	if err != nil {
		return 0
	}
	return s.TableIndex
}

func (n *node) stop() { n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *node) cont() { n.cmd.Process.Signal(syscall.SIGCONT) }

// fault runs something that must lose packets, and fails the test when none was hit until it returns.
func (w *world) fault(what string, during func()) {
	w.t.Helper()
	before := w.net.Hit()
	w.load.note(event{Op: "fault", Text: what})
	during()
	w.load.note(event{Op: "over", Text: what})
	if w.net.Hit() == before {
		w.t.Errorf("%s hit no packet: nothing was tested", what)
	}
}

// tunes sets delays between regions: the round trips of a small world.
func (w *world) tunes(loss float64) {
	trips := map[string]time.Duration{"us eu": 80 * time.Millisecond, "eu ap": 150 * time.Millisecond, "us ap": 220 * time.Millisecond}
	w.net.Every(func(from, to *faultnet.Host, q *faultnet.Quality) {
		trip := max(trips[from.Region+" "+to.Region], trips[to.Region+" "+from.Region])
		q.Delay, q.Loss = trip/2, loss
	})
}
