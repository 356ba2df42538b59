package node

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

// start starts a program, which is killed at the end of the test if it still runs then. A log that exists is continued.
func start(t *testing.T, name, log string, cmd *exec.Cmd) *process {
	t.Helper()
	if log == "" {
		file := fmt.Sprintf("%s-%s-%d.log", t.Name(), name, logNumber.Add(1))
		log = filepath.Join(logs, strings.NewReplacer("/", "_", " ", "_").Replace(file))
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn()(cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			said := p.said()
			t.Logf("what %s printed:\n%s", name, said[max(0, len(said)-4<<10):])
		}
	})
	return p
}

// kill ends the program with SIGKILL and waits for it. It returns the time just before.
func (p *process) kill() time.Time {
	at := time.Now()
	select {
	case <-p.ended:
	default:
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
const roleVariable = "TRUNKLINE_NODE_TEST_ROLE"

// role is what a child of this binary does; exactly one field is set.
type role struct {
	Backend *backendRole `json:",omitempty"`
	Holder  *holderRole  `json:",omitempty"`
}

// startRole starts this binary again.
func startRole(t *testing.T, name string, r role) *process {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	return start(t, name, "", cmd)
}

// play is the main function of a child.
func play(text string) int {
	var r role
	err := json.Unmarshal([]byte(text), &r)
	switch {
	case err != nil:
	case r.Backend != nil:
		err = r.Backend.run()
	case r.Holder != nil:
		err = r.Holder.run()
	default:
		err = fmt.Errorf("no role: %s", text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// until asks again and again, each time when something may have changed, until done says so.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}
