package compat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for anything before it fails; nothing takes that long when all is well.
const patience = 30 * time.Second

// process is one started program and the lines it has printed.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when it has ended and was waited for

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced with every line
}

// spawn starts processes from one thread that lives as long as the test binary: on Linux a child gets SIGKILL when the
// thread that started it ends, so nothing outlives a test run that was killed.
var spawn = sync.OnceValue(func() func(*exec.Cmd) error {
	commands, results := make(chan *exec.Cmd), make(chan error)
	go func() {
		runtime.LockOSThread()
		for cmd := range commands {
			results <- cmd.Start()
		}
	}()
	var mu sync.Mutex
	return func(cmd *exec.Cmd) error {
		mu.Lock()
		defer mu.Unlock()
		commands <- cmd
		return <-results
	}
})

// start starts a program that is killed at the end of the test if it still runs then.
func start(t *testing.T, name string, cmd *exec.Cmd, stderr io.Writer) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, ended: make(chan struct{}), changed: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := spawn()(cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.read(stdout)
		cmd.Wait()
		close(p.ended)
		p.note("")
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("what %s printed:\n%s", name, p.tail())
		}
	})
	return p
}

func (p *process) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 32<<20)
	for lines.Scan() {
		p.note(lines.Text())
	}
}

func (p *process) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.changed)
	p.changed = make(chan struct{})
}

// awaitLine waits for a line at or after position from and returns it with the position behind it.
func (p *process) awaitLine(ctx context.Context, from int, match func(string) bool) (string, int, error) {
	for {
		ended := false
		select {
		case <-p.ended:
			ended = true
		default:
		}
		p.mu.Lock()
		lines, changed := p.lines, p.changed
		p.mu.Unlock()
		for i := from; i < len(lines); i++ {
			if match(lines[i]) {
				return lines[i], i + 1, nil
			}
		}
		from = max(from, len(lines))
		if ended {
			return "", from, fmt.Errorf("%s has ended (%v)", p.name, p.cmd.ProcessState)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", from, fmt.Errorf("%s did not say it: %w", p.name, context.Cause(ctx))
		}
	}
}

func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-60):], "\n")
}

// kill ends the program with SIGKILL and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) signal(s os.Signal) {
	select {
	case <-p.ended:
	default:
		p.cmd.Process.Signal(s)
	}
}

// program is a process of the folder node, which talks in JSON lines.
type program struct {
	*process
	from     int // events before it were already asked for
	answered int // answers before it were already asked for
}

// event is one line of a program; the fields depend on what happened.
type event struct {
	Event string // what happened

	Room, User, Hex string // what a backend was called with
	Users           []string
	Text            string // what the SDK said

	Did, Error string // the answer to a command

	Token   string
	Claims  map[string]any
	Path    string
	Status  int
	StateID string
	Code    int
	Reason  string
	Lobbies []map[string]any
	Details map[string]any
}

// startNode starts a script of the folder node.
func startNode(t *testing.T, name, script string, env ...string) *program {
	t.Helper()
	cmd := exec.Command("node", script)
	cmd.Dir = nodeFolder(t)
	cmd.Env = append(os.Environ(), env...)
	return &program{process: start(t, name, cmd, os.Stderr)}
}

func nodeFolder(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules")); errors.Is(err, os.ErrNotExist) {
		if os.Getenv("CI") != "" {
			t.Fatal("the npm packages are not installed: run `make npm` first")
		}
		t.Skip("the npm packages are not installed: run `make npm` first")
	}
	return folder
}

// await returns the next event that match accepts, skipping others, and goes on behind it.
func (p *program) await(t *testing.T, what string, match func(event) bool) event {
	t.Helper()
	return p.awaitFrom(t, &p.from, what, match)
}

// sees waits for an event at any time of the program's life, for events that have no order.
func (p *program) sees(t *testing.T, what string, match func(event) bool) event {
	t.Helper()
	from := 0
	return p.awaitFrom(t, &from, what, match)
}

func (p *program) awaitFrom(t *testing.T, from *int, what string, match func(event) bool) event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found event
	_, next, err := p.awaitLine(ctx, *from, func(line string) bool {
		e, ok := parse(line)
		if ok && match(e) {
			found = e
			return true
		}
		return false
	})
	if err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
	*from = next
	return found
}

// events are all events of a kind so far.
func (p *program) events(kind string) []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []event
	for _, line := range p.lines {
		if e, ok := parse(line); ok && e.Event == kind {
			found = append(found, e)
		}
	}
	return found
}

// do has the program do something and returns what it answered.
func (p *program) do(t *testing.T, command map[string]any) event {
	t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("tell %s to %v: %v", p.name, command["do"], err)
	}
	e := p.awaitFrom(t, &p.answered, fmt.Sprintf("%s to %v", p.name, command["do"]), func(e event) bool {
		return e.Did == command["do"]
	})
	if e.Event == "failed" {
		t.Fatalf("%s: %v: %s", p.name, command["do"], e.Error)
	}
	return e
}

func parse(line string) (event, bool) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		return event{}, false
	}
	return e, true
}
