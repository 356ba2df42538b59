package node

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	orderClients  = 50
	orderStates   = 12
	orderMessages = 1000
	orderPace     = 3 * time.Millisecond
	orderDeath    = 300 // the victim dies once every client has had the answer to this message
)

// Handlers of native instances get the numbered messages of each client in order. Without a failure none is missing and
// none comes twice; when an instance dies, only those around its death may be.
func TestMessagesKeepTheirOrderThroughAFailover(t *testing.T) {
	t.Parallel()
	t.Run("nothing fails", func(t *testing.T) {
		t.Parallel()
		o := newOrder(t)
		o.talk(t, func() {})
		for _, p := range o.players {
			numbers := o.got(t, p)
			if len(numbers) != 1 {
				t.Errorf("%s was heard by %d instances", p.user, len(numbers))
			}
			for store, all := range numbers {
				if first, last := runOf(t, p.user, store, all); first != 1 || last != orderMessages {
					t.Errorf("%s was heard by %s from %d to %d", p.user, store, first, last)
				}
			}
			o.heardInOrder(t, p)
			if n := len(p.heard()); n != orderMessages {
				t.Errorf("%s heard %d answers to %d messages", p.user, n, orderMessages)
			}
		}
		t.Logf("%d messages of each of %d clients: none missing, none repeated, all in order", orderMessages, orderClients)
	})
	t.Run("an instance dies", func(t *testing.T) {
		t.Parallel()
		o := newOrder(t)
		victim := o.backends[o.a.name+"/store-1"]
		rows := o.c.states(t, o.a)
		o.talk(t, func() {
			for _, p := range o.players {
				if _, err := p.first(within(t), "answered often enough", time.Time{}, isNumber(orderDeath)); err != nil {
					t.Error(err)
				}
			}
			victim.kill()
		})
		var moved, missing, repeated, most int
		for _, p := range o.players {
			numbers := o.got(t, p)
			o.heardInOrder(t, p)
			died := numbers[victim.role.Store]
			delete(numbers, victim.role.Store)
			if len(numbers) != 1 {
				t.Errorf("%s was heard by %d instances that live: its state was to move once at most", p.user, len(numbers))
				continue
			}
			from := 1
			if rows[p.state].StoreID == victim.role.Store {
				moved++
				first, last := runOf(t, p.user, victim.role.Store, died)
				if first != 1 || last < orderDeath {
					t.Errorf("%s was heard from %d to %d by the instance that died", p.user, first, last)
				}
				from = last + 1
			} else if len(died) > 0 {
				t.Errorf("%s was heard by an instance that never had its state", p.user)
			}
			for store, all := range numbers {
				first, last := runOf(t, p.user, store, all)
				if last != orderMessages {
					t.Errorf("%s: the last message that %s got is %d", p.user, store, last)
				}
				if from == 1 && first != 1 {
					t.Errorf("%s: the first message that %s got is %d, and nothing happened to it", p.user, store, first)
				}
				missing += max(0, first-from)
				repeated += max(0, from-first)
				most = max(most, first-from)
			}
		}
		if moved == 0 {
			t.Error("no client's state moved")
		}
		counted := o.c.metric(t, "trunkline_edge_frames_unacknowledged_total")
		if counted < float64(missing) {
			t.Errorf("%d messages are missing and the node counted %v unacknowledged", missing, counted)
		}
		t.Logf("%d messages of each of %d clients, %d of them through a failover: in order; around it %d missing (%d of one client at most), %d repeated; the node counted %v unacknowledged",
			orderMessages, orderClients, moved, missing, most, repeated, counted)
	})
}

// order is three native instances that note what their handlers got.
type order struct {
	c        *coordinator
	a        app
	backends map[string]*backend
	players  []*player
	journals map[string]map[string][]int // store -> user -> numbers, as the handlers got them
}

func newOrder(t *testing.T) *order {
	t.Helper()
	o := &order{c: startDev(t, "--grace", nativeGrace.String()), a: newApp("order")}
	o.backends = o.a.threeBackends(t, o.c, native, true)
	o.players = o.a.crowd(t, o.c, orderClients, o.a.create(t, o.c, orderStates))
	return o
}

// talk has every player send its numbered messages, runs meanwhile, and waits for the answers to the last ones.
func (o *order) talk(t *testing.T, meanwhile func()) {
	t.Helper()
	var g errgroup.Group
	for _, p := range o.players {
		g.Go(func() error {
			tick := time.NewTicker(orderPace)
			defer tick.Stop()
			for i := 1; i <= orderMessages; i++ {
				<-tick.C
				if err := p.send(strconv.AppendInt(nil, int64(i), 10)); err != nil {
					return err
				}
			}
			_, err := p.first(within(t), "answered to the end", time.Time{}, isNumber(orderMessages))
			return err
		})
	}
	meanwhile()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, p := range o.players {
		p.undisturbed(t)
	}
	o.read(t)
}

func isNumber(n int) func(answer) bool {
	text := strconv.Itoa(n)
	return func(a answer) bool { return a.text == text }
}

// read reads what the handlers got.
func (o *order) read(t *testing.T) {
	t.Helper()
	o.journals = map[string]map[string][]int{}
	for _, b := range o.backends {
		by := map[string][]int{}
		o.journals[b.role.Store] = by
		f, err := os.Open(b.role.Journal)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			user, text, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("%s has noted %q", b.role.Store, lines.Text())
			}
			by[user] = append(by[user], n)
		}
		f.Close()
	}
}

// got returns what the handlers of each instance got of one player.
func (o *order) got(t *testing.T, p *player) map[string][]int {
	t.Helper()
	all := map[string][]int{}
	for store, by := range o.journals {
		if len(by[p.user]) > 0 {
			all[store] = by[p.user]
		}
	}
	return all
}

// runOf checks that what one instance got of one user is a run of numbers, each one above the one before.
func runOf(t *testing.T, user, store string, numbers []int) (first, last int) {
	t.Helper()
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			t.Errorf("%s: %s got %d behind %d", user, store, numbers[i], numbers[i-1])
		}
	}
	if len(numbers) == 0 {
		return 0, 0
	}
	return numbers[0], numbers[len(numbers)-1]
}

// heardInOrder checks that the answers came back in the order of the messages.
func (o *order) heardInOrder(t *testing.T, p *player) {
	t.Helper()
	last := 0
	for _, a := range p.heard() {
		n, err := strconv.Atoi(a.text)
		if err != nil || n <= last {
			t.Errorf("%s heard %s behind %d", p.user, a.text, last)
			return
		}
		last = n
	}
}
