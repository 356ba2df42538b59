package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a writer that can be read while it is written to.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// theatre is a world for tests: its own environment and signals.
type theatre struct {
	world
	out, err output
	signal   chan os.Signal
}

func newTheatre(stdin string, env ...string) *theatre {
	values := make(map[string]string)
	for i := 0; i < len(env); i += 2 {
		values[env[i]] = env[i+1]
	}
	th := &theatre{signal: make(chan os.Signal, 2)}
	th.world = world{
		stdin: strings.NewReader(stdin), stdout: &th.out, stderr: &th.err, signals: th.signal,
		env: func(name string) (string, bool) { v, ok := values[name]; return v, ok },
	}
	return th
}

// play runs one command line to its end.
func play(t *testing.T, th *theatre, args ...string) int {
	t.Helper()
	return run(t.Context(), args, &th.world)
}

// write makes a file with that mode in a folder of the test.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// parsed parses a command line of serve or dev without running it.
func parsed(t *testing.T, th *theatre, args ...string) (*grammar, *sources, error) {
	t.Helper()
	var g grammar
	parser, src, err := newParser(&g, &th.world)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &g, src, err
}
