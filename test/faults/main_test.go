package faults

import (
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// memberlist gives nothing to wait for its last probe by.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// soaks is how often each story is told, 0 when they are to be short.
func soaks() int {
	n, _ := strconv.Atoi(os.Getenv("TRUNKLINE_SOAK"))
	return n
}

// longer is what a story does in a soak instead of what it does in short.
func longer[T any](short, long T) T {
	if soaks() > 0 {
		return long
	}
	return short
}

// tell tells a story of some nodes under load, once, or in a soak with many seeds. Stories are told beside each other
// (-parallel), since they mostly wait.
func tell(t *testing.T, nodes int, story func(w *world)) {
	t.Helper()
	t.Parallel()
	for range max(1, soaks()) {
		t.Run("seed", func(t *testing.T) {
			w := form(t, nodes)
			w.begin()
			story(w)
			w.settle()
		})
	}
}
