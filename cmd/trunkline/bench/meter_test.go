package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestCPUOfStat(t *testing.T) {
	const stat = "12 (a (b) c) S 1 12 12 0 -1 4194304 100 0 0 0 250 150 9 9 20 0 8 0 100 1000 10 18446744073709551615"
	cpu, err := cpuOfStat([]byte(stat))
	if err != nil || cpu != 4*time.Second {
		t.Fatalf("%v, %v", cpu, err)
	}
	for _, bad := range []string{"", "12 (a) S 1", strings.Replace(stat, "250", "x", 1)} {
		if _, err := cpuOfStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestRSSOfRollup(t *testing.T) {
	rss, err := rssOfRollup([]byte("00400000-7fff ---p 00000000 00:00 0 [rollup]\nRss:                1234 kB\nPss: 1 kB\n"))
	if err != nil || rss != 1234<<10 {
		t.Fatalf("%d, %v", rss, err)
	}
	if _, err := rssOfRollup([]byte("Pss: 1 kB\n")); err == nil {
		t.Fatal("no error without Rss")
	}
}

func TestProcessMeterSeesThisProcess(t *testing.T) {
	m := processMeter{pid: os.Getpid()}
	before, err := m.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 {
		t.Fatalf("resident %d bytes", before.RSS)
	}
	// Work until the meter moves; the test's own deadline is the limit.
	for x := 1.0; ; x++ {
		if int(x)%1_000_000 != 0 {
			continue
		}
		after, err := m.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU > before.CPU {
			return
		}
	}
}

func TestNeighbours(t *testing.T) {
	const stat = "cpu  100 1 50 9000 70 2 3 4 60 0\ncpu0 1 1 1\n"
	if busy := busyOfStat([]byte(stat)); busy != 160 {
		t.Fatalf("busy %d", busy)
	}
	if busyOfStat(nil) != 0 || busyOfStat([]byte("intr 1 2 3")) != 0 {
		t.Fatal("busy without a cpu line")
	}
	before := moment{at: time.Unix(0, 0), busy: 1000, ours: 100}
	all := int64(10 * ticksPerSecond * runtime.NumCPU()) // of 10 s
	after := moment{at: time.Unix(10, 0), busy: 1000 + all/2, ours: 100 + all/4}
	if got := after.others(before); got != 0.25 {
		t.Fatalf("others %v", got)
	}
	if familyTicks(os.Getpid()) < 0 || len(childrenOf(-1)) != 0 {
		t.Fatal("family")
	}
}

func TestAllocatedWithoutTheQuestions(t *testing.T) {
	// Every question costs 40 objects, the run itself 7. A question's cost shows in the next answer.
	before := usage{Mallocs: 140, Asking: 40}
	after := usage{Mallocs: 140 + 40 + 7 + 40, Asking: 40}
	if got := allocated(before, after); got != 7 {
		t.Fatalf("allocated %v", got)
	}
	if got := allocated(usage{}, usage{}); got != 0 {
		t.Fatalf("allocated %v where nobody tells", got)
	}
}

func TestAdminMeter(t *testing.T) {
	body := "# HELP x\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 2e+06\ngo_memstats_mallocs_total 77\nother{a=\"b\"} 3\n" +
		"trunkline_link_bytes_total{direction=\"in\"} 5\ntrunkline_link_bytes_total{direction=\"out\"} 9\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(body))
	}))
	defer srv.Close()
	m := newAdminMeter(srv.URL + "/")
	defer m.client.CloseIdleConnections()
	u, err := m.read(t.Context())
	if err != nil || u.CPU != 1500*time.Millisecond || u.RSS != 2_000_000 || u.Mallocs != 77 || u.Link != 9 {
		t.Fatalf("%+v, %v", u, err)
	}
	body = "something_else 1\n"
	if _, err := m.read(t.Context()); err == nil || !strings.Contains(err.Error(), "admin port") {
		t.Fatalf("error %v", err)
	}
}

// fixedMeter tells the same at all times, or fails.
type fixedMeter struct {
	usage
	err error
}

func (m fixedMeter) read(context.Context) (usage, error) { return m.usage, m.err }

func TestNodesAreAddedUpButForTheLink(t *testing.T) {
	one, other := usage{CPU: 3, RSS: 5, Mallocs: 7, Asking: 1, Link: 100}, usage{CPU: 4, RSS: 6, Mallocs: 8, Asking: 2, Link: 9}
	got, err := nodesMeter{fixedMeter{usage: one}, fixedMeter{usage: other}}.read(t.Context())
	if want := (usage{CPU: 7, RSS: 11, Mallocs: 15, Asking: 3, Link: 100}); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	gone := errors.New("it has ended")
	if _, err := (nodesMeter{fixedMeter{}, fixedMeter{err: gone}}).read(t.Context()); !errors.Is(err, gone) {
		t.Fatalf("error %v", err)
	}
}
