package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used so far.
type usage struct {
	CPU     time.Duration // user and system time of all its threads
	RSS     int64         // resident bytes
	Mallocs float64       // heap objects allocated; only an admin port tells, else 0
	Asking  float64       // heap objects that telling cost
	Link    float64       // bytes sent on links to other nodes; only an admin port tells, else 0
}

// meter looks at the process under test from outside.
type meter interface {
	read(ctx context.Context) (usage, error)
}

// noMeter is for a server of which neither process nor admin port is known.
type noMeter struct{}

func (noMeter) read(context.Context) (usage, error) { return usage{}, nil }

// processMeter reads /proc of a process and its children (the workers of nginx). The kernel scales user and system time
// so that their sum is the exact run time, rounded to a tick of 10 ms.
type processMeter struct{ pid int }

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

func (m processMeter) read(context.Context) (usage, error) {
	u, err := usageOf(m.pid)
	if err != nil {
		return u, err
	}
	for _, pid := range childrenOf(m.pid) {
		of, err := usageOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			return u, err
		}
		u.CPU += of.CPU
		u.RSS += of.RSS
	}
	return u, nil
}

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read CPU time: %w", err)
	}
	cpu, err := cpuOfStat(stat)
	if err != nil {
		return usage{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read memory: %w", err)
	}
	rss, err := rssOfRollup(rollup)
	return usage{CPU: cpu, RSS: rss}, err
}

// cpuOfStat reads fields 14 and 15 of /proc/PID/stat. The name in field 2 may hold spaces and brackets.
func cpuOfStat(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("read CPU time: no process name in stat")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read CPU time: stat is too short")
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

func rssOfRollup(rollup []byte) (int64, error) {
	for line := range strings.Lines(string(rollup)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Rss:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("read memory: no Rss in smaps_rollup")
}

// adminMeter reads the metrics that every Prometheus client library exports about its own process.
type adminMeter struct {
	url    string
	client *http.Client
}

func newAdminMeter(base string) adminMeter {
	return adminMeter{
		url:    strings.TrimSuffix(base, "/") + "/metrics",
		client: &http.Client{Timeout: 10 * time.Second},
	}
}

// metricsLimit bounds what is read of an answer.
const metricsLimit = 16 << 20

func (m adminMeter) read(ctx context.Context) (usage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return usage{}, fmt.Errorf("read metrics: %w", err)
	}
	res, err := m.client.Do(req)
	if err != nil {
		return usage{}, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return usage{}, fmt.Errorf("read metrics: %s answers %s", m.url, res.Status)
	}
	return usageOfMetrics(io.LimitReader(res.Body, metricsLimit))
}

// linkMetric is what a node has sent to others on links, as their ordered streams count it: before TLS.
const linkMetric = `trunkline_link_bytes_total{direction="out"}`

func usageOfMetrics(r io.Reader) (usage, error) {
	var u usage
	found := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		at := strings.LastIndexByte(lines.Text(), ' ') // values of labels may have spaces
		if at < 0 {
			continue
		}
		name, text := lines.Text()[:at], lines.Text()[at+1:]
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		switch name {
		case "process_cpu_seconds_total":
			u.CPU, found = time.Duration(value*float64(time.Second)), true
		case "process_resident_memory_bytes":
			u.RSS = int64(value)
		case "go_memstats_mallocs_total":
			u.Mallocs = value
		case linkMetric:
			u.Link = value
		}
	}
	if err := lines.Err(); err != nil {
		return u, fmt.Errorf("read metrics: %w", err)
	}
	if !found {
		return u, errors.New("read metrics: no process_cpu_seconds_total; is this the admin port?")
	}
	return u, nil
}

// childMeter reads CPU and memory from /proc and allocations from the child's admin port.
type childMeter struct {
	processMeter
	admin *adminMeter
}

func (m childMeter) read(ctx context.Context) (usage, error) {
	// Asked first, and twice: what an answer costs must not count as the run's.
	first, err := m.admin.read(ctx)
	if err != nil {
		return usage{}, err
	}
	second, err := m.admin.read(ctx)
	if err != nil {
		return usage{}, err
	}
	u, err := m.processMeter.read(ctx)
	u.Mallocs, u.Asking, u.Link = second.Mallocs, second.Mallocs-first.Mallocs, second.Link
	return u, err
}

// nodesMeter adds up the processes of several nodes. Bytes on links are those of the first one, which has the tunnel.
type nodesMeter []meter

func (m nodesMeter) read(ctx context.Context) (usage, error) {
	var sum usage
	for i, one := range m {
		u, err := one.read(ctx)
		if err != nil {
			return sum, err
		}
		sum.CPU += u.CPU
		sum.RSS += u.RSS
		sum.Mallocs += u.Mallocs
		sum.Asking += u.Asking
		if i == 0 {
			sum.Link = u.Link
		}
	}
	return sum, nil
}

// allocated is how many heap objects were made between two readings, without what the readings themselves cost: the
// rest of the first one's second question and the second one's first.
func allocated(before, after usage) float64 {
	return max(after.Mallocs-before.Mallocs-before.Asking-after.Asking, 0)
}
