package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type snapshotCommand struct {
	Save    snapshotSaveCommand    `cmd:"" help:"Write a running node's table to a file."`
	Restore snapshotRestoreCommand `cmd:"" help:"Begin a new generation of a cluster with the table of such a file, on a stopped node."`
	Inspect snapshotInspectCommand `cmd:"" help:"Check such a file and say what is in it."`
}

// oneSnapshot names the file of a verb.
type oneSnapshot struct {
	File string `arg:"" help:"The snapshot file."`
}

// snapshotAnswer is what the verbs of snapshots print as JSON.
type snapshotAnswer struct {
	File string `json:"file"`
	snapshotInfo
}

func snapshotRows(t io.Writer, a snapshotAnswer) {
	row(t, "file", a.File)
	row(t, "bytes", a.Bytes)
	row(t, "cluster", fmt.Sprintf("%s (incarnation %s, generation %d)", a.Cluster, short(a.Incarnation), a.Generation))
	row(t, "index", fmt.Sprintf("%d (term %d)", a.Index, a.Term))
	row(t, "saved", fmt.Sprintf("%s by %s", a.SavedAt.UTC().Format(time.RFC3339), a.SavedBy))
	row(t, "apps", a.Apps)
	row(t, "instances", a.Instances)
	row(t, "states", a.States)
}

type snapshotSaveCommand struct {
	remote
	listing
	oneSnapshot
	Overwrite bool `help:"Replace the file if there is one."`
}

// Run writes the file in one step, and only when it is whole.
func (c *snapshotSaveCommand) Run(ctx context.Context, w *world) error {
	if _, err := os.Lstat(c.File); err == nil && !c.Overwrite {
		return fmt.Errorf("save a snapshot: %s is there already: name another file, or have it replaced with --overwrite", c.File)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), ".snapshot-*") // mode 0600: the table has keys in it
	if err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	info, err := w.fill(f, func(out io.Writer) error { return client.Snapshot(ctx, out) })
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.File)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("save a snapshot: %w", err)
	}
	answer := snapshotAnswer{c.File, info}
	return c.print(w, answer, func(t io.Writer) { snapshotRows(t, answer) })
}

// fill writes a snapshot to f, makes it durable and reads it again.
func (w *world) fill(f *os.File, write func(io.Writer) error) (snapshotInfo, error) {
	if err := write(f); err != nil {
		return snapshotInfo{}, err
	}
	if err := f.Sync(); err != nil {
		return snapshotInfo{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return snapshotInfo{}, err
	}
	return w.offline.inspect(f)
}

type snapshotInspectCommand struct {
	listing
	oneSnapshot
}

// Run checks a file.
func (c *snapshotInspectCommand) Run(w *world) error {
	answer, err := w.inspectFile(c.File)
	if err != nil {
		return err
	}
	return c.print(w, answer, func(t io.Writer) { snapshotRows(t, answer) })
}

func (w *world) inspectFile(path string) (snapshotAnswer, error) {
	f, err := os.Open(path)
	if err != nil {
		return snapshotAnswer{}, fmt.Errorf("inspect a snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := w.offline.inspect(f)
	if err != nil {
		return snapshotAnswer{}, fmt.Errorf("inspect %s: %w", path, err)
	}
	return snapshotAnswer{path, info}, nil
}

// stoppedNode names the data directory of a node that does not run.
type stoppedNode struct {
	DataDir string `help:"Data directory of the node, which must not run." placeholder:"DIR" required:""`
}

type snapshotRestoreCommand struct {
	listing
	sure
	stoppedNode
	oneSnapshot
}

// Run begins a new generation from a file.
func (c *snapshotRestoreCommand) Run(w *world) error {
	answer, err := w.inspectFile(c.File)
	if err != nil {
		return err
	}
	warning := fmt.Sprintf("This replaces the table in %s by that of %s (index %d, %d states), which begins a new generation. Nodes of the generation before are refused until they have taken over the new one.", c.DataDir, c.File, answer.Index, answer.States)
	if err := c.confirm(w, warning, "restore", "restore"); err != nil {
		return err
	}
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	done, err := w.offline.restore(c.DataDir, f)
	if err != nil {
		return fmt.Errorf("restore %s: %w", c.File, err)
	}
	restored := struct {
		snapshotAnswer
		restoreReport
	}{answer, done}
	return c.print(w, restored, func(t io.Writer) {
		row(t, "restored", fmt.Sprintf("%s, generation %d", c.DataDir, done.NewGeneration))
		if len(done.Revoked) > 0 {
			row(t, "revoked", strings.Join(done.Revoked, " "))
		}
		if len(done.Readmitted) > 0 {
			row(t, "not revoked any more", strings.Join(done.Readmitted, " ")+": revoke them again")
		}
		row(t, "Nodes revoked after the snapshot was saved are not any more: revoke them again. See docs/operations/backup.md.")
		row(t, "Next: start this node without --join, then the others with --join: they take over its table by themselves.")
	})
}

type recoverCommand struct {
	listing
	sure
	stoppedNode
}

// Run makes a voter that has lost the others the only one.
func (c *recoverCommand) Run(w *world) error {
	found, err := w.offline.recover(recoverConfig{DataDir: c.DataDir})
	if err != nil {
		return err
	}
	if !c.JSON {
		if err := c.print(w, found, func(t io.Writer) { recoverRows(t, found) }); err != nil {
			return err
		}
	}
	warning := fmt.Sprintf("This makes %s the only voter. What was agreed on beyond index %d is lost. Recover one voter only, the one with the highest term and then the highest index; the others are refused until they join anew.", found.NodeID, found.LastIndex)
	if err := c.confirm(w, warning, "its name", found.NodeID); err != nil {
		if c.JSON {
			err = errors.Join(err, printJSON(w.stdout, found))
		}
		return err
	}
	done, err := w.offline.recover(recoverConfig{DataDir: c.DataDir, Apply: true})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(w.stdout, done)
	}
	return c.print(w, done, func(t io.Writer) {
		row(t, "recovered", fmt.Sprintf("%s, generation %d", done.NodeID, done.NewGeneration))
		row(t, "Next: start this node without --join, then the others with --join: they take over its table by themselves.")
	})
}

func recoverRows(t io.Writer, r recoverReport) {
	row(t, "node", fmt.Sprintf("%s (server %s)", r.NodeID, r.ServerID))
	row(t, "cluster", fmt.Sprintf("%s (generation %d)", r.Cluster, r.Generation))
	row(t, "term", r.Term)
	row(t, "index", r.LastIndex)
	if !r.HasCAKey {
		row(t, "ca key", "not here: a new one is made, and nodes fetch new certificates with the key file")
	}
}
