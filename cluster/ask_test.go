package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/wire"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

func sampleAsks() []*ask {
	once := commands(&placement.PutKey{ID: "n1.1", Public: [32]byte{4}, Session: 3}, &placement.Gone{Instance: 6, Gen: 7})
	once.request = placement.Request{Session: 3, Counter: 21}
	return []*ask{
		{kind: askCreate, app: wire.AppID{1}, state: 8, region: "eu", avoid: 6},
		{kind: askPlace, app: wire.AppID{1}, state: 9},
		once,
		commands(&placement.OpenSession{NodeID: "n1", Region: "eu"}),
	}
}

func sampleAnswers() []answer {
	return []answer{
		{fate: fateDone, instance: 6, epoch: wire.MakeEpoch(9, 10), index: 99},
		{fate: fateNoInstance, index: 99},
		{fate: fateDone, index: 99, results: []placement.Result{
			{Outcome: placement.Done, Known: true, Epoch: 1, Instance: 2, Gen: 3, Node: 4}, {Outcome: placement.Stale},
		}},
	}
}

func TestAsksGolden(t *testing.T) {
	got := "asks " + hex.EncodeToString(appendAsks(nil, sampleAsks())) + "\nanswers " + hex.EncodeToString(appendAnswers(nil, 99, sampleAnswers())) + "\n"
	path := filepath.Join("testdata", "asks.golden")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the bytes have changed, and nodes of different versions would not understand each other:\n%s", got)
	}
}

func TestAsksAreReadBack(t *testing.T) {
	asks, err := decodeAsks(appendAsks(nil, sampleAsks()))
	if err != nil || !reflect.DeepEqual(asks, sampleAsks()) {
		t.Fatalf("%+v, %v", asks, err)
	}
	answers, err := decodeAnswers(appendAnswers(nil, 99, sampleAnswers()), 3)
	if err != nil || !reflect.DeepEqual(answers, sampleAnswers()) {
		t.Fatalf("%+v, %v", answers, err)
	}
}

// TestAsksThatNobodyMayMake: what would stop every node, or is not for a node to ask for.
func TestAsksThatNobodyMayMake(t *testing.T) {
	miscounted := commands(&placement.RemoveKey{ID: "a"})
	miscounted.count = 2
	for name, a := range map[string]*ask{
		"form":             commands(&placement.Form{Generation: 1}),
		"recover":          commands(&placement.Recover{Generation: 1}),
		"a request inside": commands(&placement.Request{Session: 1, Counter: 1}),
		"unknown command":  {kind: askCommands, body: []byte{250, 0, 0, 0}, count: 1},
		"no command":       commands(),
		"another count":    miscounted,
		"unknown kind":     {kind: 9},
		"long region":      {kind: askCreate, region: strings.Repeat("x", placement.MaxRegion+1)},
		"too long":         commands(bytesCommand(maxBody)...),
	} {
		if _, err := decodeAsks(appendAsks(nil, []*ask{a})); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := decodeAsks([]byte{0xff, 0xff}); err == nil {
		t.Error("65,535 asks in two bytes: taken")
	}
}

// bytesCommand is commands of more than n bytes.
func bytesCommand(n int) (cmds []placement.Command) {
	for size := 0; size <= n; size += placement.MaxKeyID {
		cmds = append(cmds, &placement.RemoveKey{ID: strings.Repeat("k", placement.MaxKeyID)})
	}
	return cmds
}

func FuzzAsks(f *testing.F) {
	f.Add(appendAsks(nil, sampleAsks()))
	f.Add([]byte{0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		asks, err := decodeAsks(b)
		if err != nil {
			return
		}
		if got := appendAsks(nil, asks); !bytes.Equal(got, b) {
			t.Fatalf("%x was read and is written as %x", b, got)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(appendAnswers(nil, 99, sampleAnswers()), 3)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > maxAsks {
			return
		}
		if answers, err := decodeAnswers(b, n); err == nil && len(answers) != n {
			t.Fatalf("%d answers to %d asks", len(answers), n)
		}
	})
}

// TestWindowKeepsCountersNear: none is given that would make the table forget one under way.
func TestWindowKeepsCountersNear(t *testing.T) {
	var w window
	ctx := t.Context()
	first, err := w.begin(ctx)
	if err != nil || first != 1 {
		t.Fatal(first, err)
	}
	for i := range maxOutstanding - 1 {
		c, err := w.begin(ctx)
		if err != nil || c != uint64(i)+2 {
			t.Fatal(c, err)
		}
		w.end(c)
	}
	next := make(chan uint64)
	go func() {
		c, _ := w.begin(ctx)
		next <- c
	}()
	select {
	case c := <-next:
		t.Fatalf("counter %d while 1 is under way", c)
	default:
	}
	w.end(first)
	if c := <-next; c != maxOutstanding+1 {
		t.Fatalf("counter %d", c)
	}
	if maxOutstanding >= placement.MaxRequests {
		t.Error("the table remembers fewer")
	}
}

// TestRequestsHaveEntriesOfTheirOwn: a command behind a request would belong to it.
func TestRequestsHaveEntriesOfTheirOwn(t *testing.T) {
	b := &batch{}
	p := propose(sampleAsks()[2:]...)
	plain := commands(&placement.RemoveKey{ID: "a"})
	p.asks = append(p.asks, plain, plain, sampleAsks()[3])
	p.answers = make([]answer, len(p.asks))
	for i, a := range p.asks {
		a.solo = a.solo || i == len(p.asks)-1
		b.add(p, i, a)
	}
	if len(b.entries) != 3 { // with requests, without, and a second session
		t.Fatalf("%d entries", len(b.entries))
	}
	var results []placement.Result
	for i, e := range b.entries {
		cmds, err := placement.DecodeEntry(e)
		if err != nil || len(cmds) != b.counts[i] {
			t.Fatalf("entry %d: %d commands, %v", i, len(cmds), err)
		}
		for _, cmd := range cmds {
			results = append(results, placement.Result{Outcome: placement.Done, Instance: wire.InstanceID(cmd.Kind())})
		}
	}
	b.fill(results)
	for i, a := range p.asks {
		if len(p.answers[i].results) != a.count {
			t.Fatalf("ask %d: %d results for %d commands", i, len(p.answers[i].results), a.count)
		}
		cmds, _ := placement.DecodeEntry(append(placement.AppendEntry(nil), a.body...))
		for j, r := range p.answers[i].results {
			if r.Instance != wire.InstanceID(cmds[j].Kind()) {
				t.Errorf("ask %d has the result of another", i)
			}
		}
	}
}
