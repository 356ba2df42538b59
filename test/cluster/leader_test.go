package cluster

import (
	"testing"
	"time"
)

// The leader is killed again and again, and starts again each time. Players whose node and whose backend's node live do
// not notice; states can be created again as soon as there is a leader.
func TestLeadersDieInARow(t *testing.T) {
	tell(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, longer([]string{"us", "us", "us"}, []string{"us", "us", "us", "us", "us"})...)
		l := w.work(plan{backends: len(w.nodes), players: longer(9, 20)})
		w.voters(len(w.nodes))
		var leaderless, pauses times
		untouched := 0
		for range longer(3, 20) {
			leader := w.leader()
			asked := w.others(leader)
			flows := l.flows(asked[0])
			apart := func(user string) bool {
				f, ok := flows[user]
				return ok && f[0] != leader.name && f[1] != leader.name
			}
			for user := range flows {
				if apart(user) {
					untouched++
				}
			}
			at := leader.kill()
			l.creatable(t, asked[0])
			leaderless.add(time.Since(at))
			w.leader()
			gap, who := l.longest(at, time.Now(), apart)
			pauses.add(gap)
			if gap > time.Second+slack {
				t.Errorf("%s, of whom nothing died, waited %v for an answer", who, gap)
			}
			leader.restart()
			w.voters(len(w.nodes))
			l.everybody(time.Now())
		}
		t.Logf("from the leader's death to an acknowledged create: %v", &leaderless)
		t.Logf("longest pause of players of whom nothing died (%d of them over all deaths): %v", untouched, &pauses)
		if untouched == 0 {
			t.Error("every leader that died was everybody's node: nothing was tested")
		}
		w.settle()
	})
}

// times sums up durations for the log.
type times struct {
	n                 int
	sum, least, worst time.Duration
}

func (s *times) add(d time.Duration) {
	if s.n == 0 || d < s.least {
		s.least = d
	}
	s.n++
	s.sum += d
	s.worst = max(s.worst, d)
}

func (s *times) String() string {
	if s.n == 0 {
		return "none"
	}
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return ms(s.least).String() + " to " + ms(s.worst).String() + ", mean " + ms(s.sum/time.Duration(s.n)).String()
}
