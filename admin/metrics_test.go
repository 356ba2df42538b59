package admin

import (
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func scraped(t *testing.T, emitted func(emit func(string, float64, ...string))) string {
	t.Helper()
	f := newFakeNode()
	f.emitted = emitted
	w := ask(newServer(t, f, nil), "GET", "/metrics")
	if w.Code != 200 {
		t.Fatalf("GET /metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsAreExposedAsLinted(t *testing.T) {
	text := scraped(t, func(emit func(string, float64, ...string)) {
		emit("client_connections", 3, "proto", "ws")
		emit("client_connections", 1, "proto", "tcp")
		emit("client_closed_total", 5, "reason", "slow")
		emit("edge_frames_total", 7)
	})
	for _, want := range []string{
		"# TYPE trunkline_client_connections gauge", `trunkline_client_connections{proto="ws"} 3`,
		"# TYPE trunkline_client_closed_total counter", `trunkline_client_closed_total{reason="slow"} 5`,
		"trunkline_edge_frames_total 7", `trunkline_build_info{go="go`, "process_cpu_seconds_total", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the exposition lacks %s", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestMetricsThatWouldExplodeAreLeftOut(t *testing.T) {
	text := scraped(t, func(emit func(string, float64, ...string)) {
		emit("bad_user", 1, "user", "u1")
		emit("bad_state", 1, "state_id", "s1")
		emit("odd", 1, "proto")
		emit("twice_named", 1, "a", "1", "a", "2")
		emit("same", 1, "a", "1")
		emit("same", 2, "a", "1")
		for i := range maxSeriesPerName + 11 {
			emit("many", 1, "n", strconv.Itoa(i))
		}
	})
	for _, never := range []string{"u1", "s1", "trunkline_odd", "trunkline_twice", `trunkline_same{a="1"} 2`} {
		if strings.Contains(text, never) {
			t.Errorf("the exposition has %s", never)
		}
	}
	for _, want := range []string{
		`trunkline_metrics_refused{reason="labels"} 4`, `trunkline_metrics_refused{reason="repeated"} 1`, `trunkline_metrics_refused{reason="excess"} 11`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the exposition lacks %s", want)
		}
	}
}

func TestEveryHelpIsASentence(t *testing.T) {
	for _, m := range MetricsReference() {
		if !strings.HasSuffix(m.Text, ".") || !strings.HasPrefix(m.Name, prefix) {
			t.Errorf("%s: %q", m.Name, m.Text)
		}
	}
}
