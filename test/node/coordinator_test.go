package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/test/compat/legacyclient"
)

// coordinator is a running trunkline on a host of its own, with all ports at their defaults.
type coordinator struct {
	*process
	host string
	args []string
}

// startDev starts `trunkline dev` and waits until it serves.
func startDev(t *testing.T, flags ...string) *coordinator {
	t.Helper()
	c := &coordinator{host: newHost()}
	c.args = append([]string{"dev", "--bind-addr", c.host, "--admin-addr", c.host + ":7180"}, flags...)
	c.run(t)
	return c
}

// startServe starts `trunkline serve` without TLS, with a data directory that outlives a restart.
func startServe(t *testing.T, flags ...string) *coordinator {
	t.Helper()
	c := &coordinator{host: newHost()}
	c.args = append([]string{
		"serve", "--tls", "off", "--bind-addr", c.host, "--admin-addr", c.host + ":7180",
		"--client-addr", c.host + ":8080", "--data-dir", t.TempDir(), "--drain", "1s",
	}, flags...)
	c.run(t)
	return c
}

// run starts the process, at first or once more with the same flags, and waits until it serves.
func (c *coordinator) run(t *testing.T) {
	t.Helper()
	path, err := binaryPath()
	if err != nil {
		t.Fatal(err)
	}
	log := ""
	if c.process != nil {
		log = c.log
	}
	c.process = start(t, "trunkline-"+c.args[0], log, exec.Command(path, c.args...))
	t.Cleanup(func() {
		if strings.Contains(c.said(), "DATA RACE") {
			t.Errorf("the race detector found something in trunkline, see %s", c.log)
		}
	})
	until(t, "the node to be ready", func() bool {
		select {
		case <-c.ended:
			t.Fatalf("the node ended at once:\n%s", c.said())
		default:
		}
		answer, err := c.api().Call(t.Context(), http.MethodGet, "/readyz", nil, nil)
		return err == nil && answer.Status == http.StatusOK
	})
}

func (c *coordinator) web() string    { return c.host + ":8080" }
func (c *coordinator) tunnel() string { return c.host + ":7147" }
func (c *coordinator) tcp() string    { return c.host + ":7148" }

func (c *coordinator) api() legacyclient.API {
	return legacyclient.API{Base: "http://" + c.web(), HTTP: &http.Client{Timeout: patience}}
}

// operator speaks to the operators' port.
func (c *coordinator) operator(t *testing.T) *admin.Client {
	t.Helper()
	o, err := admin.NewClient("http://"+c.host+":7180", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// states returns every row of the app, by the text of its id.
func (c *coordinator) states(t *testing.T, a app) map[string]admin.State {
	t.Helper()
	all := map[string]admin.State{}
	after := ""
	for {
		page, err := c.operator(t).States(t.Context(), a.id, after, admin.MaxPage)
		if err != nil {
			t.Fatalf("list states: %v", err)
		}
		for _, s := range page.States {
			all[s.State] = s
		}
		if after = page.Next; after == "" {
			return all
		}
	}
}

// instances returns the instances of the app by their names.
func (c *coordinator) instances(t *testing.T, a app) map[string]admin.Instance {
	t.Helper()
	list, err := c.operator(t).Instances(t.Context(), a.id)
	if err != nil {
		t.Fatalf("list instances: %v", err)
	}
	all := map[string]admin.Instance{}
	for _, i := range list {
		all[i.StoreID] = i
	}
	return all
}

// metric returns one figure of /metrics, 0 when there is none; labels are as in `name{key="value"}`.
func (c *coordinator) metric(t *testing.T, name string) float64 {
	t.Helper()
	res, err := http.Get("http://" + c.host + ":7180/metrics")
	if err != nil {
		t.Fatalf("read metrics: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read metrics: %v", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("metric %s: %v", name, err)
			}
			return n
		}
	}
	return 0
}

const mebi = 1 << 20

// roomy is what the memory of a node is allowed to grow by, where most is meant: the race detector takes several times as much.
func roomy(most int) int {
	if os.Getenv("TRUNKLINE_RACE") != "" {
		return 8 * most
	}
	return most
}

// memory returns the resident set of the process, now and at its highest, in bytes.
func (p *process) memory(t *testing.T) (now, most int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || !slices.Contains([]string{"VmRSS:", "VmHWM:"}, fields[0]) {
			continue
		}
		kib, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		if fields[0] == "VmRSS:" {
			now = kib << 10
		} else {
			most = kib << 10
		}
	}
	return now, most
}

// within returns a context that ends when patience does.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
