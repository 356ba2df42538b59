// Package bench measures a coordinator beside a floor and prints what it found.
package bench

import (
	"context"
	"errors"
	"io"
)

// ErrUsage is wrapped by errors about the command line itself; the program then ends with status 2.
var ErrUsage = errors.New("bench: misused")

// Run runs one benchmark, or one of the hidden child modes that a benchmark starts its own binary with.
func Run(ctx context.Context, args []string, stdout io.Writer) error {
	return ErrUsage
}
