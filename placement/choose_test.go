package placement

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/trunkline-edge/trunkline/wire"
)

// TestBalance: 3,000 creates over three instances leave none above 1.15 times the mean, whatever the numbers drawn.
func TestBalance(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rows := map[wire.InstanceID]int{}
		for range 3000 {
			cs := []Candidate{
				{ID: 1, StoreID: "a", Rows: rows[1]},
				{ID: 2, StoreID: "b", Rows: rows[2]},
				{ID: 3, StoreID: "c", Rows: rows[3]},
			}
			ch, err := Choose(Inputs{Candidates: cs, Random: rng.Uint64()})
			if err != nil {
				t.Fatal(err)
			}
			rows[ch.Instance]++
		}
		for id, n := range rows {
			if n > 1150 {
				t.Errorf("seed %d: instance %d has %d of 3,000", seed, id, n)
			}
		}
	}
}

// TestBalanceByCapacity: an instance of twice the capacity gets about twice the states.
func TestBalanceByCapacity(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	rows := map[wire.InstanceID]int{}
	for range 3000 {
		cs := []Candidate{{ID: 1, Capacity: 2000, Rows: rows[1]}, {ID: 2, Capacity: 4000, Rows: rows[2]}}
		ch, err := Choose(Inputs{Candidates: cs, Random: rng.Uint64()})
		if err != nil {
			t.Fatal(err)
		}
		rows[ch.Instance]++
	}
	if rows[2] < 1950 || rows[2] > 2050 {
		t.Fatalf("capacity 2000 got %d, 4000 got %d", rows[1], rows[2])
	}
}

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Inputs
		want wire.InstanceID // 0: nobody
		why  string
	}{
		{"nobody", Inputs{}, 0, "nobody left"},
		{"all drain", Inputs{Candidates: []Candidate{{ID: 1, Draining: true}}}, 0, "1 left out: draining"},
		{"the only one", Inputs{Candidates: []Candidate{{ID: 1, StoreID: "a"}}}, 1, `instance 1 ("a", load 0/1000)`},
		{"less loaded", Inputs{Candidates: []Candidate{{ID: 1, Rows: 10}, {ID: 2, Rows: 9}}}, 2, "over instance 1"},
		{"pending counts", Inputs{Candidates: []Candidate{{ID: 1, Rows: 1, Pending: 2}, {ID: 2, Rows: 2}}}, 2, ""},
		{"report counts", Inputs{Candidates: []Candidate{{ID: 1, Reported: 500}, {ID: 2, Rows: 400}}}, 2, ""},
		{"table counts", Inputs{Candidates: []Candidate{{ID: 1, Reported: 300, Rows: 500}, {ID: 2, Rows: 400}}}, 2, ""},
		{"finer than a thousandth", Inputs{Candidates: []Candidate{{ID: 1, Capacity: 1e6, Rows: 2}, {ID: 2, Capacity: 1e6, Rows: 1}}}, 2, ""},
		{"older one of equals", Inputs{Candidates: []Candidate{{ID: 2}, {ID: 1}}}, 1, ""},
		{"region", Inputs{Candidates: []Candidate{{ID: 1, Region: "us"}, {ID: 2, Region: "eu", Rows: 900}}, Region: "eu"}, 2, "outside region eu"},
		{"region full", Inputs{Candidates: []Candidate{{ID: 1, Region: "us"}, {ID: 2, Region: "eu", Rows: 1000}}, Region: "eu"}, 1, "above capacity"},
		{"all full", Inputs{Candidates: []Candidate{{ID: 1, Region: "us", Rows: 2000}, {ID: 2, Region: "eu", Rows: 3000}}, Region: "eu"}, 2, ""},
		{"nobody there", Inputs{Candidates: []Candidate{{ID: 1, Region: "us"}}, Region: "eu"}, 1, ""},
		{"taint", Inputs{Candidates: []Candidate{{ID: 1, StoreID: "a"}, {ID: 2, StoreID: "b", Rows: 5000}}, Taint: "a"}, 2, "may hold an old copy"},
		{"taint alone", Inputs{Candidates: []Candidate{{ID: 1, StoreID: "a"}}, Taint: "a"}, 1, "there is no other"},
		{"avoid", Inputs{Candidates: []Candidate{{ID: 1}, {ID: 2, Rows: 5000}}, Avoid: 1}, 2, "to be avoided"},
		{"avoid alone", Inputs{Candidates: []Candidate{{ID: 1}}, Avoid: 1}, 1, "there is no other"},
		{"avoided rather than tainted", Inputs{Candidates: []Candidate{{ID: 1}, {ID: 2, StoreID: "a"}}, Avoid: 1, Taint: "a"}, 1, "although"},
		{"tainted in region, other elsewhere", Inputs{
			Candidates: []Candidate{{ID: 1, StoreID: "a", Region: "eu"}, {ID: 2, Region: "us"}}, Taint: "a", Region: "eu",
		}, 2, ""},
	} {
		ch, err := Choose(tt.in)
		if ch.Instance != tt.want || errors.Is(err, ErrNoInstance) != (tt.want == 0) {
			t.Errorf("%s: chose %d, %v: %s", tt.name, ch.Instance, err, ch.Explain())
		}
		if !strings.Contains(ch.Explain(), tt.why) {
			t.Errorf("%s: %q does not say %q", tt.name, ch.Explain(), tt.why)
		}
	}
}

// TestChooseIsPure: the same inputs in, the same choice out, always one of those allowed.
func TestChooseIsPure(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(rt, "n")
		var cs []Candidate
		for i := range n {
			cs = append(cs, Candidate{
				ID: wire.InstanceID(i + 1), StoreID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "store"),
				Region: rapid.SampledFrom([]string{"", "eu", "us"}).Draw(rt, "region"), Capacity: rapid.Uint32Range(0, 50).Draw(rt, "cap"),
				Rows: rapid.IntRange(0, 60).Draw(rt, "rows"), Reported: rapid.Uint32Range(0, 1200).Draw(rt, "rep"),
				Draining: rapid.Bool().Draw(rt, "draining"),
			})
		}
		in := Inputs{
			Region: rapid.SampledFrom([]string{"", "eu"}).Draw(rt, "asking"), Taint: rapid.SampledFrom([]string{"", "a"}).Draw(rt, "taint"),
			Avoid: wire.InstanceID(rapid.IntRange(0, n).Draw(rt, "avoid")), Random: rapid.Uint64().Draw(rt, "random"),
		}
		in.Candidates = append([]Candidate(nil), cs...)
		one, err1 := Choose(in)
		in.Candidates = append([]Candidate(nil), cs...)
		two, err2 := Choose(in)
		if one != two || !errors.Is(err1, err2) {
			rt.Fatalf("%+v and %+v", one, two)
		}
		usable, clean := 0, 0
		for _, c := range cs {
			if !c.Draining {
				usable++
				if in.Taint == "" || c.StoreID != in.Taint {
					clean++
				}
			}
		}
		if (err1 == nil) != (usable > 0) {
			rt.Fatalf("%d usable, %v", usable, err1)
		}
		if err1 != nil {
			return
		}
		got := cs[one.Instance-1]
		if got.Draining || clean > 0 && in.Taint != "" && got.StoreID == in.Taint {
			rt.Fatalf("chose %+v: %s", got, one.Explain())
		}
	})
}
