package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	var out bytes.Buffer
	o, err := parse([]string{"echo", "--conns", "1000", "--window=8", "--size", "1024", "--tls", "--duration", "5s", "--rounds", "7"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if o.Kind != "echo" || o.Conns != 1000 || o.Window != 8 || o.Size != 1024 || !o.TLS || o.Duration != 5*time.Second || o.Rounds != 7 {
		t.Fatalf("%+v", o)
	}
	for _, k := range kinds {
		if _, err := parse([]string{k.name}, &out); err != nil {
			t.Errorf("%s with its defaults: %v", k.name, err)
		}
		out.Reset()
		if _, err := parse([]string{k.name, "--help"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-rounds") {
			t.Errorf("%s --help: %v, %q", k.name, err, out.String())
		}
	}
}

func TestMisuseSaysWhat(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "name a benchmark"},
		{"ecco", `no benchmark "ecco"`},
		{"echo --conns 0", "--conns 0: from 1"},
		{"echo --window 0", "--window 0: from 1"},
		{"fanout --size 1", "--size 1: from 8"},
		{"echo --rate -1", "--rate"},
		{"echo --duration 0s", "durations"},
		{"echo extra", `unexpected "extra"`},
		{"echo --frobnicate", "frobnicate"},
		{"echo --admin http://localhost:1", "belong to --target"},
		{"echo --target localhost:8080", "want http://HOST:PORT"},
		{"echo --tls --target http://localhost:8080", "--tls with an http:// target"},
		{"echo --target http://h:1 --app abc", "64 hexadecimal"},
		{"idle --rounds 0", "--rounds 0"},
		{"echo --nodes 10", "--nodes 10: from 0 to 9"},
		{"echo --nodes 2 --target http://h:1", "--nodes starts a cluster"},
		{"link --size 7", "--size 7: from 8"},
		{"states --in-flight 0", "--in-flight 0: from 1"},
		{"table --states 1000000,5", `"5": want numbers from 10000`},
		{"table --states many", `"many": want numbers`},
	} {
		_, err := parse(strings.Fields(c.args), &bytes.Buffer{})
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestTargetSettings(t *testing.T) {
	o, err := parse([]string{"echo", "--target", "https://edge.example"}, &bytes.Buffer{})
	if err != nil || !o.TLS || o.Tunnel != "edge.example:7147" {
		t.Fatalf("%+v, %v", o, err)
	}
	b := &bench{o: o, report: &Report{}}
	s, err := b.remote()
	if err != nil || s.client != "edge.example:443" || s.secure.ServerName != "edge.example" || b.local(s) {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestStatesAreNumbersWithCommas(t *testing.T) {
	o, err := parse([]string{"table", "--states", "1000000,10000000"}, &bytes.Buffer{})
	if err != nil || !slices.Equal(o.States, []int{1_000_000, 10_000_000}) {
		t.Fatalf("%+v, %v", o, err)
	}
	if o, err = parse([]string{"targets"}, &bytes.Buffer{}); err != nil || !slices.Equal(o.States, []int{million}) {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestEveryTargetIsInOneGroup(t *testing.T) {
	b := &bench{}
	var ids []string
	for _, g := range b.groups() {
		ids = append(ids, g.ids...)
	}
	for i := range 17 {
		id := fmt.Sprintf("P%d", i+1)
		if n := len(slices.DeleteFunc(slices.Clone(ids), func(x string) bool { return x != id })); n != 1 {
			t.Errorf("%s is in %d groups", id, n)
		}
	}
	b.o.Only = "P99"
	if err := b.targets(t.Context()); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "P1 to P17") {
		t.Errorf("an unknown target: %v", err)
	}
}

func TestJudge(t *testing.T) {
	one := func(x float64) Spread { return Spread{x, x, x} }
	for _, c := range []struct {
		aims []aim
		want string
	}{
		{[]aim{atLeast("a", one(0.65), 0.65), atMost("b", one(1), 1)}, "met"},
		{[]aim{atLeast("a", one(0.64), 0.65), atMost("b", one(1), 1)}, "NOT MET"},
		{[]aim{atLeast("a", one(1), 0.65), {name: "b", limit: 1, missing: "no HAProxy here"}}, "not measured"},
		{[]aim{{name: "b", limit: 1, missing: "no HAProxy here"}, atMost("a", one(2), 1)}, "NOT MET"},
	} {
		if got := judge("P0", "x", c.aims...); got.Verdict != c.want {
			t.Errorf("%+v: %+v", c.aims, got)
		}
	}
}

func TestGrowthOfJoins(t *testing.T) {
	// 1 ms each for the first 2,000, then 2 ms each.
	at := make([]int64, 6000)
	now := int64(0)
	for i := range at {
		now += int64(time.Millisecond)
		if i >= 2000 {
			now += int64(time.Millisecond)
		}
		at[i] = now
	}
	x := createOf(at, 0)
	if len(x.Steps) != 3 || x.Steps[0].PerSecond != 1000 || x.Steps[2].Joins != 6000 || x.Steps[2].StepPerSecond != 500 {
		t.Fatalf("%+v", x)
	}
	if x.Seconds != 10 || x.PerSecond != 600 || x.Growth < 1.66 || x.Growth > 1.67 {
		t.Fatalf("%+v", x)
	}
	if x := createOf(at[:1000], 0); x.Growth != 0 || len(x.Steps) != 1 {
		t.Fatalf("%+v", x)
	}
}

func TestReportTextAndJSON(t *testing.T) {
	a := resultOf("floor", []Cell{{PerSecond: 100, CPUMicros: 2}, {PerSecond: 120, CPUMicros: 2}})
	b := resultOf("trunkline", []Cell{{PerSecond: 50, CPUMicros: 4, Lost: 1}, {PerSecond: 60, CPUMicros: 4}})
	r := &Report{
		Options: options{Kind: "echo", Conns: 10, Window: 1, Size: 64}, Results: []Result{a, b},
		Ratios: ratiosTo([]Result{a, b}, 0), Limits: Limits{Descriptors: 20000, PortsPerAddress: 28000},
	}
	var out bytes.Buffer
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"echo: 10 connections x 1 in flight, 64 bytes", "trunkline / floor  0.50", "20000 descriptors", "none met"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	r.Options.JSON = true
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Results[1].Lost != 1 || back.Ratios[0].CPU.Median != 2 {
		t.Fatalf("%v: %s", err, out.String())
	}
}
