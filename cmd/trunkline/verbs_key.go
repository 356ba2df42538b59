package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/trunkline-edge/trunkline/admin"
	"github.com/trunkline-edge/trunkline/cluster/trust"
)

type keygenCommand struct {
	Name   string `arg:"" optional:"" default:"trunkline" help:"Name of the cluster."`
	Output string `short:"o" help:"Write it to this new file, mode 0600, instead of printing it." placeholder:"FILE"`
}

// Run makes a key file.
func (c *keygenCommand) Run(w *world) error {
	if err := trust.CheckName(c.Name); err != nil {
		return misuse{err}
	}
	text, err := w.offline.keygen(c.Name)
	if err != nil {
		return err
	}
	if c.Output == "" {
		if _, err := w.stdout.Write(text); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--output %s: the file is there, and a cluster may live by it: name another, or move it away", c.Output)
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(c.Output)
		return fmt.Errorf("--output: %w", err)
	}
	_, _ = fmt.Fprintf(w.stderr, "%s: the key file of the cluster %s. Every node needs a copy (--key-file); who has one can join.\n", c.Output, c.Name)
	return nil
}

type keyCommand struct {
	Add    keyAddCommand    `cmd:"" help:"Send a new secret to every live member, which writes it to its key file."`
	Use    keyUseCommand    `cmd:"" help:"Have all members encrypt with a secret that all of them have."`
	Drop   keyDropCommand   `cmd:"" help:"Take a secret out of every member's key file."`
	Status keyStatusCommand `cmd:"" help:"Say which secrets there are, and which member has which."`
}

type keyStatusCommand struct {
	reading
	listing
}

// Run lists the cluster's secrets by their fingerprints.
func (c *keyStatusCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.Keys(ctx)
	if err != nil {
		return err
	}
	return c.print(w, list, func(t io.Writer) {
		row(t, "KEY", "PRIMARY", "MISSING AT")
		for _, k := range list.Keys {
			row(t, k.ID, yesNo(k.Primary), or(strings.Join(k.Missing, " "), "-"))
		}
		row(t, "")
		row(t, "NODE", "PRIMARY", "KEYS")
		for _, m := range list.Members {
			if m.Error != "" {
				row(t, m.NodeID, "-", m.Error)
				continue
			}
			row(t, m.NodeID, or(m.Primary, "-"), strings.Join(m.Keys, " "))
		}
	})
}

type keyAddCommand struct {
	remote
	listing
	SecretFile string `help:"Take the secret from this file (mode 0600): what stands in a line of a key file. Default: the node makes one." placeholder:"FILE"`
}

// Run adds a secret. It is never printed: the key files have it.
func (c *keyAddCommand) Run(ctx context.Context, w *world) error {
	var req admin.AddKey
	if c.SecretFile != "" {
		var err error
		if req.Secret, err = readSecret("--secret-file", c.SecretFile); err != nil {
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	added, err := client.AddKey(ctx, req)
	if err != nil {
		return err
	}
	return c.print(w, added, func(t io.Writer) {
		row(t, "added", added.ID)
		row(t, "Next: `trunkline key use "+added.ID+"`, once `trunkline key status` shows it missing nowhere.")
	})
}

// oneKey names the secret of a verb.
type oneKey struct {
	ID string `arg:"" help:"Its fingerprint, as key status shows it."`
}

type keyUseCommand struct {
	remote
	listing
	oneKey
}

// Run makes a secret the primary one.
func (c *keyUseCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	used, err := client.UseKey(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.print(w, used, func(t io.Writer) {
		row(t, "primary", used.ID)
		row(t, "Next: `trunkline key drop OLD`, once `trunkline key status` shows this one as primary everywhere.")
	})
}

type keyDropCommand struct {
	remote
	listing
	sure
	oneKey
}

// Run drops a secret.
func (c *keyDropCommand) Run(ctx context.Context, w *world) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("This takes the secret %s out of every member's key file: a node that was away and knows no other cannot come back until its file is replaced.", clip(c.ID))
	if err := c.confirm(w, warning, "its fingerprint", c.ID); err != nil {
		return err
	}
	if err := client.DropKey(ctx, c.ID); err != nil {
		return err
	}
	return c.print(w, map[string]string{"dropped": c.ID}, func(t io.Writer) { row(t, "dropped", c.ID) })
}
