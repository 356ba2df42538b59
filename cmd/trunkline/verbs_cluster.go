package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
)

// clusterOf answers how the cluster is, or nil where the node has none to tell of.
func clusterOf(ctx context.Context, client *admin.Client) (*admin.ClusterStatus, error) {
	st, err := client.ClusterStatus(ctx)
	var failed *admin.Failure
	if errors.As(err, &failed) && failed.Status == http.StatusNotImplemented {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &st, nil
}

func clusterRows(t io.Writer, c *admin.ClusterStatus) {
	row(t, "")
	row(t, "cluster", fmt.Sprintf("%s (incarnation %s, generation %d, %s)", c.Cluster, short(c.Incarnation), c.Generation, c.Profile))
	row(t, "formed in", c.Region)
	row(t, "leader", or(c.Leader, "none known at "+c.AskedAt)+fmt.Sprintf(" (term %d)", c.Term))
	row(t, "voters", fmt.Sprintf("%s (at most %d; %s)", or(strings.Join(c.Voters, " "), "none"), c.MaxVoters, spareWord(c)))
	row(t, "")
	row(t, "NODE", "REGION", "ROLE", "APPLIED", "COMMITTED", "BEHIND", "CONTACT", "LEASE", "SESSIONS", "TUNNELS", "LINKS", "VERSION")
	for _, n := range c.Nodes {
		if n.Error != "" {
			row(t, n.NodeID, n.Error)
			continue
		}
		role := n.Role
		if n.NodeID == c.Leader {
			role = "leader"
		}
		if n.Draining {
			role += ", draining"
		}
		row(t, n.NodeID, n.Region, or(role, "-"), n.AppliedIndex, n.CommitIndex, n.Lag, millisWord(n.ContactMillis), leaseWord(n.LeaseHeld, n.LeaseMillis), n.Sessions, n.Tunnels, linksWord(n.Links), n.Version)
	}
	for _, p := range c.Unreachable {
		text := fmt.Sprintf("%s and %s cannot reach each other since %s", p.From, p.To, p.Since.UTC().Format(time.RFC3339))
		if p.Error != "" {
			text += ": " + p.Error
		}
		row(t, text)
	}
}

// spareWord says how many more voters may fail before nothing can be agreed on.
func spareWord(c *admin.ClusterStatus) string {
	answering := 0
	for _, n := range c.Nodes {
		if n.Error == "" && slices.Contains(c.Voters, n.NodeID) {
			answering++
		}
	}
	switch spare := answering - (len(c.Voters)/2 + 1); {
	case spare < 0:
		return "too few of them answer to agree on anything"
	case spare == 0:
		return "none may fail"
	default:
		return fmt.Sprintf("%d more may fail", spare)
	}
}

func millisWord(n int64) string {
	if n < 0 {
		return "-"
	}
	return (time.Duration(n) * time.Millisecond).String()
}

func countWord(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func leaseWord(held bool, millis int64) string {
	if !held {
		return "not held"
	}
	return millisWord(millis)
}

func linksWord(links []admin.Link) string {
	up, down, unacked := 0, 0, 0
	for _, l := range links {
		if l.Connected {
			up++
		} else {
			down++
		}
		unacked += l.Unacked
	}
	text := fmt.Sprintf("%d up", up)
	if down > 0 {
		text += fmt.Sprintf(", %d down", down)
	}
	if unacked > 0 {
		text += fmt.Sprintf(", %s unacked", size(unacked))
	}
	return text
}

type membersCommand struct {
	reading
	listing
}

// Run lists nodes.
func (c *membersCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Members(ctx)
	if err != nil {
		return err
	}
	return c.print(w, admin.MemberList{Members: list}, func(t io.Writer) {
		row(t, "NODE", "STATE", "ROLE", "REGION", "NODE PORT", "GOSSIP", "SESSION", "BOOT", "LEASE", "BEHIND", "VERSION")
		for _, m := range list {
			role := m.Role
			if m.Leader {
				role = "leader"
			}
			state := m.State
			if m.Draining {
				state += ", draining"
			}
			row(t, m.NodeID, state, or(role, "-"), or(m.Region, "-"), or(m.NodeAddr, "-"), or(m.GossipAddr, "-"), m.Session, m.Boot, millisWord(m.LeaseMillis), countWord(m.Lag), or(m.Version, "-"))
		}
	})
}

type raftCommand struct {
	Peers peersCommand `cmd:"" help:"List the servers of raft's configuration."`
}

type peersCommand struct {
	reading
	listing
}

// Run lists raft's servers.
func (c *peersCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	peers, err := client.Peers(ctx)
	if err != nil {
		return err
	}
	return c.print(w, peers, func(t io.Writer) {
		row(t, "NODE", "SERVER", "ADDRESS", "ROLE", "CONTACT")
		for _, p := range peers.Peers {
			role := "non-voter"
			switch {
			case p.Leader:
				role = "leader"
			case p.Voter:
				role = "voter"
			}
			name := p.NodeID
			if p.Self {
				name += " (asked)"
			}
			row(t, name, p.ServerID, p.Addr, role, millisWord(p.ContactMillis))
		}
	})
}

// sure is how a verb that takes something away asks first.
type sure struct {
	Yes bool `help:"Do not ask."`
}

// confirm has the operator type a word, unless he said --yes.
func (s *sure) confirm(w *world, warning, what, word string) error {
	if s.Yes {
		return nil
	}
	_, _ = fmt.Fprintf(w.stderr, "%s Type %s to go on: ", warning, what)
	var typed string
	_, err := fmt.Fscanln(w.stdin, &typed)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		_, _ = fmt.Fprintln(w.stderr) // nobody has pressed return
	}
	if typed != word {
		return errors.New("nothing was done (--yes does it without asking)")
	}
	return nil
}

type leaveCommand struct {
	remote
	listing
	sure
}

// Run takes the node that is asked out of its cluster.
func (c *leaveCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("%s leaves the cluster for good and stops: its clients and backends go to other nodes.", st.NodeID)
	if err := c.confirm(w, warning, "its name", st.NodeID); err != nil {
		return err
	}
	left, err := client.Leave(ctx)
	if err != nil {
		return err
	}
	return c.print(w, left, func(t io.Writer) {
		row(t, "left", left.NodeID)
		row(t, "The node stops now. Keep it from being started again; its data directory is of no more use.")
	})
}

// oneNode names the node of a verb.
type oneNode struct {
	Node string `arg:"" help:"The node's name, as members shows it."`
}

type forceRemoveCommand struct {
	remote
	listing
	sure
	oneNode
}

// Run takes a node out that is gone for good.
func (c *forceRemoveCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("This takes the node %s out of the cluster as if it were gone for good: its session ends, and states whose backends were on it move.", clip(c.Node))
	members, err := client.Members(ctx)
	if err != nil {
		return err
	}
	live := slices.ContainsFunc(members, func(m admin.Member) bool { return m.NodeID == c.Node && m.State == "live" })
	if live {
		warning += " It is live now: have it leave instead (`trunkline leave` there)."
	} else {
		warning += " If it runs still, have it leave instead (`trunkline leave` there)."
	}
	if slices.ContainsFunc(members, func(m admin.Member) bool { return m.NodeID == c.Node && m.State == "revoked" }) {
		warning += " It is revoked, and this lifts that: a certificate that it still has is good again."
	}
	if err := c.confirm(w, warning, "its name", c.Node); err != nil {
		return err
	}
	removed, err := client.ForceRemove(ctx, c.Node)
	if err != nil {
		return err
	}
	return c.print(w, removed, func(t io.Writer) {
		row(t, "removed", removed.NodeID)
		if live {
			row(t, "It was live: stop it, or it joins anew.")
		}
	})
}

type revokeCommand struct {
	remote
	listing
	sure
	oneNode
}

// Run makes the cluster refuse a node's certificate.
func (c *revokeCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("This makes every node refuse the certificate of %s, for good, and cuts its connections. Whoever has its disk also has the key file: rotate the cluster's secret too (`trunkline key add`).", clip(c.Node))
	if err := c.confirm(w, warning, "its name", c.Node); err != nil {
		return err
	}
	revoked, err := client.Revoke(ctx, c.Node)
	if err != nil {
		return err
	}
	return c.print(w, revoked, func(t io.Writer) { row(t, "revoked", revoked.NodeID) })
}
