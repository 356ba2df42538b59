package placement

import (
	"fmt"
	"strings"

	"github.com/trunkline-edge/trunkline/wire"
)

// usualCapacity stands in for the capacity of an instance that named none.
const usualCapacity = 1000

// Candidate is what the choice knows of a live instance.
type Candidate struct {
	ID       wire.InstanceID
	StoreID  string
	Region   string
	Capacity uint32 // states it likes to hold; 0 = not said, taken as 1,000
	Rows     int    // rows of the table that name it
	Pending  int    // creates on their way that will name it
	Reported uint32 // load it reports, in thousandths of what it can do; a hint, 0 = nothing
	Draining bool
}

// load is the larger of what the instance reports and what the table says, in thousandths.
func (c *Candidate) load() uint64 {
	capacity := uint64(c.Capacity)
	if capacity == 0 {
		capacity = usualCapacity
	}
	return max(uint64(c.Reported), uint64(c.Rows+c.Pending)*1000/capacity)
}

// less orders by load, and where that is too coarse by rows per capacity; then the older instance.
func (c *Candidate) less(d *Candidate) bool {
	if a, b := c.load(), d.load(); a != b {
		return a < b
	}
	ca, cb := max(uint64(c.Capacity), 1), max(uint64(d.Capacity), 1)
	if a, b := uint64(c.Rows+c.Pending)*cb, uint64(d.Rows+d.Pending)*ca; a != b {
		return a < b
	}
	return c.ID < d.ID
}

// Inputs is everything a choice depends on.
type Inputs struct {
	Candidates []Candidate     // reordered by Choose
	Region     string          // preferred while one there has room; "" = none
	Taint      string          // storeId not to be chosen while there is another
	Avoid      wire.InstanceID // likewise, but rather this one than a tainted one; 0 = none
	Random     uint64          // decides which two are compared
}

// Choice is the instance chosen, and why.
type Choice struct {
	Instance wire.InstanceID
	StoreID  string
	Load     uint64 // thousandths of its capacity, before this state

	considered, draining, tainted, avoided, elsewhere, full int
	region                                                  string
	other                                                   Candidate // ID 0: there was no other
	last                                                    string
}

// Choose chooses an instance for a state. It is pure: the same inputs give the same choice. In this order: those that
// drain are left out; the tainted storeId and the instance to avoid are left out while another one is there; those
// outside the asking region are left out while one inside has room; of those left the less loaded of two random ones.
// An instance above its capacity is still chosen when all are: it can refuse for itself. ErrNoInstance when nobody is
// left.
func Choose(in Inputs) (Choice, error) {
	ch := Choice{considered: len(in.Candidates), region: in.Region}
	left := in.Candidates
	left, ch.draining = keep(left, func(c *Candidate) bool { return !c.Draining })
	if len(left) == 0 {
		return ch, ErrNoInstance
	}
	if in.Taint != "" {
		left, ch.tainted = prefer(left, func(c *Candidate) bool { return c.StoreID != in.Taint })
	}
	if in.Avoid != 0 {
		left, ch.avoided = prefer(left, func(c *Candidate) bool { return c.ID != in.Avoid })
	}
	left, ch.full = prefer(left, func(c *Candidate) bool { return c.load() < 1000 })
	if in.Region != "" {
		left, ch.elsewhere = prefer(left, func(c *Candidate) bool { return c.Region == in.Region })
	}
	best, other := twoOf(left, in.Random)
	if other != nil && other.less(best) {
		best, other = other, best
	}
	ch.Instance, ch.StoreID, ch.Load = best.ID, best.StoreID, best.load()
	if other != nil {
		ch.other = *other
	}
	switch {
	case in.Taint != "" && best.StoreID == in.Taint:
		ch.last = "although it may hold an old copy: there is no other"
	case in.Avoid != 0 && best.ID == in.Avoid:
		ch.last = "although it was to be avoided: there is no other"
	}
	return ch, nil
}

// keep moves those wanted to the front and returns them and how many were left out.
func keep(cs []Candidate, want func(*Candidate) bool) ([]Candidate, int) {
	n := 0
	for i := range cs {
		if want(&cs[i]) {
			cs[n], cs[i] = cs[i], cs[n]
			n++
		}
	}
	return cs[:n], len(cs) - n
}

// prefer is keep unless nobody would be left.
func prefer(cs []Candidate, want func(*Candidate) bool) ([]Candidate, int) {
	if kept, out := keep(cs, want); len(kept) > 0 {
		return kept, out
	}
	return cs, 0
}

// twoOf picks two different candidates, one when there is only one.
func twoOf(cs []Candidate, random uint64) (a, b *Candidate) {
	n := uint64(len(cs))
	i := (random >> 32) % n
	if n == 1 {
		return &cs[0], nil
	}
	j := (random & 0xffffffff) % (n - 1)
	if j >= i {
		j++
	}
	return &cs[i], &cs[j]
}

// Explain says in words how the choice came about.
func (ch *Choice) Explain() string {
	parts := []string{fmt.Sprintf("%d candidates", ch.considered)}
	for _, p := range []struct {
		n   int
		why string
	}{
		{ch.draining, "draining"},
		{ch.tainted, "may hold an old copy"},
		{ch.avoided, "to be avoided"},
		{ch.full, "above capacity"},
		{ch.elsewhere, "outside region " + ch.region},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d left out: %s", p.n, p.why))
		}
	}
	if ch.Instance == 0 {
		return strings.Join(append(parts, "nobody left"), "; ")
	}
	pick := fmt.Sprintf("instance %d (%q, load %d/1000)", ch.Instance, ch.StoreID, ch.Load)
	if ch.other.ID != 0 {
		pick += fmt.Sprintf(" over instance %d (%q, load %d/1000)", ch.other.ID, ch.other.StoreID, ch.other.load())
	}
	if ch.last != "" {
		pick += ", " + ch.last
	}
	return strings.Join(append(parts, pick), "; ")
}
