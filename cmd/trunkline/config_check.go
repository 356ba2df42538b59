package main

import (
	"fmt"
	"slices"

	"github.com/alecthomas/kong"
)

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Check flags, environment and file as serve would, and say where each setting comes from."`
}

type configCheckCommand struct {
	settings
	For string `help:"Check as this command would." enum:"serve,dev" default:"serve" placeholder:"COMMAND"`
}

// Run checks the settings and everything they name, and binds nothing.
func (c *configCheckCommand) Run(w *world, k *kong.Context, src *sources) error {
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
	for _, line := range origins(k, src) {
		_, _ = fmt.Fprintln(w.stdout, line)
	}
	_, _ = fmt.Fprintln(w.stdout, "The configuration is good.")
	return nil
}

// origins says of each setting where its value comes from.
func origins(k *kong.Context, src *sources) (lines []string) {
	typed := make(map[string]bool)
	for _, p := range k.Path {
		if p.Flag != nil && !p.Resolved {
			typed[p.Flag.Name] = true
		}
	}
	for _, flag := range k.Flags() {
		name, origin := flag.Name, src.origin[flag.Name]
		switch {
		case name == "help" || name == "for":
			continue
		case typed[name]:
			lines = append(lines, fmt.Sprintf("--%s: from the command line", name))
		case origin != "":
			lines = append(lines, fmt.Sprintf("--%s: from %s", name, origin))
		default:
			lines = append(lines, fmt.Sprintf("--%s: default", name))
		}
	}
	slices.Sort(lines)
	return lines
}
