package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// answered waits until each of some players has had an answer to a message that it sent after a time, and says how long
// that took for the last of them, counted from that time.
func (l *load) answered(what string, after time.Time, which func(user string) bool) time.Duration {
	l.w.t.Helper()
	var last time.Time
	until(l.w.t, what+" to be answered", patience, func() bool {
		first, sent := map[string]time.Time{}, map[string]int{}
		for _, e := range l.since(0) {
			switch {
			case e.At < after.UnixNano():
			case e.Op == "sent" && sent[e.User] == 0:
				sent[e.User] = e.N
			case e.Op == "heard" && sent[e.User] > 0 && e.N >= sent[e.User] && first[e.User].IsZero():
				first[e.User] = e.at()
			}
		}
		last = after
		for _, p := range l.players {
			if !which(p.User) {
				continue
			}
			at, ok := first[p.User]
			if !ok {
				return false
			}
			if at.After(last) {
				last = at
			}
		}
		return true
	})
	return last.Sub(after)
}

// everybody waits until every player is answered again.
func (l *load) everybody(after time.Time) time.Duration {
	l.w.t.Helper()
	return l.answered("everybody", after, func(string) bool { return true })
}

// flows says, for every player that is served right now, at which node it is and which node holds its state's tunnel.
func (l *load) flows(asked *node) map[string][2]string {
	rows := l.rows(asked)
	edge, last := map[string]string{}, map[string]int64{}
	for _, e := range l.since(0) {
		switch e.Op {
		case "connected":
			edge[e.User] = l.nodeAt(e.Addr)
		case "disconnected":
			delete(edge, e.User)
		case "heard":
			last[e.User] = e.At
		}
	}
	now := time.Now()
	all := map[string][2]string{}
	for _, p := range l.players {
		if at, ok := edge[p.User]; ok && now.Sub(time.Unix(0, last[p.User])) < 5*l.plan.pace {
			all[p.User] = [2]string{at, rows[p.State].NodeID}
		}
	}
	return all
}

// nodeAt is the node that an address of a player or backend leads to.
func (l *load) nodeAt(addr string) string {
	for _, n := range l.w.nodes {
		if strings.Contains(addr, n.host.Addr.String()+":") {
			return n.name
		}
	}
	return ""
}

// longest is the longest time without an answer of any of some players between two moments.
func (l *load) longest(from, to time.Time, which func(user string) bool) (worst time.Duration, who string) {
	last := map[string]time.Time{}
	for _, p := range l.players {
		if which(p.User) {
			last[p.User] = from
		}
	}
	count := func(user string, at time.Time) {
		if gap := at.Sub(last[user]); gap > worst {
			worst, who = gap, user
		}
		last[user] = at
	}
	for _, e := range l.of("heard") {
		if _, ok := last[e.User]; ok && e.at().After(from) && e.at().Before(to) {
			count(e.User, e.at())
		}
	}
	for user := range last {
		count(user, to)
	}
	return worst, who
}

// rows are all states of the app as a node has them, nil when it does not answer.
func (l *load) rows(n *node) map[string]admin.State {
	all, after := map[string]admin.State{}, ""
	for {
		ctx, cancel := call()
		page, err := n.operator().States(ctx, l.app.id, after, admin.MaxPage)
		cancel()
		if err != nil {
			return nil
		}
		for _, s := range page.States {
			s.Sessions = 0 // of that node alone
			all[s.State] = s
		}
		if after = page.Next; after == "" {
			return all
		}
	}
}

// creatable waits until a node makes a state, and says how long that took.
func (l *load) creatable(t *testing.T, at *node) time.Duration {
	t.Helper()
	return until(t, "a create at "+at.name, patience, func() bool {
		ctx, cancel := call()
		defer cancel()
		token, err := at.operator().MintToken(ctx, l.app.id, admin.TestToken{User: "creator"})
		return err == nil && l.create("story", at, token.Token) != ""
	})
}

// epochs are those of all firm states of the app, as a node has them: a create under way may be taken back.
func (l *load) epochs(n *node) map[string]uint64 {
	all := map[string]uint64{}
	for state, row := range l.rows(n) {
		if row.Status == "firm" {
			all[state] = row.Epoch
		}
	}
	return all
}

// firstAttached is how long after a moment the last of the backends that lost their tunnels was attached again.
func (l *load) firstAttached(at time.Time) (took time.Duration) {
	for _, e := range l.of("attached") {
		if e.at().After(at) {
			took = max(took, e.at().Sub(at))
		}
	}
	return took
}
