package admin

import (
	"maps"
	"slices"
	"strings"
)

// help is what /metrics says about each name, without the prefix. Whoever adds a
// counter adds its sentence here; a test on an assembled node asks for it.
var help = map[string]string{
	"metrics_refused": "Values of the last scrape that were left out, by reason.",
}

// helpOf answers a name's sentence, or the name in words.
func helpOf(name string) string {
	if text, ok := help[name]; ok {
		return text
	}
	return strings.ReplaceAll(name, "_", " ") + "."
}

// HasHelp says whether a metric, named without its prefix, has a sentence of its
// own.
func HasHelp(name string) bool { _, ok := help[name]; return ok }

// MetricHelp is one line of the metrics reference.
type MetricHelp struct {
	Name string // with the prefix
	Text string
}

// MetricsReference lists every known metric by name.
func MetricsReference() []MetricHelp {
	list := make([]MetricHelp, 0, len(help))
	for _, name := range slices.Sorted(maps.Keys(help)) {
		list = append(list, MetricHelp{prefix + name, help[name]})
	}
	return list
}
