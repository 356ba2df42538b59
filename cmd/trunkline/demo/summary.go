package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Summary is what became of every message.
type Summary struct {
	Clients    int `json:"clients"`
	Connected  int `json:"connected"`
	Rooms      int `json:"rooms"`
	Sent       int `json:"sent"`
	Answered   int `json:"answered"`
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	OutOfOrder int `json:"out_of_order"`
	Misrouted  int `json:"misrouted"`
	Gaps       int `json:"gaps_announced"`
	// Disconnects are those of clients whose node lived.
	Disconnects int `json:"disconnects"`
	// LongestGap is the longest time that a client with an open question waited between two answers, in seconds.
	LongestGap float64 `json:"longest_gap_seconds"`
	// Moved are the rooms of the killed instance, with the time until each answered again; 0: it did not.
	Moved []Moved `json:"moved"`
	// Recovery is the longest of these times in seconds.
	Recovery float64 `json:"recovery_seconds"`
	// Unrecovered is how many rooms of the killed instance have not answered since.
	Unrecovered int `json:"unrecovered"`
	// Node is what the death of a node came to.
	Node    NodeDeath `json:"node"`
	Seconds float64   `json:"seconds"`
}

// Moved is one room of the killed instance.
type Moved struct {
	Room    string  `json:"room"`
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
}

// NodeDeath is what became of the clients of the killed node, and of the rooms whose tunnel it held.
type NodeDeath struct {
	Name       string `json:"name"` // empty: none was killed
	Clients    int    `json:"clients"`
	Reconnects int    `json:"reconnects"`
	// Reconnected is the time until the last of these clients was connected to another node, Answered until the last of
	// them was answered there, both in seconds; Unanswered is how many were not.
	Reconnected float64 `json:"reconnected_seconds"`
	Answered    float64 `json:"answered_seconds"`
	Unanswered  int     `json:"unanswered"`
	// Rooms is how many had their tunnel there. They answer from the same instance by another node: Resumed is the time
	// in seconds until the last of them did, Silent how many have not, Strays how many did from another instance.
	Rooms   int     `json:"rooms"`
	Resumed float64 `json:"resumed_seconds"`
	Silent  int     `json:"silent"`
	Strays  int     `json:"strays"`
}

// summary reckons everything up. What has no answer yet counts as lost.
func (l *ledger) summary(now time.Duration) Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Summary{Clients: len(l.clients), Rooms: len(l.rooms), Unrecovered: l.instance.waiting, Seconds: now.Seconds()}
	longest := time.Duration(0)
	for i := range l.clients {
		t := &l.clients[i]
		s.Sent += int(t.sent)
		s.Answered += int(t.answered)
		s.Duplicated += int(t.repeated)
		s.OutOfOrder += int(t.backward)
		s.Misrouted += int(t.strange)
		s.Gaps += t.gaps
		s.Disconnects += t.disconnects
		if t.connected {
			s.Connected++
		}
		longest = max(longest, t.longest)
		if t.sent > t.newest {
			longest = max(longest, now-t.last)
		}
	}
	s.Lost = s.Sent - s.Answered
	s.LongestGap = longest.Seconds()
	for _, r := range l.rooms {
		if r.moved > 0 || r.waits == &l.instance {
			s.Moved = append(s.Moved, Moved{Room: r.id, To: r.instance, Seconds: r.moved.Seconds()})
			s.Recovery = max(s.Recovery, r.moved.Seconds())
		}
	}
	s.Node = l.nodeDeath()
	return s
}

// nodeDeath reckons up the death of the node; l.mu is held.
func (l *ledger) nodeDeath() NodeDeath {
	d := NodeDeath{Name: l.node.name, Silent: l.node.waiting, Strays: l.strays}
	for i := range l.clients {
		t := &l.clients[i]
		if !t.orphan {
			continue
		}
		d.Clients++
		if t.returned > 0 {
			d.Reconnects++
		}
		if t.answeredIn == 0 {
			d.Unanswered++
		}
		d.Reconnected = max(d.Reconnected, t.returned.Seconds())
		d.Answered = max(d.Answered, t.answeredIn.Seconds())
	}
	for _, r := range l.rooms {
		if r.resumed > 0 || r.waits == &l.node {
			d.Rooms++
			d.Resumed = max(d.Resumed, r.resumed.Seconds())
		}
	}
	return d
}

// verdict says whether the world kept what Trunkline promises.
func (s *Summary) verdict() error {
	switch {
	case s.Disconnects > 0:
		return fmt.Errorf("%w (%d times)", ErrDisconnected, s.Disconnects)
	case s.Unrecovered > 0:
		return fmt.Errorf("%w (%d of %d)", ErrUnrecovered, s.Unrecovered, len(s.Moved))
	case s.Node.Unanswered > 0:
		return fmt.Errorf("%w (%d of %d)", ErrUnanswered, s.Node.Unanswered, s.Node.Clients)
	case s.Node.Silent > 0 || s.Node.Strays > 0:
		return fmt.Errorf("%w (of %d, %d are silent and %d went to another backend)", ErrNotResumed, s.Node.Rooms, s.Node.Silent, s.Node.Strays)
	case s.Duplicated > 0 || s.OutOfOrder > 0 || s.Misrouted > 0:
		return fmt.Errorf("%w (%d twice, %d out of order, %d to somebody else)", ErrDisorder, s.Duplicated, s.OutOfOrder, s.Misrouted)
	}
	return nil
}

func (s *Summary) write(o options, out io.Writer) error {
	if o.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	_, err := fmt.Fprintf(out, `
clients         %d in %d rooms, %d connected at the end
sent            %d
answered        %d
lost            %d
duplicated      %d
out of order    %d, misrouted %d, gaps announced %d
longest gap     %.2f s between two answers to one client
disconnects     %d of clients whose node lived
killed backend  had %d rooms; %s
killed node     had %d clients: %d connected elsewhere within %.2f s; %s
                and the tunnel of %d rooms: %d went to another backend; %s
`, s.Clients, s.Rooms, s.Connected, s.Sent, s.Answered, s.Lost, s.Duplicated, s.OutOfOrder, s.Misrouted, s.Gaps,
		s.LongestGap, s.Disconnects, len(s.Moved), again(s.Unrecovered, s.Recovery),
		s.Node.Clients, s.Node.Reconnects, s.Node.Reconnected, again(s.Node.Unanswered, s.Node.Answered),
		s.Node.Rooms, s.Node.Strays, again(s.Node.Silent, s.Node.Resumed))
	return err
}

func again(missing int, seconds float64) string {
	if missing > 0 {
		return fmt.Sprintf("%d WERE NOT ANSWERED AGAIN", missing)
	}
	return fmt.Sprintf("all answered again after %.2f s", seconds)
}
