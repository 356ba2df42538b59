package main

import (
	"context"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/trunkline-edge/trunkline/cmd/trunkline/bench"
	"github.com/trunkline-edge/trunkline/cmd/trunkline/demo"
)

// grammar is the whole command line.
type grammar struct {
	Dev   devCommand   `cmd:"" help:"Run one node in memory on this machine, for development."`
	Demo  demoCommand  `cmd:"" passthrough:"" help:"Run a small world in which a backend and a node die, and check every message."`
	Serve serveCommand `cmd:"" help:"Run a node."`

	Keygen keygenCommand `cmd:"" help:"Make the key file of a cluster."`

	Status    statusCommand    `cmd:"" help:"Say what a node is and how much it holds, and how its cluster is." group:"A running node:"`
	Members   membersCommand   `cmd:"" help:"List the nodes of a cluster." group:"A running node:"`
	Apps      appsCommand      `cmd:"" help:"Make, list and change apps." group:"A running node:"`
	Instances instancesCommand `cmd:"" help:"List backends." group:"A running node:"`
	States    statesCommand    `cmd:"" help:"List states." group:"A running node:"`
	Where     whereCommand     `cmd:"" help:"Say which backend has a state." group:"A running node:"`
	Connect   connectCommand   `cmd:"" help:"Connect to a state as a client: lines typed are sent, messages received are printed." group:"A running node:"`
	Token     tokenCommand     `cmd:"" help:"Mint a token to test with." group:"A running node:"`

	Raft        raftCommand        `cmd:"" help:"Look at raft." group:"A cluster:"`
	Leave       leaveCommand       `cmd:"" help:"Take a node out of its cluster and stop it." group:"A cluster:"`
	ForceRemove forceRemoveCommand `cmd:"" help:"Take a node out that is gone for good." group:"A cluster:"`
	Revoke      revokeCommand      `cmd:"" help:"Have every node refuse a node's certificate." group:"A cluster:"`
	Key         keyCommand         `cmd:"" help:"Rotate the secret of a cluster." group:"A cluster:"`
	Snapshot    snapshotCommand    `cmd:"" help:"Save, restore and look at the table." group:"A cluster:"`
	Recover     recoverCommand     `cmd:"" help:"Make a stopped voter the only one, when the others are lost." group:"A cluster:"`

	Bench      benchCommand      `cmd:"" passthrough:"" help:"Measure a node beside a floor." group:"Tools:"`
	Config     configCommand     `cmd:"" help:"Check a configuration." group:"Tools:"`
	Completion completionCommand `cmd:"" help:"Print a completion script for a shell." group:"Tools:"`
	Version    versionCommand    `cmd:"" help:"Print the version." group:"Tools:"`
}

// describeValue adds to a flag's help what it takes, its default and its name in
// the environment.
func describeValue(value *kong.Value) string {
	text := value.Help
	if value.Enum != "" {
		text += " One of " + strings.ReplaceAll(value.Enum, ",", ", ") + "."
	}
	if value.Default != "" && value.Default != "false" {
		text += " Default: " + value.Default + "."
	}
	if value.Flag != nil && value.Name != "help" {
		text += " ($" + envName(value.Name) + ")"
	}
	return strings.TrimSpace(text)
}

type demoCommand struct {
	Args []string `arg:"" optional:""`
}

// Run runs the demonstration.
func (c *demoCommand) Run(ctx context.Context, w *world) error {
	ctx, cancel := w.untilSignal(ctx)
	defer cancel()
	return demo.Run(ctx, c.Args, w.stdout)
}

type benchCommand struct {
	Args []string `arg:"" optional:""`
}

// Run runs a benchmark.
func (c *benchCommand) Run(ctx context.Context, w *world) error {
	ctx, cancel := w.untilSignal(ctx)
	defer cancel()
	return bench.Run(ctx, c.Args, w.stdout)
}
