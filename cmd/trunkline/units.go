package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// span is a duration of a setting: Go's notation and whole days (365d). It is
// never negative.
type span time.Duration

// maxSpan keeps sums of spans far from overflowing.
const maxSpan = 100 * 365 * 24 * time.Hour

// Duration answers s as Go's type.
func (s span) Duration() time.Duration { return time.Duration(s) }

// String answers whole days as 365d, the rest as Go writes it.
func (s span) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(s); d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return time.Duration(s).String()
}

// UnmarshalText reads 500ms, 30s, 24h, 365d.
func (s *span) UnmarshalText(text []byte) error {
	value := string(text)
	var d time.Duration
	if days, ok := strings.CutSuffix(value, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no time: want 500ms, 30s, 24h or 365d", value)
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(value); err != nil {
			return fmt.Errorf("%q is no time: want 500ms, 30s, 24h or 365d", value)
		}
	}
	if d < 0 || d > maxSpan {
		return fmt.Errorf("%q is out of range: from 0 to 100 years", value)
	}
	*s = span(d)
	return nil
}

// size is a number of bytes of a setting.
type size int

// units are powers of 1024; the longer suffix comes first.
var units = []struct {
	suffix string
	factor int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}}

// String answers the size in the largest unit that divides it.
func (s size) String() string {
	for _, u := range []int{2, 1, 0} {
		if f := units[u].factor; int(s) >= f && int(s)%f == 0 {
			return strconv.Itoa(int(s)/f) + units[u].suffix
		}
	}
	return strconv.Itoa(int(s)) + "B"
}

// UnmarshalText reads 65536, 64KiB, 1MiB.
func (s *size) UnmarshalText(text []byte) error {
	value := string(text)
	for _, u := range units {
		digits, ok := strings.CutSuffix(value, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil || n > uint64(1<<40/u.factor) {
			return fmt.Errorf("%q is no size: want 65536, 64KiB or 1MiB", value)
		}
		*s = size(int(n) * u.factor)
		return nil
	}
	return nil
}

// share is a number of connections, or half of what the process can have.
type share int

const halfOfAll share = -1

// String answers the number, or half.
func (s share) String() string {
	if s == halfOfAll {
		return "half"
	}
	return strconv.Itoa(int(s))
}

// UnmarshalText reads 20000, or half.
func (s *share) UnmarshalText(text []byte) error {
	if string(text) == halfOfAll.String() {
		*s = halfOfAll
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no number of connections: want 20000, 0 for no limit, or half", text)
	}
	*s = share(n)
	return nil
}

// Of answers the number of connections, given how many descriptors the process can have.
func (s share) Of(descriptors uint64) int {
	if s == halfOfAll {
		return int(max(1, min(descriptors/2, math.MaxInt32)))
	}
	return int(s)
}
