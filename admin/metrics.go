package admin

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// prefix goes before every name that a Source emits.
const prefix = "trunkline_"

// Series that one scrape answers from the Sources: of all names, and of one.
const (
	maxSeries        = 20_000
	maxSeriesPerName = 500
)

// forbiddenLabels would make one series per user, state or connection.
var forbiddenLabels = []string{"user", "user_id", "state_id", "room", "session", "conn", "token"}

// collector reads every Source once per scrape. It is unchecked (it describes
// nothing beforehand) because the packages decide what they count.
type collector struct {
	sources []Source
}

func newRegistry(version string, sources []Source) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        prefix + "build_info",
		Help:        "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	}, func() float64 { return 1 })
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
		&collector{sources: sources},
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("admin: register metrics: %w", err)
		}
	}
	return reg, nil
}

func (s *Server) scrape() http.Handler {
	return promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// Describe says nothing: that is what makes the collector unchecked.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends what the Sources count now, and how many of their values it
// refused and why.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	var labels, repeated, excess float64
	seen, ofName := make(map[string]struct{}), make(map[string]int)
	for _, source := range c.sources {
		source.Collect(func(name string, value float64, pairs ...string) {
			metric, key, ok := newMetric(name, value, pairs)
			if !ok {
				labels++
				return
			}
			if _, again := seen[key]; again {
				repeated++
				return
			}
			if len(seen) >= maxSeries || ofName[name] >= maxSeriesPerName {
				excess++
				return
			}
			seen[key] = struct{}{}
			ofName[name]++
			out <- metric
		})
	}
	for reason, n := range map[string]float64{"labels": labels, "repeated": repeated, "excess": excess} {
		metric, _, _ := newMetric("metrics_refused", n, []string{"reason", reason})
		out <- metric
	}
}

// newMetric turns one emitted value into a metric; key tells series apart. It
// refuses odd, unsorted-equal and forbidden labels.
func newMetric(name string, value float64, pairs []string) (prometheus.Metric, string, bool) {
	if len(pairs)%2 != 0 {
		return nil, "", false
	}
	names, values := make([]string, 0, len(pairs)/2), make([]string, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		if slices.Contains(forbiddenLabels, pairs[i]) || slices.Contains(names, pairs[i]) {
			return nil, "", false
		}
		names, values = append(names, pairs[i]), append(values, strings.ToValidUTF8(pairs[i+1], "?"))
	}
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	desc := prometheus.NewDesc(prefix+name, helpOf(name), names, nil)
	metric, err := prometheus.NewConstMetric(desc, kind, value, values...)
	return metric, name + "\xff" + strings.Join(pairs, "\xff"), err == nil
}
