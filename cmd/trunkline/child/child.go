// Package child starts helper processes that never outlive the program that started them.
//
// A Group owns its children: each leads a process group of its own, on Linux gets SIGKILL from the kernel when the
// thread that started it dies, and sees its standard input end. Everything is ended by process id; nothing is looked up
// by name.
//
// The package refuses to restart anything: a child that ends stays ended, and whoever waits on Done decides.
//
// Goroutines: Run owns one locked thread (the kernel ties the death signal to the thread, not to the process) and one
// waiting goroutine per child; all have ended when Run returns.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrEnded is returned by Start after the group's Run has ended.
var ErrEnded = errors.New("child: the group has ended")

// killAfter is how long a child has between SIGTERM and SIGKILL when its group ends.
const killAfter = 3 * time.Second

// Command says what to start.
type Command struct {
	Name string   // shown in errors
	Path string   // the program; empty: this very binary
	Args []string // without the program's name
	Env  []string // added to this process's environment
	Dir  string   // working directory; empty: this process's
	// Ready makes Start wait for the first line that the child prints, which Process.Line returns.
	Ready bool
}

// Process is one running or ended child.
type Process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	tail  *tail
	first chan string
	line  string
	done  chan struct{}

	mu     sync.Mutex
	reaped bool
	err    error
}

// Group starts children and ends them all.
type Group struct {
	requests chan request
	ended    chan struct{}
}

type request struct {
	command Command
	answer  chan answer
}

type answer struct {
	process *Process
	err     error
}

// NewGroup makes a group; it starts nothing before Run.
func NewGroup() *Group {
	return &Group{requests: make(chan request), ended: make(chan struct{})}
}

// Run starts what Start asks for until ctx ends, then ends every child (SIGTERM, after 3 s SIGKILL) and waits for it.
// It must be called once.
func (g *Group) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all []*Process
	for {
		select {
		case <-ctx.Done():
			close(g.ended)
			stopAll(all)
			return nil
		case r := <-g.requests:
			p, err := start(r.command)
			if err == nil {
				all = append(all, p)
			}
			r.answer <- answer{p, err}
		}
	}
}

// Start starts one child. With Command.Ready it waits for the child's first line until ctx ends; a child that ends
// before is an error that carries the last lines it printed.
func (g *Group) Start(ctx context.Context, c Command) (*Process, error) {
	r := request{command: c, answer: make(chan answer, 1)}
	select {
	case g.requests <- r:
	case <-g.ended:
		return nil, ErrEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a := <-r.answer
	if a.err != nil || !c.Ready {
		return a.process, a.err
	}
	p := a.process
	select {
	case p.line = <-p.first:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("start %s: ended before it was ready: %w%s", c.Name, p.waitError(), p.tail.quoted())
	case <-ctx.Done():
		p.Kill()
		return nil, fmt.Errorf("start %s: not ready: %w%s", c.Name, ctx.Err(), p.tail.quoted())
	}
}

func start(c Command) (*Process, error) {
	path := c.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this binary: %w", err)
		}
		path = self
	}
	cmd := exec.Command(path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = attributes()
	p := &Process{name: c.Name, cmd: cmd, tail: &tail{}, first: make(chan string, 1), done: make(chan struct{})}
	cmd.Stderr = p.tail
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	go p.wait(out)
	return p, nil
}

// wait reads the child's output to its end and then reaps it.
func (p *Process) wait(out io.Reader) {
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err == nil {
		p.first <- strings.TrimSuffix(line, "\n")
		p.tail.Write([]byte(line))
	} else {
		p.tail.Write([]byte(line))
	}
	io.Copy(p.tail, lines)
	err := p.cmd.Wait()
	p.mu.Lock()
	p.reaped, p.err = true, err
	p.mu.Unlock()
	close(p.done)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Line is the first line the child printed; empty unless Command.Ready was set.
func (p *Process) Line() string { return p.line }

// Done is closed when the child has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Tail returns the last lines that the child wrote, at most 4 KiB.
func (p *Process) Tail() string { return p.tail.String() }

// Kill ends the child and its process group with SIGKILL. It does nothing when the child has ended.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Terminate asks the child to end with SIGTERM and closes its standard input.
func (p *Process) Terminate() {
	p.stdin.Close()
	p.signal(syscall.SIGTERM)
}

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		// The pid cannot have been reused: it is ours until it is reaped.
		syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *Process) waitError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

func stopAll(all []*Process) {
	for _, p := range all {
		p.Terminate()
	}
	late := time.NewTimer(killAfter)
	defer late.Stop()
	expired := false
	for _, p := range all {
		if !expired {
			select {
			case <-p.done:
				continue
			case <-late.C:
				expired = true
			}
		}
		p.Kill()
		<-p.done
	}
}

// WaitForParent returns when standard input ends, which is how a child learns that its parent has gone or wants it to
// end, or when ctx ends.
func WaitForParent(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
