package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness is a player who did nothing wrong and asks again and again, and another one on a node that nothing happens to,
// whose answers show how slow the machine itself is meanwhile.
type witness struct{ here, elsewhere *asker }

// bear starts a witness in p's place.
func bear(t *testing.T, p *player) *witness {
	t.Helper()
	c, a := startDev(t), newApp("elsewhere")
	a.startBackend(t, c, backendRole{Kind: legacy, Store: "store-1"})
	q := a.join(t, c, legacy, "witness", a.create(t, c, 1)[0])
	return &witness{here: askOn(t, p), elsewhere: askOn(t, q)}
}

// enough is how many answers a judgement takes.
const enough = 30

// unharmed judges what the witness has seen so far. Without other tests on the machine half the answers take less than a
// millisecond.
func (w *witness) unharmed(t *testing.T, while string) {
	t.Helper()
	until(t, "the witness to have seen enough", func() bool { return len(w.here.p.heard()) >= enough })
	half, most := w.here.stop()
	halfElsewhere, mostElsewhere := w.elsewhere.stop()
	t.Logf("%s: of %d answers to others half took %v, the slowest %v; on an idle node beside it half %v, the slowest %v", while,
		len(w.here.p.heard()), half.Round(10*time.Microsecond), most.Round(time.Millisecond),
		halfElsewhere.Round(10*time.Microsecond), mostElsewhere.Round(time.Millisecond))
	if half > 100*time.Millisecond+5*halfElsewhere || most > slack+2*mostElsewhere {
		t.Errorf("%s: others waited %v, at worst %v", while, half, most)
	}
	w.here.p.undisturbed(t)
}

// asker has a player ask all the time; stop ends that and says how long half the answers took at most, and all.
type asker struct {
	p    *player
	stop func() (half, most time.Duration)
}

func askOn(t *testing.T, p *player) *asker {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var took []time.Duration
	var failed error
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil && failed == nil; i++ {
			began := time.Now()
			patient, done := context.WithTimeout(context.Background(), patience)
			_, failed = p.ask(patient, fmt.Sprintf(canaryPayload+"%d", i))
			done()
			took = append(took, time.Since(began))
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	a := &asker{p: p, stop: sync.OnceValues(func() (half, most time.Duration) {
		cancel()
		asking.Wait()
		slices.Sort(took)
		return took[len(took)/2], took[len(took)-1]
	})}
	t.Cleanup(func() {
		a.stop()
		if failed != nil {
			t.Error(failed)
		}
	})
	return a
}

// Clients that never read are cut, each with a counted reason, before they cost memory; nobody else notices.
func TestClientThatNeverReadsIsCut(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const clients, messages, size = 20, 250, 32 << 10
			c := startDev(t)
			good, bad := newApp("good"), newApp("bad")
			good.startBackend(t, c, backendRole{Kind: kind, Store: "store-1"})
			bad.startBackend(t, c, backendRole{Kind: kind, Store: "store-1"})
			w := bear(t, good.join(t, c, kind, "witness", good.create(t, c, 1)[0]))
			ids := bad.create(t, c, clients)
			before, _ := c.memory(t)
			for i := range clients {
				v, err := bad.visit(c, newSource(), bad.token(t, c, userName(i)), ids[i])
				if err != nil {
					t.Fatal(err)
				}
				defer v.hangUp()
				if err := v.acknowledged(); err != nil {
					t.Fatal(err)
				}
				if err := v.send(fmt.Appendf(nil, "flood %d %d", messages, size)); err != nil {
					t.Fatal(err)
				}
			}
			const cut = `trunkline_client_closed_total{reason="slow"}`
			until(t, "the clients that do not read to be cut", func() bool { return c.metric(t, cut) == clients })
			_, most := c.memory(t)
			t.Logf("%d clients that do not read were sent %d MiB each: resident memory %d MiB before, %d MiB at most", clients, messages*size/mebi, before/mebi, most/mebi)
			if most-before > roomy(64*mebi) {
				t.Errorf("clients that do not read cost %d MiB", (most-before)/mebi)
			}
			w.unharmed(t, "while clients do not read")
		})
	}
}

// A legacy backend that never reads stops its own clients only, and is cut after --tunnel-stall with a counted reason; its
// clients stay.
func TestBackendThatNeverReadsIsCut(t *testing.T) {
	t.Parallel()
	const clients, size = 20, 64 << 10
	const stall = 3 * time.Second
	c := startDev(t, "--tunnel-stall", stall.String())
	good, bad := newApp("good"), newApp("bad")
	good.startBackend(t, c, backendRole{Kind: legacy, Store: "store-1"})
	w := bear(t, good.join(t, c, legacy, "witness", good.create(t, c, 1)[0]))
	deaf := bad.deafBackend(t, c)
	defer deaf.Close()
	players := bad.crowd(t, c, clients, bad.create(t, c, clients/2))

	before, _ := c.memory(t)
	stop := pour(players, size)
	until(t, "the backend's tunnel to be full", func() bool { return c.instances(t, bad)["store-1"].Queued > 0 })
	began := time.Now()
	const ended = `trunkline_edge_tunnels_ended_total{reason="stalled"}`
	until(t, "the backend that does not read to be cut", func() bool { return c.metric(t, ended) == 1 })
	took := time.Since(began)
	waits := c.metric(t, `trunkline_edge_reader_waits_total{reason="backpressure"}`)
	_, most := c.memory(t)
	t.Logf("a backend that does not read was cut after %v (limit %v); readers of its clients waited %v times; resident memory %d MiB before, %d MiB at most",
		took.Round(time.Millisecond), stall, waits, before/mebi, most/mebi)
	if took > 2*stall+slack {
		t.Errorf("a backend that does not read was cut after %v only", took)
	}
	if waits == 0 {
		t.Error("no client of the backend that does not read was held back")
	}
	if most-before > roomy(64*mebi) {
		t.Errorf("a backend that does not read costs %d MiB", (most-before)/mebi)
	}
	w.unharmed(t, "while a backend does not read")
	for _, p := range players {
		p.undisturbed(t)
	}
	stop(players)
}

// A handler of a native backend that never returns stops its own state only, not the others of the same instance.
func TestStateThatNeverReadsStopsNoOther(t *testing.T) {
	t.Parallel()
	const clients, size = 10, 64 << 10
	c := startDev(t)
	a := newApp("stuck")
	a.startBackend(t, c, backendRole{Kind: native, Store: "store-1"})
	ids := a.create(t, c, 2)
	w := bear(t, a.join(t, c, native, "witness", ids[0]))
	players := a.crowd(t, c, clients, ids[1:])
	if err := players[0].send([]byte("block")); err != nil {
		t.Fatal(err)
	}
	before, _ := c.memory(t)
	stop := pour(players, size)
	const waits = `trunkline_edge_reader_waits_total{reason="backpressure"}`
	until(t, "the clients of the stuck state to be held back", func() bool { return c.metric(t, waits) >= clients })
	seen := len(w.here.p.heard())
	until(t, "the witness to have seen enough", func() bool { return len(w.here.p.heard()) > seen+enough })
	_, most := c.memory(t)
	t.Logf("a state that does not read: readers of its clients waited %v times; resident memory %d MiB before, %d MiB at most",
		c.metric(t, waits), before/mebi, most/mebi)
	if most-before > roomy(64*mebi) {
		t.Errorf("a state that does not read costs %d MiB", (most-before)/mebi)
	}
	w.unharmed(t, "while a state does not read")
	stop(players)
}

// pour has every player send without end. The returned function ends it; what blocks in a send ends with its connection.
func pour(players []*player, size int) (stop func([]*player)) {
	ctx, cancel := context.WithCancel(context.Background())
	filler := []byte(strings.Repeat("x", size))
	var pouring sync.WaitGroup
	for _, p := range players {
		pouring.Go(func() {
			for ctx.Err() == nil && p.send(filler) == nil {
			}
		})
	}
	return func(players []*player) {
		cancel()
		for _, p := range players {
			p.leave()
		}
		pouring.Wait()
	}
}

// deafBackend registers a legacy backend that reads nothing, ever.
func (a app) deafBackend(t *testing.T, c *coordinator) net.Conn {
	t.Helper()
	conn, err := dialFrom(newSource(), c.tunnel())
	if err != nil {
		t.Fatal(err)
	}
	first, err := json.Marshal(map[string]string{"appSecret": a.secret, "storeId": "store-1"})
	if err == nil {
		_, err = conn.Write(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the deaf backend to be attached", func() bool { return c.instances(t, a)["store-1"].Connected })
	return conn
}
