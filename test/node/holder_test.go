package node

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// holderRole opens connections, writes the first bytes of something and then nothing more, until it is killed. It is a
// process of its own because of the limit of descriptors.
type holderRole struct {
	Addr    string
	Sources []string // addresses to come from, in turns
	Conns   int
	First   []string // what to write first, in turns
}

// held is what a holder prints when its connections are open.
const held = "all connections are held"

func (r *holderRole) run() error {
	conns := make([]net.Conn, r.Conns)
	var g errgroup.Group
	g.SetLimit(32)
	for i := range conns {
		g.Go(func() (err error) {
			if conns[i], err = dialFrom(r.Sources[i%len(r.Sources)], r.Addr); err != nil {
				return err
			}
			_, err = conns[i].Write([]byte(r.First[i%len(r.First)]))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, held)
	select {}
}

// startHolders spreads connections over processes of at most 5,000 and waits until all are open.
func startHolders(t *testing.T, addr string, conns int, first ...string) []*process {
	t.Helper()
	const most = 5000
	var all []*process
	for i := 0; conns > 0; i++ {
		n := min(conns, most)
		conns -= n
		all = append(all, startRole(t, fmt.Sprintf("holder-%d", i), role{Holder: &holderRole{
			Addr: addr, Conns: n, First: first, Sources: []string{newSource(), newSource(), newSource(), newSource(), newSource()},
		}}))
	}
	for _, p := range all {
		until(t, p.name+" to hold its connections", func() bool {
			select {
			case <-p.ended:
				t.Fatalf("%s ended: %s", p.name, p.said())
			default:
			}
			return strings.Contains(p.said(), held)
		})
	}
	return all
}

// dialFrom connects from an address of this machine, with a small receive buffer: one who does not read is noticed soon.
func dialFrom(source, addr string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   patience,
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
			})
			if err != nil {
				return err
			}
			return failed
		},
	}
	return d.Dial("tcp", addr)
}

// longest returns the longest pause between two of the answers that arrived between from and to.
func longest(answers []answer, from, to time.Time) time.Duration {
	var worst time.Duration
	last := from
	for _, a := range answers {
		if a.at.Before(from) || a.at.After(to) {
			continue
		}
		worst = max(worst, a.at.Sub(last))
		last = a.at
	}
	return max(worst, to.Sub(last))
}
