package bench

import (
	"io"
	"strings"
	"testing"
)

func TestTableIsMeasured(t *testing.T) {
	const n = minStates
	b := &bench{o: options{Kind: "table", Rounds: 2, States: []int{n}}, progress: io.Discard, report: &Report{}}
	if err := b.table(t.Context()); err != nil {
		t.Fatal(err)
	}
	x := b.report.Tables[0]
	if x.States != n || x.Bytes < 20 || x.Bytes > 400 || x.Lookup.Min <= 0 || x.LookupHot.Min <= 0 || x.Miss.Min <= 0 || x.LookupAllocations != 0 {
		t.Errorf("%+v", x)
	}
	if len(x.Stalls) != len(stallBatches) || x.Stalls[2].Longest.Min <= 0 || x.Restore.Min <= 0 || x.SnapshotBytes < 8*n {
		t.Errorf("%+v", x)
	}
	var text strings.Builder
	b.report.writeTables(&text)
	for _, want := range []string{"bytes each", "10000", "longest apply beside a snapshot"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestACommandThatIsRefusedIsAnError(t *testing.T) {
	f, err := fillTable(minStates)
	if err != nil {
		t.Fatal(err)
	}
	f.states[0]++ // nobody has made this one
	if err := f.replace(f.states[:1], f.commit); err == nil {
		t.Error("a state that is not there was replaced")
	}
	if _, _, err := f.lookUp(f.states); err == nil {
		t.Error("a state that is not there was found")
	}
}
