package examples

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/sdk"
	"github.com/trunkline-edge/trunkline/wire"
)

const (
	patience = 60 * time.Second
	secret   = "dev-secret"
)

var app = wire.AppIDOf(secret).String()

// world is a coordinator in development mode with one example attached.
type world struct {
	t     *testing.T
	ports struct {
		Client, Tunnel, TCP []string
		CAFile              string
	}
	roots *x509.CertPool
}

// built is the folder with the programs.
var built string

// TestMain builds the programs; TRUNKLINE_BINARY names a coordinator that exists.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "trunkline-examples-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(built)
		what := []string{"build", "-o", built, "./sdk/examples/echo", "./sdk/examples/game"}
		if os.Getenv("TRUNKLINE_BINARY") == "" {
			what = append(what, "./cmd/trunkline")
		}
		cmd := exec.Command("go", what...)
		cmd.Dir = "../.."
		if said, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, said)
			return 1
		}
		return m.Run()
	}())
}

func trunkline() string {
	if name := os.Getenv("TRUNKLINE_BINARY"); name != "" {
		return name
	}
	return filepath.Join(built, "trunkline")
}

// spawn runs a program until the test ends; the kernel kills it if we die. It
// returns when a line of its output contains until.
func spawn(t *testing.T, until string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the thread that starts a child has to live as long
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		said := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if !said && strings.Contains(lines.Text(), until) {
				said = true
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(patience/4, func() { _ = cmd.Process.Kill() })
		<-ended
		_ = cmd.Wait()
		stop.Stop()
	})
	if until == "" {
		return
	}
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("%s has ended", name)
	case <-time.After(patience):
		t.Fatalf("%s does not say %q", name, until)
	}
}

func newWorld(t *testing.T, example string) *world {
	t.Helper()
	w := &world{t: t, roots: x509.NewCertPool()}
	ports := filepath.Join(t.TempDir(), "ports.json")
	spawn(t, "Ctrl-C", trunkline(), "dev", "--bind-addr", "127.0.0.1", "--client-addr", ":0",
		"--tunnel-addr", ":0", "--tcp-addr", ":0", "--gossip-addr", ":0", "--node-addr", ":0", "--admin-addr", "127.0.0.1:0", "--ports-file", ports)
	said, err := os.ReadFile(ports)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(said, &w.ports); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(w.ports.CAFile)
	if err != nil || !w.roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no CA: %v", err)
	}
	spawn(t, "", filepath.Join(built, example), "-coordinator", w.ports.Tunnel[0])
	return w
}

// post asks the coordinator until it answers 200: the example may still be
// attaching.
func (w *world) post(path, token string, body []byte, answer any) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.ports.Client[0]+"/"+app+path, bytes.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(answer)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			w.t.Fatalf("%s: %s", path, resp.Status)
		}
	}
}

// login returns a token, once the example has attached.
func (w *world) login() string {
	var answer struct{ Token string }
	w.post("/login/anonymous", "", nil, &answer)
	return answer.Token
}

func (w *world) create(token, data string) string {
	var answer struct{ StateID string }
	w.post("/create", token, []byte(data), &answer)
	return answer.StateID
}

// player is a client whose messages a test reads one by one.
type player struct {
	*sdk.Client
	t     *testing.T
	heard chan string
}

func (w *world) join(addr, state, token string) *player {
	w.t.Helper()
	p := &player{t: w.t, heard: make(chan string, 100)}
	joined := make(chan struct{}, 1)
	var err error
	p.Client, err = sdk.NewClient(sdk.ClientConfig{
		Addrs: []string{addr}, App: app, State: state, Token: token, RootCAs: w.roots,
		OnMessage:   func(data []byte) { p.heard <- string(data) },
		OnConnected: func(sdk.Connected) { joined <- struct{}{} },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("client: %v", err)
		}
	})
	select {
	case <-joined:
	case <-time.After(patience):
		w.t.Fatalf("no connection to %s", addr)
	}
	return p
}

func (p *player) say(text string) {
	p.t.Helper()
	if err := p.Send([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// hears waits for exactly this message.
func (p *player) hears(want string) {
	p.t.Helper()
	select {
	case got := <-p.heard:
		if got != want {
			p.t.Fatalf("heard %q, want %q", got, want)
		}
	case <-time.After(patience):
		p.t.Fatalf("did not hear %q", want)
	}
}

func TestEchoByEveryTransport(t *testing.T) {
	w := newWorld(t, "echo")
	token := w.login()
	for _, addr := range []string{
		"ws://" + w.ports.Client[0], "wss://" + w.ports.Client[0], "tcp://" + w.ports.TCP[0], "tls://" + w.ports.TCP[0],
	} {
		state := w.create(token, "")
		a := w.join(addr, state, token)
		a.say("hello")
		a.hears("hello")
		b := w.join(addr, state, token)
		b.say("hi")
		b.hears("hi")
		a.hears("hi")
		big := strings.Repeat("x", 900<<10)
		a.say(big)
		a.hears(big)
		b.hears(big)
		for i := range 100 {
			b.say(fmt.Sprint(i))
		}
		for i := range 100 {
			a.hears(fmt.Sprint(i))
		}
	}
}

func TestGame(t *testing.T) {
	w := newWorld(t, "game")
	token := w.login()
	state := w.create(token, "42")
	a := w.join("ws://"+w.ports.Client[0], state, token)
	a.hears("guess a number from 1 to 100")
	b := w.join("tcp://"+w.ports.TCP[0], state, w.login())
	b.hears("guess a number from 1 to 100")
	a.hears("a player joined")
	a.say("10")
	a.hears("higher")
	a.say("80")
	a.hears("lower")
	a.say("many")
	a.hears("send a number")
	a.say("42")
	a.hears("it was 42, found with 3 guesses")
	b.hears("it was 42, found with 3 guesses")
}
