package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/test/faultnet"
)

// process is one started program; what it prints goes to a file.
type process struct {
	name  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended and was waited for
}

// spawn starts processes from one thread that lives as long as the test binary: a child gets SIGKILL from the kernel when
// the thread that started it ends.
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

var logNumber atomic.Uint32

// logPath is where something of a test is written.
func logPath(t *testing.T, name, kind string) string {
	file := fmt.Sprintf("%s-%s-%d.%s", t.Name(), name, logNumber.Add(1), kind)
	return filepath.Join(logs, strings.NewReplacer("/", "_", " ", "_").Replace(file))
}

// start starts a program, which is killed at the end of the test if it still runs then. A log that exists is continued.
// What it writes to its standard output goes to out, or to the log if that is nil.
func start(t *testing.T, name, log string, cmd *exec.Cmd, out *os.File) *process {
	t.Helper()
	if log == "" {
		log = logPath(t, name, "log")
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = file, file
	if out != nil {
		cmd.Stdout = out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn()(cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			said := p.said()
			t.Logf("what %s printed:\n%s", name, said[max(0, len(said)-6<<10):])
			p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
			within(2*time.Second, func() bool { return !p.runs() })
		}
		p.kill()
	})
	return p
}

func (p *process) runs() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the program with SIGKILL and waits for it. It returns the time just before.
func (p *process) kill() time.Time {
	at := time.Now()
	if p.runs() {
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Kill()
	}
	<-p.ended
	return at
}

func (p *process) said() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// roleVariable tells a child of this binary what it is.
const roleVariable = "TRUNKLINE_CLUSTER_TEST_ROLE"

// role is what a child of this binary does; exactly one field is set.
type role struct {
	Backend *backendRole `json:",omitempty"`
	Crowd   *crowdRole   `json:",omitempty"`
}

// startRole starts this binary again on a host; its events go to the history.
func startRole(t *testing.T, h *history, host *faultnet.Host, name string, r role) *process {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := host.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	p := start(t, name, "", cmd, write)
	write.Close()
	var reading sync.WaitGroup
	reading.Go(func() {
		defer read.Close()
		for lines := json.NewDecoder(read); ; {
			var e event
			if err := lines.Decode(&e); err != nil {
				return // it has ended, perhaps within a line
			}
			e.Proc = name
			h.add(e)
		}
	})
	t.Cleanup(func() {
		p.kill()
		reading.Wait()
	})
	return p
}

// play is the main function of a child.
func play(text string) int {
	var r role
	err := json.Unmarshal([]byte(text), &r)
	switch {
	case err != nil:
	case r.Backend != nil:
		err = r.Backend.run()
	case r.Crowd != nil:
		err = r.Crowd.run()
	default:
		err = fmt.Errorf("no role: %s", text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var saying sync.Mutex

// say writes an event of a child, in one piece, unbuffered: what a child said is known even when it is killed.
func say(e event) {
	e.At = time.Now().UnixNano()
	line, _ := json.Marshal(e)
	saying.Lock()
	defer saying.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// within asks again and again until done says so, for at most a time, and says whether it did.
func within(most time.Duration, done func() bool) bool {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

// until waits for something that must come, and answers how long it took.
func until(t *testing.T, what string, most time.Duration, done func() bool) time.Duration {
	t.Helper()
	from := time.Now()
	if !within(most, done) {
		t.Fatalf("waited %v in vain: %s", most, what)
	}
	return time.Since(from)
}

// pause lets a fault, or the calm after it, last for a time while the load goes on: here time is the story, no outcome.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test ended early")
	}
}
