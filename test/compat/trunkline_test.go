package compat

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// marker is in every secret and payload of this suite, so that a log that shows one can be found.
const marker = "canary"

var (
	work    string // temporary, removed at the end
	logs    string // what the trunkline processes log
	hosts   atomic.Uint32
	planted struct {
		sync.Mutex
		texts []string
	}
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if work, err = os.MkdirTemp("", "trunkline-compat-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	if logs = os.Getenv("TRUNKLINE_LOGS"); logs == "" {
		logs = filepath.Join(work, "logs")
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// A host of its own in 127/8 for every process, far from where others test.
	var seed [4]byte
	rand.Read(seed[:])
	hosts.Store(binary.BigEndian.Uint32(seed[:]))

	code := m.Run()
	for _, leak := range leaks() {
		fmt.Println("--- FAIL: a secret stands in a log:", leak)
		code = 1
	}
	return code
}

// plant notes a text that must not appear in any log.
func plant(text string) string {
	planted.Lock()
	defer planted.Unlock()
	planted.texts = append(planted.texts, text)
	return text
}

// leaks looks for planted texts, and for anything that looks like a token, in what the processes logged.
func leaks() []string {
	token := regexp.MustCompile(`eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+`)
	var found []string
	files, _ := filepath.Glob(filepath.Join(logs, "*.log"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		for line := range strings.Lines(string(data)) {
			if token.MatchString(line) || slices.ContainsFunc(planted.texts, func(p string) bool { return strings.Contains(line, p) }) {
				found = append(found, filepath.Base(file)+": "+strings.TrimSpace(line))
			}
		}
	}
	return found
}

// binary builds the program once.
var binaryPath = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("TRUNKLINE_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(work, "trunkline")
	args := []string{"build", "-o", path}
	if os.Getenv("TRUNKLINE_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "../../cmd/trunkline")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build trunkline: %w\n%s", err, out)
	}
	return path, nil
})

// node is a running trunkline on a host of its own, with all ports at their defaults. Clients and backends go to the node
// that its fields name: itself, or others of its cluster.
type node struct {
	*process
	host string
	ca   string // file of the throw-away CA; dev only
	log  string // what it logs, over all of its lives
	args []string

	clients, tunnels, players *node // for HTTP and WebSocket, for backends, for TCP clients
	joined                    []*node
}

// clustered says that every coordinator of this run is a cluster of three nodes, and that each kind of client and the
// backends are on another one.
var clustered = os.Getenv("TRUNKLINE_CLUSTERED") != ""

// host returns an address in 127/8 that no other process of this suite has.
func host() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 64+n>>16%128, n>>8%256, 1+n%254)
}

// startDev starts `trunkline dev` and waits until it serves.
func startDev(t *testing.T, flags ...string) *node {
	t.Helper()
	return startNodes(t, clustered, func(host string) []string {
		return append([]string{"dev", "--bind-addr", host, "--admin-addr", host + ":7180"}, flags...)
	})
}

// startNodes starts one node, or a cluster of three.
func startNodes(t *testing.T, three bool, args func(host string) []string) *node {
	t.Helper()
	first := &node{host: host()}
	first.clients, first.tunnels, first.players = first, first, first
	first.args = args(first.host)
	if !three {
		first.run(t)
		return first
	}
	key := filepath.Join(t.TempDir(), "cluster.key")
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "keygen", "-o", key, "compat").CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	first.args = append(first.args, "--key-file", key, "--node-id", "n1")
	for i := range 2 {
		n := &node{host: host()}
		n.clients, n.tunnels, n.players = n, n, n
		n.args = append(args(n.host), "--key-file", key, "--node-id", fmt.Sprintf("n%d", i+2), "--join", first.host)
		first.joined = append(first.joined, n)
	}
	first.tunnels, first.clients = first.joined[0], first.joined[1]
	first.run(t)
	return first
}

// startServe starts `trunkline serve` without TLS, open to any app, with a data directory that outlives a restart.
func startServe(t *testing.T, flags ...string) *node {
	t.Helper()
	return startNodes(t, clustered, serveArgs(t, flags...))
}

func serveArgs(t *testing.T, flags ...string) func(host string) []string {
	return func(host string) []string {
		return append([]string{
			"serve", "--tls", "off", "--apps", "open", "--bind-addr", host, "--admin-addr", host + ":7180",
			"--client-addr", host + ":8080", "--data-dir", t.TempDir(), "--drain", "1s",
		}, flags...)
	}
}

var caLine = regexp.MustCompile(`NODE_EXTRA_CA_CERTS=(\S+)`)

// run starts the process, at first or once more with the same flags, and those of its cluster, and waits until they serve.
func (n *node) run(t *testing.T) {
	t.Helper()
	n.begin(t)
	for _, other := range n.joined {
		other.begin(t)
	}
	for _, one := range n.all() {
		one.ready(t)
	}
}

func (n *node) all() []*node { return append([]*node{n}, n.joined...) }

func (n *node) begin(t *testing.T) {
	t.Helper()
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	n.log = filepath.Join(logs, strings.NewReplacer("/", "_").Replace(t.Name())+"-"+n.host+".log")
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, n.args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+work) // the CA of dev goes with the suite
	n.process = start(t, "trunkline "+n.args[0], cmd, out)
	t.Cleanup(func() {
		out.Close()
		logged, _ := os.ReadFile(n.log)
		if strings.Contains(string(logged), "DATA RACE") {
			t.Errorf("the race detector found something in trunkline, see %s", n.log)
		}
		if t.Failed() {
			t.Logf("what trunkline logged:\n%s", logged[max(0, len(logged)-8<<10):])
		}
	})
}

// stop ends the process, and those of its cluster, the way an operator does and waits for them.
func (n *node) stop(t *testing.T) {
	t.Helper()
	for _, one := range n.all() {
		one.signal(syscall.SIGTERM)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, one := range n.all() {
		select {
		case <-one.ended:
		case <-ctx.Done():
			t.Fatal("trunkline did not end after SIGTERM")
		}
	}
}

// kill ends the process, and those of its cluster, with SIGKILL and waits for them.
func (n *node) kill() {
	for _, one := range n.all() {
		one.process.kill()
	}
}

func (n *node) http() string   { return "http://" + n.clients.host + ":8080" }
func (n *node) https() string  { return "https://" + n.clients.host + ":8080" }
func (n *node) tunnel() string { return n.tunnels.host + ":7147" }
func (n *node) tcp() string    { return n.players.host + ":7148" }

func (n *node) api() legacyclient.API {
	return legacyclient.API{Base: n.http(), HTTP: &http.Client{Timeout: patience}}
}

// operator speaks to the operators' port of the node that has the backends.
func (n *node) operator(t *testing.T) *admin.Client {
	t.Helper()
	c, err := admin.NewClient("http://"+n.tunnels.host+":7180", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *node) ws() legacyclient.Dialer {
	return legacyclient.Dialer{Base: "ws://" + n.clients.host + ":8080"}
}

// wss is ws over TLS, trusting the CA that dev made.
func (n *node) wss(t *testing.T) legacyclient.Dialer {
	t.Helper()
	pem, err := os.ReadFile(n.clients.ca)
	if err != nil {
		t.Fatalf("read the CA of dev: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", n.clients.ca)
	}
	return legacyclient.Dialer{Base: "wss://" + n.clients.host + ":8080", TLS: &tls.Config{RootCAs: pool, ServerName: n.clients.host}}
}

// ready waits until this one process serves.
func (n *node) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if n.args[0] == "dev" {
		line, _, err := n.awaitLine(ctx, 0, caLine.MatchString)
		if err != nil {
			t.Fatalf("wait for the CA of dev: %v", err)
		}
		n.ca = caLine.FindStringSubmatch(line)[1]
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		own := legacyclient.API{Base: "http://" + n.host + ":8080", HTTP: &http.Client{Timeout: patience}}
		if answer, err := own.Call(ctx, http.MethodGet, "/readyz", nil, nil); err == nil && answer.Status == http.StatusOK {
			return
		}
		select {
		case <-again.C:
		case <-n.ended:
			t.Fatalf("%s ended at once (%v)", n.name, n.cmd.ProcessState)
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %v", n.name, context.Cause(ctx))
		}
	}
}
