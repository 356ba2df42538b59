package logins

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/trunkline-edge/trunkline/auth"
)

// others are the stores of other nodes, for Follow.
type others struct {
	mu      sync.Mutex
	peers   []Peer
	changed chan struct{}
}

func follows(peers ...Peer) *others { return &others{peers: peers, changed: make(chan struct{})} }

func (o *others) list() ([]Peer, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.peers, o.changed
}

func (o *others) set(peers ...Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peers = peers
	close(o.changed)
	o.changed = make(chan struct{})
}

func peer(name string, s *Store) Peer { return Peer{Name: name, Ask: s.Answer} }

// following lets a store run and follow others until the test ends, or stop is called.
func following(t *testing.T, s *Store, o *others) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Follow(ctx, o.list); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// has waits until a store has a login.
func has(t *testing.T, s *Store, id string) {
	t.Helper()
	for {
		changed := s.watch()
		if got, ok := s.Get(appA, id); ok {
			if got != kept(id) {
				t.Errorf("login %s came over as %+v", id, got)
			}
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("login %s did not come over", id)
		}
	}
}

func TestALoginIsFoundAtEveryNode(t *testing.T) {
	each(t, func(t *testing.T, path string) {
		clock := newClock()
		a, b, c := open(t, "", clock), open(t, path, clock), open(t, "", clock)
		put(t, a, appA, "before")
		mustFlush(t, a)
		stopA := following(t, a, follows(peer("b", b), peer("c", c)))
		following(t, b, follows(peer("a", a), peer("c", c)))
		following(t, c, follows(peer("a", a), peer("b", b)))
		has(t, b, "before")
		has(t, c, "before")
		put(t, a, appA, "later")
		mustFlush(t, a)
		has(t, c, "later")
		stopA()
		put(t, b, appA, "without a")
		mustFlush(t, b)
		has(t, c, "without a")
	})
}

func TestALoginComesOverWhenTheNodeThatTookItIsGone(t *testing.T) {
	clock := newClock()
	a, b, c := open(t, "", clock), open(t, "", clock), open(t, "", clock)
	put(t, a, appA, "1")
	mustFlush(t, a)
	seen := follows(peer("a", a))
	following(t, b, seen)
	has(t, b, "1")
	seen.set()
	following(t, c, follows(peer("b", b)))
	has(t, c, "1")
}

func TestFollowingGoesOnWhereItWas(t *testing.T) {
	clock := newClock()
	path := filepath.Join(t.TempDir(), "logins.db")
	a, b := open(t, "", clock), open(t, path, clock)
	for i := range exportMax + 7 {
		put(t, a, appA, fmt.Sprint(i))
	}
	mustFlush(t, a)
	stop := following(t, b, follows(peer("a", a)))
	has(t, b, fmt.Sprint(exportMax+6))
	stop()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, a, appA, "while away")
	mustFlush(t, a)

	b = open(t, path, clock)
	var records atomic.Int64
	counted := Peer{Name: "a", Ask: func(ctx context.Context, q []byte) ([]byte, error) {
		answer, err := a.Answer(ctx, q)
		if err == nil && len(answer) > cursorLength {
			got, err := decodeBatch(answer[cursorLength:])
			records.Add(int64(len(got)))
			return answer, err
		}
		return answer, err
	}}
	following(t, b, follows(counted))
	has(t, b, "while away")
	// Everything of before may come once more if the answer to it was on its way when the store stopped, not all of it.
	if n := records.Load(); n > 8 {
		t.Errorf("%d records came over again", n)
	}
}

func TestAPeerThatFailsIsAskedAgain(t *testing.T) {
	clock := newClock()
	a, b := open(t, "", clock), open(t, "", clock)
	put(t, a, appA, "1")
	mustFlush(t, a)
	var asked atomic.Int64
	flaky := Peer{Name: "a", Ask: func(ctx context.Context, q []byte) ([]byte, error) {
		switch asked.Add(1) {
		case 1:
			return nil, errors.New("no way there")
		case 2:
			return []byte("short"), nil
		}
		return a.Answer(ctx, q)
	}}
	following(t, b, follows(flaky))
	has(t, b, "1")
}

func TestTheLongestLoginsFitIntoOneAnswer(t *testing.T) {
	clock := newClock()
	a := open(t, "", clock)
	for i := range exportMax {
		id := fmt.Sprint(i)
		ok := a.Put(appA, auth.Identity{
			Type: strings.Repeat("t", maxType), ID: id + strings.Repeat("i", maxID-len(id)), Name: strings.Repeat("n", maxName),
		})
		if !ok {
			t.Fatal("not taken")
		}
	}
	mustFlush(t, a)
	answer, err := a.Answer(t.Context(), nil)
	if err != nil || len(answer) >= 1<<20 {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
}

func TestAQuestionThatIsNoCursorIsRefused(t *testing.T) {
	a := open(t, "", newClock())
	if _, err := a.Answer(t.Context(), []byte("x")); !errors.Is(err, errBatch) {
		t.Errorf("got %v", err)
	}
}
