package consensus

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// peersOf reads "a:V b:v c:d x:-": the letter is the id; V a live voter at home, v one elsewhere, D and d a dead voter, C and
// c a live one without a vote that has caught up, N and n one that has not, X and x a dead one without a vote. A trailing
// ! is one that leaves. The first is the leader.
func peersOf(text string) (peers []Peer, leader string) {
	for _, f := range strings.Fields(text) {
		id, kind, _ := strings.Cut(f, ":")
		p := Peer{ID: id, Leaving: strings.HasSuffix(kind, "!")}
		k := kind[0]
		p.Home = k < 'a'
		switch k | 0x20 {
		case 'v':
			p.Voter, p.Live, p.CaughtUp = true, true, true
		case 'd':
			p.Voter = true
		case 'c':
			p.Live, p.CaughtUp = true, true
		case 'n':
			p.Live = true
		}
		peers = append(peers, p)
	}
	return peers, peers[0].ID
}

func TestPlannedVoters(t *testing.T) {
	for _, c := range []struct {
		what, peers string
		most        int
		want        string
	}{
		{"alone", "a:V", 5, ""},
		{"a second has no use for a vote", "a:V b:C", 5, ""},
		{"the third makes three voters", "a:V b:C c:C", 5, "+b +c"},
		{"not before both have caught up", "a:V b:C c:N", 5, ""},
		{"five", "a:V b:V c:V d:C e:C", 5, "+d +e"},
		{"three are enough", "a:V b:V c:V d:C e:C", 3, ""},
		{"an even limit is one less", "a:V b:V c:V d:C e:C", 4, ""},
		{"a limit of none is one", "a:V b:C c:C", 0, ""},
		{"no more than five", "a:V b:V c:V d:V e:V f:C g:C", 5, ""},
		{"seven where seven may be", "a:V b:V c:V d:V e:V f:C g:C", 7, "+f +g"},
		{"a fourth waits", "a:V b:V c:V d:C", 5, ""},
		{"home first", "a:V b:c c:C d:C", 3, "+c +d"},
		{"elsewhere when home has not enough", "a:V b:c c:C d:c", 3, "+c +b"},
		{"equal ones by id", "a:V d:c c:c b:c", 3, "+b +c"},
		{"a dead voter is replaced", "a:V b:D c:V d:C", 3, "+d -b"},
		{"from elsewhere too", "a:V b:D c:V d:c", 3, "+d -b"},
		{"by one that has caught up", "a:V b:D c:V d:N", 3, ""},
		{"not without another", "a:V b:D c:V", 3, ""},
		{"nor does the set shrink", "a:V b:D c:D d:V e:V", 5, ""},
		{"two dead of five, one after the other", "a:V b:D c:D d:V e:V f:C g:C", 5, "+f -c +g -b"},
		{"two dead of five, one to replace them", "a:V b:D c:D d:V e:V f:C", 5, "+f -c"},
		{"replaced first, then more", "a:V b:D c:V d:C e:C f:C", 5, "+d -b +e +f"},
		{"dead ones without a vote are nobody", "a:V b:X c:x", 5, ""},
		{"an even set is completed", "a:V b:V c:C", 3, "+c"},
		{"an even set does not shrink by itself", "a:V b:V", 3, ""},
		{"no majority: nothing can be done", "a:V b:D c:D d:C e:C", 3, ""},
		{"one leaves, another takes its place", "a:V b:V c:V! d:C", 3, "+d -c"},
		{"one of three leaves", "a:V b:V c:V!", 3, "-c -b"},
		{"one of five leaves", "a:V b:V c:V d:V e:V!", 5, "-e -d"},
		{"two of five leave", "a:V b:V c:V d:V! e:V!", 5, "-e -d"},
		{"one leaves that is dead already", "a:V b:V c:D!", 3, "-c -b"},
		{"one leaves while another is dead", "a:V b:D c:V!", 3, "-b -c"},
		{"one without a vote leaves", "a:V b:V c:V d:C!", 3, ""},
		{"a leader that leaves keeps its vote until it has handed over", "a:V! b:V c:V d:C", 3, "+d"},
		{"who leaves gets no vote", "a:V b:C! c:C d:C", 3, "+c +d"},
		{"one comes home", "a:V b:v c:V d:C", 3, "+d -b"},
		{"two come home", "a:V b:v c:v d:C e:C", 3, "+d -c +e -b"},
		{"the leader stays though it is elsewhere", "a:v b:V c:V d:C", 3, ""},
		{"nobody moves away", "a:V b:V c:V d:c", 3, ""},
	} {
		peers, leader := peersOf(c.peers)
		if got := steps(PlanVoters(peers, leader, c.most)); got != c.want {
			t.Errorf("%s: of %q, at most %d: %q, want %q", c.what, c.peers, c.most, got, c.want)
		}
	}
}

func steps(changes []Change) string {
	var out []string
	for _, c := range changes {
		out = append(out, map[bool]string{true: "+", false: "-"}[c.Promote]+c.ID)
	}
	return strings.Join(out, " ")
}

// Whatever there is: no step takes a majority away or the leader's vote, the plan is done when it was followed, its order
// of peers does not matter, and no set shrinks unless one leaves.
func TestPlanIsSafeStepByStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		text := "a:V"
		for i := range rng.IntN(9) {
			text += fmt.Sprintf(" %c:%c", 'b'+i, "VvDdCcNnXx"[rng.IntN(10)])
			if rng.IntN(8) == 0 {
				text += "!"
			}
		}
		peers, leader := peersOf(text)
		most := rng.IntN(8)
		changes := PlanVoters(peers, leader, most)
		shuffled := slices.Clone(peers)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := PlanVoters(shuffled, leader, most); !slices.Equal(again, changes) {
			t.Fatalf("%q: %s, and in another order %s", text, steps(changes), steps(again))
		}
		staying := func() (n int) {
			for _, p := range peers {
				if p.Voter && !p.Leaving {
					n++
				}
			}
			return n
		}
		before, leaves := staying(), strings.Contains(text, "!")
		for k, c := range changes {
			i := slices.IndexFunc(peers, func(p Peer) bool { return p.ID == c.ID })
			if peers[i].Voter == c.Promote || c.ID == leader {
				t.Fatalf("%q: step %d of %s", text, k, steps(changes))
			}
			if c.Promote && (!peers[i].Live || !peers[i].CaughtUp || peers[i].Leaving) {
				t.Fatalf("%q: step %d of %s promotes a stranger", text, k, steps(changes))
			}
			peers[i].Voter = c.Promote
			all, live := 0, 0
			for _, p := range peers {
				if p.Voter {
					if all++; p.Live {
						live++
					}
				}
			}
			if live < all/2+1 {
				t.Fatalf("%q: step %d of %s leaves %d of %d voters alive", text, k, steps(changes), live, all)
			}
		}
		if after := staying(); after < before && !leaves {
			t.Fatalf("%q: %s leaves %d voters of %d", text, steps(changes), after, before)
		}
		if more := PlanVoters(peers, leader, most); len(more) > 0 {
			t.Fatalf("%q: %s, and then %s", text, steps(changes), steps(more))
		}
	}
}
