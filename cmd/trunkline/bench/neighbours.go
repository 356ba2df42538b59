package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// noisy is the share of the processors' time that others may use before the report warns.
const noisy = 0.05

// moment is the machine's processor time at one moment, in ticks since it was started.
type moment struct {
	at   time.Time
	busy int64 // of everybody
	ours int64 // of this process and everything it started
}

// neighboursNow is one look at how much of the machine is used by programs that have nothing to do with the benchmark:
// with them no figure but CPU time per message means much. Where the kernel does not tell, everything is 0.
func neighboursNow() moment {
	m := moment{at: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	m.busy = busyOfStat(stat)
	m.ours = familyTicks(os.Getpid())
	return m
}

// others is the share of all processors' time since an earlier moment that was used by others, 0 to 1.
func (m moment) others(before moment) float64 {
	ticks := m.at.Sub(before.at).Seconds() * ticksPerSecond * float64(runtime.NumCPU())
	if ticks <= 0 {
		return 0
	}
	return min(max(float64((m.busy-before.busy)-(m.ours-before.ours))/ticks, 0), 1)
}

// busyOfStat adds up the first line of /proc/stat without idling and waiting; guests' time is part of user time.
func busyOfStat(stat []byte) int64 {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	var busy int64
	for i, f := range fields[1:9] {
		if i == 3 || i == 4 { // idle, iowait
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0
		}
		busy += n
	}
	return busy
}

// familyTicks is the processor time of a process and its living descendants.
func familyTicks(pid int) int64 {
	var ticks int64
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		if cpu, err := cpuOfStat(stat); err == nil {
			ticks = int64(cpu * ticksPerSecond / time.Second)
		}
	}
	for _, c := range childrenOf(pid) {
		ticks += familyTicks(c)
	}
	return ticks
}

// childrenOf is empty where the kernel does not tell. A child belongs to the thread that started it.
func childrenOf(pid int) []int {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// trackNeighbours keeps the largest share that others used during any measurement.
func (b *bench) trackNeighbours(since moment) {
	b.report.Machine.Others = max(b.report.Machine.Others, neighboursNow().others(since))
}

// quietNote says in the report that the machine was not quiet.
func (b *bench) quietNote() {
	if b.report.Machine.Others > noisy {
		b.note("other programs used up to %.0f %% of this machine's processors meanwhile: trust no rate and no latency above, run it again when it is quiet", 100*b.report.Machine.Others)
	}
}
