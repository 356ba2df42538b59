package edge

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/edge/api"
	"github.com/trunkline-edge/trunkline/edge/link"
	"github.com/trunkline-edge/trunkline/placement"
	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

func TestOpenAheadOfTheOwnersTableWaits(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		b.take()
		w[0].placer.hold(true)
		ann := w[1].joins(secret, 7, "ann") // its own table has the row
		ann.sends("early")
		want(t, "backend", b.take(), "")
		w[0].placer.hold(false)
		synctest.Wait()
		want(t, "backend", b.take(), `open 7 ann; data 7 ann 1 "early"`)
		ann.sends("later")
		want(t, "backend", b.take(), `data 7 ann 2 "later"`)
		ann.leaves()
		if n := w[0].r.stats.behindWaited.Load(); n != 1 {
			t.Errorf("%d waits for the table counted, want 1", n)
		}
	})
}

func TestOwnerWhoseTableStaysBehindIsAskedAgain(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		b.take()
		w[0].placer.hold(true)
		ann := w[1].joins(secret, 7, "ann")
		time.Sleep(12 * time.Second)
		want(t, "backend", b.take(), "")
		w[0].placer.hold(false)
		time.Sleep(2 * time.Second)
		want(t, "backend", b.take(), "open 7 ann")
		ann.leaves()
		want(t, "backend", b.take(), "close 7 ann")
	})
}

func TestStaleEpochIsAnsweredAndRecovered(t *testing.T) {
	inNodes(t, 3, nil, func(_ *nodes, w []*world) {
		app := wire.AppIDOf(secret)
		b1 := w[0].backend(tunnel.Native, secret, "s1")
		w[1].joins(secret, 7, "ann").leaves() // so that the edge has a route
		row, _ := w[1].r.table.Lookup(app, 7)
		b2 := w[2].backend(tunnel.Native, secret, "s2")
		w[1].placer.hold(true)
		w[0].says(b1, func(s tunnel.Sink) { s.StateReleased(7, row.Epoch) })
		w[2].placer.next = w[2].r.table.Instances(app)[1].ID
		eve := w[2].joins(secret, 7, "eve")
		b1.take()
		b2.take()
		bob := w[1].joins(secret, 7, "bob") // by a row that is no more
		bob.sends("hello")
		time.Sleep(5 * time.Second)
		want(t, "the former owner's instance", b1.take(), "")
		if n := w[1].r.stats.notOwnerHeard.Load(); n == 0 || n > 12 {
			t.Errorf("asked in vain %d times in 5 s, want few", n)
		}
		w[1].placer.hold(false)
		synctest.Wait()
		want(t, "the new owner's instance", b2.take(), `open 7 bob; data 7 bob 1 "hello"`)
		eve.leaves()
		bob.leaves()
	})
}

func TestOneStateStopsNoOtherOnALink(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann, bob := w[1].joins(secret, 7, "ann"), w[1].joins(secret, 8, "bob")
		b.take()
		full := make(chan struct{})
		b.mu.Lock()
		b.full, b.only = full, 7
		b.mu.Unlock()
		sent := make(chan int, 1000)
		w[1].r.spawn(func(context.Context) {
			for i := range 100 {
				if ann.seat.Down(bytes.Repeat([]byte("x"), 64<<10), false) != nil {
					return
				}
				ann.seat.Drained()
				sent <- i
			}
		})
		synctest.Wait()
		if n := len(sent); n == 0 || n > 40 {
			t.Errorf("%d of 100 messages of 64 KiB were taken, want about a window and a mark", n)
		}
		if n := w[0].r.stats.parked.Load(); n != 1 {
			t.Errorf("%d queues at the owner, want 1", n)
		}
		bob.sends("unhindered")
		want(t, "backend", b.take(), `data 8 bob 1 "unhindered"`)
		b.mu.Lock()
		b.full = nil
		b.mu.Unlock()
		close(full)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(sent); n != 100 {
			t.Errorf("%d of 100 messages were taken in the end", n)
		}
		if n := strings.Count(b.take(), "data 7 ann"); n != 100 {
			t.Errorf("%d of 100 messages arrived", n)
		}
		ann.leaves()
		bob.leaves()
	})
}

func TestBrokenLanesLoseNothing(t *testing.T) {
	inNodes(t, 2, nil, func(c *nodes, w []*world) {
		const messages = 2000
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		b.take()
		ann.take()
		w[1].r.spawn(func(context.Context) {
			for i := range messages {
				_ = ann.seat.Down(fmt.Append(nil, i), false)
				ann.seat.Drained()
				time.Sleep(time.Millisecond)
			}
		})
		w[0].r.spawn(func(context.Context) {
			for i := range messages {
				b.say <- func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), fmt.Append(nil, i)) }
				time.Sleep(time.Millisecond)
			}
		})
		for range 50 {
			time.Sleep(37 * time.Millisecond)
			c.cut(1, 0, false)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var down, up []string
		for i := range messages {
			down = append(down, fmt.Sprintf(`data 7 ann %d "%d"`, i+1, i))
			up = append(up, fmt.Sprint(i))
		}
		if got := b.take(); got != strings.Join(down, "; ") {
			t.Errorf("the backend did not hear every message once and in order: %d bytes, want %d", len(got), len(strings.Join(down, "; ")))
		}
		if got := without(ann.take(), "ack"); got != strings.Join(up, "; ") {
			t.Errorf("the client did not hear every message once and in order: %d bytes, want %d", len(got), len(strings.Join(up, "; ")))
		}
		if n := w[1].r.Peers()[0].Breaks; n < 40 {
			t.Errorf("only %d connections broke", n)
		}
		ann.leaves()
	})
}

func TestUnreachableOwnerIsHeldAndServedAgain(t *testing.T) {
	inNodes(t, 2, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		c.cut(1, 0, true)
		time.Sleep(3 * time.Second)
		if n := w[1].r.Unreachable(); len(n) != 1 || n[0] != w[0].placer.node {
			t.Errorf("unreachable are %v, want node session %d", n, w[0].placer.node)
		}
		ann.sends("meanwhile")
		start := time.Now()
		if _, refusal := w[1].tries(secret, 7, "bob"); refusal == nil || refusal.Code != wire.CodeNoInstance {
			t.Errorf("a join got %v, want 4001", refusal)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("the join waited %v, want the instance wait of 5 s", d)
		}
		c.cut(1, 0, false)
		time.Sleep(5 * time.Second)
		want(t, "backend", b.take(), `confirm; open 7 ann; data 7 ann 1 "meanwhile"`)
		bob := w[1].joins(secret, 7, "bob")
		bob.leaves()
		ann.take()
		c.cut(1, 0, true)
		time.Sleep(25 * time.Second)
		want(t, "client", ann.take(), "")
		time.Sleep(10 * time.Second)
		want(t, "client", ann.take(), "closed 4001 "+wire.CodeNoInstance.Reason())
		ann.leaves()
	})
}

func TestLivingLegacyInstanceOfAnotherNodeIsNotTakenOver(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		old := w[0].backend(tunnel.Legacy, secret, "s1")
		old.alive = true
		start := time.Now()
		other := newFakeTunnel(tunnel.Legacy)
		w[1].serve(other, secret, "s1")
		want(t, "the newcomer's end", <-other.done, farewell(refusedTaken))
		if d := time.Since(start); d != firstRefusal {
			t.Errorf("refused after %v, want %v", d, firstRefusal)
		}
		old.alive = false // its probe is never answered
		w[1].serve(other, secret, "s1")
		time.Sleep(probeElsewhere)
		synctest.Wait()
		want(t, "the newcomer", other.take(), "confirm")
		if in := w[0].r.table.AllInstances(); len(in) != 1 || in[0].Node != w[1].placer.node || in[0].Gen != 2 {
			t.Errorf("instances %+v, want the one at the second node", in)
		}
		if h := w[0].r.home(w[0].r.table.AllInstances()[0].ID); h != nil && h.live.Load() != nil {
			t.Error("the former node still has the old tunnel")
		}
	})
}

func TestUserWithATabElsewhereIsNotTakenOffWhenTheInstanceMoves(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		one, two := w[1].joins(secret, 7, "ann"), w[2].joins(secret, 7, "ann")
		bob := w[2].joins(secret, 7, "bob")
		w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("hi")) })
		w[0].breaks(b)
		c.cut(1, 2, true) // what the first tab's node has to say comes late
		again := w[2].backend(tunnel.Legacy, secret, "s1")
		two.leaves()
		bob.leaves()
		time.Sleep(500 * time.Millisecond)
		if heard := again.take(); strings.Contains(heard, "close") {
			t.Errorf("the instance heard %q before every node had said whom it has", heard)
		}
		c.cut(1, 2, false)
		time.Sleep(4 * time.Second)
		want(t, "instance", again.take(), "open 7 ann; close 7 bob")
		one.leaves()
		want(t, "instance", again.take(), "close 7 ann")
	})
}

func TestSilentNodeHoldsUpNobodyForLong(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann, bob := w[2].joins(secret, 7, "ann"), w[2].joins(secret, 7, "bob")
		w[0].says(b, func(s tunnel.Sink) { s.ToUser(7, 0, []byte("ann"), []byte("hi")) })
		w[0].breaks(b)
		c.cut(1, 2, true)
		again := w[2].backend(tunnel.Legacy, secret, "s1")
		ann.leaves()
		time.Sleep(syncTime + time.Second)
		heard := again.take()
		if !strings.HasSuffix(heard, "; close 7 ann") || !strings.Contains(heard, "open 7 ann") || !strings.Contains(heard, "open 7 bob") {
			t.Errorf("instance heard %q, want both and then the one who left", heard)
		}
		bob.leaves()
	})
}

func TestStateOfANodeThatDiedBeforeItsAnswerStays(t *testing.T) {
	inNodes(t, 2, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Native, secret, "s1")
		app := wire.AppIDOf(secret)
		w[1].r.spawn(func(ctx context.Context) {
			_, _ = w[1].r.Create(ctx, api.CreateRequest{App: app, User: "ann"})
		})
		synctest.Wait()
		id := w[1].placer.ids
		c.dies(1)
		time.Sleep(3 * time.Second)
		row, ok := w[0].r.table.Lookup(app, id)
		if ok && row.Pending {
			t.Errorf("row %+v is pending for ever", row)
		}
		b.take()
		if len(w[0].r.rooms.all()) != 0 {
			t.Error("a room is left")
		}
	})
}

func TestInstanceOfANodeThatDiedAttachesElsewhere(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		w[0].backend(tunnel.Native, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		c.stop(0)
		synctest.Wait()
		ann.sends("held")
		again := w[2].backend(tunnel.Native, secret, "s1")
		time.Sleep(time.Second)
		ann.sends("x")
		want(t, "instance", again.take(), `confirm; open 7 ann; data 7 ann 1 "held"; data 7 ann 2 "x"`)
		w[2].placer.apply(&placement.EndSession{Session: w[0].placer.node})
		ann.sends("y")
		want(t, "instance", again.take(), `data 7 ann 3 "y"`)
		ann.leaves()
	})
}

// What is sent into a lane without a connection is lost when the other node turns out to be dead, so it is not sent.
func TestMessagesForANodeThatCannotBeReachedAreHeld(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		b := w[0].backend(tunnel.Native, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		c.cut(1, 0, true)
		synctest.Wait()
		ann.sends("held")
		again := w[2].backend(tunnel.Native, secret, "s1")
		time.Sleep(time.Second)
		want(t, "instance", again.take(), `confirm; open 7 ann; data 7 ann 1 "held"`)
		want(t, "the former tunnel", b.take(), "confirm; open 7 ann")
		c.cut(1, 0, false)
		ann.leaves()
	})
}

func TestStatesOfANodeThatDiedMoveWithItsSession(t *testing.T) {
	inNodes(t, 3, nil, func(c *nodes, w []*world) {
		w[0].backend(tunnel.Native, secret, "s1")
		other := w[2].backend(tunnel.Native, secret, "s2")
		ann := w[1].joins(secret, 7, "ann")
		c.stop(0)
		time.Sleep(3 * time.Second)
		want(t, "the other instance", other.take(), "confirm")
		w[2].placer.apply(&placement.EndSession{Session: w[0].placer.node})
		synctest.Wait()
		want(t, "the other instance", other.take(), "open 7 ann")
		ann.leaves()
	})
}

func TestGuestsStayThroughTheGraceOfTheirInstance(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann, bob := w[1].joins(secret, 7, "ann"), w[1].joins(secret, 7, "bob")
		w[0].breaks(b)
		ann.sends("held")
		bob.leaves()
		time.Sleep(2 * time.Second)
		again := w[0].backend(tunnel.Legacy, secret, "s1")
		time.Sleep(time.Second)
		want(t, "instance", again.take(), `confirm; close 7 bob; open 7 ann; data 7 ann 1 "held"`)
		ann.leaves()
	})
}

func TestGuestsLookForTheStateOfAnInstanceThatIsGone(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann := w[1].joins(secret, 7, "ann")
		w[0].breaks(b)
		ann.sends("held")
		other := w[1].backend(tunnel.Legacy, secret, "s2")
		time.Sleep(4 * time.Second)
		want(t, "the other instance", without(other.take(), "confirm"), `open 7 ann; data 7 ann 1 "held"`)
		ann.leaves()
		if n := w[0].r.stats.guests.Load(); n != 0 {
			t.Errorf("%d guests are left", n)
		}
	})
}

func TestUnusedRouteIsGivenUp(t *testing.T) {
	inNodes(t, 2, nil, func(_ *nodes, w []*world) {
		w[0].backend(tunnel.Legacy, secret, "s1")
		w[1].joins(secret, 7, "ann").leaves()
		if n := w[1].r.stats.routes.Load(); n != 1 {
			t.Errorf("%d routes, want 1", n)
		}
		time.Sleep(2 * idleHome)
		if o, p := w[1].r.stats.routes.Load(), w[0].r.stats.peers.Load(); o != 0 || p != 0 {
			t.Errorf("%d routes opened and %d taken are left", o, p)
		}
		ann := w[1].joins(secret, 7, "ann")
		ann.leaves()
	})
}

func TestLegacyInstanceBackAtAnotherNodeIsToldWhomItLost(t *testing.T) {
	inNodes(t, 3, nil, func(_ *nodes, w []*world) {
		b := w[0].backend(tunnel.Legacy, secret, "s1")
		ann, bob := w[1].joins(secret, 7, "ann"), w[0].joins(secret, 7, "bob")
		other := w[2].backend(tunnel.Legacy, secret, "s2")
		other.take()
		w[0].breaks(b)
		time.Sleep(4 * time.Second)
		if heard := other.take(); strings.Count(heard, "open 7") != 2 {
			t.Errorf("the other instance heard %q, want both users", heard)
		}
		back := w[2].backend(tunnel.Legacy, secret, "s1")
		settle()
		if heard := back.take(); !strings.Contains(heard, "close 7 ann") || !strings.Contains(heard, "close 7 bob") || strings.Contains(heard, "open") {
			t.Errorf("the instance heard %q, want that both left", heard)
		}
		ann.leaves()
		bob.leaves()
	})
}

func TestNoticesHaveFixedBytes(t *testing.T) {
	here := fmt.Sprintf("%x", appendHere(nil, 0x0102030405060708, 0x0a0b0c0d))
	if want := "0101020304050607080a0b0c0d"; here != want {
		t.Errorf("a notice of who is here is %s, want %s", here, want)
	}
	b, rest := appendGhosts(nil, 5, []ghost{{7, "ann"}, {8, ""}})
	if want := "0200000000000000050000000000000007" + "0003" + "616e6e" + "0000000000000008" + "0000"; fmt.Sprintf("%x", b) != want || rest != nil {
		t.Errorf("a notice of ghosts is %x, want %s", b, want)
	}
	many := make([]ghost, 500)
	for i := range many {
		many[i] = ghost{wire.StateID(i), "somebody with a name"}
	}
	got := 0
	for rest = many; len(rest) > 0; {
		if b, rest = appendGhosts(nil, 5, rest); len(b) > link.MaxNotice {
			t.Fatalf("a notice of %d bytes", len(b))
		}
		_, ghosts, ok := decodeGhosts(b)
		if !ok || len(ghosts) == 0 {
			t.Fatal("a notice that does not come back")
		}
		got += len(ghosts)
	}
	if got != len(many) {
		t.Errorf("%d of %d ghosts came back", got, len(many))
	}
}

func FuzzNotice(f *testing.F) {
	f.Add(appendHere(nil, 5, 2))
	f.Add([]byte{noticeHere})
	ghosts, _ := appendGhosts(nil, 5, []ghost{{7, "ann"}, {8, ""}})
	f.Add(ghosts)
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, gen, ok := decodeHere(b); ok && !bytes.Equal(appendHere(nil, id, gen), b) {
			t.Errorf("%x does not come back", b)
		}
		if id, ghosts, ok := decodeGhosts(b); ok {
			if again, rest := appendGhosts(nil, id, ghosts); rest != nil || !bytes.Equal(again, b) {
				t.Errorf("%x does not come back", b)
			}
		}
	})
}

// What clients of another node say while the instance is away waits at their node: when its states move, all of it goes
// along, and when it comes back nothing is out of order.
func TestMessagesOfAnotherNodeAreHeldWhileTheInstanceIsAway(t *testing.T) {
	const most = 20
	speak := func(w *world, ann *player) (spoken chan int) {
		spoken = make(chan int, most)
		w.r.spawn(func(context.Context) {
			for i := range most {
				if ann.seat.Down(fmt.Appendf(nil, "%d", i), false) != nil {
					return
				}
				ann.seat.Drained()
				spoken <- i
			}
		})
		return spoken
	}
	all := func(from int) string {
		var b strings.Builder
		for i := range most {
			fmt.Fprintf(&b, "; data 7 ann %d \"%d\"", from+i, i)
		}
		return b.String()
	}
	for _, kind := range []tunnel.Kind{tunnel.Legacy, tunnel.Native} {
		t.Run(kind.String()+" moves", func(t *testing.T) {
			inNodes(t, 2, nil, func(_ *nodes, w []*world) {
				b1 := w[0].backend(kind, secret, "s1")
				ann := w[1].joins(secret, 7, "ann")
				ann.sends("hello")
				b2 := w[1].backend(kind, secret, "s2")
				b2.take()
				w[0].breaks(b1)
				synctest.Wait()
				spoken := speak(w[1], ann)
				synctest.Wait()
				if n := len(spoken); n > 0 {
					t.Errorf("%d messages were taken for an instance that is away", n)
				}
				time.Sleep(5 * time.Second)
				want(t, "the other instance", b2.take(), "open 7 ann"+all(2))
				for range most {
					<-spoken
				}
				ann.leaves()
			})
		})
		t.Run(kind.String()+" comes back", func(t *testing.T) {
			inNodes(t, 2, nil, func(_ *nodes, w []*world) {
				b := w[0].backend(kind, secret, "s1")
				ann := w[1].joins(secret, 7, "ann")
				ann.sends("hello")
				w[0].breaks(b)
				synctest.Wait()
				spoken := speak(w[1], ann)
				time.Sleep(100 * time.Millisecond)
				bob := w[1].joins(secret, 7, "bob")
				bob.seat.Drained()
				b = w[0].backend(kind, secret, "s1")
				synctest.Wait()
				if got := b.take(); !strings.Contains(got, strings.TrimPrefix(all(2), "; ")) {
					t.Errorf("the instance got %s, want %s in it", got, all(2))
				}
				if got := ann.take(); kind == tunnel.Native && strings.Contains(got, "ack") {
					t.Errorf("ann was told %s by nobody who knows", got)
				}
				for range most {
					<-spoken
				}
				bob.leaves()
				ann.leaves()
			})
		})
	}
}
