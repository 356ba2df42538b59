package main

import (
	"fmt"
	"maps"
	"slices"
)

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Check flags, environment and file as serve would, and say where each setting comes from."`
}

type configCheckCommand struct {
	settings
	For string `help:"Check as this command would." enum:"serve,dev" default:"serve" placeholder:"COMMAND"`
}

// Run checks the settings and everything they name, and binds nothing.
func (c *configCheckCommand) Run(w *world, src *sources) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.For == "serve" {
		if err := c.checkServe(); err != nil {
			return err
		}
	}
	if err := c.checkFiles(); err != nil {
		return err
	}
	for _, flag := range slices.Sorted(maps.Keys(src.origin)) {
		_, _ = fmt.Fprintf(w.stdout, "--%s: from %s\n", flag, src.origin[flag])
	}
	_, _ = fmt.Fprintln(w.stdout, "The configuration is good.")
	return nil
}
