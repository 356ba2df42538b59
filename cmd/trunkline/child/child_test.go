package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also is the child: the tests start their own binary with a mode in the environment.
func TestMain(m *testing.M) {
	switch os.Getenv("CHILD_TEST_MODE") {
	case "":
		goleak.VerifyTestMain(m)
	case "obedient":
		fmt.Println("ready at 127.0.0.1:1")
		WaitForParent(context.Background())
	case "stubborn":
		fmt.Println("ready")
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "failing":
		fmt.Fprintln(os.Stderr, "port 80 is taken")
		os.Exit(3)
	case "middle":
		g := NewGroup()
		go g.Run(context.Background())
		p, err := g.Start(context.Background(), mode("stubborn", true))
		fmt.Println(p.PID(), err)
		select {}
	case "dev":
		ports := os.Args[slices.Index(os.Args, "--ports-file")+1]
		os.WriteFile(ports+".new", []byte(os.Getenv("CHILD_TEST_PORTS")), 0o600)
		os.Rename(ports+".new", ports)
		WaitForParent(context.Background())
	case "silent":
		bufio.NewReader(os.Stdin).ReadByte()
	}
}

func startGroup(t *testing.T) (*Group, context.CancelFunc, <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g := NewGroup()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return g, cancel, ended
}

func mode(name string, ready bool) Command {
	return Command{Name: name, Env: []string{"CHILD_TEST_MODE=" + name}, Ready: ready}
}

func TestReadyLineAndObedientEnd(t *testing.T) {
	g, cancel, ended := startGroup(t)
	p, err := g.Start(t.Context(), mode("obedient", true))
	if err != nil {
		t.Fatal(err)
	}
	if p.Line() != "ready at 127.0.0.1:1" {
		t.Fatalf("line %q", p.Line())
	}
	cancel()
	<-ended
	<-p.Done()
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("the child still exists: %v", err)
	}
	if _, err := g.Start(t.Context(), mode("obedient", true)); !errors.Is(err, ErrEnded) {
		t.Fatalf("start after the end: %v", err)
	}
}

func TestStubbornChildIsKilled(t *testing.T) {
	g, cancel, ended := startGroup(t)
	p, err := g.Start(t.Context(), mode("stubborn", true))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("the child still exists: %v", err)
	}
}

func TestChildThatFailsSaysWhy(t *testing.T) {
	g, _, _ := startGroup(t)
	_, err := g.Start(t.Context(), mode("failing", true))
	if err == nil || !strings.Contains(err.Error(), "port 80 is taken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("error %v", err)
	}
}

func TestStartGivesUpOnASilentChild(t *testing.T) {
	g, _, _ := startGroup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Start(ctx, mode("silent", true)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
}

func TestKillIsAtOnce(t *testing.T) {
	g, _, _ := startGroup(t)
	p, err := g.Start(t.Context(), mode("stubborn", true))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	<-p.Done()
	p.Kill() // of an ended child: nothing
}

// A program that is itself killed cannot end its children; the kernel does.
func TestChildrenDieWithAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child's life to its parent's")
	}
	g, _, _ := startGroup(t)
	middle, err := g.Start(t.Context(), mode("middle", true))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(middle.Line(), "%d <nil>", &pid); err != nil {
		t.Fatalf("%q: %v", middle.Line(), err)
	}
	syscall.Kill(middle.PID(), syscall.SIGKILL)
	<-middle.Done()
	for alive(pid) {
		if t.Context().Err() != nil {
			t.Fatal("the grandchild lives on")
		}
		runtime.Gosched()
	}
}

// alive is false for a process that is gone, or dead and not yet waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	tl.Write([]byte(strings.Repeat("a", tailSize)))
	tl.Write([]byte("the end"))
	if s := tl.String(); len(s) != tailSize || !strings.HasSuffix(s, "the end") {
		t.Fatalf("%d bytes, ends %q", len(s), s[len(s)-10:])
	}
}

func TestStartDevReadsThePorts(t *testing.T) {
	g, _, _ := startGroup(t)
	t.Setenv("CHILD_TEST_MODE", "dev")
	t.Setenv("CHILD_TEST_PORTS", `{"pid":1,"client":["127.0.0.1:1","[::1]:1"],"tunnel":["127.0.0.1:2"],"tcp":["127.0.0.1:3"],"admin":["127.0.0.1:4"],"node":["127.0.0.1:5"],"caFile":"ca.pem"}`)
	d, err := g.StartDev(t.Context(), t.TempDir(), "--pprof")
	if err != nil {
		t.Fatal(err)
	}
	if d.Client != "127.0.0.1:1" || d.Tunnel != "127.0.0.1:2" || d.TCP != "127.0.0.1:3" || d.Admin != "127.0.0.1:4" || d.Node != "127.0.0.1:5" || d.CAFile != "ca.pem" {
		t.Fatalf("%+v", d)
	}
	t.Setenv("CHILD_TEST_PORTS", `{"client":["127.0.0.1:1"]}`)
	if _, err := g.StartDev(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "no tunnel address") {
		t.Fatalf("error %v", err)
	}
	t.Setenv("CHILD_TEST_MODE", "failing")
	if _, err := g.StartDev(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "port 80 is taken") {
		t.Fatalf("error %v", err)
	}
}
