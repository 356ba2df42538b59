package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for anything before it fails; nothing takes that long when all is well.
const patience = 60 * time.Second

// slack is what a machine busy with several worlds may add to a time that is promised.
const slack = 2 * time.Second

// canary begins every secret of this suite, so that a log which shows one can be found.
const canary = "canary-secret-"

var (
	work string // temporary, removed at the end
	logs string // what the processes print, and the histories
)

func TestMain(m *testing.M) {
	if r := os.Getenv(roleVariable); r != "" {
		os.Exit(play(r))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if work, err = os.MkdirTemp("", "trunkline-cluster-"); err != nil {
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
	code := m.Run()
	for _, leak := range leaks() {
		fmt.Println("--- FAIL: a secret stands in a log:", leak)
		code = 1
	}
	return code
}

// leaks looks for what was planted, and for anything that looks like a token or a key, in what the processes printed.
func leaks() []string {
	secret := regexp.MustCompile(canary + `|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+|BEGIN [A-Z ]*PRIVATE KEY`)
	var found []string
	files, _ := filepath.Glob(filepath.Join(logs, "*.log"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		for line := range strings.Lines(string(data)) {
			if secret.MatchString(line) {
				found = append(found, filepath.Base(file)+": "+strings.TrimSpace(line))
			}
		}
	}
	return found
}

// binaryPath builds the program once.
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

// soaks is how often each story is told, 0 when they are to be short.
func soaks() int {
	n, _ := strconv.Atoi(os.Getenv("TRUNKLINE_SOAK"))
	return n
}

// longer answers what a story does in a soak instead of what it does in short.
func longer[T any](short, long T) T {
	if soaks() > 0 {
		return long
	}
	return short
}

// tell tells a story with one seed, or in a soak with many. Stories run beside each other, a few at a time (-parallel).
func tell(t *testing.T, story func(t *testing.T, seed uint64)) {
	t.Helper()
	t.Parallel()
	seeds := make([]uint64, max(1, soaks()))
	for i := range seeds {
		seeds[i] = rand.Uint64N(1 << 32)
	}
	if text := os.Getenv("TRUNKLINE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TRUNKLINE_SEED: %v", err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { story(t, seed) })
	}
}
