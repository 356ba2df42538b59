// Package demo runs a small world with a death in it and checks every message.
package demo

import (
	"context"
	"errors"
	"io"
)

// ErrUsage is wrapped by errors about the command line itself; the program then ends with status 2.
var ErrUsage = errors.New("demo: misused")

// Run runs the demonstration, or the hidden child mode that is one of its backends.
func Run(ctx context.Context, args []string, stdout io.Writer) error {
	return ErrUsage
}
