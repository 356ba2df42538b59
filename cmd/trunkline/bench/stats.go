package bench

import (
	"fmt"
	"math"
	"slices"
)

// Spread is a median with the smallest and largest of the rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf ignores values that are not finite; without any it is all zeros.
func spreadOf(values []float64) Spread {
	v := make([]float64, 0, len(values))
	for _, x := range values {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + m) / 2
	}
	return Spread{Median: m, Min: v[0], Max: v[len(v)-1]}
}

// ratioOf pairs the rounds of two contenders that ran side by side: the ratios of each round, then their spread. A
// round that one of the two has not got is left out.
func ratioOf(a, b []float64) Spread {
	n := min(len(a), len(b))
	r := make([]float64, n)
	for i := range n {
		r[i] = a[i] / b[i]
	}
	return spreadOf(r)
}

// differenceOf pairs rounds as ratioOf does: what b has less than a.
func differenceOf(a, b []float64) Spread {
	n := min(len(a), len(b))
	d := make([]float64, n)
	for i := range n {
		d[i] = a[i] - b[i]
	}
	return spreadOf(d)
}

// String writes the median, and the range when there is one.
func (s Spread) String() string {
	if s.Min == s.Max {
		return compact(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", compact(s.Median), compact(s.Min), compact(s.Max))
}

// latency writes a Spread of microseconds.
func (s Spread) latency() string {
	if s.Min == s.Max {
		return latency(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", latency(s.Median), latency(s.Min), latency(s.Max))
}

// latency writes microseconds with a unit.
func latency(micros float64) string {
	switch {
	case micros >= 999_500:
		return compact(micros/1e6) + "s"
	case micros >= 999.5:
		return compact(micros/1e3) + "ms"
	default:
		return compact(micros) + "µs"
	}
}

// compact writes a number in about four characters: 455k, 12.3k, 832, 2.04.
func compact(x float64) string {
	switch a := math.Abs(x); {
	case a >= 99.5e6:
		return fmt.Sprintf("%.0fM", x/1e6)
	case a >= 999.5e3:
		return fmt.Sprintf("%.1fM", x/1e6)
	case a >= 99.95e3:
		return fmt.Sprintf("%.0fk", x/1e3)
	case a >= 9.995e3:
		return fmt.Sprintf("%.1fk", x/1e3)
	case a >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", x)
	case a == 0:
		return "0"
	case a < 0.0995:
		return fmt.Sprintf("%.4f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}
