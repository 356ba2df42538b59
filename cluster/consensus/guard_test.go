package consensus

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/trunkline-edge/trunkline/placement"
)

// fullStore has room until it is told otherwise.
type fullStore struct {
	*raft.InmemStore
	full bool
}

var errNoRoom = errors.New("no space left on device")

func (s *fullStore) StoreLogs(logs []*raft.Log) error {
	if s.full {
		return errNoRoom
	}
	return s.InmemStore.StoreLogs(logs)
}

// guarded calls f as raft would, and answers why the replica has ended, if it has.
func guarded(t *testing.T, store raft.LogStore, f func(g *guardedLog)) (ended error) {
	t.Helper()
	g := &guardedLog{LogStore: store, fail: func(err error) { ended = err }, newest: func() (uint64, uint64) { return 0, 0 }}
	g.running.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(g)
	}()
	<-done
	return ended
}

func ofTerm(from, to, term uint64) (out []*raft.Log) {
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: term, Data: []byte("x")})
	}
	return out
}

func TestAReplicaThatCannotReplaceWhatItRemovedEnds(t *testing.T) {
	store := &fullStore{InmemStore: raft.NewInmemStore()}
	ended := guarded(t, store, func(g *guardedLog) {
		if err := g.StoreLogs(ofTerm(1, 9, 1)); err != nil {
			t.Error(err)
		}
		if err := g.DeleteRange(5, 9); err != nil {
			t.Error(err)
		}
		store.full = true
		err := g.StoreLogs(ofTerm(5, 6, 2))
		t.Errorf("raft goes on with %v", err)
	})
	if !errors.Is(ended, errNoRoom) {
		t.Errorf("ended with %v", ended)
	}
}

func TestAFullDiskIsTriedAgain(t *testing.T) {
	store := &fullStore{InmemStore: raft.NewInmemStore()}
	ended := guarded(t, store, func(g *guardedLog) {
		for _, err := range []error{
			g.StoreLogs(ofTerm(1, 9, 1)), g.DeleteRange(5, 9), g.StoreLogs(ofTerm(5, 6, 2)), g.DeleteRange(1, 3),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		store.full = true
		if err := g.StoreLogs(ofTerm(7, 7, 2)); !errors.Is(err, errNoRoom) {
			t.Errorf("a full disk answers %v", err)
		}
		store.full = false
		if err := g.StoreLogs(ofTerm(7, 7, 2)); err != nil {
			t.Error(err)
		}
	})
	if ended != nil {
		t.Errorf("ended with %v", ended)
	}
}

// What a panic has left of the table is not known, so nobody may go on with it: neither this package nor raft catches it.
func TestAPanicWhileAnEntryIsAppliedEndsTheProcess(t *testing.T) {
	const child = "TRUNKLINE_TEST_PANIC"
	if os.Getenv(child) != "" {
		leader := newGroup(t, 1, nil).leader()
		leader.machine.table = nil
		_, err := leader.Propose([][]byte{placement.AppendEntry(nil)})
		t.Errorf("somebody has caught it: %v", err)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "panic: ") || !strings.Contains(string(out), "consensus.(*machine)") {
		t.Errorf("it ended with %v and said:\n%.2000s", err, out)
	}
}
