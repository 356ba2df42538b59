package node

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a test waits for anything before it fails; nothing takes that long when all is well.
const patience = 30 * time.Second

// slack is what a machine busy with other tests may add to a time that is promised.
const slack = 2 * time.Second

// canary begins every secret of this suite, canaryPayload many of its messages, so that a log which shows one can be found.
const (
	canary        = "canary-secret-"
	canaryPayload = "canary-payload-"
)

var (
	work  string // temporary, removed at the end
	logs  string // what the processes print
	hosts atomic.Uint32
)

func TestMain(m *testing.M) {
	if r := os.Getenv(roleVariable); r != "" {
		os.Exit(play(r))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if work, err = os.MkdirTemp("", "trunkline-node-"); err != nil {
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

// leaks looks for what was planted, and for anything that looks like a token or a key, in what the processes printed.
func leaks() []string {
	secret := regexp.MustCompile(canary + `|` + canaryPayload + `|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+|BEGIN [A-Z ]*PRIVATE KEY`)
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

// newHost returns an address in 127.192/11 that nothing else of this run has.
func newHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 192+n>>16%32, n>>8%256, 1+n%254)
}

// newSource returns an address in 127.224/11 for a client to come from.
func newSource() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 224+n>>16%31, n>>8%256, 1+n%254)
}
