package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/wire"
)

type statusCommand struct {
	reading
	listing
}

// statusAnswer is what status --json prints.
type statusAnswer struct {
	admin.Status
	Checks  []admin.Check        `json:"checks"`
	Cluster *admin.ClusterStatus `json:"cluster,omitempty"`
	// ClusterError is why the cluster could not be asked; the node could.
	ClusterError string `json:"clusterError,omitempty"`
}

// Run prints what the node says of itself and of its cluster.
func (c *statusCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return err
	}
	ready, err := client.Ready(ctx)
	if err != nil {
		return err
	}
	answer := statusAnswer{Status: st, Checks: ready.Checks}
	if answer.Cluster, err = clusterOf(ctx, client); err != nil {
		answer.ClusterError = err.Error()
	}
	return c.print(w, answer, func(t io.Writer) {
		statusRows(t, st, ready.Checks)
		switch {
		case answer.Cluster != nil:
			clusterRows(t, answer.Cluster)
		case answer.ClusterError != "":
			row(t, "cluster", answer.ClusterError)
		}
	})
}

func statusRows(t io.Writer, st admin.Status, checks []admin.Check) {
	row(t, "node", fmt.Sprintf("%s (region %s, session %d)", st.NodeID, st.Region, st.NodeSession))
	row(t, "version", st.Version)
	row(t, "started", st.StartedAt.UTC().Format(time.RFC3339))
	row(t, "ready", yesNo(st.Ready))
	for _, check := range checks {
		if !check.OK {
			row(t, "", fmt.Sprintf("%s: %s", check.Name, check.Detail))
		}
	}
	row(t, "apps", fmt.Sprintf("%d (%s)", st.Apps, st.AppsMode))
	row(t, "instances", st.Instances)
	row(t, "states", st.States)
	row(t, "sessions", st.Sessions)
	row(t, "tls", st.TLS)
	for _, name := range slices.Sorted(maps.Keys(st.Addresses)) {
		row(t, name, strings.Join(st.Addresses[name], " "))
	}
	if st.PublicURL != "" {
		row(t, "public url", st.PublicURL)
	}
	if st.CAFile != "" {
		row(t, "ca file", st.CAFile)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// ofApp narrows a listing to one app.
type ofApp struct {
	App string `help:"Only of this app; its first digits or its name will do. 'dev' is the app of trunkline dev." placeholder:"APP"`
}

type instancesCommand struct {
	reading
	listing
	ofApp
}

// Run lists backends.
func (c *instancesCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	list, err := client.Instances(ctx, app)
	if err != nil {
		return err
	}
	return c.print(w, admin.InstanceList{Instances: list}, func(t io.Writer) {
		row(t, "INSTANCE", "APP", "STORE", "KIND", "NODE", "REGION", "TUNNEL", "STATES", "SESSIONS", "LOAD", "RTT", "CAPACITY")
		for _, in := range list {
			row(t, in.ID, short(in.App), in.StoreID, in.Kind, or(in.NodeID, "-"), or(in.Region, "-"), tunnelWord(in), in.States, in.Sessions, loadWord(in.Load), rttWord(in.RTTMillis), capacityWord(in.Capacity))
		}
	})
}

func tunnelWord(in admin.Instance) string {
	switch {
	case in.Draining:
		return "draining"
	case in.Connected:
		return "up"
	case in.Elsewhere:
		return "elsewhere"
	}
	return "down"
}

func loadWord(permille uint32) string {
	if permille == 0 {
		return "-"
	}
	return fmt.Sprintf("%d.%d%%", permille/10, permille%10)
}

func rttWord(millis float64) string {
	if millis == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", millis)
}

func capacityWord(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

type statesCommand struct {
	reading
	listing
	ofApp
	Limit int    `help:"At most this many, from 1 to 10000." placeholder:"N" default:"1000"`
	After string `help:"Continue behind this one: the 'next' of the page before." placeholder:"APP/STATE"`
}

// Run lists states.
func (c *statesCommand) Run(ctx context.Context, w *world) error {
	if c.Limit < 1 || c.Limit > admin.MaxPage {
		return misused("--limit %d: from 1 to %d", c.Limit, admin.MaxPage)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	list, err := client.States(ctx, app, c.After, c.Limit)
	if err != nil {
		return err
	}
	return c.print(w, list, func(t io.Writer) {
		row(t, "STATE", "APP", "STATUS", "STORE", "INSTANCE", "NODE", "REGION", "SESSIONS", "EPOCH")
		for _, s := range list.States {
			row(t, s.State, short(s.App), s.Status, or(s.StoreID, "-"), s.Instance, or(s.NodeID, "-"), or(s.Region, "-"), s.Sessions, s.Epoch)
		}
		if list.Next != "" {
			row(t, "more: --after "+list.Next)
		}
	})
}

type whereCommand struct {
	reading
	listing
	ofApp
	State string `arg:"" help:"The state's id, base 36."`
}

// checkState refuses what is no state's id before anybody is asked.
func checkState(text string) error {
	if _, err := wire.ParseStateID(text); err != nil {
		return misused("%q is no state's id: want letters and digits, a number in base 36 below 2^64", clip(text))
	}
	return nil
}

// Run finds a state.
func (c *whereCommand) Run(ctx context.Context, w *world) error {
	if err := checkState(c.State); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	list, err := client.Where(ctx, app, c.State)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("no app of this node has the state %s: it is placed when its first client connects (`trunkline states` lists what is there)", c.State)
	}
	return c.print(w, admin.WhereList{Where: list}, func(t io.Writer) {
		row(t, "STATE", "APP", "STATUS", "STORE", "INSTANCE", "TUNNEL", "NODE", "REGION", "SESSIONS", "EPOCH")
		for _, s := range list {
			tunnel := "gone"
			if s.Owner != nil {
				tunnel = tunnelWord(*s.Owner)
			}
			row(t, s.State.State, short(s.App), s.Status, or(s.StoreID, "-"), s.Instance, tunnel, or(s.NodeID, "-"), or(s.Region, "-"), s.Sessions, s.Epoch)
		}
	})
}

type tokenCommand struct {
	remote
	listing
	App  string `help:"App of the token; its first digits or its name will do." placeholder:"APP" default:"dev"`
	User string `help:"Id of the user. Default: a new anonymous one." placeholder:"ID"`
	Name string `help:"Name of the user." placeholder:"NAME"`
}

// Run mints a test token and prints it alone on a line.
func (c *tokenCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	app, err := findApp(ctx, client, c.App)
	if err != nil {
		return err
	}
	token, err := client.MintToken(ctx, app, admin.TestToken{User: c.User, Name: c.Name})
	if err != nil {
		return err
	}
	return c.print(w, token, func(t io.Writer) { row(t, token.Token) })
}
