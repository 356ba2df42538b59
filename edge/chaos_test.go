package edge

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// story is a run of random events over three nodes, after which everything must have come to rest.
type story struct {
	t      *testing.T
	rng    *rand.Rand
	c      *nodes
	w      []*world
	kinds  []tunnel.Kind
	tuns   []*fakeTunnel // by instance; nil while it has no tunnel
	heard  []string      // by instance, all its tunnels
	here   []*player
	begin  time.Time
	left   int  // events
	inside bool // a link is cut
}

func TestEverythingComesToRest(t *testing.T) {
	const seeds = 12
	first := rand.Uint64() % 1_000_000
	if again := os.Getenv("TRUNKLINE_SEED"); again != "" {
		fmt.Sscan(again, &first)
	}
	t.Logf("seeds %d to %d", first, first+seeds-1)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inNodes(t, 3, nil, func(c *nodes, w []*world) {
				s := &story{
					t: t, rng: rand.New(rand.NewPCG(seed, 0)), c: c, w: w,
					kinds: []tunnel.Kind{tunnel.Legacy, tunnel.Native, tunnel.Legacy, tunnel.Native},
				}
				s.begin = time.Now()
				s.tuns, s.heard = make([]*fakeTunnel, len(s.kinds)), make([]string, len(s.kinds))
				for s.left = 150; s.left > 0; {
					s.meanwhile(s.left + 1)
				}
				s.rest()
			})
		})
	}
}

// app keeps legacy and native instances apart, so that a state stays with its kind.
func (s *story) app(i int) string {
	return fmt.Sprintf("the secret of %s backends", s.kinds[i%len(s.kinds)])
}

// say notes what happens, for whoever runs the test again with TRUNKLINE_SEED and -v.
func (s *story) say(format string, a ...any) {
	if testing.Verbose() {
		s.t.Logf("%6.1f %s", time.Since(s.begin).Seconds(), fmt.Sprintf(format, a...))
	}
}

func (s *story) event() {
	switch n := s.rng.IntN(10); {
	case n < 3:
		s.joins()
	case n < 5 && len(s.here) > 0:
		i := s.rng.IntN(len(s.here))
		p := s.here[i]
		if p.busy.Load() {
			return
		}
		s.say("leaves %s %s of node %d app %s", p.state, p.user, s.c.indexOf(p.w.placer.node), p.app)
		p.leaves()
		s.here = append(s.here[:i], s.here[i+1:]...)
	case n < 6:
		s.attach(s.rng.IntN(len(s.tuns)))
	case n < 7:
		s.breaks(s.rng.IntN(len(s.tuns)))
	case n < 8 && !s.inside:
		s.inside = true
		a, b := s.rng.IntN(3), s.rng.IntN(3)
		s.say("cut %d %d", a, b)
		s.c.cut(a, b, s.rng.IntN(2) == 0)
		s.meanwhile(12) // for less than a lane is remembered without a connection
		s.c.cut(a, b, false)
		s.inside = false
		s.say("healed %d %d", a, b)
	case n < 9: // a table that is behind for longer than a lease lasts ends its node
		p := s.w[s.rng.IntN(3)].placer
		p.hold(true)
		s.joins()
		s.attach(s.rng.IntN(len(s.tuns)))
		time.Sleep(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
		p.hold(false)
	case len(s.here) > 0:
		if p := s.here[s.rng.IntN(len(s.here))]; !p.busy.Load() {
			p.sends("x")
		}
	}
}

// meanwhile lets up to n other events happen.
func (s *story) meanwhile(n int) {
	for range s.rng.IntN(n) {
		if s.left--; s.left < 0 {
			return
		}
		s.event()
		time.Sleep(time.Duration(s.rng.IntN(800)) * time.Millisecond)
	}
}

func (s *story) joins() {
	w, app := s.w[s.rng.IntN(3)], s.app(s.rng.IntN(2))
	state, user := wire.StateID(s.rng.IntN(5)+1), fmt.Sprint("user", s.rng.IntN(4))
	p, refusal := w.tries(app, state, user)
	s.say("joins %s %s at node %d app %s: %v", state, user, s.c.indexOf(w.placer.node), app, refusal)
	if refusal == nil {
		p.state, p.app, p.user = state, app, user
		s.here = append(s.here, p)
	}
}

// attach gives an instance a tunnel at a random node, as a backend that dials again does.
func (s *story) attach(i int) {
	s.collect(i)
	if old := s.tuns[i]; old != nil && s.kinds[i] == tunnel.Legacy {
		s.breaks(i)
	}
	tun := newFakeTunnel(s.kinds[i])
	s.tuns[i] = tun
	at := s.rng.IntN(3)
	s.say("attach instance %d at node %d", i, at)
	s.w[at].attach(tun, s.app(i), fmt.Sprint("s", i))
}

func (s *story) breaks(i int) {
	if tun := s.tuns[i]; tun != nil {
		s.collect(i)
		s.say("breaks instance %d", i)
		tun.Close(tunnel.ReasonPeer)
		s.tuns[i] = nil
		synctest.Wait()
	}
}

func (s *story) collect(i int) {
	if tun := s.tuns[i]; tun != nil {
		if h := tun.take(); h != "" {
			s.say("instance %d heard %s", i, h)
			s.heard[i] += "; " + h
		}
	}
}

// rest heals everything, looks whether whoever is left is served, and lets them all leave.
func (s *story) rest() {
	s.say("rest")
	for i := range 3 {
		s.w[i].placer.hold(false)
		for j := range 3 {
			s.c.cut(i, j, false)
		}
	}
	for i := range s.tuns {
		s.attach(i)
	}
	time.Sleep(50 * time.Second)
	for i, p := range s.here {
		if p.take(); p.busy.Load() {
			s.t.Errorf("%s in state %s is still held", p.user, p.state)
			continue
		}
		p.sends(fmt.Sprint("last words of ", i))
	}
	time.Sleep(5 * time.Second)
	for i := range s.tuns {
		s.collect(i)
	}
	all := strings.Join(s.heard, "|")
	for i, p := range s.here {
		if n := strings.Count(all, fmt.Sprintf("%q", fmt.Sprint("last words of ", i))); n != 1 && p.seat.(*session).index >= 0 {
			s.t.Errorf("the last words of %s in state %s arrived %d times", p.user, p.state, n)
		}
		p.leaves()
	}
	time.Sleep(time.Minute)
	for i := range s.tuns {
		s.collect(i)
		s.checkUsers(i)
	}
	for i, w := range s.w {
		if n := w.r.stats.guests.Load(); n != 0 {
			s.t.Errorf("node %d still has %d guests", i, n)
		}
		if rooms := w.r.rooms.all(); len(rooms) != 0 {
			s.t.Errorf("node %d still has %d rooms, the first in phase %d with %d holds", i, len(rooms), rooms[0].phase, rooms[0].refs)
		}
		if n := w.r.stats.sessions.Load(); n != 0 {
			s.t.Errorf("node %d still has %d sessions", i, n)
		}
	}
}

// checkUsers looks whether the last that an instance heard of each user is that he left.
func (s *story) checkUsers(i int) {
	last := make(map[string]string)
	for _, h := range strings.Split(s.heard[i], "; ") {
		if what, who, ok := strings.Cut(h, " "); ok && (what == "open" || what == "close") {
			last[who] = what
		}
	}
	for who, what := range last {
		if what == "open" && s.kinds[i] == tunnel.Legacy {
			s.t.Errorf("instance %d still believes to have %s", i, who)
		}
	}
}
