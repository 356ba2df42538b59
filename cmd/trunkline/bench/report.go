package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
)

// Report is what a benchmark prints; with --json as it stands.
type Report struct {
	Options options  `json:"options"`
	Machine Machine  `json:"machine"`
	Results []Result `json:"results,omitempty"`
	Ratios  []Ratio  `json:"ratios,omitempty"`
	Idle    []Idle   `json:"idle,omitempty"`
	Create  *Create  `json:"create,omitempty"`
	Link    *Link    `json:"link,omitempty"`
	Tables  []Table  `json:"tables,omitempty"`
	Targets []Target `json:"targets,omitempty"`
	Limits  Limits   `json:"limits"`
	Notes   []string `json:"notes,omitempty"`
}

// Machine says where the figures come from.
type Machine struct {
	Processors int    `json:"processors"`
	System     string `json:"system"`
	Go         string `json:"go"`
	// Others is the largest share of the processors that other programs used during a measurement, 0 to 1.
	Others float64 `json:"others"`
}

func thisMachine() Machine {
	return Machine{Processors: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
}

// Result is what one contender did in all rounds.
type Result struct {
	Name      string `json:"name"`
	PerSecond Spread `json:"per_second"`
	CPU       Spread `json:"cpu_us_per_message"`
	PerCPU    Spread `json:"per_cpu_second"`
	P50       Spread `json:"p50_us"`
	P90       Spread `json:"p90_us"`
	P99       Spread `json:"p99_us"`
	Max       Spread `json:"max_us"`
	Lost      int64  `json:"lost"`
	Skipped   int64  `json:"skipped,omitempty"`
	Rounds    []Cell `json:"rounds"`
}

// Ratio compares two contenders round by round.
type Ratio struct {
	Name      string `json:"name"`
	Over      string `json:"over"`
	PerSecond Spread `json:"per_second"`
	CPU       Spread `json:"cpu"`
	PerCPU    Spread `json:"per_cpu_second"`
	P50       Spread `json:"p50"`
	P99       Spread `json:"p99"`
}

func column(cells []Cell, of func(Cell) float64) []float64 {
	out := make([]float64, len(cells))
	for i, c := range cells {
		out[i] = of(c)
	}
	return out
}

func perSecond(c Cell) float64 { return c.PerSecond }
func cpu(c Cell) float64       { return c.CPUMicros }
func perCPU(c Cell) float64    { return c.PerCPU }
func p50(c Cell) float64       { return c.P50 }
func p90(c Cell) float64       { return c.P90 }
func p99(c Cell) float64       { return c.P99 }
func worst(c Cell) float64     { return c.Max }

func resultOf(name string, cells []Cell) Result {
	r := Result{
		Name: name, Rounds: cells,
		PerSecond: spreadOf(column(cells, perSecond)), CPU: spreadOf(column(cells, cpu)),
		PerCPU: spreadOf(column(cells, perCPU)),
		P50:    spreadOf(column(cells, p50)), P90: spreadOf(column(cells, p90)),
		P99: spreadOf(column(cells, p99)), Max: spreadOf(column(cells, worst)),
	}
	for _, c := range cells {
		r.Lost += c.Lost
		r.Skipped += c.Skipped
	}
	return r
}

func compare(a, b Result) Ratio {
	of := func(f func(Cell) float64) Spread { return ratioOf(column(a.Rounds, f), column(b.Rounds, f)) }
	return Ratio{Name: a.Name, Over: b.Name, PerSecond: of(perSecond), CPU: of(cpu), PerCPU: of(perCPU), P50: of(p50), P99: of(p99)}
}

// ratiosTo compares every result but the base with the base.
func ratiosTo(results []Result, base int) []Ratio {
	var out []Ratio
	for i, r := range results {
		if i != base {
			out = append(out, compare(r, results[base]))
		}
	}
	return out
}

func (r *Report) write(out io.Writer) error {
	if r.Options.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %d processors, %s, %s\n", r.Options.title(), r.Machine.Processors, r.Machine.System, r.Machine.Go)
	b.WriteString("Figures are medians of the rounds (smallest-largest). CPU is the coordinator's; \"per CPU second\" counts the\n" +
		"processor time of everything that takes part, the load generator too.\n\n")
	r.writeResults(&b)
	r.writeIdle(&b)
	r.writeCreate(&b)
	r.writeLink(&b)
	r.writeTables(&b)
	r.writeTargets(&b)
	fmt.Fprintf(&b, "Limits: %s.\n", r.Limits)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "Note: %s.\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// title says in words what was asked for.
func (o *options) title() string {
	how := "plain"
	if o.TLS {
		how = "TLS"
	}
	backend := "legacy backend"
	if o.Native {
		backend = "native backend"
	}
	switch o.Kind {
	case "echo":
		load := fmt.Sprintf("%d connections x %d in flight", o.Conns, o.Window)
		if o.Rate > 0 {
			load = fmt.Sprintf("open loop, %d connections x %v/s", o.Conns, o.Rate)
		}
		return fmt.Sprintf("echo: %s, %d bytes, %s, %s", load, o.Size, how, backend)
	case "fanout":
		return fmt.Sprintf("fanout: 1 -> %d, %d in flight, %d bytes, %s, %s; per second and CPU are per delivery", o.Conns, o.Window, o.Size, how, backend)
	case "idle":
		return fmt.Sprintf("idle: %d connections, %s, %s", o.Conns, how, backend)
	case "create":
		return fmt.Sprintf("create: %d joins, %s, %s", o.Conns, how, backend)
	case "link":
		return fmt.Sprintf("link: 1 -> %d at another node, %d in flight, %d bytes, plain, native backend; per second and CPU are per delivery", o.Conns, o.Window, o.Size)
	case "states":
		return fmt.Sprintf("states: %d creates in flight at a node that does not lead, of three with their logs on disk", o.InFlight)
	case "table":
		return "table: package placement in this process"
	default:
		return "targets P1 to P17"
	}
}

func (r *Report) writeResults(b *strings.Builder) {
	if len(r.Results) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tper second\tCPU µs each\tper CPU second\tp50\tp90\tp99\tmax\tlost")
	for _, x := range r.Results {
		lost := fmt.Sprint(x.Lost)
		if x.Skipped > 0 {
			lost += fmt.Sprintf(" (+%d not sent)", x.Skipped)
		}
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%s\n", x.Name, x.PerSecond, x.CPU, x.PerCPU,
			x.P50.latency(), x.P90.latency(), x.P99.latency(), x.Max.latency(), lost)
	}
	for _, x := range r.Ratios {
		fmt.Fprintf(t, "%s / %s\t%v\t%v\t%v\t%v\t\t%v\t\t\n", x.Name, x.Over, x.PerSecond, x.CPU, x.PerCPU, x.P50, x.P99)
	}
	t.Flush()
	b.WriteString("\n")
}

func (r *Report) writeIdle(b *strings.Builder) {
	if len(r.Idle) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tconnections\tKiB each\tafter a collection\tprocess before\tafter\tset up in")
	for _, x := range r.Idle {
		collected := "-"
		if x.Collected > 0 {
			collected = compact(x.Collected / 1024)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s MiB\t%s MiB\t%.1f s\n", x.Name, x.Conns, compact(x.PerConn/1024), collected,
			compact(float64(x.Before)/(1<<20)), compact(float64(x.After)/(1<<20)), x.Setup)
	}
	t.Flush()
	b.WriteString("\n")
}

func (r *Report) writeCreate(b *strings.Builder) {
	c := r.Create
	if c == nil {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "joins\tseconds\tjoins/s so far\tof the last step")
	for _, s := range c.Steps {
		fmt.Fprintf(t, "%d\t%.2f\t%s\t%s\n", s.Joins, s.Seconds, compact(s.PerSecond), compact(s.StepPerSecond))
	}
	t.Flush()
	fmt.Fprintf(b, "\nlogin + create + connect: p50 %s, p99 %s, max %s; coordinator's CPU %s µs each\n",
		latency(c.P50), latency(c.P99), latency(c.Max), compact(c.CPUMicros))
	if c.Growth > 0 {
		fmt.Fprintf(b, "time per join over all %d, over that of the first %d: %s\n", c.Joins, growthFrom, compact(c.Growth))
	}
	b.WriteString("\n")
}

func (r *Report) writeTargets(b *strings.Builder) {
	if len(r.Targets) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\twhat\ttarget\tmeasured\t")
	for _, x := range r.Targets {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.ID, x.What, x.Want, x.Measured, x.Verdict)
	}
	t.Flush()
	b.WriteString("\n")
}
