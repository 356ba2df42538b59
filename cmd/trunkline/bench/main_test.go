package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

// TestMain also is the child processes: the lab starts this binary with the arguments of the real one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bench" {
		if err := Run(context.Background(), os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// readFrame reads a frame with gobwas.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	if f.Header.Length > 1<<20 {
		return f, errors.New("frame is too big for a test")
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}
